"""Writes each epoch for TensorBoard, if the environment names a folder for it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from imcl.errors import ImclError
from imcl.records.record import Epoch

# In the environment, not in params.yaml, since it changes no result.
FOLDER = "IMCL_TENSORBOARD"


def writer(key: str, seed: int) -> Callable[[Epoch], None]:
    """A function that writes an epoch of a seed's training to KEY/seed-SEED in the folder.

    It does nothing if no folder is named.

    Raises:
        ImclError: a folder is named, but TensorBoard is not installed.
    """
    folder = os.environ.get(FOLDER)
    if not folder:
        return lambda epoch: None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImclError(
            f"{FOLDER} is set, but TensorBoard is not installed: `uv sync --extra tensorboard`"
        ) from None
    summary = SummaryWriter(Path(folder) / key / f"seed-{seed}")

    def write(epoch: Epoch) -> None:
        for name, value in _scalars(epoch):
            summary.add_scalar(name, value, epoch["epoch"])
        summary.flush()  # otherwise TensorBoard shows it minutes later

    return write


def _scalars(values: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of nested dicts by name: `loss`, `terms/kernel`, `evaluation/accuracy` ..."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _scalars(value, f"{prefix}{name}/")
        elif name != "epoch":
            yield prefix + name, value
