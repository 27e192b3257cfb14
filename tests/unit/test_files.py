"""Files are whole or not there."""

import errno
import fcntl
import gzip
import json
import math
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from imcl import files
from imcl.errors import ImclError
from imcl.files import (
    at_once,
    atomic,
    locked,
    room,
    sha256,
    sweep,
    write_bytes,
    write_json,
    write_text,
)


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_atomic_makes_the_folder_and_moves_the_file_in(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"

    with atomic(path) as temporary:
        temporary.write_text("new")

    assert path.read_text() == "new"
    assert names(path.parent) == ["file.txt"]


def test_atomic_keeps_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    with atomic(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path  # the same file system, so the move is one step
        assert path.read_text() == "old"

    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [None, "old"])
def test_atomic_leaves_everything_as_it_was_after_an_exception(tmp_path, error, before):
    path = tmp_path / "file.txt"
    if before:
        path.write_text(before)

    with pytest.raises(error), atomic(path) as temporary:
        temporary.write_text("half")
        raise error

    assert names(tmp_path) == (["file.txt"] if before else [])
    if before:
        assert path.read_text() == before


def test_atomic_names_the_file_not_its_temporary_one(tmp_path):
    path = tmp_path / "file.txt"

    with pytest.raises(OSError, match="Is a directory") as error, atomic(path) as temporary:
        temporary.mkdir()
        try:
            temporary.write_text("text")
        finally:
            temporary.rmdir()

    assert error.value.filename == str(path)


def test_atomic_passes_an_exception_on_where_nothing_was_written(tmp_path):
    with pytest.raises(ValueError, match="first"), atomic(tmp_path / "file.txt"):
        raise ValueError("first")

    assert names(tmp_path) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_write_json_refuses_what_json_lacks_and_keeps_the_old_file(tmp_path, value):
    path = tmp_path / "file.json"
    write_json(path, {"loss": 1.5})

    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"runs": [{"loss": value}]})

    assert json.loads(path.read_text()) == {"loss": 1.5}
    assert names(tmp_path) == ["file.json"]


def test_json_comes_back_as_it_went(tmp_path):
    value = {"name": "über", "rates": [0.1, 1 / 3, 1e-300], "none": None, "count": 2**53}

    write_json(tmp_path / "file.json", value)

    assert json.loads((tmp_path / "file.json").read_text()) == value
    assert (tmp_path / "file.json").read_bytes().endswith(b"}\n")


def test_text_is_written_as_utf_8(tmp_path):
    write_text(tmp_path / "file.txt", "größer\n")

    assert (tmp_path / "file.txt").read_bytes() == b"gr\xc3\xb6\xc3\x9fer\n"


def test_sha256_of_the_standards_example(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")  # FIPS 180-2, appendix B.1

    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "file") == expected


def test_what_killed_processes_left_is_swept(tmp_path):
    for name in (".a.json.17.tmp", ".a.json.4711.tmp", ".b.json.17.tmp", "a.json"):
        (tmp_path / name).touch()

    sweep(tmp_path / "a.json")

    assert names(tmp_path) == [".b.json.17.tmp", "a.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named(tmp_path, number):
    with pytest.raises(ImclError, match=rf"^{tmp_path}: no space is left"), room(tmp_path):
        raise OSError(number, "full")


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EFBIG, "larger than this disk or `ulimit -f` lets a file be; raise the limit, "),
        (errno.EIO, "the disk fails; see the system's log"),
        (errno.ESTALE, "Stale file handle"),
    ],
)
def test_a_disk_that_refuses_is_named_with_the_reason(tmp_path, number, reason):
    with pytest.raises(ImclError) as error, room(tmp_path):
        raise OSError(number, os.strerror(number))
    assert str(error.value).startswith(f"{tmp_path}: {reason}")


@pytest.mark.parametrize(
    "error", [PermissionError(errno.EACCES, "denied", "file"), gzip.BadGzipFile("not a gzip file")]
)
def test_other_errors_of_the_disk_stay_what_they_are(tmp_path, error):
    with pytest.raises(type(error)), room(tmp_path):
        raise error


@pytest.fixture
def limit_of_files() -> Iterator[int]:
    """No file may be longer; in bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    yield 4096
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_file_that_a_limit_forbids_is_named_and_leaves_the_old_one(tmp_path, limit_of_files):
    path = tmp_path / "file"
    write_bytes(path, b"old")

    with pytest.raises(ImclError, match=rf"^{path}: larger than this disk or `ulimit -f` lets"):
        write_bytes(path, bytes(limit_of_files + 1))

    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("mode", ["rb", "ab"])
def test_a_pipe_or_a_device_is_never_opened_as_a_file(tmp_path, mode):
    """Without a writer or a reader at its other end, opening a pipe would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="device") as refused, open(path, mode, opener=at_once):
            pass
        assert refused.value.filename == str(path)
    with pytest.raises(OSError, match="not a file, but a device or a pipe"):
        sha256(tmp_path / "pipe")


# Files that no user puts there: of the system, of the package, and of an archive just unpacked.
PLAIN = {"training/code.py", "training/device.py", "training/memory.py", "present/html.py"}
PLAIN |= {"data/stl10.py"}


def test_all_files_of_a_project_are_read_without_waiting():
    package = Path(files.__file__).parent
    plain = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"\.read_(text|bytes)\(", path.read_text())
    }
    assert plain == PLAIN


def test_a_new_file_has_the_usual_rights(tmp_path):
    with open(tmp_path / "new", "ab", opener=at_once) as file:
        file.write(b"new")
    (tmp_path / "usual").touch()
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode


# locks ------------------------------------------------------------------------------------------


def test_a_lock_without_another_holder_is_taken_at_once(tmp_path):
    waiting: list[int] = []
    for _ in range(2):
        with locked(tmp_path / "folder" / "lock", lambda: waiting.append(1)) as waited:
            assert not waited
    assert waiting == []


def test_the_second_waits_for_the_first(tmp_path):
    inside, asked = Event(), Event()
    order: list[str] = []

    def first() -> None:
        with locked(tmp_path / "lock"):
            inside.set()
            assert asked.wait(10)
            order.append("first")

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(first)
        assert inside.wait(10)
        with locked(tmp_path / "lock", asked.set) as waited:
            order.append("second")
        done.result()
    assert waited
    assert order == ["first", "second"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_lock_ends_with_an_exception(tmp_path, error):
    with pytest.raises(error), locked(tmp_path / "lock"):
        raise error
    with locked(tmp_path / "lock") as waited:
        assert not waited


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, number):
    def refuse(*_: object) -> None:
        raise OSError(number, "it cannot")

    monkeypatch.setattr(fcntl, "flock", refuse)
    message = f"^{tmp_path}/lock: .*no locks.*put the project"
    with pytest.raises(ImclError, match=message), locked(tmp_path / "lock"):
        pass


def test_a_lock_ends_with_its_process_even_if_that_is_killed(tmp_path):
    code = "import sys, time; from imcl.files import locked; from pathlib import Path\n"
    code += "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with locked(tmp_path / "lock", holder.kill) as waited:
            assert waited


def test_a_lock_can_be_taken_after_its_file_was_deleted(tmp_path):
    """As when a user deletes a folder: the next process locks the new file, not the deleted one."""
    with locked(tmp_path / "lock"):
        (tmp_path / "lock").unlink()
    with locked(tmp_path / "lock") as waited:
        assert not waited
        assert (tmp_path / "lock").exists()
