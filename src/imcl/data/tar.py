"""Takes the named files out of a tar.gz archive, and nothing else of it."""

import shutil
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from imcl.errors import ImclError


def extract(archive: Path, folder: str, names: Iterable[str], scratch: Path) -> dict[str, Path]:
    """Write the members `folder`/NAME of the archive to `scratch`; their paths by name.

    Where a file goes is for this function to say: a member under another name, an absolute path or
    a link is passed over.

    Raises:
        ImclError: the archive is damaged or lacks one of the names.
    """
    found: dict[str, Path] = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = member.name.removeprefix(f"{folder}/")
                if name in names and member.isfile():
                    found[name] = scratch / name
                    with found[name].open("wb") as file:
                        shutil.copyfileobj(tar.extractfile(member), file, 1 << 20)
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise ImclError(f"{archive}: not a readable tar.gz archive: {error}") from None
    except OSError as error:
        if error.errno is not None and archive.exists():  # of the disk, not of the archive
            raise
        raise ImclError(f"{archive}: not a readable tar.gz archive: {error}") from None
    missing = [f"{folder}/{name}" for name in names if name not in found]
    if missing:
        raise ImclError(f"{archive}: holds no {', '.join(missing)}")
    return found
