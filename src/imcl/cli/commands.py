"""What the groups of commands share."""

import argparse
import json
import math
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, get_args

from imcl.errors import UsageError, shown, unknown
from imcl.project import Project
from imcl.study.spec import Device

if TYPE_CHECKING:
    from imcl.study.settings import Settings

Run = Callable[[argparse.Namespace], None]
Parents = list[argparse.ArgumentParser]
Commands = argparse._SubParsersAction  # argparse has no public name for what add_subparsers gives


def command(
    commands: "Commands[argparse.ArgumentParser]",
    parents: Parents,
    name: str,
    run: Run,
    summary: str,
    example: str,
) -> argparse.ArgumentParser:
    """Add a command; `run` is called with its arguments, of which `project` is a Project.

    Its help ends with the example, which is a command line after `imcl`.
    """
    epilog = f"example: imcl {example}"
    sub = commands.add_parser(
        name, help=summary, description=summary, epilog=epilog, parents=parents
    )
    sub.set_defaults(run=run)
    return sub


def with_study(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--study", help="use this study instead of the one that params.yaml chooses")


def with_json(sub: argparse.ArgumentParser, what: str = "a JSON list") -> None:
    sub.add_argument("--json", action="store_true", help=f"print {what}")


def with_device(sub: argparse.ArgumentParser, what: str, unless: str = "") -> None:
    sub.add_argument(
        "--device",
        choices=get_args(Device),
        help=f"{what} (default: IMCL_DEVICE, or run.device of params.yaml); auto is the GPU if "
        f"there is one, else the CPU{unless}",
    )


def named_device(arguments: argparse.Namespace, loaded: "Settings") -> str:
    """The device that the command names, or else the environment, or else params.yaml."""
    given: str | None = getattr(arguments, "device", None)
    named = given or os.environ.get("IMCL_DEVICE") or loaded.run.device
    devices = get_args(Device)
    if named not in devices:
        raise UsageError(f"IMCL_DEVICE={named}: {unknown('device', named, devices)}")
    return named


def with_committed(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--committed",
        action="store_true",
        help="read committed records only (default: prefer records made here)",
    )


def number(kind: type[int] | type[float], least: float, most: float) -> Callable[[str], float]:
    """An argparse type: a number within bounds."""
    what = "whole number" if kind is int else "number"

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            message = f"{shown(text)} is not a {what} from {least:,} to {most:,}"
            raise argparse.ArgumentTypeError(message)
        return value

    return parse


def settings(arguments: argparse.Namespace) -> "Settings":
    """The checked parameters, with the study that was asked for."""
    from imcl.data.contents import settings_of

    project: Project = arguments.project
    return settings_of(project, getattr(arguments, "study", None))


def print_rows(
    arguments: argparse.Namespace, rows: Sequence[Any], show: Callable[[Any], None]
) -> None:
    """Print rows as JSON if that was asked for, else as `show` does."""
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        show(rows)
