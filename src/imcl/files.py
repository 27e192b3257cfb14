"""Writes files atomically: to a temporary file in the same folder, which is then renamed."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from imcl.errors import ImclError

Content = TypeVar("Content")

# Why a disk refuses to write, and what to do, by the system's number of the error.
FULL = "no space is left on this disk; free some and run again"
REFUSALS = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: "larger than this disk or `ulimit -f` lets a file be; raise the limit, or put the "
    "project on another disk",
    errno.EIO: "the disk fails; see the system's log, and put the project on another",
}


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path; the file there is moved to `path` unless there is an exception.

    Raises:
        ImclError: the disk refuses, as `room` says it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with room(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
        except OSError as error:
            if error.filename is not None and Path(error.filename) == temporary:
                error.filename = str(path)  # the name that a user knows
            raise
        finally:
            temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Write a folder's entries to the disk, so that a power cut does not undo a renaming."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems cannot
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, waiting: Callable[[], object] = lambda: None) -> Iterator[bool]:
    """Hold the lock file `path`; a second process waits for the first.

    The kernel holds the lock (flock), so it ends with its process, even if that is killed. On a
    network file system the server keeps it, so it also holds between nodes: on NFS from version 3,
    and on Lustre mounted with `flock`. On a file system without flock this fails, since a lock that
    only some processes see is useless. The lock file is never deleted, since another process might
    just have locked it.

    Args:
        path: the lock file; its folder is made.
        waiting: called once, if the lock is held by another process.

    Yields:
        Whether another process held it first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, fallback_to_soft=False)
    waited = False
    try:
        lock.acquire(blocking=False)
    except Timeout:
        waited = True
        waiting()
        lock.acquire()
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
            raise
        raise ImclError(
            f"{path}: this file system has no locks ({error.strerror}); put the project on another"
        ) from None
    try:
        yield waited
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock file `path` now; a `locked` afterwards may still wait."""
    if not path.exists():
        return False
    try:
        with FileLock(path, fallback_to_soft=False).acquire(blocking=False):
            return False
    except Timeout:
        return True
    except OSError:  # `locked` says what is wrong
        return False


def sweep(path: Path) -> None:
    """Delete the temporary files of `path` that killed processes left. Nobody may write it now."""
    for temporary in path.parent.glob(f".{path.name}.*.tmp"):
        temporary.unlink(missing_ok=True)


@contextmanager
def room(place: Path) -> Iterator[None]:
    """Name the place in an error of the disk: that it is full or fails, or one that names no file.

    Errors that name their file stay what they are. So do those without the system's number, which
    libraries raise for damaged content, such as gzip's.

    Raises:
        ImclError: in place of such an error.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS and (error.errno is None or error.filename is not None):
            raise
        reason = REFUSALS.get(error.errno) or error.strerror
        raise ImclError(f"{place}: {reason}") from None


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file atomically.

    Libraries save into memory first. On a full disk, torch only reports an unexpected position, and
    numpy only that less was written.
    """
    with atomic(path) as temporary:
        temporary.write_bytes(content)


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


def at_once(name: str, flags: int) -> int:
    """An `opener` for `open` that refuses devices, and pipes, for whose other end `open` waits.

    Raises:
        OSError: as `os.open`, or it is a pipe or a device.
    """
    descriptor = os.open(name, flags | os.O_NONBLOCK, 0o666)
    kind = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):  # of a folder, `open` says that it is one
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a file, but a device or a pipe", str(name))
    return descriptor


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        OSError: it cannot be read, or it is a pipe or a device.
    """
    with open(path, "rb", opener=at_once) as file:
        return file.read()


def read_as(path: Path, adapter: TypeAdapter[Content]) -> Content:
    """The typed content of a JSON file that a command has made.

    Raises:
        FileNotFoundError: there is no file.
        ImclError: its content is of another form, or holds NaN or infinity, which JSON has not.
    """
    content = read_bytes(path)
    try:
        found = adapter.validate_json(content)
        json_text(json.loads(content))  # pydantic takes NaN
        return found
    except ValueError:
        raise ImclError(f"{path}: damaged or changed by hand; delete it and run again") from None


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hex."""
    with open(path, "rb", opener=at_once) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
