"""Collects the runs of a cell, which are a file for each seed, into its record. Knows no torch."""

from dataclasses import replace

from imcl.files import locked, sweep
from imcl.progress import say
from imcl.project import Project
from imcl.records.record import Record, code_of, environment_of
from imcl.records.store import Store
from imcl.study.grid import Cell


def unfinished(project: Project, cell: Cell) -> Cell | None:
    """The cell with those of its seeds that are to be trained; None if all are finished.

    A seed is finished if its file and its weights are there and whole. It says which are, and why
    others are trained again.
    """
    store, seeds = Store(project), []
    for run in cell.runs:
        (seed,) = run.seeds
        lacks = store.lacks(run)
        if lacks is None:
            say(f"{cell.name}, seed {seed} was finished before")
            continue
        seeds.append(seed)
        if project.run(run.run_key).exists():
            say(f"{cell.name}, seed {seed} is trained again: {lacks}")
    return replace(cell, seeds=seeds) if seeds else None


def collect(project: Project, cell: Cell) -> Record:
    """Write the record of a cell from the files of its runs.

    It warns of seeds that were trained on different devices or by different code.

    Raises:
        ImclError: files are missing, have faults, or were made from different data; with every
            fault of every file. Or the disk is full.
    """
    store = Store(project)
    with locked(project.lock(cell.key)):
        record = store.collected(cell)
        path = store.path(cell)
        sweep(path)
        store.write(cell, record)
    for what, seeds in _differing(record).items():
        listed = "; ".join(f"{name}: seeds {', '.join(map(str, by))}" for name, by in seeds.items())
        say(f"{cell.name}: its seeds were trained {what} ({listed}); {path} says which")
    return record


def _differing(record: Record) -> dict[str, dict[str, list[int]]]:
    """The seeds by device and by commit, where these differ."""
    devices: dict[str, list[int]] = {}
    commits: dict[str, list[int]] = {}
    for run in record["runs"]:
        code = code_of(record, run)
        commit = f"{(code['commit'] or 'unknown')[:12]}{' (modified)' if code['modified'] else ''}"
        devices.setdefault(environment_of(record, run)["device_name"], []).append(run["seed"])
        commits.setdefault(commit, []).append(run["seed"])
    found = {"on different devices": devices, "by different code": commits}
    return {what: seeds for what, seeds in found.items() if len(seeds) > 1}
