"""Training states on disk: training resumes from them, and its result is the same to the bit.

A checkpoint is one file of a run: a line with the SHA-256 of the rest, then torch's format with
the state, the setting and the origin that it was made in. It is used only in the same setting: of
the same run, data and kind of device. Its origin may differ: another machine, thread count,
library or code continues it, but then equality to the bit is not promised, and the record says so.
The last two are kept. All are deleted when the run's record is written.
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
from typing import NamedTuple, cast

import torch
from pydantic import ConfigDict, TypeAdapter, with_config
from torch import Tensor
from typing_extensions import TypedDict  # pydantic checks these on Python 3.11

from imcl.errors import Stopped
from imcl.files import atomic, read_bytes
from imcl.progress import say
from imcl.records.record import Cost, Elsewhere, Epoch
from imcl.signals import handled
from imcl.training.device import is_out_of_memory
from imcl.training.loop import State

KEPT = 2
MAGIC = b"imcl checkpoint "
NAME = re.compile(r"[0-9]+\.pt")
BYTES_PER_SECOND = 100e6  # until the first checkpoint is written and timed
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class SeedState(TypedDict):
    """A run after a step: what was measured so far, where, and how to continue."""

    history: list[Epoch]
    elsewhere: list[Elsewhere]
    cost: Cost
    training: State


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
    """The checkpoints of one run, which this process has locked.

    Args:
        folder: holds nothing else. Checkpoints that cannot be used are moved to `aside` beside it.
        setting: what must be the same to continue, by name.
        origin: what the exact results depend on besides, by name.
        share: the largest share of the run time to spend on writing, in 0..1.
    """

    def __init__(
        self, folder: Path, setting: Mapping[str, str], origin: Mapping[str, str], share: float
    ):
        self.folder, self.share = folder, share
        self.setting, self.origin = dict(setting), dict(origin)
        self._begun, self._writing = time.perf_counter(), 0.0
        self._expected: float | None = None  # seconds that the next one takes
        self._slowest = 0.0
        self._saved = True  # whether everything done so far is on disk
        self.asked: int | None = None  # the signal that asked to stop

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Let SIGTERM, SIGINT and SIGHUP stop the run, without losing a finished step.

        They raise `Stopped`: at once if everything is saved, otherwise after the current step.
        After the last step, if that is not saved, the run is finished instead, and `asked` is the
        signal. The same signal again stops the run at once; another does not, since a terminal's
        SIGINT comes with the SIGTERM of `imcl run`.
        """
        with handled(SIGNALS, self._stop):
            yield

    def load(self) -> Loaded | None:
        """The newest state that is whole and of this setting; None if there is none.

        Other checkpoints are moved aside, with a message.
        """
        for path in reversed(self._paths()):
            try:
                content = _read(path)
            except ValueError as error:
                self._move_aside(path, str(error))
                continue
            wrong = _differences(content["setting"], self.setting)
            if not wrong:
                differs = _differences(content["origin"], self.origin)
                if differs:
                    say(f"{path}: made with another {', '.join(differs)}; the record will say so")
                return Loaded(content["state"], differs)
            self._move_aside(path, f"made with another {', '.join(wrong)}")
        return None

    def hold(self) -> None:
        """A step is done: until it is saved, a signal waits for the next `save`."""
        self._saved = False

    def save(self, state: Callable[[], SeedState]) -> bool:
        """Write what `state` returns, if the share allows it or a signal asked to stop.

        It is called after each step, so it calls `state`, which takes time, only when it must.

        Returns:
            Whether it was written.

        Raises:
            Stopped: a signal came since the last call.
            ImclError: the disk is full.
        """
        self.hold()
        if self._expected is None:
            self._expected = 0.01 + _size(state()) / BYTES_PER_SECOND
        begun = time.perf_counter()
        if self._writing + self._expected <= self.share * (begun - self._begun):
            self._write(state())
            seconds = time.perf_counter() - begun
            self._writing += seconds
            self._expected = self._slowest = max(seconds, self._slowest)
            self._saved = True
        if self.asked is not None:  # it may also have come since the last `if`
            if not self._saved:
                self._write(state())
            raise Stopped(self.asked)
        return self._saved

    def finish(self) -> None:
        """Delete the run's checkpoints, since its record is written.

        From now on a signal stops nothing, since there is no checkpoint to continue from.
        """
        self.hold()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, state: SeedState) -> None:
        content: Content = {"setting": self.setting, "origin": self.origin, "state": state}
        buffer = io.BytesIO()
        torch.save(content, buffer)
        checksum = hashlib.sha256(buffer.getbuffer()).hexdigest().encode()
        old = self._paths()
        number = _number(old[-1]) + 1 if old else 1
        path = self.folder / f"{number}.pt"
        with atomic(path) as temporary, temporary.open("wb") as file:
            file.write(MAGIC + checksum + b"\n")
            file.write(buffer.getbuffer())
        for path in old[: 1 - KEPT]:
            path.unlink()

    def _paths(self) -> list[Path]:
        """The checkpoints, oldest first; a file with any other name is none."""
        found = self.folder.glob("*.pt")
        return sorted((path for path in found if NAME.fullmatch(path.name)), key=_number)

    def _move_aside(self, path: Path, reason: str) -> None:
        aside = self.folder.parent / "aside" / f"{path.parent.name}-{path.name}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        path.replace(aside)
        say(f"{path}: {reason}; moved to {aside} and not used")

    def _stop(self, number: int, frame: FrameType | None) -> None:
        second, self.asked = self.asked == number, number
        if self._saved or second:
            raise Stopped(number)
        name = signal.Signals(number).name
        say(f"{name}: stopping after this step, with a checkpoint; a second {name} stops at once")


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
    return int(path.stem)
