"""CIFAR-100 (Krizhevsky 2009) from its official Python archive: fine labels, 20 superclasses."""

from pathlib import Path

from imcl.data import cifar
from imcl.data.arrays import Arrays, Labels, store
from imcl.data.tar import extract
from imcl.errors import ImclError
from imcl.study.sources import DatasetOptions


def read(options: DatasetOptions, archives: list[Path], scratch: Path) -> Arrays:
    """50,000 training and 10,000 test images, 32 x 32, in the official order.

    The coarse labels give the superclass of each class.

    Raises:
        ImclError: the archive is damaged, or its coarse labels give a class two superclasses.
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
    meta = cifar.batch(files["meta"], archive, "fine_label_names")
    names = cifar.names(archive, meta["fine_label_names"])
    return Arrays(
        images["train"],
        fine["train"],
        images["test"],
        fine["test"],
        names,
        _superclasses(archive, fine["train"], coarse["train"], len(names)),
    )


def _superclasses(archive: Path, fine: Labels, coarse: Labels, classes: int) -> tuple[int, ...]:
    if fine.shape != coarse.shape:
        raise ImclError(f"{archive}: {len(fine)} fine and {len(coarse)} coarse labels")
    pairs = set(zip(fine.tolist(), coarse.tolist(), strict=True))
    found = dict(pairs)
    if len(pairs) != len(found):
        raise ImclError(f"{archive}: a class has two superclasses")
    if set(found) != set(range(classes)):
        raise ImclError(f"{archive}: labels of {len(found)} classes, but {classes} class names")
    return tuple(found[c] for c in range(classes))
