"""`imcl verify`: recompute records and tables, and list what differs."""

import argparse

from imcl import terminal
from imcl.cli.commands import Commands, Parents, command, number, settings, with_study
from imcl.errors import ImclError


def register(commands: "Commands[argparse.ArgumentParser]", parents: Parents) -> None:
    """Add the command."""
    summary = "Check records, tables and measurements, and list what differs."
    verify = command(commands, parents, "verify", _verify, summary, "verify --retrain 1")
    with_study(verify)
    verify.add_argument(
        "--retrain",
        type=number(int, 0, 1_000_000),
        default=0,
        metavar="N",
        help="also train N random cells again",
    )


def _verify(arguments: argparse.Namespace) -> None:
    project, loaded = arguments.project, settings(arguments)
    from imcl import verify

    studies = verify.studies(project, loaded)
    found = [
        *verify.check_folders(project, loaded),
        *verify.check_readmes(project),
        *verify.check_measurements(project),
    ]
    for study in studies:
        faults = list(verify.check(project, study))
        count = len(list(study.records.glob("*.json")))
        files = f"{count} records, {len(study.made)} files made from them"
        terminal.tell(f"{study.records}: {files}, {len(faults) or 'no'} faults")
        found += faults
    for cell, path in verify.sample(project, studies, arguments.retrain):
        try:
            how, fault = verify.retrain(project, cell, path)
        except ImclError as error:  # a damaged record or archive; the other cells follow
            found.append(verify.Finding(path, f"cannot be trained again: {error}"))
            continue
        terminal.tell(f"{path}: trained again: {'differs' if fault else 'agrees'}, {how}")
        found += [fault] if fault else []
    if found:
        lines = "".join(f"\n  {place}: {fault}" for place, fault in found)
        raise ImclError(f"{len(found)} faults:{lines}")
