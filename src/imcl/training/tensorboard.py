"""Writes each epoch for TensorBoard, if the environment names a folder for it."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from imcl.errors import ImclError
from imcl.files import room
from imcl.records.record import Epoch

# In the environment, not in params.yaml, since it changes no result.
FOLDER = "IMCL_TENSORBOARD"


def writer(run: str) -> Callable[[Epoch], None]:
    """A function that writes an epoch of a run to a folder named by its key.

    It does nothing if no folder is named.

    Raises:
        ImclError: a folder is named, but TensorBoard is not installed, or the disk is full.
    """
    folder = os.environ.get(FOLDER)
    if not folder:
        return lambda epoch: None
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError:
        raise ImclError(
            f"{FOLDER} is set, but TensorBoard is not installed: `uv sync --extra tensorboard`"
        ) from None
    path = Path(folder) / run / _name()

    # Not by torch's SummaryWriter, which writes in a thread: a full disk ends that in a traceback.
    def add(**content: Any) -> None:
        event = Event(wall_time=time.time(), **content)
        with room(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                RecordWriter(file).write(event.SerializeToString())

    def write(epoch: Epoch) -> None:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in _scalars(epoch)]
        add(step=epoch["epoch"], summary=Summary(value=values))

    add(file_version="brain.Event:2")
    return write


def _name() -> str:
    """A file name that TensorBoard knows, of this process alone."""
    return f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"


def _scalars(values: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of nested dicts by name: `loss`, `terms/kernel`, `evaluation/accuracy` ..."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _scalars(value, f"{prefix}{name}/")
        elif name != "epoch":
            yield prefix + name, value
