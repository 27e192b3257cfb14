"""What CIFAR's pickled batches have in common (Krizhevsky 2009). ImageNet32 has the same format."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from imcl.data.arrays import Images, Labels, blocks
from imcl.data.unpickle import unpickle
from imcl.errors import ImclError

SIDE = 32


def batch(file: Path, archive: Path, *keys: str) -> dict[str, Any]:
    """A batch as a dict that has at least these keys.

    Raises:
        ImclError: it is damaged or lacks a key; the message names the archive.
    """
    try:
        with file.open("rb") as stream:
            found = unpickle(stream)
    except ImclError as error:
        raise ImclError(f"{archive}: {file.name}: {error}") from None
    for key in keys:
        if key not in found:
            raise ImclError(f"{archive}: {file.name} has no {key}")
    return found


def images(archive: Path, data: object) -> Iterator[Images]:
    """Rows of R, G and B planes as images uint8 (n, 32, 32, 3), a few at a time."""
    width = 3 * SIDE**2
    if not (
        isinstance(data, np.ndarray)
        and data.dtype == np.uint8
        and data.ndim == 2
        and data.shape[1] == width
    ):
        raise ImclError(f"{archive}: data is {_kind(data)}, not uint8 (N, {width})")
    for rows in blocks(data):
        yield rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)


def labels(archive: Path, values: object) -> Labels:
    """A batch's labels, int64 (N,)."""
    found = np.asarray(values)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise ImclError(f"{archive}: labels are {_kind(found)}, not whole numbers (N,)")
    return found.astype(np.int64)


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return type(value).__name__
