"""CIFAR-10 (Krizhevsky 2009) from its official Python archive."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from imcl.data import cifar
from imcl.data.arrays import Arrays, Images, Labels, store
from imcl.data.tar import extract
from imcl.study.sources import DatasetOptions

TRAIN = [f"data_batch_{i}" for i in range(1, 6)]
TEST = ["test_batch"]
META = "batches.meta"


def read(options: DatasetOptions, archives: list[Path], scratch: Path) -> Arrays:
    """50,000 training and 10,000 test images, 32 x 32, in the official order."""
    (archive,) = archives
    files = extract(archive, "cifar-10-batches-py", [*TRAIN, *TEST, META], scratch)
    labels: dict[str, list[Labels]] = {"train": [], "test": []}

    def images(split: str, names: list[str]) -> Iterator[Images]:
        for name in names:
            batch = cifar.batch(files[name], archive, "data", "labels")
            labels[split].append(cifar.labels(archive, batch["labels"]))
            yield from cifar.images(archive, batch["data"])

    train = store(scratch / "train_images.npy", images("train", TRAIN))
    test = store(scratch / "test_images.npy", images("test", TEST))
    meta = cifar.batch(files[META], archive, "label_names")
    return Arrays(
        train,
        np.concatenate(labels["train"]),
        test,
        np.concatenate(labels["test"]),
        cifar.names(archive, meta["label_names"]),
    )
