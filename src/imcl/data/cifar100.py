"""CIFAR-100 (Krizhevsky 2009) from its official Python archive: fine labels, 20 superclasses."""

from pathlib import Path

import numpy as np

from imcl.data import cifar
from imcl.data.arrays import Arrays, store
from imcl.data.tar import extract
from imcl.errors import ImclError


def read(config: dict, archives: list[Path], scratch: Path) -> Arrays:
    """Train 50,000 and test 10,000 images, 32 x 32, in the official order.

    The superclass of a class is read off the coarse labels, which must agree on it.
    """
    (archive,) = archives
    files = extract(archive, "cifar-100-python", ["train", "test", "meta"], scratch)
    fine, coarse, images = {}, {}, {}
    for split in ("train", "test"):
        batch = cifar.batch(files[split], archive, "data", "fine_labels", "coarse_labels")
        fine[split] = cifar.labels(archive, batch["fine_labels"])
        coarse[split] = cifar.labels(archive, batch["coarse_labels"])
        pictures = cifar.images(archive, batch.pop("data"))
        images[split] = store(scratch / f"{split}_images.npy", pictures)
    names = tuple(cifar.batch(files["meta"], archive, "fine_label_names")["fine_label_names"])
    return Arrays(
        images["train"],
        fine["train"],
        images["test"],
        fine["test"],
        names,
        _superclasses(archive, fine["train"], coarse["train"], len(names)),
    )


def _superclasses(
    archive: Path, fine: np.ndarray, coarse: np.ndarray, classes: int
) -> tuple[int, ...]:
    if fine.shape != coarse.shape:
        raise ImclError(f"{archive}: {len(fine)} fine and {len(coarse)} coarse labels")
    pairs = set(zip(fine.tolist(), coarse.tolist(), strict=True))
    found = dict(pairs)
    if len(pairs) != len(found):
        raise ImclError(f"{archive}: a class with two superclasses")
    if set(found) != set(range(classes)):
        raise ImclError(f"{archive}: {len(found)} classes occur of {classes} names")
    return tuple(found[c] for c in range(classes))
