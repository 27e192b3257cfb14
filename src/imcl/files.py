"""Files that are whole or not there: written beside their place, then moved into it."""

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from imcl.errors import ImclError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path; what was written there is moved to `path` when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Have the disk know of a file's new name, or a power cut could take it back."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # not every file system can
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(path: Path) -> None:
    """Delete what killed processes left of `path`, which no process may be writing now."""
    for temporary in path.parent.glob(f".{path.name}.*.tmp"):
        temporary.unlink(missing_ok=True)


@contextmanager
def room(place: Path) -> Iterator[None]:
    """Turn a full disk into an error that names the place."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ImclError(f"{place}: no space is left on this disk; free some, run again") from None


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically; NaN and infinity are refused, since JSON has none."""
    write_text(path, json_text(value))


def json_text(value: object) -> str:
    """What `write_json` writes."""
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def read_json(path: Path, required: Iterable[str] = ()) -> dict:
    """Read a JSON object.

    Raises:
        ImclError: the file is damaged, or lacks one of the `required` keys.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in required if key not in value]
        whole = isinstance(value, dict) and not missing
    except (ValueError, TypeError):
        whole = False
    if not whole:
        raise ImclError(f"{path}: damaged or changed by hand; delete it and run again")
    return value


def sealed(value: dict) -> dict:
    """The JSON object with a seal behind it: the SHA-256 of all else in it."""
    return {**value, "seal": _seal(value)}


def is_sealed(value: dict) -> bool:
    """Whether nothing of a sealed object was changed since."""
    return value.get("seal") == _seal({k: v for k, v in value.items() if k != "seal"})


def _seal(value: dict) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
