"""Follows a study while an engine trains it: a line a cell, or a live table on a terminal."""

import time
from collections.abc import Sequence
from pathlib import Path
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
        self.project, self.store, self.cells = project, Store(project), cells
        self.missing = [cell for cell in cells if not self._record(cell).exists()]
        self._to_train = len(self.missing)
        self._start = time.monotonic()
        self._finished: list[tuple[str, str]] = []
        self._lines = 0
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
        found = [cell for cell in self.missing if self._record(cell).exists()]
        self.missing = [cell for cell in self.missing if cell not in found]
        for cell in found:
            accuracy = self._accuracy(cell)
            self._finished.append((cell.name, accuracy))
            if not self._live:
                self._say(f"{cell.name:<{self._width}}  {accuracy:>7}  {self._counted()}")
        if self._live:
            self._live.update(self._table())
        elif found and not self.missing:
            say(REST)

    def failed(self) -> list[str]:
        """The names of the cells with a training that failed, in the study's order."""
        return [cell.name for cell in self.missing if self._row(cell)["state"] == "failed"]

    @property
    def _width(self) -> int:
        return max(len(cell.name) for cell in self.cells)

    def _record(self, cell: Cell) -> Path:
        return self.store.path(cell)

    def _row(self, cell: Cell) -> status.Row:
        return status.row(self.project, cell)

    def _accuracy(self, cell: Cell) -> str:
        """The mean over the seeds, in percent."""
        try:
            runs = self.store.read(cell, self._record(cell))["runs"]
        except ImclError:  # the engine will say what is wrong with it
            return "?"
        return f"{100 * sum(run['final']['accuracy'] for run in runs) / len(runs):.1f} %"

    def _counted(self) -> str:
        """How many cells are done, and the time that the others will take at the pace so far."""
        done = len(self._finished)
        told = f"{len(self.cells) - len(self.missing)} of {len(self.cells)} cells"
        if not done or not self.missing:
            return told
        left = (time.monotonic() - self._start) / done * len(self.missing)
        return f"{told}, {duration(left)} left"

    def _say(self, line: str) -> None:
        """Print a line, unless there would be too many of them."""
        if len(self._finished) * LINES // self._to_train > self._lines:
            self._lines = len(self._finished) * LINES // self._to_train
            say(line)

    def _table(self) -> Group:
        """The cells that were finished last, and those that are trained now."""
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(overflow="fold")
        table.add_column(no_wrap=True, justify="right")
        for name, accuracy in self._finished[-RECENT:]:
            table.add_row(Text(name), Text(accuracy, "green"))
        for cell in self.missing:
            if any(self.project.events(run.run_key).exists() for run in cell.runs):
                row = self._row(cell)
                if row["state"] != "waiting":
                    shown = Text(f"{row['state']} {row['done']:.0%}", status.STYLES[row["state"]])
                    table.add_row(Text(cell.name), shown)
        return Group(table, Text(self._counted() if self.missing else REST, "bold"))
