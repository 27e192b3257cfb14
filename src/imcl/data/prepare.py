"""Turns a source into stored arrays with statistics and hashes, and loads them again."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np

from imcl.data import SOURCES
from imcl.data.arrays import ARRAY_NAMES, Arrays
from imcl.data.fetch import check
from imcl.errors import ImclError
from imcl.files import atomic, read_json, sha256, write_json

DESCRIPTION = (
    *("name", "n_train", "n_test", "shape", "class_names", "superclasses"),
    *("mean", "std", "sha256"),
)


def prepare(name: str, config: dict, archives: list[Path], path: Path) -> dict:
    """Convert a dataset; write its arrays beside `path`, then its description to `path`.

    Args:
        name: the dataset's name, for messages and the description.
        config: its entry in params.yaml.
        archives: the files of its source, in the registry's order; each is checked first.
        path: where dataset.json goes.

    Returns:
        The description: counts, shape, class names, mean and standard deviation for each channel
        of the training images (of pixels in 0..1), and the SHA-256 of each array.
    """
    source = config["source"]
    for archive, file in zip(SOURCES[source], archives, strict=True):
        check(archive, file)
    arrays = import_module(f"imcl.data.{source}").read(archives)
    arrays.check(name)
    if "fold" in config:
        arrays = _fold(name, arrays, config["fold"])
    if "train_size" in config:
        arrays = _subset(name, arrays, config["train_size"], config["subset_seed"])
    hashes = {}
    for array in ARRAY_NAMES:
        with atomic(path.parent / f"{array}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, getattr(arrays, array))
        hashes[array] = sha256(path.parent / f"{array}.npy")
    mean, std = statistics(arrays.train_images)
    description = {
        "name": name,
        "config": config,
        "n_train": len(arrays.train_labels),
        "n_test": len(arrays.test_labels),
        "shape": list(arrays.train_images.shape[1:]),
        "class_names": list(arrays.class_names),
        "superclasses": list(arrays.superclasses),
        "mean": mean,
        "std": std,
        "archives": {file.name: sha256(file) for file in archives},
        "sha256": hashes,
    }
    write_json(path, description)
    return description


def statistics(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, of pixels in 0..1.

    Computed from counts of the 256 values, so it is exact and needs no float copy.
    """
    values = np.arange(256) / 255
    mean, std = [], []
    for channel in range(images.shape[3]):
        share = np.bincount(images[..., channel].reshape(-1), minlength=256) / images[..., 0].size
        mean.append(float(share @ values))
        std.append(float(np.sqrt(share @ (values - mean[-1]) ** 2)))
    return mean, std


def load(path: Path) -> tuple[dict, Arrays]:
    """The description at `path` and the arrays beside it.

    Raises:
        ImclError: an array is missing or no longer the one that was stored.
    """
    description = read_json(path, DESCRIPTION)
    arrays = {}
    for array in ARRAY_NAMES:
        file = path.parent / f"{array}.npy"
        if not file.exists() or sha256(file) != description["sha256"].get(array):
            raise ImclError(
                f"{file}: missing or changed since it was prepared; "
                f"delete {path.parent} and run `imcl prepare {description['name']}`"
            )
        arrays[array] = np.load(file, allow_pickle=False)
    names = {key: tuple(description[key]) for key in ("class_names", "superclasses")}
    return description, Arrays(**arrays, **names)


def _fold(name: str, arrays: Arrays, fold: int) -> Arrays:
    """The training images of one official fold."""
    if fold >= len(arrays.folds):
        raise ImclError(
            f"params.yaml: datasets.{name}.fold: {fold}, but its source has "
            f"{len(arrays.folds) or 'no'} folds"
        )
    chosen = arrays.folds[fold]
    return replace(
        arrays,
        train_images=arrays.train_images[chosen],
        train_labels=arrays.train_labels[chosen],
        folds=(),
    )


def _subset(name: str, arrays: Arrays, size: int, seed: int) -> Arrays:
    """A stratified share of the training set, in its order."""
    from sklearn.utils import resample  # 3 s to import, and needed here alone

    labels = arrays.train_labels
    for impossible, reason in (
        (size > len(labels), f"more than the {len(labels)} training images"),
        (size < len(arrays.class_names), f"fewer than the {len(arrays.class_names)} classes"),
    ):
        if impossible:
            raise ImclError(f"params.yaml: datasets.{name}.train_size: {size} is {reason}")
    chosen = resample(
        np.arange(len(labels)), replace=False, n_samples=size, stratify=labels, random_state=seed
    )
    chosen = np.sort(chosen)
    return replace(arrays, train_images=arrays.train_images[chosen], train_labels=labels[chosen])
