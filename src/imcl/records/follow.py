"""Follows a study while an engine trains it: a line a cell, or a live table on a terminal."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from imcl.errors import ImclError
from imcl.progress import duration, say
from imcl.project import Project
from imcl.records import status
from imcl.records.store import Store
from imcl.study.grid import Cell

LINES = 40  # of cells, at most, if there is no terminal
RECENT = 8  # finished cells in the live table
REST = "all cells are trained; now the tables, figures, report and paper are made"


class Follower:
    """Shows which cells of a study were finished, how good they are, and the time left.

    It is a context manager. It reads what trainings write, as `imcl status` does.
    """

    def __init__(self, project: Project, cells: Sequence[Cell]):
        self._project, self._store, self._cells = project, Store(project), cells
        self.missing = [cell for cell in cells if not self._store.path(cell).exists()]
        self._to_train = len(self.missing)
        self._finished: list[tuple[str, str]] = []
        self._lines = 0
        self._start, self._before = time.monotonic(), _trained(self._begun())
        self._live: Live | None = None

    def __enter__(self) -> Self:
        console = Console(stderr=True)
        if console.is_terminal:
            self._live = Live(console=console)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def update(self) -> None:
        """Look for cells that were finished since, and show how far the study is."""
        for cell in [cell for cell in self.missing if self._store.path(cell).exists()]:
            self.missing.remove(cell)
            self._finished.append((cell.name, self._accuracy(cell)))
            if not self._live:
                self._print()
        if self._live:
            self._live.update(self._table())

    def failed(self) -> list[str]:
        """The names of the cells with a training that failed, in the study's order."""
        return [row["cell"] for row in self._begun() if row["state"] == "failed"]

    def _begun(self) -> list[status.Row]:
        """How far the cells are that have begun and have no record yet."""
        return [
            status.row(self._project, cell)
            for cell in self.missing
            if any(self._project.events(run.run_key).exists() for run in cell.runs)
        ]

    def _accuracy(self, cell: Cell) -> str:
        """The mean over the seeds, in percent."""
        try:
            runs = self._store.read(cell, self._store.path(cell))["runs"]
        except ImclError:  # the engine will say what is wrong with it
            return "?"
        return f"{100 * sum(run['final']['accuracy'] for run in runs) / len(runs):.1f} %"

    def _counted(self, begun: Sequence[status.Row]) -> str:
        """How many cells are done, and the time that the others will take at the pace so far."""
        told = f"{len(self._cells) - len(self.missing)} of {len(self._cells)} cells"
        trained = len(self._finished) + _trained(begun)
        if not self.missing or trained <= self._before:
            return told
        pace = (time.monotonic() - self._start) / (trained - self._before)
        return f"{told}, {duration(pace * (self._to_train - trained))} left"

    def _print(self) -> None:
        """Print a line for the last finished cell, unless there would be too many lines."""
        lines = len(self._finished) * LINES // self._to_train
        if lines > self._lines:
            self._lines = lines
            width = max(len(cell.name) for cell in self._cells)
            name, accuracy = self._finished[-1]
            say(f"{name:<{width}}  {accuracy:>7}  {self._counted(self._begun())}")
        if not self.missing:
            say(REST)

    def _table(self) -> Group:
        """The cells that were finished last, and those that are trained now."""
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(overflow="fold")
        table.add_column(no_wrap=True, justify="right")
        for name, accuracy in self._finished[-RECENT:]:
            table.add_row(Text(name), Text(accuracy, "green"))
        begun = self._begun()
        for row in begun:
            if row["state"] != "waiting":
                shown = Text(f"{row['state']} {row['done']:.0%}", status.STYLES[row["state"]])
                table.add_row(Text(row["cell"]), shown)
        return Group(table, Text(self._counted(begun) if self.missing else REST, "bold"))


def _trained(begun: Sequence[status.Row]) -> float:
    """How many cells were trained so far, counted in their epochs."""
    return sum(row["done"] for row in begun)
