"""CIFAR-10N: labels that people gave CIFAR-10's training images.

Source: Wei et al., "Learning with Noisy Labels Revisited" (ICLR 2022). Licence: CC BY-NC 4.0.
"""

from pathlib import Path
from typing import IO, Any

import numpy as np

from imcl.data import cifar
from imcl.data.arrays import Arrays, Labels
from imcl.data.unpickle import unpickle
from imcl.data.zip import opened
from imcl.errors import ImclError

# Nominal, as the authors publish them. The realised rate is counted on the images that are used.
RATES = {
    "aggre": 0.0903,
    "random1": 0.1723,
    "random2": 0.1812,
    "random3": 0.1764,
    "worse": 0.4021,
}
KEYS = {
    "aggre": "aggre_label",
    "random1": "random_label1",
    "random2": "random_label2",
    "random3": "random_label3",
    "worse": "worse_label",
}


def read(arrays: Arrays, labels: str, archives: list[Path]) -> Labels:
    """The labels that people gave the training images; int64 (N,).

    Args:
        arrays: CIFAR-10 or a part of it; `train_indices` say which of its images.
        labels: which of the five sets of labels.
        archives: the file that torch.save wrote, a zip archive with a pickle inside.

    Raises:
        ImclError: the file is damaged, or the images are not CIFAR-10's in the official order.
    """
    (archive,) = archives
    try:
        with opened(archive) as file:
            members = [n for n in file.namelist() if n.rpartition("/")[2] == "data.pkl"]
            if len(members) != 1:
                raise ImclError(f"{archive}: has {len(members)} members data.pkl, not one")
            with file.open(members[0]) as stream:
                found = _unpickled(archive, stream)
        clean = cifar.labels(archive, found["clean_label"])
        noisy = cifar.labels(archive, found[KEYS[labels]])
    except KeyError as error:
        raise ImclError(f"{archive}: not CIFAR-10N's file: it has no {error}") from None
    indices = arrays.train_indices
    if (
        indices is None
        or clean.shape != noisy.shape
        or indices.max() >= len(clean)
        or not np.array_equal(clean[indices], arrays.train_labels)
        or noisy.min() < 0
        or noisy.max() >= len(arrays.class_names)
    ):
        raise ImclError(
            f"{archive}: its clean labels are not those of the training images; human noise is "
            "for CIFAR-10 in its official order"
        )
    return noisy[indices]


def _unpickled(archive: Path, stream: IO[bytes]) -> dict[str, Any]:
    try:
        return unpickle(stream)
    except ImclError as error:
        raise ImclError(f"{archive}: {error}") from None
