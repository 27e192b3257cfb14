"""Converts a source to stored arrays with statistics and hashes, and loads them again.

The images are never all in memory. They are read, chosen, counted and hashed a few megabytes at a
time. When they are loaded, they are mapped from their files. To measure the peak, run
`/usr/bin/time -v imcl prepare NAME` ("Maximum resident set size").
"""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imcl.data.arrays import Arrays, Images, Indices, Labels, blocks, statistics, store
from imcl.data.contents import Manifests
from imcl.data.description import Description, describe
from imcl.data.fetch import check
from imcl.errors import ImclError
from imcl.files import locked, room, sha256, write_json
from imcl.progress import say
from imcl.project import Project
from imcl.study import grid
from imcl.study.grid import Dataset
from imcl.study.sources import DatasetOptions

SCRATCH = ".scratch"


def prepare(project: Project, dataset: Dataset) -> Description:
    """Convert a dataset: write its arrays, then its description.

    Files get their final names only when all of them are complete. A second process waits for the
    first.

    Raises:
        ImclError: a file of the source is damaged, not the official one, or changed while it was
            read; the dataset's options do not fit its source, or the disk is full.
    """
    path = project.dataset(dataset.key)
    archives = [archive.path(project.archives) for archive in dataset.archives]
    for archive, file in zip(dataset.archives, archives, strict=True):
        check(archive, file)
    options = dataset.options
    if options.path:
        options = options.model_copy(update={"path": str(project.root / options.path)})
    with _scratch(path.parent) as scratch:
        source = import_module(f"imcl.data.{options.source}")
        arrays: Arrays = source.read(options, archives, scratch)
        arrays.check(dataset.name)
        if dataset.content not in (None, grid.content(dataset.options, Manifests(project))):
            raise ImclError(f"{dataset.name}: its files changed while they were read; run again")
        where = f"{project.params}: datasets.{dataset.name}"
        chosen = _chosen(where, options, arrays, scratch)
        mean, std = statistics(chosen["train_images"])
        files = {array: _file(values, scratch / array) for array, values in chosen.items()}
        hashes = {array: sha256(file) for array, file in files.items()}
        for array, file in files.items():
            file.replace(path.parent / f"{array}.npy")
        description: Description = {
            "name": dataset.name,
            "config": dataset.config,
            "n_train": len(chosen["train_labels"]),
            "n_validation": len(chosen.get("validation_labels", ())),
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


def load(project: Project, dataset: Dataset) -> tuple[Description, Arrays]:
    """The description and arrays of a prepared dataset; images are mapped from their files.

    Raises:
        ImclError: the dataset is not prepared, or an array is missing or has changed.
    """
    description = describe(project, dataset)
    folder = project.dataset(dataset.key).parent
    arrays: dict[str, Any] = {}
    for array, expected in description["arrays"].items():
        file = folder / f"{array}.npy"
        if not file.exists() or sha256(file) != expected:
            raise ImclError(
                f"{file}: missing or changed since it was prepared; "
                f"delete {folder} and run `imcl prepare {dataset.name}`"
            )
        # Copy on write, since torch warns about read-only arrays. Nothing is written.
        mapped = array.endswith("_images")
        arrays[array] = np.load(file, mmap_mode="c" if mapped else None, allow_pickle=False)
    arrays["class_names"] = tuple(description["class_names"])
    arrays["superclasses"] = tuple(description["superclasses"])
    return description, Arrays(**arrays)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder inside `folder`, for this process alone, deleted afterwards.

    What a killed process left there is deleted first. The lock file is beside `folder`, so that
    the folder can be deleted at any time.
    """
    waiting = f"{folder}: another process is preparing it; waiting"
    with locked(folder.with_name(f".{folder.name}.lock"), lambda: say(waiting)):
        scratch = folder / SCRATCH
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        try:
            with room(folder):
                yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _chosen(
    where: str, options: DatasetOptions, arrays: Arrays, scratch: Path
) -> dict[str, NDArray[Any]]:
    """The arrays to store by name: those of the training, test and held-out images."""
    train, held_out = _indices(where, options, arrays)
    chosen: dict[str, NDArray[Any]] = {
        "train_images": _images(arrays.train_images, train, scratch / "a.npy"),
        "train_labels": arrays.train_labels[train],
        "train_indices": train,
        "test_images": arrays.test_images,
        "test_labels": arrays.test_labels,
    }
    if held_out is not None:
        chosen |= {
            "validation_images": _images(arrays.train_images, held_out, scratch / "b.npy"),
            "validation_labels": arrays.train_labels[held_out],
            "validation_indices": held_out,
        }
    return chosen


def _indices(where: str, options: DatasetOptions, arrays: Arrays) -> tuple[Indices, Indices | None]:
    """The indices of the images to train on and of those held out, each in the source's order."""
    labels, held_out = arrays.train_labels, None
    train: Indices = np.arange(len(labels))
    if options.fold is not None:
        count = len(arrays.folds)
        if options.fold >= count:
            raise ImclError(
                f"{where}.fold: {options.fold}, but its source has {count or 'no'} folds"
            )
        train = arrays.folds[options.fold]
    if options.train_size is not None:
        assert isinstance(options.subset_seed, int)  # a run's own, if each draws its subset
        train = _stratified(
            f"{where}.train_size", labels, train, options.train_size, options.subset_seed
        )
    if options.validation_share is not None:
        size = round(options.validation_share * len(train))
        held_out = _stratified(
            f"{where}.validation_share", labels, train, size, options.validation_seed
        )
        train = np.setdiff1d(train, held_out)
    return train, held_out


def _stratified(
    where: str, labels: Labels, indices: Indices, size: int, seed: int | None
) -> Indices:
    """`size` of the indices, in ascending order, with each class in proportion."""
    from sklearn.utils import resample  # takes 3 s to import, and only subsets need it

    classes = len(np.unique(labels[indices]))
    for impossible, reason in (
        (size > len(indices), f"more than the {len(indices)} training images"),
        (size < classes, f"fewer than the {classes} classes"),
    ):
        if impossible:
            raise ImclError(f"{where}: {size} images are {reason}")
    chosen = resample(
        indices, replace=False, n_samples=size, stratify=labels[indices], random_state=seed
    )
    return np.sort(chosen)


def _images(images: Images, indices: Indices, path: Path) -> Images:
    """The images with these indices. If these are all images in order, no new file is written."""
    if np.array_equal(indices, np.arange(len(images))):
        return images
    return store(path, blocks(images, indices))


def _file(values: NDArray[Any], path: Path) -> Path:
    """The file of an array: the one that it is mapped from, or a new one."""
    mapped = values if isinstance(values, np.memmap) else store(path, [values])
    return Path(str(mapped.filename))


def _over(hashes: dict[str, str]) -> str:
    """One SHA-256 over the arrays' hashes, in the form that `sha256sum` lists them."""
    lines = "".join(f"{hashes[array]}  {array}.npy\n" for array in sorted(hashes))
    return hashlib.sha256(lines.encode()).hexdigest()
