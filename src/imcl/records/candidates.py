"""The files of a folder or an archive that may be records, one after the other.

An archive decides nothing here. No file goes where a name in it says, links and devices are passed
over, and no size in it can take all memory or time.
"""

import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from imcl.data import zip
from imcl.errors import ImclError, UsageError
from imcl.files import at_once

# The folders that records are in: those of a project, any of their name, any at all. Where one of
# an earlier kind has files, the others have none that count.
FOLDERS: Sequence[Sequence[tuple[str, ...]]] = (
    [("results", "records"), ("results", "runs")],
    [("records",), ("runs",)],
    [()],
)

MOST_BYTES = 64_000_000  # of a file: the store refuses a record of this size
MOST_FILES = 1_000_000
# How many times its own size an archive may unpack to, since records pack to a tenth; and a size
# that any archive may unpack to.
MOST_RATIO, HARMLESS = 200, 256_000_000

ZIP = b"PK"
TAR_AT, TAR = 257, b"ustar"
Opens = Callable[[Path], io.BufferedIOBase]
PACKED: dict[bytes, Opens] = {b"\x1f\x8b": gzip.GzipFile, b"\xfd7zXZ\x00": lzma.LZMAFile}
DAMAGE = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, OverflowError)


class Candidate(NamedTuple):
    """A file that may be a record: where it is, for messages, and what it holds."""

    place: str
    content: bytes


def candidates(source: Path) -> Iterator[Candidate]:
    """The files that may be records, in the order of their names, or of the archive.

    Args:
        source: a project, a folder that has a folder `records`, or a folder of records; or a tar,
            tar.gz, tar.xz or zip archive of one.

    Raises:
        UsageError: there is nothing, it is something else, or it has no such files.
        ImclError: the archive is damaged, or unpacks to far more than records do.
    """
    found = _of_folder(source) if source.is_dir() else _of_archive(source)
    first = next(found, None)
    if first is None:
        raise UsageError(
            f"{source}: holds no records: no *.json in results/records, records or itself"
        )
    yield first
    yield from found


def _of_folder(folder: Path) -> Iterator[Candidate]:
    for kinds in FOLDERS:
        places = [folder.joinpath(*parts) for parts in kinds]
        paths = [path for place in places for path in sorted(place.glob("*.json"))]
        if paths:
            break
    for path in paths:
        if path.is_file():
            with open(path, "rb", opener=at_once) as file:
                yield Candidate(str(path), file.read(MOST_BYTES + 1))


def _of_archive(archive: Path) -> Iterator[Candidate]:
    try:
        with open(archive, "rb", opener=at_once) as file:
            start = file.read(TAR_AT + len(TAR))
    except OSError as error:
        raise UsageError(f"{archive}: no folder or archive: {error.strerror}") from None
    if start.startswith(ZIP):
        return _of_zip(archive)
    if start[TAR_AT:] == TAR:
        return _of_tar(archive, lambda path: path.open("rb"))
    for magic, opened in PACKED.items():
        if start.startswith(magic):
            return _of_tar(archive, opened)
    raise UsageError(f"{archive}: neither a folder nor a tar, tar.gz, tar.xz or zip archive")


def _of_zip(archive: Path) -> Iterator[Candidate]:
    with zip.opened(archive) as file:
        members = {member.filename: member for member in file.infolist()}
        unpacked, most = 0, _most(archive)
        for name in _chosen(archive, members):
            with file.open(members[name]) as member:
                content = member.read(MOST_BYTES + 1)
            unpacked += len(content)
            if unpacked > most:
                raise _bomb(archive)
            yield Candidate(f"{archive}/{name}", content)


def _of_tar(archive: Path, opened: Opens) -> Iterator[Candidate]:
    """Read twice: first the names, then what they choose."""
    with _tar(archive, opened) as members:
        chosen = {*_chosen(archive, (member.name for member, _ in members))}
    with _tar(archive, opened) as members:
        for member, read in members:
            if member.name in chosen:
                yield Candidate(f"{archive}/{member.name}", read())


Members = Iterator[tuple[tarfile.TarInfo, Callable[[], bytes]]]


@contextmanager
def _tar(archive: Path, opened: Opens) -> Iterator[Members]:
    """The files of a tar archive, each with what reads it, inside this context."""
    try:
        with (
            opened(archive) as stream,
            tarfile.open(fileobj=_Forward(stream, archive), mode="r:") as tar,
        ):
            yield _members(tar)
    except DAMAGE as error:
        raise ImclError(f"{archive}: not a readable tar archive: {error}") from None
    except OSError as error:
        if error.errno is not None:  # it is the disk's fault
            raise
        raise ImclError(f"{archive}: not a readable tar archive: {error}") from None


def _members(tar: tarfile.TarFile) -> Members:
    while (member := tar.next()) is not None:
        if member.isfile() and not member.issparse():
            yield member, lambda member=member: _content(tar, member)  # type: ignore[misc]
        tar.members.clear()  # type: ignore[attr-defined]  # which would hold them all


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None, "it is a file"
    return file.read(MOST_BYTES + 1)


class _Forward(io.RawIOBase):
    """A stream that is read forward, in pieces, and only so far.

    A header of an archive may ask to read terabytes at once, or to go back for ever.
    """

    def __init__(self, stream: io.BufferedIOBase, archive: Path):
        self.stream, self.archive = stream, archive
        self.at, self.most = 0, _most(archive)

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MOST_BYTES + 1:
            raise ValueError(f"a part of {size} bytes")
        content = self.stream.read(size)
        self.at += len(content)
        if self.at > self.most:
            raise _bomb(self.archive)
        return content

    def seek(self, to: int, whence: int = io.SEEK_SET) -> int:
        if to < self.at:
            raise ValueError("a part of negative size")
        while self.at < to and self.read(min(to - self.at, 1 << 20)):
            pass
        return self.at

    def tell(self) -> int:
        return self.at


def _chosen(archive: Path, names: Iterable[str]) -> list[str]:
    """The names of those files in an archive that may be records."""
    by_kind: list[list[str]] = [[] for _ in FOLDERS]
    for count, name in enumerate(name for name in names if name.endswith(".json")):
        if count == MOST_FILES:
            raise ImclError(
                f"{archive}: holds more than {MOST_FILES:,} files; pack the records alone"
            )
        parents = PurePosixPath(name).parts[:-1]
        kind = next(
            kind
            for kind, folders in enumerate(FOLDERS)
            if any(parents[len(parents) - len(folder) :] == folder for folder in folders)
        )
        by_kind[kind].append(name)
    return next((names for names in by_kind if names), [])


def _most(archive: Path) -> int:
    """The bytes that an archive may unpack to."""
    return max(HARMLESS, MOST_RATIO * archive.stat().st_size)


def _bomb(archive: Path) -> ImclError:
    return ImclError(
        f"{archive}: unpacks to more than {MOST_RATIO} times its size, as no records do; "
        "pack the records alone"
    )
