"""Where a cell's training stands, stored so that it can go on to the same bits after any end.

A checkpoint is one file for one seed: a line with the SHA-256 of what follows, then torch's format
with the setting that it was made in and the state. It is taken up again under the same setting
alone: another cell, machine, thread count, library or code would go on to other bits. The last two
of each seed are kept, and all of a cell are deleted when its record is written.
"""

import fcntl
import hashlib
import io
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import imcl
from imcl.errors import Stopped
from imcl.files import atomic, room

FOLDER = Path("results/checkpoints")
ASIDE = FOLDER / "aside"  # what could not be taken up
SHARE = 0.02  # of the run time, at most, goes into writing
KEPT = 2
MAGIC = b"imcl checkpoint "
BYTES_PER_SECOND = 100e6  # until the first one is written and timed
SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def held(key: str) -> Iterator[bool]:
    """The cell's folder of checkpoints, for this process alone; a second process waits.

    The lock ends with the process, however that ends. Yields whether there was one to wait for.
    """
    folder, waited = FOLDER / key, False
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # deleted just now by the one that was done
            continue
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"{key}: another process trains this cell; waiting for it")
                waited = True
                fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists() and os.path.samestat(os.fstat(lock), folder.stat()):
                try:
                    yield waited
                finally:
                    with suppress(OSError):  # unless there are checkpoints in it
                        folder.rmdir()
                return
            # While this one waited, the other was done and deleted the folder.
        finally:
            os.close(lock)


class Checkpoints:
    """The checkpoints of one cell, held by this process.

    Args:
        key: the cell's.
        setting: what else decides the bits, as texts by name.
        share: of the run time that may go into writing, in 0..1.
    """

    def __init__(self, key: str, setting: dict[str, str], share: float = SHARE):
        self.folder, self.share = FOLDER / key, share
        self.setting = {"cell": key, **setting, "code": _code()}
        self._begun, self._writing, self._slowest = time.perf_counter(), 0.0, None
        self._stored = True  # all that was done
        self._signal: int | None = None

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT end the run when nothing is lost by it, as `Stopped`.

        That is at once where all is stored that was done, else behind the epoch that is under way.
        At a second signal it ends at once, from whatever was stored last.
        """
        before = {number: signal.signal(number, self._stop) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def load(self, seed: int) -> dict | None:
        """The newest state of a seed that is whole and of this setting; None if there is none.

        Others are moved aside with a message.
        """
        for path in reversed(self._of(seed)):
            try:
                content = _read(path)
            except ValueError as error:
                self._move_aside(path, str(error))
                continue
            theirs = content["setting"]
            if theirs == self.setting:
                return content["state"]
            names = sorted(theirs.keys() | self.setting.keys())
            other = [name for name in names if theirs.get(name) != self.setting.get(name)]
            self._move_aside(path, f"of another {', '.join(other)}")
        return None

    def save(self, seed: int, state: Callable[[], dict[str, Any]]) -> None:
        """Store what `state` returns, if the share allows it or a signal asked for it.

        Raises:
            Stopped: a signal came since the last one.
            ImclError: the disk is full.
        """
        self._stored = False
        begun = time.perf_counter()
        content = {"setting": self.setting, "state": state()}
        expected = self._slowest or 0.01 + _size(content) / BYTES_PER_SECOND
        allowed = self.share * (begun - self._begun)
        if self._writing + expected <= allowed or self._signal is not None:
            self._write(seed, content)
            taken = time.perf_counter() - begun
            self._writing += taken
            self._slowest = max(taken, self._slowest or 0.0)
            self._stored = True
        if self._signal is not None:
            raise Stopped(self._signal)

    def remove(self) -> None:
        """Delete the cell's checkpoints, since its record is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, seed: int, content: dict) -> None:
        buffer = io.BytesIO()
        torch.save(content, buffer)
        checksum = hashlib.sha256(buffer.getbuffer()).hexdigest().encode()
        old = self._of(seed)
        number = _number(old[-1]) + 1 if old else 1
        path = self.folder / f"seed-{seed}-{number}.pt"
        with room(path), atomic(path) as temporary, temporary.open("wb") as file:
            file.write(MAGIC + checksum + b"\n")
            file.write(buffer.getbuffer())
        for path in old[: 1 - KEPT]:
            path.unlink()

    def _of(self, seed: int) -> list[Path]:
        return sorted(self.folder.glob(f"seed-{seed}-*.pt"), key=_number)

    def _move_aside(self, path: Path, reason: str) -> None:
        ASIDE.mkdir(parents=True, exist_ok=True)
        place = ASIDE / f"{path.parent.name}-{path.name}"
        path.replace(place)
        say(f"{path}: {reason}; moved to {place} and not used")

    def _stop(self, number: int, frame: object) -> None:
        second, self._signal = self._signal is not None, number
        if self._stored or second:
            raise Stopped(number)
        name = signal.Signals(number).name
        say(f"{name}: ends behind this epoch, with a checkpoint; a second {name} ends it at once")


def _read(path: Path) -> dict:
    """What a checkpoint holds; ValueError if it is damaged."""
    head, _, body = path.read_bytes().partition(b"\n")
    if head != MAGIC + hashlib.sha256(body).hexdigest().encode():
        raise ValueError("damaged")
    try:
        content = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except Exception as error:  # its own checksum is right, so that it was made to be wrong
        raise ValueError(f"no checkpoint of ours ({type(error).__name__})") from None
    if not isinstance(content, dict) or set(content) != {"setting", "state"}:
        raise ValueError("no checkpoint of ours")
    return content


def _size(value: object) -> int:
    """Bytes of the tensors in nested dicts and lists."""
    if isinstance(value, Tensor):
        return value.nbytes
    children = value.values() if isinstance(value, dict) else value
    return sum(map(_size, children)) if isinstance(value, dict | list) else 0


def _number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _code() -> str:
    """A SHA-256 of this package's source."""
    root = Path(imcl.__file__).parent
    sources = sorted(root.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def say(message: str) -> None:
    """Tell the user, on standard error."""
    print(message, file=sys.stderr, flush=True)
