"""CIFAR-100 (Krizhevsky 2009) from its official Python archive: fine labels, 20 superclasses."""

from pathlib import Path

import numpy as np

from imcl.data import cifar
from imcl.data.arrays import Arrays
from imcl.errors import ImclError


def read(archives: list[Path]) -> Arrays:
    """Train 50,000 and test 10,000 images, 32 x 32, in the official order.

    The superclass of a class is read off the coarse labels, which must agree on it.
    """
    (archive,) = archives
    batch = ("data", "fine_labels", "coarse_labels")
    wanted = {"train": batch, "test": batch, "meta": ("fine_label_names",)}
    found = cifar.members(archive, "cifar-100-python", wanted)
    train, test = [found["train"]], [found["test"]]
    names = tuple(found["meta"]["fine_label_names"])
    fine, coarse = cifar.labels(train, "fine_labels"), cifar.labels(train, "coarse_labels")
    if fine.shape != coarse.shape:
        raise ImclError(f"{archive}: {len(fine)} fine and {len(coarse)} coarse labels")
    superclasses = dict(zip(fine.tolist(), coarse.tolist(), strict=True))
    if any(superclasses[f] != c for f, c in zip(fine.tolist(), coarse.tolist(), strict=True)):
        raise ImclError(f"{archive}: a class with two superclasses")
    if set(superclasses) != set(range(len(names))):
        raise ImclError(f"{archive}: {len(superclasses)} classes occur of {len(names)} names")
    return Arrays(
        cifar.images(archive, train),
        fine,
        cifar.images(archive, test),
        cifar.labels(test, "fine_labels"),
        names,
        tuple(superclasses[f] for f in np.arange(len(names)).tolist()),
    )
