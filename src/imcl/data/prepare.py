"""Turns a source into stored arrays with statistics and hashes, and loads them again.

Images are never in memory as a whole: they are read, chosen, counted and hashed a few megabytes at
a time, and mapped from their files when they are loaded. The peak is measured by
`/usr/bin/time -v imcl prepare NAME` ("Maximum resident set size").
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import numpy as np

from imcl.data import SOURCES
from imcl.data.arrays import Arrays, blocks, statistics, store
from imcl.data.fetch import check
from imcl.errors import ImclError
from imcl.files import read_json, room, sha256, write_json

DESCRIPTION = (
    *("name", "n_train", "n_validation", "n_test", "shape", "class_names", "superclasses"),
    *("mean", "std", "arrays", "sha256"),
)
SCRATCH = ".scratch"


def prepare(name: str, config: dict, archives: list[Path], path: Path) -> dict:
    """Convert a dataset; write its arrays beside `path`, then its description to `path`.

    Nothing gets its final name before all is made, and a second process waits for the first.

    Args:
        name: the dataset's name, for messages and the description.
        config: its entry in params.yaml.
        archives: the files of its source, in the registry's order; each is checked first.
        path: where dataset.json goes.

    Returns:
        The description: counts, shape, class names, mean and standard deviation for each channel
        of the training images (of pixels in 0..1), the SHA-256 of each array's file, and one
        SHA-256 over those.
    """
    source = config["source"]
    for archive, file in zip(SOURCES[source], archives, strict=True):
        check(archive, file)
    with _scratch(path.parent) as scratch:
        read = import_module(f"imcl.data.{source}").read
        arrays = read(config, archives, scratch)
        arrays.check(name)
        whole = np.arange(len(arrays.train_labels))
        train, held_out = _split(name, config, arrays, whole)
        chosen = {
            "train_images": _chosen(arrays.train_images, train, whole, scratch / "a.npy"),
            "train_labels": arrays.train_labels[train],
            "train_indices": train,
            "test_images": arrays.test_images,
            "test_labels": arrays.test_labels,
        }
        if held_out is not None:
            chosen |= {
                "validation_images": _chosen(
                    arrays.train_images, held_out, whole, scratch / "b.npy"
                ),
                "validation_labels": arrays.train_labels[held_out],
                "validation_indices": held_out,
            }
        mean, std = statistics(chosen["train_images"])
        files = {array: _file(values, scratch / array) for array, values in chosen.items()}
        hashes = {array: sha256(file) for array, file in files.items()}
        for array, file in files.items():
            file.replace(path.parent / f"{array}.npy")
        description = {
            "name": name,
            "config": config,
            "n_train": len(train),
            "n_validation": 0 if held_out is None else len(held_out),
            "n_test": len(arrays.test_labels),
            "shape": list(arrays.train_images.shape[1:]),
            "class_names": list(arrays.class_names),
            "superclasses": list(arrays.superclasses),
            "mean": mean,
            "std": std,
            "archives": {file.name: sha256(file) for file in archives},
            "arrays": hashes,
            "sha256": _over(hashes),
        }
        write_json(path, description)
    return description


def load(path: Path) -> tuple[dict, Arrays]:
    """The description at `path` and the arrays beside it, images mapped from their files.

    Raises:
        ImclError: an array is missing or no longer the one that was stored.
    """
    description = read_json(path, DESCRIPTION)
    arrays = {}
    for array, expected in description["arrays"].items():
        file = path.parent / f"{array}.npy"
        if not file.exists() or sha256(file) != expected:
            raise ImclError(
                f"{file}: missing or changed since it was prepared; "
                f"delete {path.parent} and run `imcl prepare {description['name']}`"
            )
        # Copy on write: nobody writes, and torch warns of arrays that nobody may write to.
        mode = "c" if array.endswith("_images") else None
        arrays[array] = np.load(file, mmap_mode=mode, allow_pickle=False)
    names = {key: tuple(description[key]) for key in ("class_names", "superclasses")}
    return description, Arrays(**arrays, **names)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder inside `folder`, for this process alone and gone afterwards.

    What a killed process left there is removed first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scratch, lock = folder / SCRATCH, os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        with room(folder):
            yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(lock)


def _split(
    name: str, config: dict, arrays: Arrays, whole: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """The places of the training images and of those held out, each in the source's order."""
    train, held_out = whole, None
    if "fold" in config:
        train = _fold(name, arrays, config["fold"])
    where = f"params.yaml: datasets.{name}"
    labels = arrays.train_labels
    if "validation_share" in config:
        size = round(config["validation_share"] * len(train))
        held_out = _stratified(
            f"{where}.validation_share", labels, train, size, config["validation_seed"]
        )
        train = np.setdiff1d(train, held_out)
    if "train_size" in config:
        train = _stratified(
            f"{where}.train_size", labels, train, config["train_size"], config["subset_seed"]
        )
    return train, held_out


def _fold(name: str, arrays: Arrays, fold: int) -> np.ndarray:
    """The places of one official fold."""
    if fold >= len(arrays.folds):
        raise ImclError(
            f"params.yaml: datasets.{name}.fold: {fold}, but its source has "
            f"{len(arrays.folds) or 'no'} folds"
        )
    return arrays.folds[fold]


def _stratified(
    where: str, labels: np.ndarray, places: np.ndarray, size: int, seed: int
) -> np.ndarray:
    """`size` of the places, with each class's share of them, in their order."""
    from sklearn.utils import resample  # 3 s to import, and needed here alone

    classes = len(np.unique(labels[places]))
    for impossible, reason in (
        (size > len(places), f"more than the {len(places)} training images"),
        (size < classes, f"fewer than the {classes} classes"),
    ):
        if impossible:
            raise ImclError(f"{where}: {size} images are {reason}")
    chosen = resample(
        places, replace=False, n_samples=size, stratify=labels[places], random_state=seed
    )
    return np.sort(chosen)


def _chosen(images: np.ndarray, places: np.ndarray, whole: np.ndarray, path: Path) -> np.ndarray:
    return images if np.array_equal(places, whole) else store(path, blocks(images, places))


def _file(values: np.ndarray, path: Path) -> Path:
    """The file of an array: the one that it is mapped from, or a new one."""
    if not isinstance(values, np.memmap):
        values = store(path, [values])
    return Path(values.filename)


def _over(hashes: dict[str, str]) -> str:
    """One SHA-256 over the arrays' hashes, in the form of a list of `sha256sum`."""
    lines = "".join(f"{hashes[array]}  {array}.npy\n" for array in sorted(hashes))
    return hashlib.sha256(lines.encode()).hexdigest()
