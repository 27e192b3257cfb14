"""STL-10 (Coates et al., AISTATS 2011) from its official binary archive."""

import tarfile
import zlib
from pathlib import Path

import numpy as np

from imcl.data.arrays import Arrays
from imcl.errors import ImclError

FOLDER = "stl10_binary"
SIDE = 96
MEMBERS = (
    *("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"),
    *("class_names.txt", "fold_indices.txt"),
)


def read(archives: list[Path]) -> Arrays:
    """Train 5,000 and test 8,000 images, 96 x 96, with ten folds; labels 1..10 become 0..9.

    The members are read by name from the stream; the unlabelled images are passed over.
    """
    (archive,) = archives
    found = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = member.name.removeprefix(f"{FOLDER}/")
                if name in MEMBERS and member.isfile():
                    found[name] = tar.extractfile(member).read()
                if len(found) == len(MEMBERS):
                    break
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise ImclError(f"{archive}: not a readable tar.gz archive: {error}") from None
    missing = [f"{FOLDER}/{name}" for name in MEMBERS if name not in found]
    if missing:
        raise ImclError(f"{archive}: holds no {', '.join(missing)}")
    try:
        names = tuple(found["class_names.txt"].decode().split())
        folds = [
            np.array(line.split(), dtype=np.int64)
            for line in found["fold_indices.txt"].decode().splitlines()
        ]
        arrays = Arrays(
            _images(found["train_X.bin"]),
            _labels(found["train_y.bin"]),
            _images(found["test_X.bin"]),
            _labels(found["test_y.bin"]),
            names,
            folds=tuple(folds),
        )
    except ValueError as error:  # a length, a number or a letter that does not fit
        raise ImclError(f"{archive}: {error}") from None
    if any(fold.min() < 0 or fold.max() >= len(arrays.train_labels) for fold in folds):
        raise ImclError(f"{archive}: a fold names an image that is not there")
    return arrays


def _images(planes: bytes) -> np.ndarray:
    """Planes R, G, B of each image, column by column, as uint8 (N, 96, 96, 3)."""
    columns = np.frombuffer(planes, np.uint8).reshape(-1, 3, SIDE, SIDE)
    return np.ascontiguousarray(columns.transpose(0, 3, 2, 1))


def _labels(numbers: bytes) -> np.ndarray:
    return np.frombuffer(numbers, np.uint8).astype(np.int64) - 1
