"""ImageNet32 (Chrabaszcz et al., arXiv 1707.08819) from its official files, zip or npz.

Class i is label i + 1 in the files. Their order is not torchvision's order of ImageNet's classes.
"""

import math
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imcl.data import cifar
from imcl.data.arrays import Arrays, Images, Labels, store
from imcl.data.fetch import expected_checksum
from imcl.data.tar import LARGEST_MEMBER
from imcl.data.zip import opened
from imcl.errors import ImclError
from imcl.study.sources import SOURCES, DatasetOptions

CLASSES = 1000
TRAIN = [f"train_data_batch_{i}" for i in range(1, 11)]
TEST = ["val_data"]
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
COUNTS = {"train": 1_281_167, "test": 50_000}


def read(options: DatasetOptions, archives: list[Path], scratch: Path) -> Arrays:
    """1,281,167 training and 50,000 test images, 32 x 32; labels 1..1000 become 0..999.

    If no checksum is known, the official files are identified by their numbers of images.

    Raises:
        ImclError: a file is damaged, lacks a batch, or has another number of images.
    """
    images: dict[str, Images] = {}
    labels: dict[str, Labels] = {}
    for split, names, file, archive in zip(
        COUNTS, (TRAIN, TEST), archives, SOURCES["imagenet32"].archives, strict=True
    ):
        found: list[Labels] = []
        pictures = _images(file, names, scratch, found)
        images[split] = store(scratch / f"{split}_images.npy", pictures)
        labels[split] = np.concatenate(found) - 1
        if expected_checksum(archive) is None and len(labels[split]) != COUNTS[split]:
            raise ImclError(
                f"{file}: {len(labels[split]):,} images, but ImageNet32 has {COUNTS[split]:,}; "
                "if you trust the file, name a checksum list with IMCL_SHA256SUMS"
            )
    return Arrays(
        images["train"],
        labels["train"],
        images["test"],
        labels["test"],
        tuple(str(label) for label in range(1, CLASSES + 1)),
    )


def _images(
    archive: Path, names: list[str], scratch: Path, labels: list[Labels]
) -> Iterator[Images]:
    """The pictures of all batches; their labels are appended to `labels`."""
    with opened(archive) as file:
        members = {Path(name).name: name for name in file.namelist()}
        for name in names:
            batch = _batch(archive, file, members, name, scratch)
            labels.append(cifar.labels(archive, batch["labels"]))
            yield from cifar.images(archive, batch.pop("data"))


def _batch(
    archive: Path, file: zipfile.ZipFile, members: dict[str, str], name: str, scratch: Path
) -> dict[str, Any]:
    """One batch, pickled or as npz, extracted first to a file whose name we choose."""
    for form in (name, f"{name}.npz"):
        if form in members:
            break
    else:
        raise ImclError(f"{archive}: has no {name}, neither pickled nor as npz")
    path = scratch / form
    with file.open(members[form]) as packed, path.open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked, 1 << 20)
    try:
        return cifar.batch(path, archive, "data", "labels") if form == name else _npz(path)
    except (KeyError, ValueError) as error:
        raise ImclError(f"{archive}: {form}: {error}") from None
    finally:
        path.unlink()


def _npz(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as file:
        return {key: _array(file, key) for key in ("data", "labels")}


def _array(file: zipfile.ZipFile, key: str) -> NDArray[Any]:
    """An array of an npz file. numpy takes the memory that its header asks for, so check that."""
    member = file.getinfo(f"{key}.npy")
    if member.file_size > LARGEST_MEMBER:
        raise ValueError(f"{key} unpacks to more than 2 GB")
    with file.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in HEADERS:
            raise ValueError(f"{key} has version {version} of numpy's format")
        shape, _, dtype = HEADERS[version](stream)
        if dtype.itemsize * math.prod(shape) != member.file_size - stream.tell():
            raise ValueError(f"{key} is said to be {dtype} {shape}, but has another size")
    with file.open(member) as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
        return array
