"""Watching a run: each epoch goes to TensorBoard, where IMCL_LIVE names a folder; else nowhere."""

import os
from collections.abc import Callable
from pathlib import Path

from imcl.errors import ImclError

FOLDER = "IMCL_LIVE"  # of the environment, since it changes no result and belongs to no record


def watcher(key: str, seed: int) -> Callable[[dict], None]:
    """What takes each entry of a seed's history and writes it to KEY/seed-SEED of the folder.

    Raises:
        ImclError: the folder is named, and TensorBoard is not installed.
    """
    folder = os.environ.get(FOLDER)
    if not folder:
        return lambda entry: None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImclError(
            f"{FOLDER} is set, and TensorBoard is not installed: `uv sync --extra live`"
        ) from None
    writer = SummaryWriter(Path(folder) / key / f"seed-{seed}")

    def write(entry: dict) -> None:
        for name, value in _scalars(entry).items():
            writer.add_scalar(name, value, entry["epoch"])
        writer.flush()  # or it is seen minutes later

    return write


def _scalars(entry: dict, prefix: str = "") -> dict[str, float]:
    """The numbers of an entry by name: `loss`, `terms/kernel`, `evaluation/accuracy` ..."""
    found = {}
    for name, value in entry.items():
        if isinstance(value, dict):
            found |= _scalars(value, f"{prefix}{name}/")
        elif name != "epoch":
            found[prefix + name] = value
    return found
