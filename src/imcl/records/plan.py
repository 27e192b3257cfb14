"""The cells of a study: which of them are done, and why the others are missing.

A cell whose record is only among the committed ones is `committed`. Its result is there, but
Snakemake would train it, unless `imcl merge` takes the record in.
"""

from pathlib import Path
from typing import Literal

from typing_extensions import TypedDict

from imcl import terminal
from imcl.errors import printable
from imcl.project import Project
from imcl.records.store import Store
from imcl.study import grid
from imcl.study.grid import Cell
from imcl.study.settings import Settings

State = Literal["done", "committed", "missing"]
STYLES: dict[State, str] = {"done": "green", "committed": "green", "missing": "yellow"}


class Row(TypedDict):
    """A cell of the study; `reason` says where its record is, or why it is missing."""

    cell: str
    digest: str
    state: State
    reason: str


def rows(project: Project, settings: Settings) -> list[Row]:
    """One row for each cell of the chosen study."""
    store = Store(project)
    made = store.made()
    return [
        _row(store, settings.study, cell, made.get(cell.name, [])) for cell in grid.cells(settings)
    ]


def show(project: Project, study: str, rows: list[Row]) -> None:
    """Print the rows as a table, then a line that counts them."""
    from rich.text import Text

    terminal.table(
        ["cell", "digest", "state", "reason"],
        [
            [row["cell"], row["digest"], Text(row["state"], STYLES[row["state"]]), row["reason"]]
            for row in rows
        ],
        whole=["digest", "state"],
    )
    counts = {state: sum(row["state"] == state for row in rows) for state in STYLES}
    told = [f"{count} {state}" for state, count in counts.items() if count or state != "committed"]
    print(f"{len(rows)} cells, {', '.join(told)}")
    if counts["committed"]:
        folder = project.committed_records(study).parent
        terminal.tell(f"committed: `imcl merge {folder}` takes them in as done here")


def _row(store: Store, study: str, cell: Cell, made: list[Path]) -> Row:
    state: State = "missing"
    reason = _reason(store, cell, made)
    if reason is None:
        state, reason = "done", "record is there"
    elif store.path(cell) not in made and store.find(cell, study, committed=True):
        state, reason = "committed", "record is committed"
    return {"cell": cell.name, "digest": cell.digest, "state": state, "reason": reason}


def _reason(store: Store, cell: Cell, made: list[Path]) -> str | None:
    """Why a cell is not done; None if it is. `made`: all records of cells with its name."""
    path = store.path(cell)
    if path in made:
        own = store.glance(path)
        if own is None:
            return "its record cannot be read; delete it"
        if own.digest != cell.digest:
            return "its record has another configuration; delete it"
        return None
    if made:
        newest = store.glance(max(made, key=lambda path: path.stat().st_mtime))
        if newest is not None:
            changed = grid.changes(newest.config, cell.config)
            return _lacking(cell, f"changed: {few(changed)}")
    return _lacking(cell, "no record")


def _lacking(cell: Cell, reason: str) -> str:
    return "; ".join(filter(None, [reason, cell.lacks]))


def few(changed: list[str]) -> str:
    """What `grid.changes` tells, in a few words."""
    return printable("; ".join(changed[:3])) + (" ..." if len(changed) > 3 else "")
