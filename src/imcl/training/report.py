"""Reports the progress of a cell's training: messages on standard error, and a file of events."""

import os
import signal
import socket
from contextlib import suppress
from types import TracebackType
from typing import Self

from imcl.errors import ImclError, Stopped
from imcl.progress import Events, Progress, say
from imcl.project import Project
from imcl.study.grid import Cell


class Report:
    """Follows the training of a cell, as a context manager; it also notes how the training ends."""

    def __init__(self, project: Project, cell: Cell):
        self.cell, self.epochs = cell, cell.training.epochs
        self.total = self.epochs * len(cell.seeds)
        self.progress = Progress(cell.name, self.total, "epochs")
        self.events = Events(project.events(cell.key))
        self.started = False

    def __enter__(self) -> Self:
        host = socket.gethostname()
        self.events.add("started", pid=os.getpid(), host=host, total=self.total, done=0)
        self.started = True
        self.progress.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.progress.__exit__(kind, error, traceback)
        # The end is told by the record or by `error` too, so a full disk matters no more.
        with suppress(ImclError, OSError):
            if error is None:
                self.events.add("done")
            elif isinstance(error, Stopped):
                self.events.add("stopped", signal=signal.Signals(error.number).name)
            elif isinstance(error, KeyboardInterrupt):
                self.events.add("stopped", signal=signal.SIGINT.name)
            elif isinstance(error, Exception):
                self.events.add("failed", message=str(error) or type(error).__name__)

    def failed_to_start(self, error: ImclError | OSError) -> None:
        """Nothing was trained, because of this error."""
        with suppress(ImclError, OSError):
            self.events.add("failed", message=str(error))

    def resumed(self, seed: int, epoch: int) -> None:
        """A seed continues after an epoch, counted from 1, or was finished before."""
        if epoch == self.epochs:
            say(f"{self.cell.name}: seed {seed} was finished before")
        else:
            say(f"{self.cell.name}: seed {seed}: resuming after epoch {epoch}")
        self.progress.skip(epoch)
        done = self.progress.done
        self.events.add("resumed", seed=seed, epoch=epoch, done=done, total=self.total)

    def epoch(self, seed: int, epoch: int, note: str) -> None:
        """An epoch of a seed, counted from 1, is done; `note` says how it went."""
        self.progress.advance(note=note)
        self.events.add(
            "epoch",
            seed=seed,
            epoch=epoch,
            done=self.progress.done,
            total=self.total,
            seconds_left=round(self.progress.seconds_left, 1),
        )
