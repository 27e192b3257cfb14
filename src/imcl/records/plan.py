"""The cells of a study: which of them are done, and why the others are missing."""

from pathlib import Path
from typing import Literal

from typing_extensions import TypedDict

from imcl.errors import printable
from imcl.project import Project
from imcl.records.store import Store
from imcl.study import grid
from imcl.study.grid import Cell
from imcl.study.settings import Settings


class Row(TypedDict):
    """A cell of the study."""

    cell: str
    digest: str
    state: Literal["done", "missing"]
    reason: str


def rows(project: Project, settings: Settings) -> list[Row]:
    """One row for each cell of the chosen study."""
    store = Store(project)
    made = store.made()
    return [_row(store, cell, made.get(cell.name, [])) for cell in grid.cells(settings)]


def show(rows: list[Row]) -> None:
    """Print the rows as a table, then a line that counts them."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
    from tabulate import tabulate

    console = Console()
    if console.is_terminal:
        table = Table(box=None, header_style="bold")
        table.add_column("cell", overflow="fold")
        table.add_column("digest", no_wrap=True)
        table.add_column("state", no_wrap=True)
        table.add_column("reason", overflow="fold")
        for row in rows:
            style = "green" if row["state"] == "done" else "yellow"
            reason = escape(row["reason"])
            table.add_row(row["cell"], row["digest"], row["state"], reason, style=style)
        console.print(table)
    else:  # in a file or a pager, a row stays on one line
        listed = [dict(row) for row in rows]
        print(tabulate(listed, headers="keys", tablefmt="plain", disable_numparse=True))
    done = sum(row["state"] == "done" for row in rows)
    print(f"{len(rows)} cells, {done} done, {len(rows) - done} missing")


def _row(store: Store, cell: Cell, made: list[Path]) -> Row:
    reason = _reason(store, cell, made)
    return {
        "cell": cell.name,
        "digest": cell.digest,
        "state": "missing" if reason else "done",
        "reason": reason or "record is there",
    }


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
    return "; ".join(filter(None, [reason, cell.dataset.lacks]))


def few(changed: list[str]) -> str:
    """What `grid.changes` tells, in a few words."""
    return printable("; ".join(changed[:3])) + (" ..." if len(changed) > 3 else "")
