"""`imcl` in a process of its own: a forked one, since a new one takes seconds to load torch."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from imcl.cli import main

FORK = multiprocessing.get_context("fork")


class Command:
    """Runs `imcl ARGUMENTS`.

    Args:
        arguments: of the command line.
        printed: what it prints goes into files of this name, with .out and .err.
        prepare: called in the process before anything else.
    """

    def __init__(
        self, arguments: list[str], printed: Path, prepare: Callable[[], object] = lambda: None
    ):
        self.out, self.err = printed.with_suffix(".out"), printed.with_suffix(".err")
        self.process = FORK.Process(target=self._run, args=(arguments, prepare), daemon=True)
        self.process.start()

    def _run(self, arguments: list[str], prepare: Callable[[], object]) -> None:
        for stream, path in ((1, self.out), (2, self.err)):
            os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND), stream)
        sys.stdout, sys.stderr = (path.open("a", buffering=1) for path in (self.out, self.err))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
        prepare()
        sys.exit(main(arguments))

    def send(self, number: int) -> None:
        assert self.process.pid
        os.kill(self.process.pid, number)

    def wait(self) -> tuple[int | None, str]:
        """Its exit code and what it printed on standard error."""
        self.process.join()
        return self.process.exitcode, self.err.read_text()

    def until(self, reached: Callable[[], object]) -> None:
        """Wait for something that the process does before it ends."""
        while not reached():
            assert self.process.is_alive(), self.wait()
            time.sleep(0.005)
