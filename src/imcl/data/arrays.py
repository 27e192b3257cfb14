"""A dataset as arrays: what every reader returns and the trainer takes."""

from dataclasses import dataclass, fields

import numpy as np

from imcl.errors import ImclError


@dataclass(frozen=True)
class Arrays:
    """Images uint8 (N, height, width, channels) and labels int64 (N,), for training and test.

    `superclasses` holds the superclass of each class, and `folds` the places of the training
    images of each official fold, where the dataset has such.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    superclasses: tuple[int, ...] = ()
    folds: tuple[np.ndarray, ...] = ()

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
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise ImclError(
                f"{name}: train images {self.train_images.shape[1:]}, "
                f"test images {self.test_images.shape[1:]}"
            )


ARRAY_NAMES = tuple(field.name for field in fields(Arrays) if field.type is np.ndarray)
