"""Exchanges records and weights with results/shared, the copy that DVC carries.

`dvc exp run` and `dvc checkout --force` delete from an output of DVC what dvc.lock does not name.
So what was trained is no output of DVC, but its copy is.
"""

import filecmp
import os
import shutil
from collections import Counter
from pathlib import Path

from imcl.data.contents import recorded, settings_of
from imcl.errors import ImclError
from imcl.files import atomic, read_bytes, sha256
from imcl.project import Project
from imcl.records.merge import Merging, Refused
from imcl.study.grid import Cell


def share(project: Project) -> tuple[int, int]:
    """Take what is missing here from the copy, then bring the copy up to date.

    Only cells that a study plans count. What is here takes the place of what is in the copy. The
    contents of your own pictures go with the records, whose names depend on them.

    Returns:
        How many files were taken, and how many were copied there.

    Raises:
        ImclError: the copy has records or weights that cannot be taken; with every fault.
    """
    project.shared.mkdir(parents=True, exist_ok=True)
    _share_contents(project)
    merging = Merging(project, settings_of(project))
    counts: Counter[str] = Counter()
    faults: list[str] = []
    for cell in merging.cells.values():
        files = [project.record(cell.key), *(project.run(run.run_key) for run in cell.runs)]
        for file in files:
            copy = _copy(project, file)
            if copy.exists() and not file.exists():
                try:
                    merging.take(copy, read_bytes(copy), is_run=file.parent == project.runs)
                    counts["taken"] += 1
                except Refused as refused:
                    faults.append(f"{copy}: {refused}")
        here = [file for file in files if file.exists()]
        stale = [file for file in here if not _is_copied(project, file)]
        for run in cell.runs:
            sources = [file for file in here if file.stem in (cell.key, run.run_key)]
            if not sources:  # the seed is not finished
                continue
            source = sources[-1]  # its own file, if there is one: weights are made with it
            is_stale = any(file in stale for file in sources)
            weights = project.weights(run.run_key)
            theirs = _copy(project, weights)
            if weights.exists():
                if is_stale or not theirs.exists():
                    _put(weights, theirs)
                    counts["copied"] += 1
            elif theirs.exists() and not is_stale:
                if sha256(theirs) == _recorded(merging, cell, run, source):
                    _put(theirs, weights)
                    counts["taken"] += 1
                else:
                    faults.append(f"{theirs}: is not what {source} names; delete it")
        for file in stale:  # last, so that a copy of a record has its weights
            _put(file, _copy(project, file))
            counts["copied"] += 1
    if faults:
        raise ImclError("\n".join(faults))
    return counts["taken"], counts["copied"]


def _share_contents(project: Project) -> None:
    shared = project.shared / "contents"
    for name in {
        path.name for folder in (project.contents, shared) for path in folder.glob("*.json")
    }:
        here, copy = project.contents / name, shared / name
        if not here.exists():
            _put(copy, here)
        elif recorded(here) != recorded(copy):  # dates differ between machines
            _put(here, copy)


def _copy(project: Project, path: Path) -> Path:
    return project.shared / path.relative_to(project.results)


def _put(path: Path, copy: Path) -> None:
    """Copy a file, without taking space where the file system can link it."""
    with atomic(copy) as temporary:
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)


def _is_copied(project: Project, file: Path) -> bool:
    copy = _copy(project, file)
    return copy.exists() and filecmp.cmp(file, copy, shallow=False)


def _recorded(merging: Merging, cell: Cell, run: Cell, source: Path) -> str:
    """The hash of a run's weights in its record, or in that of its cell."""
    record = merging.store.read(run if source.stem == run.run_key else cell, source)
    return next(r["weights_sha256"] for r in record["runs"] if r["seed"] in run.seeds)
