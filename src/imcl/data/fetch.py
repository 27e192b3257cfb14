"""Downloads an archive: resumes, retries, and accepts only a file with the right checksum."""

import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import requests
import urllib3

from imcl.errors import ImclError, UsageError
from imcl.files import locked, room
from imcl.progress import Progress, say
from imcl.study.sources import Archive

TRIES = 5
TIMEOUT_S = 30


def expected_checksum(archive: Archive) -> tuple[str, str] | None:
    """Algorithm and checksum: from the list that IMCL_SHA256SUMS names, or the official ones.

    None if the list does not name the archive and no official checksum is published.

    Raises:
        UsageError: the list cannot be read.
    """
    trusted = os.environ.get("IMCL_SHA256SUMS")
    if trusted:
        try:
            lines = Path(trusted).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"IMCL_SHA256SUMS={trusted}: cannot be read: {error}") from None
        for line in lines:
            checksum, _, name = line.partition(" ")
            if name.strip().lstrip("*") == archive.name:
                return "sha256", checksum.lower()
    if archive.sha256:
        return "sha256", archive.sha256
    return ("md5", archive.md5) if archive.md5 else None


def check(archive: Archive, path: Path) -> None:
    """Raise ImclError if a checksum of the archive is known and the file has another one."""
    checksum = expected_checksum(archive)
    if checksum is None:
        return
    algorithm, expected = checksum
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != expected:
        hint = "it is damaged, or not the official file"
        if os.environ.get("IMCL_MIRROR") and not os.environ.get("IMCL_SHA256SUMS"):
            hint = "if you trust this mirror, name its checksum list with IMCL_SHA256SUMS"
        name = {"sha256": "SHA-256", "md5": "MD5"}[algorithm]
        raise ImclError(f"{path}: {name} is {found}, expected {expected}; {hint}")


def require_placed(archives: Iterable[Archive], folder: Path) -> None:
    """Raise ImclError, with what to do, if files behind a login are missing.

    A mirror named by IMCL_MIRROR may serve them too.
    """
    missing = [a for a in archives if a.behind_login and not a.path(folder).exists()]
    if missing and not os.environ.get("IMCL_MIRROR"):
        listed = "".join(
            f"\n  {folder / a.name}, about {a.size / 1e6:,.0f} MB (or {a.other_form})"
            for a in missing
        )
        raise ImclError(
            f"these files are behind a login; get them at {missing[0].url} and place them as"
            f"{listed}"
        )


def fetch(archive: Archive, folder: Path) -> Path:
    """Make sure that the archive is in `folder` with the right checksum; return its path.

    A file that is there is checked, never overwritten. An interrupted download stays as
    `NAME.part` and resumes from its end. A second process waits for the first, on the lock
    file `.NAME.lock`.

    Raises:
        ImclError: the server cannot be reached, does not have the file, or serves another one.
    """
    expected_checksum(archive)  # so that a list that cannot be read is found before the download
    part = folder / f"{archive.name}.part"
    waiting = f"{archive.name}: another process is downloading it; waiting"
    with locked(folder / f".{archive.name}.lock", lambda: say(waiting)):
        path = archive.path(folder)
        if path.exists():
            part.unlink(missing_ok=True)
            if path.name == archive.name:
                check(archive, path)
            return path
        if expected_checksum(archive) is None:
            raise ImclError(
                f"{archive.name}: no official checksum is known, so what a server sends cannot be "
                "checked; name a checksum list that you trust with IMCL_SHA256SUMS"
            )
        with room(part), part.open("ab") as file:
            _download(archive, file)
            file.flush()
            os.fsync(file.fileno())
        try:
            check(archive, part)
        except ImclError as error:
            part.unlink()
            raise ImclError(f"{_url(archive)}: {error}. The download was discarded") from None
        part.replace(path)
    return path


def _url(archive: Archive) -> str:
    mirror = os.environ.get("IMCL_MIRROR")
    return f"{mirror.rstrip('/')}/{archive.name}" if mirror else archive.url


def _download(archive: Archive, file: BinaryIO) -> None:
    url = _url(archive)
    for attempt in range(1, TRIES + 1):
        try:
            return _resume(url, archive.name, file)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            if attempt == TRIES or (status is not None and 400 <= status < 500):
                raise ImclError(
                    f"{url}: {error}. Check the address and the network (IMCL_MIRROR names "
                    f"another base URL), or place the file as {file.name.removesuffix('.part')}"
                ) from None
            wait = 2 ** (attempt - 1)
            print(f"{url}: {error}; trying again in {wait} s", flush=True)
            time.sleep(wait)


def _resume(url: str, name: str, file: BinaryIO) -> None:
    """One request, for the part of the archive that `file` lacks."""
    start = file.tell()
    headers = {"Range": f"bytes={start}-"} if start else {}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
        no_range = response.status_code == requests.codes.requested_range_not_satisfiable
        if not (start and no_range):
            response.raise_for_status()
        if start and response.status_code != requests.codes.partial_content:
            # The server has no ranges, or the part is longer than the file: start over.
            file.truncate(0)
            file.seek(0)
            if no_range:
                return _resume(url, name, file)
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        with Progress(name, total, unit="bytes", done=start) as progress:
            # Not decoded: some servers declare the archive's own compression as an encoding.
            for chunk in response.raw.stream(1 << 20, decode_content=False):
                file.write(chunk)
                progress.advance(len(chunk))
