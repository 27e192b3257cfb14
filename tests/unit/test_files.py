"""Files are whole or not there."""

import json
import math

import pytest

from imcl.files import atomic, read_json, sha256, write_json, write_text


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

    assert read_json(tmp_path / "file.json") == value
    assert (tmp_path / "file.json").read_bytes().endswith(b"}\n")


def test_text_is_written_as_utf_8(tmp_path):
    write_text(tmp_path / "file.txt", "größer\n")

    assert (tmp_path / "file.txt").read_bytes() == b"gr\xc3\xb6\xc3\x9fer\n"


def test_sha256_of_the_standards_example(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")  # FIPS 180-2, appendix B.1

    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "file") == expected
