"""CIFAR-10 (Krizhevsky 2009) from its official Python archive."""

import tarfile
import zlib
from pathlib import Path

import numpy as np

from imcl.data.arrays import Arrays
from imcl.data.unpickle import unpickle
from imcl.errors import ImclError

FOLDER = "cifar-10-batches-py"
TRAIN = [f"data_batch_{i}" for i in range(1, 6)]


def read(archives: list[Path]) -> Arrays:
    """Train 50,000 and test 10,000 images, 32 x 32, in the official order.

    The members are read by name from the stream; nothing is unpacked to disk.
    """
    archive = archives[0]
    try:
        members = _members(archive)
        train_x, train_y = _join([members[name] for name in TRAIN])
        test_x, test_y = _join([members["test_batch"]])
        names = tuple(members["batches.meta"].get("label_names", ()))
        if not names:
            raise ImclError("batches.meta holds no label_names")
    except ImclError as error:
        raise ImclError(f"{archive}: {error}") from None
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise ImclError(f"{archive}: not a readable tar.gz archive: {error}") from None
    return Arrays(train_x, train_y, test_x, test_y, names)


def _members(archive: Path) -> dict[str, dict]:
    wanted = [*TRAIN, "test_batch", "batches.meta"]
    members = {}
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            name = member.name.removeprefix(f"{FOLDER}/")
            if name in wanted and member.isfile():
                members[name] = unpickle(tar.extractfile(member))
    missing = [f"{FOLDER}/{name}" for name in wanted if name not in members]
    if missing:
        raise ImclError(f"holds no {', '.join(missing)}")
    return members


def _join(batches: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of R, G and B planes as images (N, 32, 32, 3), and the labels."""
    for batch in batches:
        for key in ("data", "labels"):
            if key not in batch:
                raise ImclError(f"a batch holds no {key}")
        data = np.asarray(batch["data"])
        if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
            raise ImclError(f"data is {data.dtype} {data.shape}, not uint8 (N, 3072)")
    rows = np.concatenate([batch["data"] for batch in batches])
    labels = np.concatenate([batch["labels"] for batch in batches]).astype(np.int64)
    images = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels
