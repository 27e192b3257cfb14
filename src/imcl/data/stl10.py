"""STL-10 (Coates et al., AISTATS 2011) from its official binary archive."""

from pathlib import Path

import numpy as np

from imcl.data.arrays import Arrays, Images, Labels, blocks, store
from imcl.data.tar import extract
from imcl.errors import ImclError
from imcl.study.sources import DatasetOptions

FOLDER = "stl10_binary"
SIDE = 96
MEMBERS = (
    *("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"),
    *("class_names.txt", "fold_indices.txt"),
)


def read(options: DatasetOptions, archives: list[Path], scratch: Path) -> Arrays:
    """5,000 training and 8,000 test images, 96 x 96, with ten folds; labels 1..10 become 0..9.

    The unlabelled images are skipped.

    Raises:
        ImclError: the archive is damaged, or a fold has an index without an image.
    """
    (archive,) = archives
    files = extract(archive, FOLDER, MEMBERS, scratch)
    try:
        folds = [
            np.array(line.split(), dtype=np.int64)
            for line in files["fold_indices.txt"].read_text().splitlines()
        ]
        arrays = Arrays(
            _images(files["train_X.bin"], scratch / "train_images.npy"),
            _labels(files["train_y.bin"]),
            _images(files["test_X.bin"], scratch / "test_images.npy"),
            _labels(files["test_y.bin"]),
            tuple(files["class_names.txt"].read_text().split()),
            folds=tuple(folds),
        )
    except (ValueError, OverflowError) as error:  # a wrong length, number or letter
        raise ImclError(f"{archive}: {error}") from None
    count = len(arrays.train_labels)
    if any(not len(fold) or fold.min() < 0 or fold.max() >= count for fold in folds):
        raise ImclError(f"{archive}: a fold is empty, or has the index of no image")
    return arrays


def _images(planes: Path, path: Path) -> Images:
    """Planes R, G, B of each image, column by column, as uint8 (N, 96, 96, 3)."""
    columns = np.memmap(planes, np.uint8, "r").reshape(-1, 3, SIDE, SIDE)
    return store(path, (block.transpose(0, 3, 2, 1) for block in blocks(columns)))


def _labels(numbers: Path) -> Labels:
    return np.fromfile(numbers, np.uint8).astype(np.int64) - 1
