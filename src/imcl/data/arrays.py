"""A dataset as arrays: every reader returns it, and training uses it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from imcl.errors import ImclError, is_plain, shown

BLOCK_BYTES = 1 << 22  # of images in memory at a time

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Arrays:
    """Images uint8 (N, height, width, channels) and labels int64 (N,), for training and test.

    Images may be mapped from a file.

    Attributes:
        superclasses: the superclass of each class, if the dataset has them.
        folds: the indices of the training images in each official fold, if there are folds.
        train_indices: where the training images are in the source's training set. A prepared
            dataset has them.
        validation_images: the held-out training images, if there are any, with
            `validation_labels` and `validation_indices`.
    """

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    class_names: tuple[str, ...]
    superclasses: tuple[int, ...] = ()
    folds: tuple[Indices, ...] = ()
    train_indices: Indices | None = None
    validation_images: Images | None = None
    validation_labels: Labels | None = None
    validation_indices: Indices | None = None

    @property
    def evaluation(self) -> Literal["test", "validation"]:
        """Which images a network is evaluated on: "validation" if some are held out."""
        return "test" if self.validation_labels is None else "validation"

    @property
    def labels(self) -> Labels:
        """All labels that noise changes: the training images', then the held-out images'.

        Held-out labels become noisy too, since they serve to choose settings for noisy labels.
        """
        labels: Labels = _appended(self.train_labels, self.validation_labels)
        return labels

    def joined(self) -> "Arrays":
        """These arrays, but with the held-out images appended to the training images."""
        return replace(
            self,
            train_images=_appended(self.train_images, self.validation_images),
            train_labels=_appended(self.train_labels, self.validation_labels),
            train_indices=_appended(self.train_indices, self.validation_indices),
        )

    def relabelled(self, labels: Labels) -> "Arrays":
        """These arrays, but with other labels, in the order of `labels`."""
        count = len(self.train_labels)
        if self.validation_labels is None:
            return replace(self, train_labels=labels)
        return replace(self, train_labels=labels[:count], validation_labels=labels[count:])

    def check(self, name: str) -> None:
        """Raise ImclError if the arrays do not fit each other or the classes."""
        for split, images, labels in (
            ("train", self.train_images, self.train_labels),
            ("test", self.test_images, self.test_labels),
        ):
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
                raise ImclError(
                    f"{name}: the {split} images are {images.dtype} {images.shape}, "
                    "not uint8 (N, height, width, 1 or 3)"
                )
            if labels.shape != images.shape[:1] or not len(labels):
                raise ImclError(f"{name}: {len(images)} {split} images, {len(labels)} labels")
            if labels.min() < 0 or labels.max() >= len(self.class_names):
                raise ImclError(
                    f"{name}: {split} labels {labels.min()}..{labels.max()} for "
                    f"{len(self.class_names)} classes"
                )
        for class_name in self.class_names:
            if not class_name or not is_plain(class_name):
                raise ImclError(f"{name}: {shown(class_name)} cannot be the name of a class")
        if len({*self.class_names}) != len(self.class_names):
            raise ImclError(f"{name}: two classes have the same name")
        if self.train_labels.min() == self.train_labels.max():
            only = self.class_names[self.train_labels.min()]
            raise ImclError(
                f"{name}: all train labels are of one class, {only!r}, so there is nothing to "
                "learn; give images of two classes or more"
            )
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise ImclError(
                f"{name}: the train images are {self.train_images.shape[1:]}, "
                f"but the test images {self.test_images.shape[1:]}"
            )


def _appended(first: Any, second: Any) -> Any:
    return first if second is None else np.concatenate([first, second])


def blocks(images: NDArray[Any], chosen: Indices | None = None) -> Iterator[NDArray[Any]]:
    """The images (N, ...), or those with the `chosen` indices, a few megabytes at a time."""
    step = max(1, BLOCK_BYTES // max(1, images[0].nbytes))
    for start in range(0, len(images) if chosen is None else len(chosen), step):
        part = slice(start, start + step)
        yield images[part] if chosen is None else images[chosen[part]]


def store(path: Path, parts: Iterable[NDArray[Any]]) -> np.memmap[Any, Any]:
    """Write the blocks of an array, each (n, ...), as one .npy file and map it.

    Blocks are written one by one, not through a mapping, so only one of them is in memory.

    Raises:
        ImclError: there is no block, or blocks differ in shape or type.
    """
    count, first = 0, None
    with path.open("wb+") as file:
        for part in parts:
            if first is None:
                first = part[:0]
                _write_header(file, 0, first)
            if (part.dtype, part.shape[1:]) != (first.dtype, first.shape[1:]):
                raise ImclError(
                    f"{part.dtype} {part.shape[1:]} after {first.dtype} {first.shape[1:]}"
                )
            file.write(np.ascontiguousarray(part).data)
            count += len(part)
        if first is None or not count:
            raise ImclError("there are no images")
        file.seek(0)
        _write_header(
            file, count, first
        )  # as long as before: numpy leaves space for a longer count
    mapped: np.memmap[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def _write_header(file: BinaryIO, count: int, like: NDArray[Any]) -> None:
    np.lib.format.write_array_header_1_0(
        file,
        {"descr": like.dtype.str, "fortran_order": False, "shape": (count, *like.shape[1:])},
    )


def statistics(images: Images) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of images (N, H, W, C), with pixels in 0..1.

    They are computed from the counts of the 256 values: exactly, and without a copy as floats.
    """
    counts = np.zeros((images.shape[3], 256), np.int64)
    for block in blocks(images):
        for channel, count in enumerate(counts):
            count += np.bincount(block[..., channel].reshape(-1), minlength=256)
    shares = counts / counts.sum(1, keepdims=True)
    values = np.arange(256) / 255
    mean = shares @ values
    std = [np.sqrt(s @ (values - m) ** 2) for s, m in zip(shares, mean, strict=True)]
    return [float(m) for m in mean], [float(s) for s in std]
