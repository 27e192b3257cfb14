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

    A seed is finished if its file is whole and its weights, if they are here, are those that the
    file names. It says which are, and why others are trained again.
    """
    store, seeds = Store(project), []
    for run in cell.runs:
        (seed,) = run.seeds
        lacks = store.lacks(run)
        if lacks is None:
            here = project.weights(run.run_key).exists()
            note = "" if here else "; its weights are not here, --again trains them"
            say(f"{cell.name}, seed {seed} was finished before{note}")
            continue
        seeds.append(seed)
        if project.run(run.run_key).exists():
            say(f"{cell.name}, seed {seed} is trained again: {lacks}")
    return replace(cell, seeds=seeds) if seeds else None


def kept(project: Project, cell: Cell) -> Record | None:
    """The record of a cell, if it is whole and files of its seeds are not here; else None.

    It came from another machine, and nothing here could take its place but a training.
    """
    store = Store(project)
    path = store.path(cell)
    if all(project.run(run.run_key).exists() for run in cell.runs) or not path.exists():
        return None
    if faults := store.faults(cell, path):
        say(f"{cell.name} is trained again: {path}: {faults[0]}")
        return None
    say(f"{cell.name} was finished before; --again trains it")
    return store.read(cell, path)


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
