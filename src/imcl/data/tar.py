"""Extracts named files from a tar.gz archive, and nothing else."""

import errno
import shutil
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path

from imcl.errors import ImclError

LARGEST_MEMBER = 2 * 10**9  # bytes; the official files hold less than a quarter of it


def extract(archive: Path, folder: str, names: Collection[str], scratch: Path) -> dict[str, Path]:
    """Write the members `folder`/NAME of the archive to `scratch`; return their paths by name.

    The archive cannot decide where a file goes: a link, or a member with another name or an
    absolute path, is skipped.

    Raises:
        ImclError: the archive is damaged or lacks one of the names.
    """
    found: dict[str, Path] = {}
    try:
        # As a stream, which never goes back: a member of a negative size would make it turn round
        # for ever (CVE-2025-8194).
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                name = member.name.removeprefix(f"{folder}/")
                packed = tar.extractfile(member) if name in names and member.isfile() else None
                if packed is not None:
                    if member.size > LARGEST_MEMBER:
                        raise ImclError(f"{archive}: {name} unpacks to more than 2 GB")
                    found[name] = scratch / name
                    with found[name].open("wb") as file:
                        shutil.copyfileobj(packed, file, 1 << 20)
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise ImclError(f"{archive}: not a readable tar.gz archive: {error}") from None
    except OSError as error:
        if error.errno not in (None, errno.EINVAL) and archive.exists():  # it is the disk's fault
            raise
        raise ImclError(f"{archive}: not a readable tar.gz archive: {error}") from None
    missing = [f"{folder}/{name}" for name in names if name not in found]
    if missing:
        raise ImclError(f"{archive}: has no {', '.join(missing)}")
    return found
