"""The command line: `imcl COMMAND`, or `python -m imcl COMMAND`."""

import argparse
import io
import os
import signal
import sys
from pathlib import Path

import imcl
from imcl.cli import bench, data, results, study, training, verify
from imcl.errors import ImclError, Stopped, UsageError
from imcl.project import Project


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 if it went well, 2 for wrong usage, 1 for a failure."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # pytest, for example, replaces it
            stream.reconfigure(errors="replace")  # for encodings without ± or −
    arguments = _parser().parse_args(argv)
    try:
        file = getattr(arguments, "params", None)
        arguments.project = Project.find(getattr(arguments, "folder", None), file)
        arguments.run(arguments)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except ImclError as error:
        print(f"imcl {arguments.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"imcl {arguments.command}: {place}{error.strerror or error}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        name = signal.Signals(stopped.number).name
        print(f"imcl {arguments.command}: {name}; run it again to continue", file=sys.stderr)
        return 128 + stopped.number
    except KeyboardInterrupt:
        print(f"imcl {arguments.command}: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    folder = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    folder.add_argument(
        "--project",
        dest="folder",
        type=Path,
        metavar="DIR",
        help="the project's folder (default: the nearest one with a params.yaml)",
    )
    parser = argparse.ArgumentParser(
        prog="imcl", description=(imcl.__doc__ or "").split("\n")[0], parents=[folder]
    )
    parser.add_argument("--version", action="version", version=imcl.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    params = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    params.add_argument(
        "--params", type=Path, metavar="FILE", help="use this file instead of params.yaml"
    )
    for group in (study, data, training, results, verify, bench):
        group.register(commands, [folder, params])
    return parser
