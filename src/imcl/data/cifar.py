"""What CIFAR's pickled batches have in common (Krizhevsky 2009). ImageNet32 has the same format."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from imcl.data.arrays import Images, Labels, blocks
from imcl.data.unpickle import unpickle
from imcl.errors import ImclError, shown

SIDE = 32
LARGEST_LABEL = np.iinfo(np.int64).max


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
    """Rows of R, G and B planes as images uint8 (n, 32, 32, 3), a few at a time.

    Raises:
        ImclError: the data is of another type or shape, or empty.
    """
    width = 3 * SIDE**2
    if not (
        isinstance(data, np.ndarray)
        and data.dtype == np.uint8
        and data.ndim == 2
        and data.shape[1] == width
        and len(data)
    ):
        raise ImclError(f"{archive}: data is {_kind(data)}, not uint8 (N, {width})")
    for rows in blocks(data):
        yield rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)


def labels(archive: Path, values: object) -> Labels:
    """A batch's labels, int64 (N,).

    Raises:
        ImclError: they are not a list or an array of whole numbers, or one is too large.
    """
    # Only a flat list is given to numpy: a few nested ones that share their items can stand for
    # more numbers than memory holds.
    if isinstance(values, list) and all(type(value) is int for value in values):
        largest = max(map(abs, values), default=0)
    elif isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "iu":
        largest = int(values.max(initial=0))
    else:
        raise ImclError(f"{archive}: labels are {_kind(values)}, not whole numbers (N,)")
    if largest > LARGEST_LABEL:
        raise ImclError(f"{archive}: a label is too large: {shown(largest)}")
    return np.asarray(values, np.int64)


def names(archive: Path, values: object) -> tuple[str, ...]:
    """The names of classes.

    Raises:
        ImclError: they are not a list of texts.
    """
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ImclError(f"{archive}: class names are {_kind(values)}, not a list of texts")
    return tuple(values)


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    if isinstance(value, list):
        return (
            f"a list of {', '.join(sorted({type(item).__name__ for item in value})) or 'nothing'}"
        )
    return type(value).__name__
