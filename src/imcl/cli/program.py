"""Reads the command line, runs one command, and turns every error into a line and an exit code."""

import argparse
import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import imcl
from imcl import terminal
from imcl.errors import ImclError, Stopped, UsageError, printable
from imcl.project import Project
from imcl.signals import handled

if TYPE_CHECKING:
    from imcl.cli.commands import Commands

# As Ctrl-C does, these end a command after it has cleaned up. A training stops in its own way.
SIGNALS = (signal.SIGTERM, signal.SIGHUP)

# What to do if the system refuses, by the number of its error.
REMEDIES = {
    errno.EROFS: "work in a copy of the project where you can write",
    errno.EACCES: "change its rights, or work in a copy of the project that is yours",
    errno.EPERM: "change its rights, or work in a copy of the project that is yours",
}


# The commands as `imcl --help` lists them: each group with an example.
GROUPS = {
    "run (make data, results and documents)": (
        "imcl reproduce --study quick",
        (
            *(
                "reproduce",
                "run",
                "search",
                "fetch",
                "prepare",
                "noise",
                "train",
                "collect",
                "merge",
                "share",
            ),
            *("summary", "tables", "figures", "paper", "report"),
        ),
    ),
    "read (what there is to do, and what came out)": (
        "imcl trace accuracy-digits:vgg16/all:clean",
        ("plan", "status", "claims", "trace", "settings", "data", "schema", "completion"),
    ),
    "use (a trained cell, on pictures of your own)": (
        "imcl predict mine-clean-vgg16-all new/ --csv classes.csv",
        ("predict", "export"),
    ),
    "check (recompute, compare and measure)": (
        "imcl verify --retrain 1",
        ("verify", "bench"),
    ),
}


def run(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # pytest, for example, replaces it
            stream.reconfigure(errors="replace")  # for encodings without ± or −
    name = "imcl"
    try:
        arguments = parser().parse_args(argv)
        name = f"imcl {arguments.command}"
        file = getattr(arguments, "params", None)
        arguments.project = Project.find(getattr(arguments, "folder", None), file)
        with handled(SIGNALS, _stop):
            arguments.run(arguments)
    except UsageError as error:
        _tell(str(error))
        return 2
    except ImclError as error:
        _tell(f"{name}: {error}")
        return 1
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        remedy = f"; {REMEDIES[error.errno]}" if error.errno in REMEDIES else ""
        _tell(f"{name}: {place}{error.strerror or error}{remedy}")
        return 1
    except Stopped as stopped:
        aim = "begin anew" if name == "imcl bench" else "continue"
        _tell(f"{name}: {signal.Signals(stopped.number).name}; run it again to {aim}")
        return 128 + stopped.number
    except KeyboardInterrupt:
        _tell(f"{name}: interrupted")
        return 130
    return 0


def _tell(message: str) -> None:
    """Print an error, with escapes in place of what a terminal would obey."""
    text = "\n".join(map(printable, message.split("\n")))
    with suppress(OSError):  # the terminal has gone; the exit code remains
        print(terminal.fitted(text, sys.stderr), file=sys.stderr, flush=True)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are as wide as the terminal, as its help is."""

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        super().exit(status, message and terminal.fitted(message, sys.stderr))


class _Program(_Parser):
    """A parser whose help lists its commands in `GROUPS`, which argparse cannot do."""

    commands: "Commands[argparse.ArgumentParser]"

    def format_help(self) -> str:
        commands = {shown.dest: shown for shown in self.commands._get_subactions()}
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        for title, (example, names) in GROUPS.items():
            formatter.start_section(title)
            formatter.add_arguments(commands[name] for name in names)
            formatter.add_text(f"example: {example}")
            formatter.end_section()
        formatter.start_section("options")
        formatter.add_arguments(self._optionals._group_actions)
        formatter.end_section()
        formatter.add_text("`imcl COMMAND --help` explains a command.")
        return formatter.format_help()


def parser() -> argparse.ArgumentParser:
    # Takes a fifth of a second. Here, Ctrl-C meanwhile ends in one line as well.
    from imcl.cli import bench, commands, data, predict, reproduce, results, study, training, verify

    folder = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    folder.add_argument(
        "--project",
        dest="folder",
        type=Path,
        metavar="DIR",
        help="the project's folder (default: the nearest one with a params.yaml)",
    )
    parser = _Program(
        prog="imcl", description=(imcl.__doc__ or "").split("\n")[0], parents=[folder]
    )
    parser.add_argument("--version", action="version", version=imcl.__version__)
    parser.commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=_Parser
    )
    params = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    params.add_argument(
        "--params",
        type=Path,
        metavar="FILE",
        help="use this file instead of params.yaml (default: the one that IMCL_PARAMS names)",
    )
    for group in (reproduce, study, data, training, predict, results, verify, bench):
        group.register(parser.commands, [folder, params])
    completion = commands.command(
        parser.commands,
        [],
        "completion",
        partial(_complete, parser),
        "Print what makes your shell complete commands and options with the Tab key.",
        "completion bash",
    )
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    return parser


def _complete(whole: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    import shtab

    for each in parsers(whole):
        for action in each._actions:
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab's way
    print(shtab.complete(whole, arguments.shell))


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser, and those of its commands and of their commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from parsers(inner)
