"""Takes in records that other machines made.

What a record holds decides, not the name of its file: its seal must be whole, its digest that of a
cell that a study plans, and its data those of the records that are here. No file here is replaced.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

from imcl.files import locked, read_bytes
from imcl.project import Project
from imcl.records.candidates import candidates
from imcl.records.plan import few
from imcl.records.record import Record
from imcl.records.store import Store, hashes
from imcl.study import grid
from imcl.study.grid import Cell
from imcl.study.settings import Settings

LEAVE = "leave this record out, or delete the file that is wrong and merge again"


class Outcome(NamedTuple):
    """What became of a file.

    Attributes:
        state: `there` if the same file was here already.
        place: the record here; of a refused file, where that is.
        reason: why it was refused, and what to do.
    """

    state: Literal["taken", "there", "refused"]
    place: str
    reason: str = ""


class Refused(Exception):
    """A file cannot be taken: the reason, and what to do."""


def merge(project: Project, settings: Settings, source: Path) -> Iterator[Outcome]:
    """Take in the records of a folder or an archive, one after the other.

    Args:
        project: where the records go.
        settings: their studies plan the cells.
        source: as `candidates` takes it.

    Raises:
        UsageError: the source is neither, or holds no records.
        ImclError: the archive, or a record that is here, is damaged.
    """
    merging = Merging(project, settings)
    with TemporaryDirectory(prefix="imcl-merge-") as scratch:
        for place, content in candidates(source):
            copy = Path(scratch) / "record.json"  # so that nobody changes it between two looks
            copy.write_bytes(content)
            try:
                yield merging.take(copy, content, is_run=Path(place).parent.name == "runs")
            except Refused as refused:
                yield Outcome("refused", place, str(refused))


class Merging:
    """The cells and runs that are planned, and the data of the records that are here."""

    def __init__(self, project: Project, settings: Settings):
        self.project, self.store = project, Store(project)
        # A cell of several studies is the same in each.
        planned = {
            cell.key: (study, cell)
            for study in settings.studies
            for cell in grid.cells(settings, study)
        }
        self.cells = {key: cell for key, (_, cell) in planned.items()}
        # By name and digest. A cell with one seed has the digest of its run.
        self.runs = {run.key: run for cell in self.cells.values() for run in cell.runs}
        self.data = self.store.prepared(self.cells.values())
        here = [(s, cell) for s, cell in planned.values() if self.store.path(cell).exists()]
        for _, cell, path, record in self.store.existing(here):
            self._know(cell, path, record)

    def take(self, copy: Path, content: bytes, is_run: bool = False) -> Outcome:
        """Take in the record in the file `copy`, which has this content.

        Args:
            copy: a file that nobody changes.
            content: of the file.
            is_run: it lies among runs, the records of one seed.
        """
        record, faults = self.store.examined(copy)
        if record is None or faults:
            raise Refused(f"{_first(faults)}; copy it again from where it was made")
        key = f"{record['cell']}-{record['digest']}"
        is_run = key in self.runs and (is_run or key not in self.cells)
        cell = self.runs.get(key) if is_run else self.cells.get(key)
        if cell is None:
            raise Refused(self._foreign(record))
        path = self.project.run(cell.run_key) if is_run else self.store.path(cell)

        def busy() -> None:
            raise Refused(f"{path} is being made here; merge again when that has ended")

        with locked(self.project.lock(path.stem), busy):
            if os.path.lexists(path):
                if path.is_file() and read_bytes(path) == content:
                    return Outcome("there", str(path))
                raise Refused(f"{path} has other content; keep it, or delete it and merge again")
            self._check_data(cell, record)
            if faults := self.store.faults(cell, copy):
                raise Refused(f"{_first(faults)}; {LEAVE}")
            (self.store.write_run if is_run else self.store.write)(cell, record)
        self._know(cell, path, record)
        return Outcome("taken", str(path))

    def _foreign(self, record: Record) -> str:
        """Why a record is of no planned cell, and what to do."""
        name, params = record["cell"], self.project.params
        same = [cell for cell in self.cells.values() if cell.name == name]
        if not same:
            return (
                f"no study in {params} has the cell {name}; add it to one, or leave this record out"
            )
        for cell in same:
            if cell.lacks:
                return f"cannot be told from other records: {cell.lacks}"
        changed = min((grid.changes(record["config"], cell.config) for cell in same), key=len)
        return (
            f"was made with other settings than {params} has ({few(changed)}); use the params.yaml "
            "that it was made with, or leave this record out"
        )

    def _know(self, cell: Cell, path: Path, record: Record) -> None:
        for what, digest in hashes(cell, record).items():
            self.data.setdefault(what, (path, digest))

    def _check_data(self, cell: Cell, record: Record) -> None:
        for what, digest in hashes(cell, record).items():
            place, expected = self.data.get(what, (None, digest))
            if digest != expected:
                raise Refused(
                    f"was made from other data ({' '.join(what)}) than {place}; make both from the "
                    "same files"
                )


def _first(faults: list[str]) -> str:
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{faults[0]}{more}"
