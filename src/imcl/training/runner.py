"""Trains a study without Snakemake or DVC: its cells in order, up to a time limit.

It is for a machine that has only Python and torch, such as one that you can use for only minutes.
Each seed is a process of `imcl train`, or several short ones of a cell are. So a stopped seed
resumes from its checkpoint at the next call.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from imcl.errors import ImclError
from imcl.progress import say
from imcl.project import Project
from imcl.records.collect import collect
from imcl.records.store import Store
from imcl.study.cost import one_job
from imcl.study.grid import Cell

POLL_SECONDS = 0.2
IMCL = (sys.executable, "-m", "imcl")

Children = dict[str, subprocess.Popen[bytes]]  # by the words of their command


def run(
    project: Project,
    cells: Sequence[Cell],
    options: Sequence[str] = (),
    *,
    jobs: int = 1,
    seconds: float | None = None,
    grace: float = 60.0,
    anchors: Mapping[str, float] | None = None,
) -> tuple[list[str], list[str]]:
    """Prepare the data of the cells that have no record, and train them.

    Args:
        project: where parameters, data and results are.
        cells: the planned ones, the most important first.
        options: of `imcl train`.
        jobs: processes at a time.
        seconds: the time limit, after which nothing runs any more.
        grace: this many seconds before the limit, running cells are told to stop, and no other is
            started.
        anchors: the least accuracy, in 0..1, of cells by their names. These cells are trained
            first; the others only if these reach it.

    Returns:
        The names of the cells that failed, and of those that remain for another call.

    Raises:
        ImclError: an anchor is not reached; nothing else is trained.
    """
    until = None if seconds is None else time.monotonic() + seconds
    store, anchors = Store(project), anchors or {}
    first = [cell for cell in cells if cell.name in anchors]
    missing = [cell for cell in cells if not store.path(cell).exists()]
    missing.sort(key=lambda cell: cell.name not in anchors)
    failed = _collect(project, missing)
    waiting = [job for cell in missing for job in _jobs(project, cell)]
    by_title = {" ".join(job.words): job for job in waiting}
    held = True  # until all anchors are reached
    with _children(until) as running:
        while (waiting or running) and (until is None or time.monotonic() < until - grace):
            held = held and not _reached(store, first, anchors)
            while waiting and len(running) < jobs:
                if held and waiting[0].cell.name not in anchors:
                    break
                job = waiting.pop(0)
                if _prepare(project, job.cell):
                    command = _command(project, *job.words, *options)
                    running[" ".join(job.words)] = subprocess.Popen(command)
                else:
                    failed[job.cell.name] = None
            time.sleep(POLL_SECONDS)
            for title in [title for title, child in running.items() if child.poll() is not None]:
                cell = by_title[title].cell
                if running.pop(title).returncode or not _collected(project, cell):
                    failed[cell.name] = None
            if held and not running and any(name in anchors for name in failed):
                break
    failed |= _collect(project, [cell for cell in missing if cell.name not in failed])
    _reached(store, first, anchors)
    left = [c.name for c in cells if c.name not in failed and not store.path(c).exists()]
    return [*failed], left


class _Job(NamedTuple):
    """A process of `imcl train`: of all seeds of a cell, or of one."""

    cell: Cell
    seed: int | None = None

    @property
    def words(self) -> list[str]:
        return ["train", self.cell.name, *([] if self.seed is None else ["--seed", str(self.seed)])]


def _jobs(project: Project, cell: Cell) -> list[_Job]:
    """The jobs that the runs of a cell still need."""
    missing = [run.seeds[0] for run in cell.runs if not project.run(run.run_key).exists()]
    if missing and one_job(cell):
        return [_Job(cell)]
    return [_Job(cell, seed) for seed in missing]


def _collect(project: Project, cells: Sequence[Cell]) -> dict[str, None]:
    """Collect the cells whose runs are all there; the names of those that have faults, in order."""
    return dict.fromkeys(cell.name for cell in cells if not _collected(project, cell))


def _collected(project: Project, cell: Cell) -> bool:
    """Collect the runs of a cell if all are there; False if they have faults, which it says."""
    path = project.record(cell.key)
    if path.exists() or not all(project.run(run.run_key).exists() for run in cell.runs):
        return True
    try:
        collect(project, cell)
    except ImclError as error:
        say(f"imcl run: {error}")
        return False
    return True


def _reached(store: Store, first: Sequence[Cell], anchors: Mapping[str, float]) -> bool:
    """Whether all anchors are trained; ImclError if one of them is not reached."""
    for cell in first:
        path = store.path(cell)
        if not path.exists():
            return False
        runs = store.read(cell, path)["runs"]
        accuracy = sum(run["final"]["accuracy"] for run in runs) / len(runs)
        if accuracy < anchors[cell.name]:
            raise ImclError(
                f"{cell.name} reaches {accuracy:.2%}, but its anchor is "
                f"{anchors[cell.name]:.2%}: find out why before the other cells are trained"
            )
    return True


def _prepare(project: Project, cell: Cell) -> bool:
    """Prepare a cell's arrays and labels if they are missing; whether they are there now."""
    needed: dict[Path, list[str]] = {}
    for dataset, noise in cell.all_data:
        needed[project.dataset(dataset.key)] = ["prepare", *dataset.words]
        if noise:
            needed[project.noise(dataset.key, noise.key)] = ["noise", *noise.words]
    return all(
        path.exists() or subprocess.run(_command(project, *command)).returncode == 0
        for path, command in needed.items()
    )


def _command(project: Project, *words: str) -> list[str]:
    """An `imcl` command for the project."""
    file = ["--params", str(project.file)] if project.file else []
    return [*IMCL, *words, "--project", str(project.root), *file]


@contextmanager
def _children(until: float | None) -> Iterator[Children]:
    """Processes; those still running at the end are told to stop, and killed at `until`.

    If this process is told to stop once more meanwhile, they are killed at once.
    """
    running: Children = {}
    try:
        yield running
    finally:
        for child in running.values():
            child.send_signal(signal.SIGTERM)
        try:
            for child in running.values():
                with suppress(subprocess.TimeoutExpired):
                    child.wait(None if until is None else max(0.0, until - time.monotonic()))
        finally:
            for child in running.values():
                child.kill()  # does nothing to those that have ended
                child.wait()
