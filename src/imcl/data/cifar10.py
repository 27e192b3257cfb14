"""CIFAR-10 (Krizhevsky 2009) from its official Python archive."""

from pathlib import Path

from imcl.data import cifar
from imcl.data.arrays import Arrays

TRAIN = [f"data_batch_{i}" for i in range(1, 6)]


def read(archives: list[Path]) -> Arrays:
    """Train 50,000 and test 10,000 images, 32 x 32, in the official order."""
    (archive,) = archives
    batch = ("data", "labels")
    wanted = dict.fromkeys([*TRAIN, "test_batch"], batch) | {"batches.meta": ("label_names",)}
    found = cifar.members(archive, "cifar-10-batches-py", wanted)
    train, test = [found[name] for name in TRAIN], [found["test_batch"]]
    return Arrays(
        cifar.images(archive, train),
        cifar.labels(train, "labels"),
        cifar.images(archive, test),
        cifar.labels(test, "labels"),
        tuple(found["batches.meta"]["label_names"]),
    )
