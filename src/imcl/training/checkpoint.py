"""Training states on disk: training resumes from them, and its result is the same to the bit.

A checkpoint is one file of one seed: a line with the SHA-256 of the rest, then torch's format with
the state, the setting and the origin that it was made in. It is used only in the same setting: of
the same cell, data, seed and kind of device. Its origin may differ: another machine, thread count,
library or code continues it, but then equality to the bit is not promised, and the record says so.
The last two of each seed are kept. All of a cell's are deleted when its record is written.
"""

import hashlib
import io
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple, cast, final

import torch
from pydantic import ConfigDict, TypeAdapter, with_config
from torch import Tensor
from typing_extensions import TypedDict  # pydantic checks these on Python 3.11

from imcl.errors import Stopped
from imcl.files import atomic, read_bytes
from imcl.progress import say
from imcl.records.record import Cost, Elsewhere, Epoch, Run
from imcl.signals import handled
from imcl.training.device import is_out_of_memory
from imcl.training.loop import State

KEPT = 2
MAGIC = b"imcl checkpoint "
BYTES_PER_SECOND = 100e6  # until the first checkpoint is written and timed
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@final
class Unfinished(TypedDict):
    """A seed after an epoch: what was measured so far, where, and how to continue."""

    history: list[Epoch]
    elsewhere: list[Elsewhere]
    cost: Cost
    training: State


@final
class Finished(TypedDict):
    """A seed after its last epoch: its part of the record. Its weights are a file of their own."""

    run: Run
    cost: Cost


SeedState = Unfinished | Finished


@with_config(ConfigDict(arbitrary_types_allowed=True))  # tensors
class Content(TypedDict):
    """What a checkpoint holds: the setting and the origin that it was made in, and the state."""

    setting: dict[str, str]
    origin: dict[str, str]
    state: SeedState


CONTENT = TypeAdapter(Content)


class Loaded(NamedTuple):
    """A state, and what is different here by name, as it was where the state was made."""

    state: SeedState
    differs: dict[str, str]


class Checkpoints:
    """The checkpoints of one cell, which this process has locked.

    Args:
        folder: holds nothing else. Checkpoints that cannot be used are moved to `aside` beside it.
        setting: what must be the same to continue, by name; the seed is added.
        origin: what the exact results depend on besides, by name.
        share: the largest share of the run time to spend on writing, in 0..1.
    """

    def __init__(
        self, folder: Path, setting: Mapping[str, str], origin: Mapping[str, str], share: float
    ):
        self.folder, self.share = folder, share
        self.setting, self.origin = dict(setting), dict(origin)
        self._begun, self._writing = time.perf_counter(), 0.0
        self._slowest: float | None = None
        self._saved = True  # whether everything done so far is on disk
        self._signal: int | None = None

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Let SIGTERM, SIGINT and SIGHUP stop the run, without losing a finished epoch.

        They raise `Stopped`: at once if everything is saved, otherwise after the current epoch. The
        same signal again stops the run at once; another does not, since a terminal's SIGINT comes
        with the SIGTERM of `imcl run`.
        """
        with handled(SIGNALS, self._stop):
            yield

    def load(self, seed: int) -> Loaded | None:
        """The newest state of a seed that is whole and of this setting; None if there is none.

        Other checkpoints are moved aside, with a message.
        """
        ours = self._setting_of(seed)
        for path in reversed(self._of(seed)):
            try:
                content = _read(path)
            except ValueError as error:
                self._move_aside(path, str(error))
                continue
            wrong = _differences(content["setting"], ours)
            if not wrong:
                differs = _differences(content["origin"], self.origin)
                if differs:
                    say(f"{path}: made with another {', '.join(differs)}; the record will say so")
                return Loaded(content["state"], differs)
            self._move_aside(path, f"made with another {', '.join(wrong)}")
        return None

    def hold(self) -> None:
        """An epoch is finished: until it is saved, a signal waits for the next `save`."""
        self._saved = False

    def save(self, seed: int, state: Callable[[], SeedState]) -> None:
        """Write what `state` returns, if the share allows it or a signal asked to stop.

        A finished seed is always written. It is small, and a signal during the next seed, which
        saves that one alone, would lose its training.

        Raises:
            Stopped: a signal came since the last call.
            ImclError: the disk is full.
        """
        self.hold()
        begun = time.perf_counter()
        content: Content = {
            "setting": self._setting_of(seed),
            "origin": self.origin,
            "state": state(),
        }
        finished = "run" in content["state"]
        expected = self._slowest or 0.01 + _size(content) / BYTES_PER_SECOND
        allowed = self.share * (begun - self._begun)
        if finished or self._writing + expected <= allowed:
            self._write(seed, content)
            seconds = time.perf_counter() - begun
            self._writing += seconds
            if not finished:  # whose time says nothing of the larger ones
                self._slowest = max(seconds, self._slowest or 0.0)
            self._saved = True
        if self._signal is not None:  # it may also have come since the last `if`
            if not self._saved:
                self._write(seed, content)
            raise Stopped(self._signal)

    def remove(self) -> None:
        """Delete the cell's checkpoints."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, seed: int, content: Content) -> None:
        buffer = io.BytesIO()
        torch.save(content, buffer)
        checksum = hashlib.sha256(buffer.getbuffer()).hexdigest().encode()
        old = self._of(seed)
        number = _number(old[-1]) + 1 if old else 1
        path = self.folder / f"seed-{seed}-{number}.pt"
        with atomic(path) as temporary, temporary.open("wb") as file:
            file.write(MAGIC + checksum + b"\n")
            file.write(buffer.getbuffer())
        for path in old[: 1 - KEPT]:
            path.unlink()

    def _setting_of(self, seed: int) -> dict[str, str]:
        return {**self.setting, "seed": str(seed)}

    def _of(self, seed: int) -> list[Path]:
        """The checkpoints of a seed, oldest first; a file with any other name is none."""
        name = re.compile(rf"seed-{seed}-[0-9]+\.pt")
        found = self.folder.glob(f"seed-{seed}-*.pt")
        return sorted((path for path in found if name.fullmatch(path.name)), key=_number)

    def _move_aside(self, path: Path, reason: str) -> None:
        aside = self.folder.parent / "aside" / f"{path.parent.name}-{path.name}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        path.replace(aside)
        say(f"{path}: {reason}; moved to {aside} and not used")

    def _stop(self, number: int, frame: FrameType | None) -> None:
        second, self._signal = self._signal == number, number
        if self._saved or second:
            raise Stopped(number)
        name = signal.Signals(number).name
        say(f"{name}: stopping after this epoch, with a checkpoint; a second {name} stops at once")


def _read(path: Path) -> Content:
    """The content of a checkpoint; ValueError if it is damaged."""
    if not path.is_file():  # a pipe would make us wait for ever
        raise ValueError("not a file")
    head, _, body = read_bytes(path).partition(b"\n")
    if head != MAGIC + hashlib.sha256(body).hexdigest().encode():
        raise ValueError("damaged")
    try:
        content = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
        CONTENT.validate_python(content, strict=True, extra="forbid")
    except Exception as error:  # the checksum is right, so it was written wrong
        if is_out_of_memory(error):
            raise
        raise ValueError(f"not a checkpoint of imcl ({type(error).__name__})") from None
    return cast(Content, content)


def _differences(theirs: Mapping[str, str], ours: Mapping[str, str]) -> dict[str, str]:
    """Their values of what is different, by name."""
    names = sorted(theirs.keys() | ours.keys())
    return {n: theirs.get(n, "absent") for n in names if theirs.get(n) != ours.get(n)}


def _size(value: object) -> int:
    """Bytes of the tensors in nested dicts and lists."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, list) else 0


def _number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])
