"""Downloads an archive: resumes, retries, and accepts only a file with the right checksum."""

import hashlib
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from threading import Event, Thread
from typing import Any, BinaryIO, Self

import requests
import urllib3

from imcl.data.contents import trusted_checksum
from imcl.errors import ImclError
from imcl.files import at_once, locked, room
from imcl.progress import Progress, say
from imcl.study.sources import Archive

TRIES = 5
TIMEOUT_S = 30  # without a single byte
# A slower answer is given up: CIFAR-10 would take five hours, and another try may be faster.
SLOWEST_BYTES_PER_S = 10_000
WINDOW_S = 60.0  # over which that rate is measured
BLOCK_BYTES = 1 << 20

# What a server may cause. Of the addresses that it redirects to, some are a ValueError.
FAULTS = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    HTTPException,
    ValueError,
)


def expected_checksum(archive: Archive) -> tuple[str, str] | None:
    """Algorithm and checksum: from the list that IMCL_SHA256SUMS names, or the official ones.

    None if the list does not name the archive and no official checksum is published.

    Raises:
        UsageError: the list cannot be read.
    """
    if checksum := trusted_checksum(archive.name) or archive.sha256:
        return "sha256", checksum
    return ("md5", archive.md5) if archive.md5 else None


def check(archive: Archive, path: Path) -> None:
    """Raise ImclError if a checksum of the archive is known and the file has another one."""
    checksum = expected_checksum(archive)
    with open(path, "rb", opener=at_once) as file:  # so that a pipe is refused in any case
        if checksum is None:
            return
        algorithm, expected = checksum
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
        ImclError: the server cannot be reached, is too slow, does not have the file, or serves
            another one.
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
        try:
            with room(part), open(part, "ab", opener=at_once) as file:
                _download(archive, file)
                file.flush()
                os.fsync(file.fileno())
        finally:
            if part.exists() and not part.stat().st_size:
                part.unlink()
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
            return _resume(url, archive, file)
        except FAULTS as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            refused = status is not None and 400 <= status < 500
            lost = isinstance(error, ValueError | requests.TooManyRedirects)  # a wrong address
            if attempt == TRIES or refused or lost:
                raise ImclError(
                    f"{url}: {error}. Check the address and the network (IMCL_MIRROR names "
                    f"another base URL), or place the file as {file.name.removesuffix('.part')}"
                ) from None
            wait = 2 ** (attempt - 1)
            say(f"{url}: {error}; trying again in {wait} s")
            time.sleep(wait)


def _resume(url: str, archive: Archive, file: BinaryIO) -> None:
    """One request, for the part of the archive that `file` lacks."""
    start = file.tell()
    # Some servers compress again what they send, and others number the compressed bytes in a range.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with _Line() as line, line.get(url, headers) as response:
        no_range = response.status_code == requests.codes.requested_range_not_satisfiable
        if not (start and no_range):
            response.raise_for_status()
        continued = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        # Otherwise the server has no ranges or sends another, or the part is longer than the file.
        resumed = response.status_code == requests.codes.partial_content and continued
        if start and not resumed:
            file.truncate(0)
            file.seek(0)
        if not start or resumed or response.status_code == requests.codes.ok:
            return _receive(response, line, archive, file)
    _resume(url, archive, file)


def _receive(response: requests.Response, line: "_Line", archive: Archive, file: BinaryIO) -> None:
    """Append an answer's content to `file`."""
    start = file.tell()
    left: int | None = response.raw.length_remaining  # None: the server does not say
    declared = None if left is None else start + left
    most = _size(archive) or declared
    if most is None:
        raise ImclError(
            f"{response.url}: the server does not tell the file's length, and a checksum list "
            f"replaces the official one; place the file as {file.name.removesuffix('.part')}"
        )
    with Progress(archive.name, declared or most, unit="bytes", done=start) as progress:
        for chunk in _chunks(response.raw, most - start):
            file.write(chunk)
            line.arrived += len(chunk)
            progress.advance(len(chunk))


def _size(archive: Archive) -> int | None:
    """The size of the file whose checksum is expected; None if it is not the official one."""
    _, checksum = expected_checksum(archive) or (None, None)
    return archive.size if checksum in (archive.sha256, archive.md5) else None


def _chunks(body: urllib3.BaseHTTPResponse, most: int) -> Iterator[bytes]:
    """What arrives of an answer, up to `most` bytes."""
    # As it arrives, since a whole block of a slow answer would never come. Not decoded, since some
    # servers declare the archive's own compression as an encoding.
    while most > 0 and (chunk := body.read1(min(most, BLOCK_BYTES), decode_content=False)):
        yield chunk
        most -= len(chunk)


def _unread_redirect(response: requests.Response, **_: object) -> None:
    """Close a redirect, whose content requests would read into memory, however long it is."""
    if response.is_redirect:
        response.close()


class _Line(requests.adapters.HTTPAdapter):
    """Sends a request, and cuts its connections if too little of the answer arrives in a window.

    The timeout of a socket starts anew with each byte. So it does not end an answer whose headers
    trickle, or one that never comes to its content.

    Attributes:
        arrived: bytes of the content, counted by who reads them.

    Raises:
        requests.Timeout: on leaving, if it was cut.
    """

    def __init__(self) -> None:
        super().__init__()
        self.arrived = 0
        self._sockets: list[socket.socket] = []
        self._slow: str | None = None
        self._over = Event()
        self._watchdog = Thread(target=self._watch, daemon=True)

    def get(self, url: str, headers: dict[str, str]) -> requests.Response:
        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, self)
        hooks = {"response": _unread_redirect}
        return session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S, hooks=hooks)

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        """A pool whose connections leave a handle of their sockets here."""
        pool: Any = super().get_connection_with_tls_context(*arguments, **options)
        sockets = self._sockets

        class Connection(pool.ConnectionCls):
            def _new_conn(self) -> socket.socket:
                made: socket.socket = super()._new_conn()
                sockets.append(made.dup())  # TLS takes the socket itself over
                return made

        pool.ConnectionCls = Connection
        return pool

    def _watch(self) -> None:
        before = self.arrived
        while not self._over.wait(WINDOW_S):
            rate = (self.arrived - before) / WINDOW_S
            before = self.arrived
            if rate < SLOWEST_BYTES_PER_S:
                self._slow = (
                    f"the server sends {rate:,.0f} bytes/s, and less than "
                    f"{SLOWEST_BYTES_PER_S:,} are given up"
                )
                for each in list(self._sockets):
                    with suppress(OSError):  # the server has closed it
                        each.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._watchdog.start()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._over.set()
        self._watchdog.join()
        for each in self._sockets:
            each.close()
        self.close()
        if self._slow and (error is None or isinstance(error, FAULTS)):
            raise requests.Timeout(self._slow)
