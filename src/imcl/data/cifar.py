"""What the two CIFAR archives share (Krizhevsky 2009): pickled batches in a tar.gz."""

import tarfile
import zlib
from pathlib import Path

import numpy as np

from imcl.data.unpickle import unpickle
from imcl.errors import ImclError


def members(archive: Path, folder: str, wanted: dict[str, tuple[str, ...]]) -> dict[str, dict]:
    """The members of the archive by name, each a dict with at least the keys wanted of it.

    They are read by name from the stream; nothing is unpacked to disk.

    Raises:
        ImclError: the archive is damaged, or lacks a member or key.
    """
    found = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = member.name.removeprefix(f"{folder}/")
                if name in wanted and member.isfile():
                    found[name] = unpickle(tar.extractfile(member))
    except ImclError as error:
        raise ImclError(f"{archive}: {error}") from None
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise ImclError(f"{archive}: not a readable tar.gz archive: {error}") from None
    missing = [f"{folder}/{name}" for name in wanted if name not in found]
    if missing:
        raise ImclError(f"{archive}: holds no {', '.join(missing)}")
    for name, keys in wanted.items():
        for key in keys:
            if key not in found[name]:
                raise ImclError(f"{archive}: {folder}/{name} holds no {key}")
    return found


def images(archive: Path, batches: list[dict]) -> np.ndarray:
    """Rows of R, G and B planes as images uint8 (N, 32, 32, 3)."""
    for batch in batches:
        data = np.asarray(batch["data"])
        if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
            raise ImclError(f"{archive}: data is {data.dtype} {data.shape}, not uint8 (N, 3072)")
    rows = np.concatenate([batch["data"] for batch in batches])
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def labels(batches: list[dict], key: str) -> np.ndarray:
    """The labels of batches, int64 (N,)."""
    return np.concatenate([batch[key] for batch in batches]).astype(np.int64)
