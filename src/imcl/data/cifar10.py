"""CIFAR-10 (Krizhevsky 2009) from its official Python archive."""

import tarfile
from pathlib import Path

import numpy as np

from imcl.data.arrays import Arrays
from imcl.data.unpickle import unpickle
from imcl.errors import ImclError

FOLDER = "cifar-10-batches-py"
TRAIN = [f"data_batch_{i}" for i in range(1, 6)]


def read(archives: list[Path]) -> Arrays:
    """Train 50,000 and test 10,000 images, 32 x 32, in the official order.

    The members are read by name from the stream; nothing is unpacked to disk.
    """
    wanted = {f"{FOLDER}/{name}" for name in [*TRAIN, "test_batch", "batches.meta"]}
    members = {}
    try:
        with tarfile.open(archives[0], "r:gz") as tar:
            for member in tar:
                if member.name in wanted and member.isfile():
                    file = tar.extractfile(member)
                    members[member.name.removeprefix(f"{FOLDER}/")] = unpickle(file)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ImclError(f"{archives[0]}: not a readable tar.gz archive: {error}") from error
    missing = sorted(wanted - {f"{FOLDER}/{name}" for name in members})
    if missing:
        raise ImclError(f"{archives[0]}: holds no {', '.join(missing)}")
    train_x, train_y = _join([members[name] for name in TRAIN], archives[0])
    test_x, test_y = _join([members["test_batch"]], archives[0])
    names = tuple(members["batches.meta"]["label_names"])
    return Arrays(train_x, train_y, test_x, test_y, names)


def _join(batches: list[dict], archive: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows of R, G and B planes as images (N, 32, 32, 3), and the labels."""
    rows = np.concatenate([batch["data"] for batch in batches])
    labels = np.concatenate([batch["labels"] for batch in batches]).astype(np.int64)
    if rows.ndim != 2 or rows.shape[1] != 3072 or rows.dtype != np.uint8:
        raise ImclError(f"{archive}: data is {rows.dtype} {rows.shape}, not uint8 (N, 3072)")
    images = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels
