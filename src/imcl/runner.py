"""Trains a study without an engine: several cells at once, in the study's order, for a time.

For a machine that has Python and torch alone, such as one that is lent for minutes. Each cell is a
process of `imcl train`, so what is stopped goes on from its checkpoint at the next call.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager

from imcl import grid
from imcl.errors import ImclError
from imcl.files import read_json

POLL_SECONDS = 0.2


def run(
    cells: Sequence[grid.Cell],
    options: Sequence[str],
    training: Sequence[str],
    jobs: int,
    seconds: float | None = None,
    grace: float = 60.0,
    anchors: Mapping[str, float] | None = None,
) -> tuple[list[str], list[str]]:
    """Prepare the data of the cells that have no record, and train them.

    Args:
        cells: the planned ones, the most valuable first.
        options: of each `imcl` command: where the parameters stand.
        training: further ones of `imcl train`.
        jobs: cells at once.
        seconds: after which nothing runs any more.
        grace: seconds before that, when no cell is begun and those under way are told to stop.
        anchors: by the names of cells the least accuracy, in 0..1, that shows that all is in order;
            they are trained first, and the others only behind them.

    Returns:
        The names of the cells that failed, and of those that are left for another call.

    Raises:
        ImclError: an anchor is not reached; nothing else is trained.
    """
    until = None if seconds is None else time.monotonic() + seconds
    anchors = anchors or {}
    first = [cell for cell in cells if cell.name in anchors]
    waiting = [cell for cell in cells if not cell.record.exists()]
    waiting.sort(key=lambda cell: cell.name not in anchors)
    failed: list[str] = []
    held = True
    with _children(until) as running:
        while (waiting or running) and (until is None or time.monotonic() < until - grace):
            held = held and not _reached(first, anchors)
            while waiting and len(running) < jobs:
                if held and waiting[0].name not in anchors:
                    break
                cell = waiting.pop(0)
                if _prepared(cell, options):
                    command = ["train", *options, *training, cell.name]
                    running[cell.name] = subprocess.Popen([*IMCL, *command])
                else:
                    failed.append(cell.name)
            time.sleep(POLL_SECONDS)
            for name in [name for name, child in running.items() if child.poll() is not None]:
                if running.pop(name).returncode:
                    failed.append(name)
            if held and not running and any(name in anchors for name in failed):
                break
    _reached(first, anchors)
    left = [c.name for c in cells if c.name not in failed and not c.record.exists()]
    return failed, left


def _reached(first: Sequence[grid.Cell], anchors: Mapping[str, float]) -> bool:
    """Whether all anchors are trained; ImclError at one that falls short."""
    for cell in first:
        if not cell.record.exists():
            return False
        runs = read_json(cell.record, ("runs",))["runs"]
        accuracy = sum(run["final"]["accuracy"] for run in runs) / len(runs)
        if accuracy < anchors[cell.name]:
            raise ImclError(
                f"{cell.name} reaches {accuracy:.2%} where its anchor is {anchors[cell.name]:.2%}: "
                "find out why before the others are trained"
            )
    return True


IMCL = (sys.executable, "-m", "imcl")


def _prepared(cell: grid.Cell, options: Sequence[str]) -> bool:
    """Whether its arrays and labels are there, made now if they were not."""
    wanted = [(cell.dataset.path, ["prepare", cell.dataset.name])]
    if cell.noise:
        wanted.append((cell.noise.path, ["noise", cell.dataset.name, cell.noise.name]))
    return all(
        path.exists() or subprocess.run([*IMCL, *command, *options]).returncode == 0
        for path, command in wanted
    )


@contextmanager
def _children(until: float | None):
    """Processes by name; those that still run in the end are stopped, at the latest at `until`."""
    running: dict[str, subprocess.Popen] = {}
    try:
        yield running
    finally:
        for child in running.values():
            child.send_signal(signal.SIGTERM)
        for child in running.values():
            try:
                child.wait(None if until is None else max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
