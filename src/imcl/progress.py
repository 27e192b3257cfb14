"""Progress for people, on standard error: a bar on a terminal, else a line now and then."""

import sys
import time

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

LINES = 10  # at most, where there is no terminal


class Progress:
    """Counts towards a total (None: unknown) of `unit`, as a context manager."""

    def __init__(self, title: str, total: int | None, unit: str, done: int = 0):
        self.title, self.total, self.unit, self.done = title, total, unit, done
        self._start, self._begun, self._lines = time.monotonic(), done, 0
        console = Console(stderr=True)
        self._bar = None
        if console.is_terminal:
            counts = (
                [DownloadColumn(), TransferSpeedColumn()]
                if unit == "bytes"
                else [MofNCompleteColumn()]
            )
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                *counts,
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task(title, total=total, completed=done)
            self._note = Text()
            self._live = Live(Group(self._bar, self._note), console=console)

    def __enter__(self) -> "Progress":
        if self._bar:
            self._live.start()
        return self

    def __exit__(self, *exc_info) -> None:
        if self._bar:
            self._live.stop()

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count on; `note` is shown below the bar, or behind the count."""
        self.done += amount
        if self._bar:
            self._bar.update(self._task, completed=self.done)
            self._note.plain = note
        elif self.total and self.done * LINES // self.total > self._lines:
            self._lines = self.done * LINES // self.total
            line = f"{self.title}: {self.done:,} of {self.total:,} {self.unit}"
            line += f", {self._time_left():.0f} s left" if self.done < self.total else ""
            print(line + (f", {note}" if note else ""), file=sys.stderr, flush=True)

    def _time_left(self) -> float:
        pace = (time.monotonic() - self._start) / max(self.done - self._begun, 1)
        return pace * (self.total - self.done)
