"""Downloads from a real server on the loopback, with the faults that real servers have."""

import gzip
import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
import requests

from imcl.data import fetch
from imcl.errors import ImclError, UsageError
from imcl.study.sources import Archive

CONTENT = np.random.default_rng(0).bytes(50_000)
NAME = "pictures.tar.gz"


class Server(ThreadingHTTPServer):
    """Serves `files` by path; the other attributes are its faults and what it saw."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {f"/{NAME}": CONTENT}
        self.ranges = True  # whether it understands the Range header
        self.refusals: list[int] = []  # statuses of the first answers
        self.drops: list[int] = []  # bytes after which the first answers break off
        self.headers: dict[str, str | None] = {}  # sent with each file; None: left out
        self.endless: Callable[[], bytes] | None = None  # makes what follows each file for ever
        self.statuses: dict[str, int] = {}  # with which a file is sent, by its path
        self.redirect: str | None = None  # where all requests are sent to
        self.gate: Event | None = None  # answers wait for it
        self.seen: list[tuple[str, str | None]] = []  # path and Range of each request
        self.sent: list[int] = []  # bytes of each body
        self.encodings: list[str | None] = []  # that each request accepts

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.server.seen.append((self.path, wanted))
        self.server.encodings.append(self.headers["Accept-Encoding"])
        if self.server.gate:
            assert self.server.gate.wait(5)
        if self.server.refusals:
            return self.send_error(self.server.refusals.pop(0))
        if self.server.redirect:
            self.send_response(302)
            self.send_header("Location", self.server.redirect)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        content = self.server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        start = 0
        if wanted and self.server.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                return self.send_error(416)
        body = content[start:]
        self.send_response(206 if start else self.server.statuses.get(self.path, 200))
        headers: dict[str, str | None] = {"Content-Length": str(len(body))}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        for name, value in (headers | self.server.headers).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if self.server.drops:
            body = body[: self.server.drops.pop(0)]
        self.server.sent.append(len(body))
        with suppress(OSError):  # the client has closed the connection
            self.wfile.write(body)
            while self.server.endless:
                more = self.server.endless()
                self.server.sent[-1] += self.wfile.write(more)

    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.endless = None
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def waits(monkeypatch) -> list[float]:
    """The seconds of each pause; none of them is waited. No mirror, list or proxy is set."""
    for name in ("IMCL_MIRROR", "IMCL_SHA256SUMS", "http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    seconds: list[float] = []
    monkeypatch.setattr(fetch.time, "sleep", seconds.append)
    monkeypatch.setattr(fetch, "TIMEOUT_S", 5)
    return seconds


def archive(url: str, content: bytes = CONTENT) -> Archive:
    return Archive(NAME, f"{url}/{NAME}", len(content), hashlib.sha256(content).hexdigest())


def names(folder: Path) -> list[str]:
    """What is in a folder beside the lock of the archive."""
    return sorted(path.name for path in folder.iterdir() if path.name != f".{NAME}.lock")


def test_a_file_is_downloaded_into_a_new_folder(server, tmp_path):
    folder = tmp_path / "data" / "archives"

    assert fetch.fetch(archive(server.url), folder) == folder / NAME

    assert (folder / NAME).read_bytes() == CONTENT
    assert names(folder) == [NAME]
    assert server.seen == [(f"/{NAME}", None)]


def test_a_part_is_completed_with_the_rest_only(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:20_000])

    fetch.fetch(archive(server.url), tmp_path)

    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert names(tmp_path) == [NAME]
    assert server.seen == [(f"/{NAME}", "bytes=20000-")]
    assert server.sent == [30_000]


def test_without_ranges_the_download_starts_over(server, tmp_path):
    server.ranges = False
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:20_000])

    fetch.fetch(archive(server.url), tmp_path)

    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert server.sent == [50_000]


@pytest.mark.parametrize("length", [50_000, 60_000])
def test_a_part_as_long_as_the_file_or_longer_is_downloaded_anew(server, tmp_path, length):
    (tmp_path / f"{NAME}.part").write_bytes(b"x" * length)  # the server answers 416

    fetch.fetch(archive(server.url), tmp_path)

    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert server.seen == [(f"/{NAME}", f"bytes={length}-"), (f"/{NAME}", None)]


def test_a_dropped_connection_is_resumed(server, tmp_path, waits):
    content = np.random.default_rng(1).bytes(3 << 20)
    server.files[f"/{NAME}"] = content
    server.drops = [2 << 20]

    fetch.fetch(archive(server.url, content), tmp_path)

    assert (tmp_path / NAME).read_bytes() == content
    assert waits == [1]
    (_, first), (_, second) = server.seen
    assert first is None
    assert second is not None, "what had arrived was thrown away"
    assert sum(server.sent) < (2 << 20) + (3 << 20)


def test_a_busy_server_is_asked_again(server, tmp_path, waits):
    server.refusals = [503, 500]

    fetch.fetch(archive(server.url), tmp_path)

    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert waits == [1, 2]


def test_a_busy_server_does_not_cost_the_part(server, tmp_path):
    server.refusals = [503]
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:20_000])

    fetch.fetch(archive(server.url), tmp_path)

    assert [wanted for _, wanted in server.seen] == ["bytes=20000-", "bytes=20000-"]
    assert server.sent == [30_000]


@pytest.mark.parametrize("status", [404, 503])
def test_a_part_survives_a_failure(server, tmp_path, status):
    server.refusals = [status] * fetch.TRIES
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:20_000])

    with pytest.raises(ImclError):
        fetch.fetch(archive(server.url), tmp_path)

    assert (tmp_path / f"{NAME}.part").read_bytes() == CONTENT[:20_000]


def test_it_gives_up_in_the_end_and_says_what_to_do(server, tmp_path, waits):
    server.refusals = [503] * 100

    with pytest.raises(ImclError) as raised:
        fetch.fetch(archive(server.url), tmp_path)

    assert len(server.seen) == fetch.TRIES
    assert waits == [1, 2, 4, 8]
    message = str(raised.value)
    assert message.startswith(f"{server.url}/{NAME}: 503")
    assert "IMCL_MIRROR" in message
    assert message.endswith(f"place the file as {tmp_path / NAME}")
    assert not (tmp_path / NAME).exists()


def test_a_server_out_of_reach_is_named(tmp_path, waits):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    with pytest.raises(ImclError, match=rf"^{url}/{NAME}: .*IMCL_MIRROR"):
        fetch.fetch(archive(url), tmp_path)

    assert len(waits) == fetch.TRIES - 1


@pytest.mark.parametrize("status", [403, 404])
def test_what_the_server_does_not_have_is_asked_for_once(server, tmp_path, waits, status):
    server.refusals = [status] * 100

    with pytest.raises(ImclError, match=f"{NAME}: {status}"):
        fetch.fetch(archive(server.url), tmp_path)

    assert len(server.seen) == 1
    assert waits == []
    assert not (tmp_path / NAME).exists()


def test_an_error_page_is_not_taken_for_the_archive(server, tmp_path):
    server.files[f"/{NAME}"] = b"<html><body>Please log in</body></html>"

    with pytest.raises(ImclError, match=rf"^{server.url}/{NAME}: .*SHA-256.*discarded"):
        fetch.fetch(archive(server.url), tmp_path)

    assert names(tmp_path) == []


def test_a_damaged_part_is_found_out(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(b"x" * 20_000)

    with pytest.raises(ImclError, match="SHA-256"):
        fetch.fetch(archive(server.url), tmp_path)

    assert names(tmp_path) == []  # so the next try starts clean


def test_an_archive_stays_compressed_where_the_server_calls_that_an_encoding(server, tmp_path):
    content = gzip.compress(CONTENT, mtime=0)  # Apache with `AddEncoding x-gzip .gz`
    server.files[f"/{NAME}"] = content
    server.headers = {"Content-Encoding": "x-gzip"}

    fetch.fetch(archive(server.url, content), tmp_path)

    assert (tmp_path / NAME).read_bytes() == content


def test_a_server_is_asked_not_to_compress(server, tmp_path):
    fetch.fetch(archive(server.url), tmp_path)

    assert server.encodings == ["identity"]


@pytest.mark.parametrize("length", [None, "abc", "-5", "", "9" * 5000])
def test_a_length_that_the_server_does_not_tell_costs_nothing(server, tmp_path, length):
    server.headers = {"Content-Length": length}

    assert fetch.fetch(archive(server.url), tmp_path).read_bytes() == CONTENT

    assert len(server.seen) == 1


def test_two_lengths_are_an_error(server, tmp_path):
    server.headers = {"Content-Length": "50000, 50001"}

    with pytest.raises(ImclError, match=rf"^{server.url}/{NAME}: .*Content-Length"):
        fetch.fetch(archive(server.url), tmp_path)

    assert names(tmp_path) == []


@pytest.mark.parametrize("length", [None, str(10**15)])
@pytest.mark.parametrize("right", [True, False])
def test_no_more_than_the_official_size_is_taken(server, tmp_path, length, right):
    server.headers = {"Content-Length": length}
    server.endless = lambda: bytes(1 << 16)
    if not right:
        server.files[f"/{NAME}"] = b"other" + CONTENT

    if right:
        assert fetch.fetch(archive(server.url), tmp_path).read_bytes() == CONTENT
    else:
        with pytest.raises(ImclError, match=r"SHA-256.*discarded"):
            fetch.fetch(archive(server.url), tmp_path)
        assert names(tmp_path) == []
    assert len(server.seen) == 1


def test_the_size_of_another_file_is_the_one_that_its_server_tells(server, tmp_path, monkeypatch):
    trusted = tmp_path / "SHA256SUMS"
    trusted.write_text(f"{hashlib.sha256(CONTENT).hexdigest()}  {NAME}\n")
    monkeypatch.setenv("IMCL_SHA256SUMS", str(trusted))
    folder = tmp_path / "archives"
    server.endless = lambda: bytes(1 << 16)

    assert fetch.fetch(archive(server.url, b"official"), folder).read_bytes() == CONTENT

    (folder / NAME).unlink()
    server.headers = {"Content-Length": None}
    with pytest.raises(ImclError, match=rf"^{server.url}/{NAME}: the server does not tell the fil"):
        fetch.fetch(archive(server.url, b"official"), folder)
    assert names(folder) == []


def test_a_server_that_is_too_slow_is_given_up_and_what_came_is_kept(
    server, tmp_path, waits, monkeypatch
):
    monkeypatch.setattr(fetch, "WINDOW_S", 0.05)
    pause = Event()
    server.files[f"/{NAME}"] = CONTENT[:100]
    server.headers = {"Content-Length": str(len(CONTENT))}
    server.endless = lambda: b"" if pause.wait(0.005) else b"x"  # 200 bytes/s

    with pytest.raises(ImclError, match=r"sends \S+ bytes/s, and less than 10,000 are given up"):
        fetch.fetch(archive(server.url), tmp_path)

    assert waits == [1, 2, 4, 8]
    part = tmp_path / f"{NAME}.part"
    assert part.read_bytes().startswith(CONTENT[:100])
    server.endless, server.headers = None, {}
    server.files[f"/{NAME}"] = CONTENT
    part.write_bytes(part.read_bytes()[:100])
    assert fetch.fetch(archive(server.url), tmp_path).read_bytes() == CONTENT


def test_a_steady_server_takes_as_long_as_it_needs(server, tmp_path, monkeypatch):
    """The rate is measured over the last window, so that a long download is not its mean."""
    monkeypatch.setattr(fetch, "WINDOW_S", 0.15)
    pause = Event()
    parts = iter([CONTENT[at : at + 1000] for at in range(1000, len(CONTENT), 1000)])
    server.files[f"/{NAME}"] = CONTENT[:1000]
    server.headers = {"Content-Length": str(len(CONTENT))}
    server.endless = lambda: b"" if pause.wait(0.008) else next(parts, b"")  # 125 kB/s

    assert fetch.fetch(archive(server.url), tmp_path).read_bytes() == CONTENT

    assert len(server.seen) == 1


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("scheme", "head", "drop"),
    [
        ("http", b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("http", b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        ("http", CHUNKED + b"5;", b"x"),
        ("http", CHUNKED + b"0\r\n", b"X: y\r\n"),
        ("https", b"\x16\x03\x03\x40\x00", b"\x00"),  # the start of a TLS record of 16 kB
    ],
    ids=["100 Continue", "headers", "chunk extension", "trailers", "TLS"],
)
def test_an_answer_that_never_comes_to_its_content_is_given_up(
    tmp_path, waits, monkeypatch, scheme, head, drop
):
    monkeypatch.setattr(fetch, "TRIES", 2)
    monkeypatch.setattr(fetch, "WINDOW_S", 0.05)

    def answer(listener: socket.socket) -> None:
        for _ in range(fetch.TRIES):
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(0.005)
                connection.sendall(head)
                with suppress(OSError):  # it was cut
                    for _ in range(300):  # more than a second, so that the test ends if it is not
                        with suppress(TimeoutError):
                            connection.recv(1000)
                        connection.sendall(drop)

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        listener.settimeout(5)
        done = pool.submit(answer, listener)
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ImclError, match="sends 0 bytes/s, and less than 10,000 are given up"):
            fetch.fetch(archive(url), tmp_path)
        done.result()

    assert waits == [1]
    assert names(tmp_path) == []


def test_the_content_of_a_redirect_is_not_read(server, tmp_path, monkeypatch):
    """It may have no end."""
    read: list[int] = []
    iterated = requests.Response.iter_content

    def counted(response: requests.Response, *arguments) -> Iterator[bytes]:
        for chunk in iterated(response, *arguments):
            read.append(len(chunk))
            yield chunk

    monkeypatch.setattr(requests.Response, "iter_content", counted)
    server.files["/elsewhere"] = CONTENT
    server.headers = {"Location": f"/{NAME}"}
    server.statuses = {"/elsewhere": 302}
    entry = replace(archive(server.url), url=f"{server.url}/elsewhere")

    assert fetch.fetch(entry, tmp_path).read_bytes() == CONTENT

    assert sum(read) == 0
    assert [path for path, _ in server.seen] == ["/elsewhere", f"/{NAME}"]


@pytest.mark.parametrize("wrong", ["bytes 0-29999/50000", "bytes */50000", "none", None])
def test_another_range_than_was_asked_for_starts_over(server, tmp_path, wrong):
    server.headers = {"Content-Range": wrong}
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:20_000])

    assert fetch.fetch(archive(server.url), tmp_path).read_bytes() == CONTENT

    assert server.seen == [(f"/{NAME}", "bytes=20000-"), (f"/{NAME}", None)]


@pytest.mark.parametrize(
    "place",
    [
        "http://[::bad",
        "http://127.0.0.1:99999999/",
        f"http://{'a' * 300}.example/",
        "http://",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        f"/{NAME}",  # for ever
    ],
)
def test_a_redirect_to_nowhere_is_an_error_at_once(server, tmp_path, waits, place):
    server.redirect = place

    with pytest.raises(ImclError, match=rf"^{server.url}/{NAME}: .*Check the address"):
        fetch.fetch(archive(server.url), tmp_path)

    assert waits == []
    assert names(tmp_path) == []


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """The address of a server that sends these bytes to each try."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:

        def serve() -> None:
            for _ in range(fetch.TRIES):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(answer)

        done = pool.submit(serve)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        done.result()


def test_an_answer_that_is_not_http_is_an_error(tmp_path, waits):
    with (
        answering(b"SSH-2.0-OpenSSH_9.2\r\n") as url,
        pytest.raises(ImclError, match=rf"^{url}/{NAME}: .*Check the address"),
    ):
        fetch.fetch(archive(url), tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("chunked", [b"5\r\nhel", b"zz\r\nhello", b"5\r\nhello\r\n"])
def test_chunks_that_break_off_are_an_error(tmp_path, waits, chunked):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with answering(head + chunked) as url, pytest.raises(ImclError, match=rf"^{url}/{NAME}: "):
        fetch.fetch(archive(url), tmp_path)


def test_a_good_file_is_not_downloaded_again(server, tmp_path):
    (tmp_path / NAME).write_bytes(CONTENT)

    assert fetch.fetch(archive(server.url), tmp_path) == tmp_path / NAME

    assert server.seen == []
    assert names(tmp_path) == [NAME]


def test_a_damaged_file_is_reported_and_left_alone(server, tmp_path):
    (tmp_path / NAME).write_bytes(b"the user's own")

    with pytest.raises(ImclError, match=rf"^{tmp_path / NAME}: SHA-256 is .*damaged"):
        fetch.fetch(archive(server.url), tmp_path)

    assert server.seen == []
    assert (tmp_path / NAME).read_bytes() == b"the user's own"


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_mirror_replaces_the_address(server, tmp_path, monkeypatch, slash):
    server.files = {f"/mirror/{NAME}": CONTENT}
    monkeypatch.setenv("IMCL_MIRROR", f"{server.url}/mirror{slash}")

    fetch.fetch(archive("http://127.0.0.1:9/official"), tmp_path)

    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert server.seen == [(f"/mirror/{NAME}", None)]


def test_a_mirror_with_other_content_needs_a_checksum_list(server, tmp_path, monkeypatch):
    monkeypatch.setenv("IMCL_MIRROR", server.url)

    with pytest.raises(ImclError, match="name its checksum list with IMCL_SHA256SUMS"):
        fetch.fetch(archive(server.url, b"official"), tmp_path)

    assert names(tmp_path) == []


@pytest.mark.parametrize("line", ["{sum}  {name}", "{sum} *{name}", "{SUM}  {name}"])
def test_a_checksum_list_is_trusted(server, tmp_path, monkeypatch, line):
    checksum = hashlib.sha256(CONTENT).hexdigest()
    trusted = tmp_path / "SHA256SUMS"
    others = [f"{'0' * 64}  old-{NAME}", f"{'1' * 64}  {NAME}.part"]
    others.append(line.format(sum=checksum, SUM=checksum.upper(), name=NAME))
    trusted.write_text("\n".join(others) + "\n")
    monkeypatch.setenv("IMCL_MIRROR", server.url)
    monkeypatch.setenv("IMCL_SHA256SUMS", str(trusted))

    fetch.fetch(archive(server.url, b"official"), tmp_path / "archives")

    assert (tmp_path / "archives" / NAME).read_bytes() == CONTENT


def test_the_official_content_is_refused_where_the_list_says_another(server, tmp_path, monkeypatch):
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  {NAME}\n")
    monkeypatch.setenv("IMCL_SHA256SUMS", str(tmp_path / "SHA256SUMS"))

    with pytest.raises(ImclError, match=f"expected {'0' * 64}"):
        fetch.fetch(archive(server.url), tmp_path / "archives")


BAD_LISTS = {
    "absent": (None, "cannot be read"),
    "binary": (b"\xff\xfe\x00", "cannot be read"),
    "pipe": (b"pipe", "cannot be read: not a file, but a device or a pipe"),
}


@pytest.mark.parametrize("content", ["", "0" * 64 + "  other.zip\n"])
def test_what_a_list_does_not_name_keeps_its_official_checksum(tmp_path, monkeypatch, content):
    (tmp_path / "SHA256SUMS").write_text(content)
    monkeypatch.setenv("IMCL_SHA256SUMS", str(tmp_path / "SHA256SUMS"))

    entry = archive("http://127.0.0.1:9")
    assert fetch.expected_checksum(entry) == ("sha256", entry.sha256)
    assert fetch.expected_checksum(replace(entry, sha256=None, md5="m")) == ("md5", "m")
    assert fetch.expected_checksum(replace(entry, sha256=None)) is None


# files behind a login ---------------------------------------------------------------------------


def locked(folder: Path, form: str) -> Archive:
    return Archive(
        f"{form}.zip", "https://example.org/login", 9_000_000, None, None, True, f"{form}_npz.zip"
    )


def test_files_behind_a_login_are_listed_with_page_and_size(tmp_path, monkeypatch):
    monkeypatch.delenv("IMCL_MIRROR", raising=False)
    entries = [locked(tmp_path, "train"), locked(tmp_path, "val")]

    with pytest.raises(ImclError, match=r"https://example.org/login") as caught:
        fetch.require_placed(entries, tmp_path)
    for name in ("train", "val"):
        expected = f"{tmp_path}/{name}.zip, about 9 MB (or {name}_npz.zip)"
        assert expected in str(caught.value)

    (tmp_path / "train_npz.zip").write_bytes(b"placed")
    (tmp_path / "val.zip").write_bytes(b"placed")
    fetch.require_placed(entries, tmp_path)
    assert fetch.fetch(entries[0], tmp_path) == tmp_path / "train_npz.zip"
    assert fetch.fetch(entries[1], tmp_path) == tmp_path / "val.zip"


def test_a_mirror_may_serve_what_lies_behind_a_login(server, tmp_path, monkeypatch):
    monkeypatch.setenv("IMCL_MIRROR", server.url)
    entry = replace(locked(tmp_path, "x"), name=NAME)

    fetch.require_placed([entry], tmp_path)
    with pytest.raises(ImclError, match=r"no official checksum is known.*IMCL_SHA256SUMS"):
        fetch.fetch(entry, tmp_path)
    assert names(tmp_path) == []  # an error page, for one, would have been taken for the file

    trusted = tmp_path / "lists" / "SHA256SUMS"
    trusted.parent.mkdir()
    trusted.write_text(f"{hashlib.sha256(CONTENT).hexdigest()}  {NAME}\n")
    monkeypatch.setenv("IMCL_SHA256SUMS", str(trusted))
    assert fetch.fetch(entry, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(("content", "reason"), BAD_LISTS.values(), ids=BAD_LISTS)
def test_a_bad_checksum_list_is_named(tmp_path, monkeypatch, content, reason):
    trusted = tmp_path / "SHA256SUMS"
    if content == b"pipe":
        os.mkfifo(trusted)
    elif content is not None:
        trusted.write_bytes(content)
    monkeypatch.setenv("IMCL_SHA256SUMS", str(trusted))

    with pytest.raises(UsageError, match=rf"IMCL_SHA256SUMS={trusted}: {reason}"):
        fetch.expected_checksum(archive("http://127.0.0.1:9"))


def test_a_bad_checksum_list_is_found_before_anything_is_downloaded(server, tmp_path, monkeypatch):
    monkeypatch.setenv("IMCL_SHA256SUMS", str(tmp_path / "absent"))
    folder = tmp_path / "archives"
    folder.mkdir()
    (folder / f"{NAME}.part").write_bytes(CONTENT[:20_000])

    with pytest.raises(UsageError, match="IMCL_SHA256SUMS"):
        fetch.fetch(archive(server.url), folder)

    assert server.seen == []
    assert (folder / f"{NAME}.part").read_bytes() == CONTENT[:20_000]


def fetch_twice_at_once(server: Server, folder: Path, monkeypatch) -> list[Path | Exception]:
    """Two downloads; the server answers the first when the second says that it waits."""
    server.gate = Event()
    said: list[str] = []

    def say(message: str) -> None:
        said.append(message)
        server.gate.set()

    monkeypatch.setattr(fetch, "say", say)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(fetch.fetch, archive(server.url), folder) for _ in range(2)]
        results = [future.exception() or future.result() for future in both]
    assert said == [f"{NAME}: another process is downloading it; waiting"]
    return results


def test_two_at_once_download_once(server, tmp_path, monkeypatch):
    results = fetch_twice_at_once(server, tmp_path, monkeypatch)

    assert results == [tmp_path / NAME] * 2
    assert len(server.seen) == 1
    assert names(tmp_path) == [NAME]
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_a_killed_download_leaves_no_lock_behind(server, tmp_path):
    """Its lock file stays, but the kernel's lock on it ended with the process."""
    code = "import sys, time; from imcl.files import locked; from pathlib import Path\n"
    code += "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    lock = tmp_path / f".{NAME}.lock"
    with subprocess.Popen([sys.executable, "-c", code, lock], stdout=subprocess.PIPE) as killed:
        assert killed.stdout.readline() == b"held\n"
        killed.kill()
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:20_000])

    fetch.fetch(archive(server.url), tmp_path)

    assert names(tmp_path) == [NAME]
    assert server.sent == [30_000]


def test_two_at_once_both_report_a_wrong_file(server, tmp_path, monkeypatch):
    server.files[f"/{NAME}"] = b"<html>Please log in</html>"

    results = fetch_twice_at_once(server, tmp_path, monkeypatch)

    assert [type(result) for result in results] == [ImclError] * 2
    assert names(tmp_path) == []


def test_an_md5_is_checked_if_no_sha256_is_published(tmp_path):
    content = b"an archive"
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    right = hashlib.md5(content).hexdigest()
    fetch.check(Archive("a.bin", "http://127.0.0.1:9", len(content), None, right), path)
    with pytest.raises(ImclError, match=f"MD5 is {right}, expected {'0' * 32}"):
        fetch.check(Archive("a.bin", "http://127.0.0.1:9", len(content), None, "0" * 32), path)


@pytest.mark.parametrize("name", [NAME, f"{NAME}.part"])
def test_a_pipe_is_never_waited_for(server, tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(OSError, match="device") as refused:
        fetch.fetch(archive(server.url), tmp_path)
    assert refused.value.filename == str(tmp_path / name)


def test_a_pipe_without_a_known_checksum_is_refused(tmp_path):
    """As files placed by hand have none."""
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(OSError, match="not a file, but a device or a pipe"):
        fetch.check(replace(archive("http://127.0.0.1:9"), sha256=None), tmp_path / NAME)
