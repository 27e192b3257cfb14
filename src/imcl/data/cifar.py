"""What CIFAR's pickled batches have in common (Krizhevsky 2009); ImageNet32 follows them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from imcl.data.arrays import blocks
from imcl.data.unpickle import unpickle
from imcl.errors import ImclError

SIDE = 32


def batch(file: Path, archive: Path, *keys: str) -> dict:
    """A batch as a dict with at least the keys.

    Raises:
        ImclError: it is damaged or lacks one; the message names the archive.
    """
    try:
        with file.open("rb") as stream:
            found = unpickle(stream)
    except ImclError as error:
        raise ImclError(f"{archive}: {file.name}: {error}") from None
    for key in keys:
        if key not in found:
            raise ImclError(f"{archive}: {file.name} holds no {key}")
    return found


def images(archive: Path, data: object) -> Iterator[np.ndarray]:
    """Rows of R, G and B planes as images uint8 (n, 32, 32, 3), a few at a time."""
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2:
        raise ImclError(f"{archive}: data is {_kind(data)}, not uint8 (N, {3 * SIDE**2})")
    if data.shape[1] != 3 * SIDE**2:
        raise ImclError(f"{archive}: data is {_kind(data)}, not uint8 (N, {3 * SIDE**2})")
    for rows in blocks(data):
        yield rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)


def labels(archive: Path, values: object) -> np.ndarray:
    """A batch's labels, int64 (N,)."""
    found = np.asarray(values)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise ImclError(f"{archive}: labels are {_kind(found)}, not whole numbers (N,)")
    return found.astype(np.int64)


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return type(value).__name__
