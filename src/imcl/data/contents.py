"""The content of a project's own files: pictures, pretrained weights, archives placed by hand.

No published checksum says what is in them, so their content is a part of the digests: after a
picture is added, changed or removed, its cells have other names, and they are trained again.
"""

import hashlib
import os
import stat
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from imcl.errors import ImclError, UsageError
from imcl.files import at_once, sha256, write_bytes
from imcl.project import Project
from imcl.study.load import load
from imcl.study.settings import Settings
from imcl.study.sources import Archive, Counts

# A file that was written so shortly before it was read may change again without another date, since
# some file systems count in steps of two seconds. It is read again next time.
SETTLED_NS = 2_000_000_000
WORTH_TELLING = 100_000_000  # bytes


class Entry(NamedTuple):
    """A file as it was when it was read: its size, dates in ns, and SHA-256."""

    size: int
    modified: int
    changed: int
    sha256: str


_MANIFEST = TypeAdapter(dict[str, Entry])


def settings_of(project: Project, study: str | None = None) -> Settings:
    """The parameters of a project, whose datasets know their content.

    Args:
        project: whose params.yaml is read.
        study: a study to choose instead of the file's own `study`.

    Raises:
        UsageError: as `load`.
    """
    return load(project.params, study).knowing(Manifests(project))


class Manifests:
    """What the project's own files hold, each as twelve hex digits.

    The hashes are kept in manifests in data/contents/. A file is read again only if its size or a
    date has changed since. A manifest that cannot be read or written costs time, nothing else.

    If a folder or an archive is not there, what was last known of it holds. So a study stays done
    when its pictures are moved away.
    """

    def __init__(self, project: Project):
        self._project = project
        self._pictures: dict[str, dict[str, str]] = {}

    def pictures(self, folder: str) -> str | None:
        """The digest of the names and contents of the pictures; None if there are none.

        It is the start of the SHA-256 of what `sha256sum` prints for the files, sorted by name.
        What cannot be read counts as an empty hash; preparing the dataset refuses it.

        Args:
            folder: as `path` of a dataset. Hidden files are left out.
        """
        return _over(self._of_pictures(folder))

    def counts(self, folder: str) -> Counts | None:
        """How many files there are in train/CLASS/ and test/CLASS/; None if there are none."""
        places = [tuple(name.split("/")) for name in self._of_pictures(folder)]
        if not places:
            return None
        splits = [split for split, *_ in places]
        classes = {inner[0] for split, *inner in places if split == "train" and len(inner) > 1}
        return Counts(splits.count("train"), splits.count("test"), len(classes))

    def _of_pictures(self, folder: str) -> dict[str, str]:
        """The SHA-256 of each picture by its name."""
        if folder not in self._pictures:
            root = self._project.root / folder
            paths = [path for split in ("train", "test") for path in _within(root / split, 2)]
            files = {path.relative_to(root).as_posix(): path for path in paths}
            self._pictures[folder] = self._hashes(folder, files)
        return self._pictures[folder]

    def archives(self, archives: Sequence[Archive]) -> str | None:
        """The digest of those archives that are not the published files; None if there are none.

        Before an archive is there, what IMCL_SHA256SUMS names is what a mirror will serve.
        """
        found: dict[str, str] = {}
        for archive in archives:
            path = archive.path(self._project.archives)
            listed = None if path.exists() else trusted_checksum(archive.name)
            hashes = self._hashes(archive.name, {path.name: path})
            digest = listed or "".join(hashes.values())
            if digest and digest != archive.sha256:
                found[archive.name] = digest
        return _over(found)

    def weights(self, file: str) -> str | None:
        """The SHA-256 of a file of weights; None if there is none.

        Args:
            file: as `weights` of a backbone.
        """
        return self._hashes(file, {file: self._project.root / file}).get(file) or None

    def _hashes(self, name: str, files: Mapping[str, Path]) -> dict[str, str]:
        """The SHA-256 of each file, "" if it cannot be read; the last known if none is there."""
        manifest = self._project.contents / f"{quote(name, safe='')}.json"
        known = _read(manifest)
        there = {name: found for name, path in files.items() if (found := _stat(path))}
        if not there:
            return {name: entry.sha256 for name, entry in known.items()}
        old = {name: known[name] for name, now in there.items() if _same(known.get(name), now)}
        new = {name: now for name, now in there.items() if name not in old}
        if new:
            _announce(name, [now.st_size for now in new.values()])
        read = {name: entry for name in new if (entry := _entry(files[name]))}
        entries = {name: entry for name in there if (entry := old.get(name) or read.get(name))}
        if entries != known:
            with suppress(OSError, ImclError):
                write_bytes(manifest, _MANIFEST.dump_json(entries, indent=1))
        return {name: entries[name].sha256 if name in entries else "" for name in files}


def entries(folder: Path) -> list[Path]:
    """What is in a folder, in the order of the names, without hidden files.

    Raises:
        OSError: the folder cannot be listed.
    """
    return sorted(path for path in folder.iterdir() if path.name[0] != ".")


def recorded(manifest: Path) -> dict[str, str]:
    """The SHA-256 of each file of a manifest, by name; none if it is missing or damaged."""
    return {name: entry.sha256 for name, entry in _read(manifest).items()}


def trusted_checksum(name: str) -> str | None:
    """The SHA-256 of an archive in the list that IMCL_SHA256SUMS names; None if it has none.

    Raises:
        UsageError: the list cannot be read.
    """
    trusted = os.environ.get("IMCL_SHA256SUMS")
    if not trusted:
        return None
    try:
        with open(trusted, "rb", opener=at_once) as file:
            lines = file.read().decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"IMCL_SHA256SUMS={trusted}: cannot be read: {reason}") from None
    for line in lines:
        checksum, _, listed = line.partition(" ")
        if listed.strip().lstrip("*") == name:
            return checksum.lower()
    return None


def _within(path: Path, depth: int) -> Iterator[Path]:
    """What lies so many folders down. What is no folder, or cannot be listed, is one entry."""
    if depth == 0:
        yield path
        return
    try:
        found = entries(path)
    except OSError:  # it may be a file, too
        yield path
        return
    for inner in found:
        yield from _within(inner, depth - 1)


def _announce(name: str, sizes: list[int]) -> None:
    """Say what is read, if that takes so long that somebody may wonder."""
    if sum(sizes) > WORTH_TELLING:
        with suppress(OSError):  # a terminal that was closed
            message = (
                f"{name}: reads {len(sizes):,} new or changed files, {sum(sizes) / 1e6:,.0f} MB"
            )
            print(message, file=sys.stderr, flush=True)


def _stat(path: Path) -> os.stat_result | None:
    """None if there is no regular file. Others, such as a pipe, are never opened."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _same(entry: Entry | None, now: os.stat_result) -> bool:
    return entry is not None and entry[:3] == (now.st_size, now.st_mtime_ns, now.st_ctime_ns)


def _entry(path: Path) -> Entry | None:
    """A file's entry; None if it cannot be read."""
    try:
        now = path.stat()
        settled = max(now.st_mtime_ns, now.st_ctime_ns) < time.time_ns() - SETTLED_NS
        return Entry(now.st_size if settled else -1, now.st_mtime_ns, now.st_ctime_ns, sha256(path))
    except OSError:
        return None


def _read(manifest: Path) -> dict[str, Entry]:
    try:
        with open(manifest, "rb", opener=at_once) as file:
            return _MANIFEST.validate_json(file.read())
    except (OSError, ValidationError):
        return {}


def _over(hashes: Mapping[str, str]) -> str | None:
    """The digest of what `sha256sum` would print."""
    if not hashes:
        return None
    lines = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()[:12]
