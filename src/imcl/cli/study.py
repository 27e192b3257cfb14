"""`imcl plan | status | settings | schema`: what there is to do, and how much is done."""

import argparse

from imcl.cli.commands import (
    Commands,
    Parents,
    command,
    print_rows,
    settings,
    with_json,
    with_study,
)


def register(commands: "Commands[argparse.ArgumentParser]", parents: Parents) -> None:
    """Add the commands."""
    summary = "List the cells of a study and which of them are done."
    plan = command(commands, parents, "plan", _plan, summary)
    summary = "Show what is running, what failed and how much time is left."
    status = command(commands, parents, "status", _status, summary)
    for sub in (plan, status):
        with_study(sub)
        with_json(sub)
    summary = "List every setting: its value, default, bounds and meaning."
    all_settings = command(commands, parents, "settings", _settings, summary)
    with_study(all_settings)
    with_json(all_settings)
    summary = "Print the JSON schema of params.yaml."
    schema = command(commands, parents, "schema", _schema, summary)
    schema.add_argument("--write", action="store_true", help="write it into workflow/schemas")


def _plan(arguments: argparse.Namespace) -> None:
    from imcl.records import plan

    print_rows(arguments, plan.rows(arguments.project, settings(arguments)), plan.show)


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
