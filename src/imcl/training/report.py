"""Reports the progress of a run's training: messages on standard error, and a file of events."""

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
    """Follows the training of a run, as a context manager; it also notes how the training ends."""

    def __init__(self, project: Project, run: Cell):
        (self.seed,) = run.seeds
        self.title = f"{run.name}, seed {self.seed}"
        self.epochs = run.training.epochs
        self.progress = Progress(self.title, self.epochs, "epochs")
        self.events = Events(project.events(run.run_key))
        self.started = False

    def __enter__(self) -> Self:
        host = socket.gethostname()
        self.events.add("started", pid=os.getpid(), host=host, total=self.epochs, done=0)
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

    def resumed(self, epoch: int, step: int) -> None:
        """The run continues after these; epochs are counted from 1, the next epoch's steps too."""
        say(f"{self.title}: resuming after epoch {epoch}{f', step {step}' if step else ''}")
        self.progress.skip(epoch)
        self.events.add("resumed", seed=self.seed, done=epoch, total=self.epochs)

    def epoch(self, epoch: int, note: str) -> None:
        """An epoch, counted from 1, is done; `note` says how it went."""
        self.progress.advance(note=note)
        self.events.add(
            "epoch",
            seed=self.seed,
            done=epoch,
            total=self.epochs,
            seconds_left=round(self.progress.seconds_left, 1),
        )
