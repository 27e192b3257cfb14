"""`imcl plan | status | settings | schema`: what there is to do, and how much is done."""

import argparse
import json
from functools import partial

from imcl.cli.commands import (
    Commands,
    Parents,
    command,
    named_device,
    number,
    print_rows,
    settings,
    with_json,
    with_study,
)
from imcl.errors import UsageError

MOST = 10**9  # images in a second, or watts


def register(commands: "Commands[argparse.ArgumentParser]", parents: Parents) -> None:
    """Add the commands."""
    summary = "List the cells of a study and which of them are done."
    plan = command(commands, parents, "plan", _plan, summary, "plan --study cpu")
    summary = "Show what is running, what failed and how much time is left."
    status = command(commands, parents, "status", _status, summary, "status")
    with_study(plan)
    with_json(plan, "a JSON list; with --budget, a JSON object")
    with_study(status)
    with_json(status)
    plan.add_argument(
        "--budget",
        action="store_true",
        help="estimate what the missing cells will cost: time on 1, 8 and 64 devices, energy, disk "
        "and memory; measures this machine for up to a minute",
    )
    plan.add_argument(
        "--rate",
        type=number(float, 0.001, MOST),
        metavar="IMAGES",
        help="with --budget: do not measure; the device trains so many images a second of 32 x 32 "
        "pixels with ResNet-18 at width 64 (an A100 up to 23,800)",
    )
    plan.add_argument(
        "--watts",
        type=number(float, 0.001, MOST),
        help="with --budget: power of a device that trains (default: 400 for a GPU, 10 for a core)",
    )
    summary = "List every setting: its value, default, bounds and meaning."
    all_settings = command(
        commands, parents, "settings", _settings, summary, "settings --study cpu"
    )
    with_study(all_settings)
    with_json(all_settings)
    summary = "Print the JSON schema of params.yaml."
    schema = command(commands, parents, "schema", _schema, summary, "schema --write")
    schema.add_argument("--write", action="store_true", help="write it into workflow/schemas")


def _plan(arguments: argparse.Namespace) -> None:
    for option in ("rate", "watts"):
        if getattr(arguments, option) is not None and not arguments.budget:
            raise UsageError(f"--{option} belongs to the budget; add --budget, or leave it out")
    if not arguments.budget:
        from imcl.records import plan

        project, loaded = arguments.project, settings(arguments)
        show = partial(plan.show, project, loaded.study)
        print_rows(arguments, plan.rows(project, loaded), show)
        return
    from imcl.bench import budget

    loaded = settings(arguments)
    device = named_device(arguments, loaded)
    bill = budget.bill(arguments.project, loaded, arguments.rate, arguments.watts, device)
    if arguments.json:
        print(json.dumps(bill, indent=1))
    else:
        budget.show(bill)


def _status(arguments: argparse.Namespace) -> None:
    from imcl.records import status

    print_rows(arguments, status.rows(arguments.project, settings(arguments)), status.show)


def _settings(arguments: argparse.Namespace) -> None:
    from imcl.study import listing

    print_rows(arguments, listing.rows(settings(arguments)), listing.show)


def _schema(arguments: argparse.Namespace) -> None:
    from imcl.files import write_text
    from imcl.study import schema

    if arguments.write:
        write_text(arguments.project.schema, schema.text())
        print(arguments.project.schema)
    else:
        print(schema.text(), end="")
