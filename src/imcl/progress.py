"""Progress: for people on standard error, and for programs as a file of events."""

import json
import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text
from typing_extensions import TypedDict, Unpack  # pydantic checks these on Python 3.11

from imcl.files import read_bytes, room
from imcl.terminal import fitted

LINES = 10  # printed at most, if there is no terminal


def say(message: str) -> None:
    """Print a line on standard error, if that is possible.

    A terminal that was closed, a reader such as `head` that has ended, or a log on a full disk is
    no reason to end a training.
    """
    with suppress(OSError):
        print(fitted(message, sys.stderr), file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """90 as `1 min 30 s`, 5400 as `1 h 30 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


class Progress:
    """Counts `unit`s up to a total (None: unknown), as a context manager.

    On a terminal it is a bar. Elsewhere it prints a few lines.
    """

    def __init__(self, title: str, total: int | None, unit: str, done: int = 0):
        self.title, self.total, self.unit, self.done = title, total, unit, done
        self._start, self._skipped, self._lines = time.monotonic(), done, 0
        console = Console(stderr=True)
        self._bar = _Bar(self, console) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar:
            with suppress(OSError):  # the terminal has gone
                self._bar.live.stop()

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count `amount` more; `note` is shown below the bar, or after the count."""
        self.done += amount
        if self._bar:
            self._bar.update(self.done, note)
        elif self.total and self.done * LINES // self.total > self._lines:
            self._lines = self.done * LINES // self.total
            line = f"{self.title}: {self.done:,} of {self.total:,} {self.unit}"
            line += f", {duration(self.seconds_left)} left" if self.done < self.total else ""
            say(line + (f", {note}" if note else ""))

    def skip(self, amount: int) -> None:
        """Count `amount` more that an earlier run did; the pace leaves them out."""
        self._skipped += amount
        self.advance(amount)

    @property
    def seconds_left(self) -> float:
        """The time that the rest will take at the pace so far; 0 if the total is unknown."""
        pace = (time.monotonic() - self._start) / max(self.done - self._skipped, 1)
        return pace * ((self.total or self.done) - self.done)


class _Bar:
    """A progress bar on a terminal, with a line for notes below it."""

    def __init__(self, progress: Progress, console: Console):
        counts: Iterable[ProgressColumn] = (
            [DownloadColumn(), TransferSpeedColumn()]
            if progress.unit == "bytes"
            else [MofNCompleteColumn()]
        )
        self.bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            *counts,
            TimeRemainingColumn(),
            console=console,
        )
        self.task = self.bar.add_task(progress.title, total=progress.total, completed=progress.done)
        self.note = Text()
        self.live = Live(Group(self.bar, self.note), console=console)

    def update(self, done: int, note: str) -> None:
        self.bar.update(self.task, completed=done)
        self.note.plain = note


Kind = Literal["started", "resumed", "epoch", "stopped", "failed", "done"]


class Details(TypedDict, total=False):
    """What an event says besides its kind and time.

    Attributes:
        pid: the process's number, in `started`.
        host: the name of its machine, in `started`.
        total: the run's epochs, in `started`, `resumed` and `epoch`.
        done: finished epochs, in `started`, `resumed` and `epoch`.
        seed: in `resumed` and `epoch`.
        seconds_left: until the end of the run, in `epoch`.
        signal: the name of the signal that stopped it, in `stopped`.
        message: the error's, in `failed`.
    """

    pid: Annotated[int, Field(ge=1, le=2**31 - 1)]
    host: str
    total: Annotated[int, Field(ge=1)]
    done: Annotated[int, Field(ge=0)]
    seed: int
    seconds_left: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    signal: str
    message: str


def _with_zone(time: str) -> str:
    if datetime.fromisoformat(time).tzinfo is None:
        raise ValueError("a time without its zone")
    return time


class Event(Details):
    """One line of a file of events; `time` is UTC, in ISO 8601."""

    time: Annotated[str, AfterValidator(_with_zone)]
    event: Kind


EVENT = TypeAdapter(Event)


class Events:
    """A file of events, one JSON object in each line, oldest first."""

    def __init__(self, path: Path):
        self.path = path

    def add(self, event: Kind, **details: Unpack[Details]) -> None:
        """Append an event.

        Raises:
            ImclError: the disk is full.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "event": event, **details}).encode() + b"\n"
        with room(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                if file.seek(0, os.SEEK_END):
                    file.seek(-1, os.SEEK_END)
                    if file.read() != b"\n":  # a killed process left its last line unfinished
                        line = b"\n" + line
                file.write(line)

    @staticmethod
    def read(path: Path) -> list[Event]:
        """The events of a file, none if there is no file; lines that are no events are skipped.

        Raises:
            OSError: it cannot be read.
        """
        try:
            lines = read_bytes(path).splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            with suppress(ValidationError):
                found.append(EVENT.validate_json(line))
        return found
