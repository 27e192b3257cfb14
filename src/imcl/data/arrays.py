"""A dataset as arrays: what every reader returns and the trainer takes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from imcl.errors import ImclError

BLOCK_BYTES = 1 << 22  # what is held of the images at a time


@dataclass(frozen=True)
class Arrays:
    """Images uint8 (N, height, width, channels) and labels int64 (N,), for training and test.

    Images may be mapped from a file. `superclasses` holds the superclass of each class, and `folds`
    the places of the training images of each official fold, where the dataset has such. A prepared
    dataset also has `train_indices`, the places of its training images among the source's, and,
    where a share was held out, validation images with their places.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    superclasses: tuple[int, ...] = ()
    folds: tuple[np.ndarray, ...] = ()
    train_indices: np.ndarray | None = None
    validation_images: np.ndarray | None = None
    validation_labels: np.ndarray | None = None
    validation_indices: np.ndarray | None = None

    @property
    def evaluation(self) -> str:
        """Which images a network is evaluated on: "validation" where some are held out."""
        return "test" if self.validation_labels is None else "validation"

    @property
    def labels(self) -> np.ndarray:
        """All labels that noise concerns: those of the held-out images behind the training's.

        Whoever has noisy labels to train on has noisy labels to choose by.
        """
        return self._both("labels")

    def joined(self) -> "Arrays":
        """With the held-out images as training images, behind the others."""
        kinds = ("images", "labels", "indices")
        return replace(self, **{f"train_{kind}": self._both(kind) for kind in kinds})

    def _both(self, kind: str) -> np.ndarray:
        own, held_out = getattr(self, f"train_{kind}"), getattr(self, f"validation_{kind}")
        return own if held_out is None else np.concatenate([own, held_out])

    def relabelled(self, labels: np.ndarray) -> "Arrays":
        """With others in the place of `labels`, in its order."""
        count = len(self.train_labels)
        if self.validation_labels is None:
            return replace(self, train_labels=labels)
        return replace(self, train_labels=labels[:count], validation_labels=labels[count:])

    def check(self, name: str) -> None:
        """Raise ImclError where the arrays do not fit each other or the classes."""
        for split in ("train", "test"):
            images, labels = getattr(self, f"{split}_images"), getattr(self, f"{split}_labels")
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
        if self.train_labels.min() == self.train_labels.max():
            only = self.class_names[self.train_labels.min()]
            raise ImclError(
                f"{name}: all train labels are of one class, {only!r}: there is nothing to "
                "learn; give images of two classes or more"
            )
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise ImclError(
                f"{name}: train images {self.train_images.shape[1:]}, "
                f"test images {self.test_images.shape[1:]}"
            )


def blocks(images: np.ndarray, chosen: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """The images (N, ...), or the chosen ones (indices) of them, a few megabytes at a time."""
    step = max(1, BLOCK_BYTES // max(1, images[0].nbytes))
    for start in range(0, len(images) if chosen is None else len(chosen), step):
        part = slice(start, start + step)
        yield images[part] if chosen is None else images[chosen[part]]


def store(path: Path, parts: Iterable[np.ndarray]) -> np.ndarray:
    """Write blocks of one array, each (n, ...), as one .npy file and map it.

    They go through a file, not a mapping, so that no more than a block of them is in memory.

    Raises:
        ImclError: there is no block, or they differ in shape or type.
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
        if not count:
            raise ImclError("not one image is there")
        file.seek(0)
        _write_header(file, count, first)  # as long as before: numpy leaves room for the count
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _write_header(file, count: int, like: np.ndarray) -> None:
    np.lib.format.write_array_header_1_0(
        file,
        {"descr": like.dtype.str, "fortran_order": False, "shape": (count, *like.shape[1:])},
    )


def statistics(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of images (N, H, W, C), of pixels in 0..1.

    Computed from counts of the 256 values, so it is exact and needs no float copy.
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
