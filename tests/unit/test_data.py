"""The readers, the prepared arrays, and what is refused on the way."""

import gzip
import hashlib
import io
import os
import pickle
import re
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from hostile import within
from sklearn.datasets import load_digits

from imcl.data import cifar, cifar10, cifar100, digits, prepare, stl10
from imcl.data.arrays import Arrays, statistics, store
from imcl.data.unpickle import _Unpickler, unpickle
from imcl.errors import ImclError
from imcl.project import Project
from imcl.study.grid import Dataset
from imcl.study.sources import SOURCES, Archive, DatasetOptions, Source

CLASSES = ["airplane", "automobile", "bird", "cat", "deer"]
CLASSES += ["dog", "frog", "horse", "ship", "truck"]
NAMES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch", "batches.meta"]
ARRAY_FILES = ["test_images.npy", "test_labels.npy", "train_images.npy"]
ARRAY_FILES += ["train_indices.npy", "train_labels.npy"]


def dataset(source: str = "digits", **options) -> Dataset:
    """A dataset of params.yaml by the name `mine`."""
    return Dataset("mine", DatasetOptions(source=source, padding=1, flip=False, **options))


def folder_of(project: Project, dataset: Dataset) -> Path:
    return project.dataset(dataset.key).parent


# a tiny archive in the official format ----------------------------------------------------------


def python3_pickle(rows: np.ndarray, labels: list[int]) -> bytes:
    return pickle.dumps({"data": rows, "labels": labels, "batch_label": "tiny"}, protocol=2)


def numpy1_pickle(rows: np.ndarray, labels: list[int]) -> bytes:
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    content = python3_pickle(rows, labels)
    assert new in content or old in content
    return content.replace(new, old)


def python2_pickle(rows: np.ndarray, labels: list[int]) -> bytes:
    """Opcode by opcode what Python 2 wrote into the official archive; its text is bytes."""
    count, width = rows.shape
    return b"".join(
        [
            b"\x80\x02}(U\x04data",
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R",
            b"(K\x01K" + bytes([count]) + b"M" + width.to_bytes(2, "little") + b"\x86",
            b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R",
            b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
            b"\x89T" + rows.size.to_bytes(4, "little") + rows.tobytes() + b"tb",
            b"U\x06labels](" + b"".join(b"K" + bytes([label]) for label in labels) + b"eu.",
        ]
    )


def batches(write=python3_pickle) -> dict[str, bytes]:
    """Members of two pictures each: labels 0..9 for training, 8 and 9 for test."""
    made = {"batches.meta": pickle.dumps({"label_names": CLASSES}, protocol=2)}
    for i, name in enumerate(NAMES[:6]):
        rows = np.full((2, 3072), 10 * i, np.uint8)
        rows[1] += 1
        made[name] = write(rows, [2 * i, 2 * i + 1] if i < 5 else [8, 9])
    return made


def tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def read(module, path: Path) -> Arrays:
    """What the module's reader makes of one archive, in a scratch folder beside it."""
    scratch = path.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    return module.read(dataset().options, [path], scratch)


# reading CIFAR-10 -------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [python3_pickle, numpy1_pickle, python2_pickle])
def test_the_planes_become_channels(tmp_path, write):
    rows = np.zeros((2, 3072), np.uint8)
    rows[0, 0] = 255  # red, top left
    rows[0, 1024 + 32 + 1] = 7  # green, second row, second column
    rows[0, 2048 + 31] = 9  # blue, top right
    rows[1, 3071] = 200  # blue, bottom right
    members = {**batches(write), "data_batch_1": write(rows, [3, 6])}

    arrays = read(cifar10, tar(tmp_path / "a.tar.gz", members))

    images = arrays.train_images
    assert (images.shape, images.dtype) == ((10, 32, 32, 3), np.uint8)
    assert images[0, 0, 0].tolist() == [255, 0, 0]
    assert images[0, 1, 1].tolist() == [0, 7, 0]
    assert images[0, 0, 31].tolist() == [0, 0, 9]
    assert images[1, 31, 31].tolist() == [0, 0, 200]
    assert images[:2].sum() == 255 + 7 + 9 + 200
    assert arrays.train_labels[:2].tolist() == [3, 6]


def test_the_official_order_is_kept_whatever_the_order_in_the_archive(tmp_path):
    members = dict(reversed(batches().items()))

    arrays = read(cifar10, tar(tmp_path / "a.tar.gz", members))

    assert arrays.train_images[:, 0, 0, 0].tolist() == [0, 1, 10, 11, 20, 21, 30, 31, 40, 41]
    assert arrays.train_labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert arrays.test_images[:, 0, 0, 0].tolist() == [50, 51]
    assert arrays.test_labels.tolist() == [8, 9]
    assert arrays.train_labels.dtype == arrays.test_labels.dtype == np.int64
    assert list(arrays.class_names) == CLASSES
    arrays.check("cifar10")


def test_other_members_are_not_opened(tmp_path):
    members = {"readme.html": b"<html>", "evil": b"cos\nsystem\n.", **batches()}

    assert len(read(cifar10, tar(tmp_path / "a.tar.gz", members)).train_labels) == 10


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_member_is_named(tmp_path, name):
    members = batches()
    del members[name]
    path = tar(tmp_path / "a.tar.gz", members)

    with pytest.raises(ImclError, match=rf"^{path}: has no cifar-10-batches-py/{name}$"):
        read(cifar10, path)


def hostile(kind: str, name: str, outside: Path) -> tarfile.TarInfo:
    member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
    if kind == "absolute":
        member.name = str(outside / name)
    elif kind == "upwards":
        member.name = f"../{outside.name}/{name}"
    else:
        member.type = {"symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE}[kind]
        member.linkname = str(outside / "secret")
    return member


@pytest.mark.parametrize("kind", ["absolute", "upwards", "symlink", "hardlink"])
def test_a_member_that_points_outside_is_not_followed(tmp_path, kind):
    outside = tmp_path / "outside"
    outside.mkdir()
    members = batches()
    content = members.pop("data_batch_1")
    (outside / "secret").write_bytes(content)
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, blob in members.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(blob)
            archive.addfile(member, io.BytesIO(blob))
        evil = hostile(kind, "data_batch_1", outside)
        evil.size = len(content) if evil.isfile() else 0
        archive.addfile(evil, io.BytesIO(content) if evil.isfile() else None)

    with pytest.raises(ImclError, match=r"has no cifar-10-batches-py/data_batch_1$"):
        read(cifar10, path)

    assert names(outside) == ["secret"]
    assert names(tmp_path) == ["a.tar.gz", "outside", "scratch"]


@pytest.mark.parametrize("share", [0, 0.02, 0.3, 0.6, 0.9, 0.99])
def test_a_truncated_archive_is_an_error_that_names_it(tmp_path, share):
    noise = np.random.default_rng(0).integers(0, 256, (2, 3072)).astype(np.uint8)
    members = {**batches(), "data_batch_3": python3_pickle(noise, [0, 1])}
    path = tar(tmp_path / "a.tar.gz", members)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    with pytest.raises(ImclError, match=re.escape(str(path))):
        read(cifar10, path)


def test_a_stream_that_is_damaged_between_the_members_is_an_error_that_names_it(tmp_path):
    path = tar(tmp_path / "a.tar.gz", {"skipped": bytes(200_000), **batches()})
    whole = gzip.decompress(path.read_bytes())
    stream = zlib.compressobj(wbits=31)
    start = stream.compress(whole[:100_000]) + stream.flush(zlib.Z_FULL_FLUSH)
    path.write_bytes(start + b"\xff" * 100)  # a block of a type that does not exist

    with pytest.raises(ImclError, match=re.escape(str(path))):
        read(cifar10, path)


@pytest.mark.parametrize("content", [None, "", "<html>"])
def test_an_archive_that_is_none_is_an_error(tmp_path, content):
    path = tmp_path / "a.tar.gz"
    if content is not None:
        path.write_text(content)

    with pytest.raises(ImclError, match=rf"^{path}: not a readable tar.gz archive"):
        read(cifar10, path)


def tar_of_size(path: Path, size: bytes) -> Path:
    """An archive whose second header states this size, in tar's form for large numbers."""
    first = tarfile.TarInfo("readme").tobuf(tarfile.USTAR_FORMAT)
    member = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
    header = bytearray(member.tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(gzip.compress(first + header + bytes(10 * 512)))
    return path


def test_a_member_of_a_negative_size_is_refused_at_once(tmp_path):
    """It makes a reader that can go back read the same header for ever (CVE-2025-8194)."""
    path = tar_of_size(tmp_path / "a.tar.gz", (-512).to_bytes(12, "big", signed=True))
    with within(seconds=5), pytest.raises(ImclError, match=rf"^{path}: "):
        read(cifar10, path)


def test_a_member_larger_than_any_official_file_is_refused(tmp_path):
    path = tar_of_size(tmp_path / "a.tar.gz", b"\x80" + (3 * 10**9).to_bytes(11, "big"))
    with pytest.raises(ImclError, match=rf"^{path}: data_batch_1 unpacks to more than 2 GB"):
        read(cifar10, path)


WRONG_DATA = {
    "narrow": np.zeros((2, 3071), np.uint8),
    "float": np.zeros((2, 3072), np.float32),
    "images": np.zeros((2, 32, 32, 3), np.uint8),
    "flat": np.zeros(3072, np.uint8),
}


@pytest.mark.parametrize("rows", WRONG_DATA.values(), ids=WRONG_DATA)
@pytest.mark.parametrize("names", [NAMES[:5], NAMES[1:2], NAMES[5:6]], ids=["train", "2", "test"])
def test_data_of_a_wrong_shape_is_an_error_that_names_the_archive(tmp_path, names, rows):
    wrong = {name: python3_pickle(rows, [0, 1]) for name in names}
    path = tar(tmp_path / "a.tar.gz", {**batches(), **wrong})

    with pytest.raises(ImclError, match=re.escape(str(path))):
        read(cifar10, path)


WRONG_MEMBERS = {
    "no data": ("data_batch_2", {"labels": [0, 1]}),
    "no labels": ("test_batch", {"data": np.zeros((2, 3072), np.uint8)}),
    "no names": ("batches.meta", {"num_cases_per_batch": 10000}),
    "a list": ("data_batch_2", [0, 1]),
    "ragged labels": ("data_batch_2", {"data": np.zeros((2, 3072), np.uint8), "labels": [[0], []]}),
    "text labels": ("data_batch_2", {"data": np.zeros((2, 3072), np.uint8), "labels": ["a", "b"]}),
    "large labels": ("test_batch", {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 2**64]}),
    "numbers as names": ("batches.meta", {"label_names": [*range(10)]}),
    "a text as names": ("batches.meta", {"label_names": "abcdefghij"}),
    "bytes as names": ("batches.meta", {"label_names": [b"a"] * 10}),
    "no list of names": ("batches.meta", {"label_names": None}),
}


@pytest.mark.parametrize(("name", "value"), WRONG_MEMBERS.values(), ids=WRONG_MEMBERS)
def test_a_member_of_another_kind_is_an_error_that_names_the_archive(tmp_path, name, value):
    members = {**batches(), name: pickle.dumps(value, protocol=2)}
    path = tar(tmp_path / "a.tar.gz", members)

    with pytest.raises(ImclError, match=re.escape(str(path))):
        read(cifar10, path)


@pytest.mark.parametrize(
    ("labels", "largest"),
    [([0, 10**30], 10**30), ([-(2**64), 0], 2**64), (np.array([0, 2**63], np.uint64), 2**63)],
)
def test_a_label_of_more_than_64_bits_is_too_large(labels, largest):
    with pytest.raises(ImclError, match=f"a.zip: a label is too large: {largest}$"):
        cifar.labels(Path("a.zip"), labels)


# pickles ----------------------------------------------------------------------------------------


def test_too_little_memory_is_no_fault_of_a_pickle(monkeypatch):
    def load(unpickler: object) -> None:
        raise MemoryError

    monkeypatch.setattr(_Unpickler, "load", load)
    with pytest.raises(MemoryError):
        unpickle(io.BytesIO(b""))


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_unpickle_admits_what_the_format_needs(dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    value = {"data": array, "labels": [1, 2], "name": "bé", "raw": b"\x00\xff", "rate": 0.5}

    found = unpickle(io.BytesIO(pickle.dumps(value, protocol=2)))

    np.testing.assert_array_equal(found.pop("data"), array, strict=True)
    assert found == {"labels": [1, 2], "name": "bé", "raw": b"\x00\xff", "rate": 0.5}


class Call:
    """Pickles into a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def calls(path: Path) -> dict[str, Call]:
    return {
        "os.system": Call(os.system, f"touch {path}"),
        "builtins.eval": Call(eval, f"open({str(path)!r}, 'w')"),
        "builtins.exec": Call(exec, f"open({str(path)!r}, 'w')"),
        "builtins.open": Call(open, str(path), "w"),
        "numpy.save": Call(np.save, f"{path}.npy", np.zeros(1)),
    }


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", calls(Path()))
def test_unpickle_runs_nothing(tmp_path, name, protocol):
    evil = pickle.dumps({"data": calls(tmp_path / "touched")[name]}, protocol=protocol)

    with pytest.raises(ImclError, match=r"asks for .*; refused"):
        unpickle(io.BytesIO(evil))

    assert list(tmp_path.iterdir()) == []
    pickle.loads(evil)  # the pickle is a real one: unguarded it leaves its trace
    assert list(tmp_path.iterdir()) != []


def test_a_pickle_in_an_archive_runs_nothing(tmp_path):
    evil = pickle.dumps(calls(tmp_path / "touched")["os.system"], protocol=2)
    path = tar(tmp_path / "a.tar.gz", {**batches(), "data_batch_4": evil})

    with pytest.raises(ImclError, match="refused"):
        read(cifar10, path)

    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    "name", ["builtins getattr", "numpy load", "numpy.core.multiarray fromfile", "os path.join"]
)
def test_unpickle_refuses_every_other_name(name):
    module, function = name.split()
    named = f"\x80\x04\x8c{chr(len(module))}{module}\x8c{chr(len(function))}{function}\x93."

    with pytest.raises(ImclError, match=re.escape(f"{module}.{function}; refused")):
        unpickle(io.BytesIO(named.encode("latin1")))


def test_unpickle_lets_nobody_forge_objects_from_bytes():
    """numpy.ndarray((1,), "O", BYTES) takes the bytes for the address of a Python object."""
    forged = Call(np.ndarray, (1,), "O", b"\0" * 8)  # address 0 passes for None: harmless

    with pytest.raises(ImclError, match="refused"):
        unpickle(io.BytesIO(pickle.dumps({"data": forged}, protocol=2)))


def test_unpickle_refuses_another_encoding():
    evil = pickle.dumps(Call(__import__("_codecs").encode, "text", "rot13"), protocol=2)

    with pytest.raises(ImclError, match="rot13"):
        unpickle(io.BytesIO(evil))


@pytest.mark.parametrize("content", [b"", b"<html>", python3_pickle(np.zeros((2, 9)), [0])[:-60]])
def test_a_damaged_pickle_is_an_error(content):
    with pytest.raises(ImclError, match="damaged pickle"):
        unpickle(io.BytesIO(content))


LARGE = np.random.default_rng(0).integers(0, 256, (1100, 3072)).astype(np.uint8)  # over 1 MiB


@pytest.mark.parametrize("protocol", [0, 2, 3, 4])
def test_unpickle_reads_large_arrays(protocol):
    found = unpickle(io.BytesIO(pickle.dumps({"data": LARGE, "labels": [1]}, protocol=protocol)))

    np.testing.assert_array_equal(found["data"], LARGE, strict=True)
    assert found["labels"] == [1]


def test_unpickle_reads_large_arrays_of_python2():
    content = python2_pickle(LARGE[:2], [5, 6])
    rows = content.index(b"T" + LARGE[:2].size.to_bytes(4, "little"))
    content = content[:rows] + b"T" + LARGE.size.to_bytes(4, "little") + LARGE.tobytes() + b"tb"
    content = content.replace(b"(K\x01K\x02M", b"(K\x01M" + len(LARGE).to_bytes(2, "little") + b"M")

    found = unpickle(io.BytesIO(content + b"U\x06labels](K\x05eu."))

    np.testing.assert_array_equal(found["data"], LARGE, strict=True)


@pytest.mark.parametrize("kind", [object, "U5", "V8", "M8[s]"])
def test_unpickle_refuses_arrays_of_anything_but_numbers(kind):
    content = pickle.dumps({"data": np.zeros(2, kind)}, protocol=2)

    with pytest.raises(ImclError, match="refused"):
        unpickle(io.BytesIO(content))


# arrays -----------------------------------------------------------------------------------------


def small(count: int = 6, classes: int = 3) -> Arrays:
    """Pictures that are grey in the shade of their number; labels 0, 1, 2, 0, ..."""
    images = np.zeros((count, 4, 4, 3), np.uint8)
    images += np.arange(count, dtype=np.uint8)[:, None, None, None]
    labels = np.arange(count) % classes
    names = tuple("abcdefghij"[:classes])
    return Arrays(images, labels, images[:classes], labels[:classes], names)


def test_good_arrays_pass():
    small().check("mine")


BAD_ARRAYS = {
    "label below": (replace(small(), train_labels=np.array([0, 1, -1, 0, 1, 2])), "labels -1..2"),
    "label above": (replace(small(), test_labels=np.array([0, 1, 3])), "test labels 0..3 for 3"),
    "too few labels": (replace(small(), train_labels=np.arange(3)), "6 train images, 3 labels"),
    "labels 2-d": (replace(small(), test_labels=np.zeros((3, 1), int)), "test"),
    "empty": (replace(small(), test_images=small().test_images[:0], test_labels=np.arange(0)), "0"),
    "float": (replace(small(), train_images=np.zeros((6, 4, 4, 3))), "float64 .*not uint8"),
    "planes": (replace(small(), train_images=np.zeros((6, 3, 4, 4), np.uint8)), "not uint8"),
    "no channels": (replace(small(), test_images=np.zeros((3, 4, 4), np.uint8)), "not uint8"),
    "empty name": (replace(small(), class_names=("a", "", "c")), "'' cannot be the name"),
    "line in a name": (replace(small(), class_names=("a", "b\nc", "d")), "cannot be the name"),
    "escape in a name": (replace(small(), class_names=("a", "\x1b[2J", "d")), "cannot be the name"),
    "one name twice": (replace(small(), class_names=("a", "b", "a")), "the same name"),
    "two sizes": (replace(small(), test_images=np.zeros((3, 5, 5, 3), np.uint8)), r"5, 5, 3"),
}


@pytest.mark.parametrize(("arrays", "reason"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_arrays_that_do_not_fit_are_refused(arrays, reason):
    with pytest.raises(ImclError, match=rf"^mine: .*{reason}"):
        arrays.check("mine")


# digits -----------------------------------------------------------------------------------------


def test_digits_are_the_1797_of_scikit_learn_split_once_and_for_all():
    first, second = (
        digits.read(dataset().options, [], Path()),
        digits.read(dataset().options, [], Path()),
    )

    assert first.train_images.shape == (1437, 8, 8, 1)
    assert first.test_images.shape == (360, 8, 8, 1)
    assert first.train_images.dtype == first.test_images.dtype == np.uint8
    assert first.train_labels.dtype == first.test_labels.dtype == np.int64
    first.check("digits")
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))

    original = load_digits()
    images = np.concatenate([first.train_images, first.test_images]).reshape(1797, 64)
    labels = np.concatenate([first.train_labels, first.test_labels])
    found = np.column_stack([np.rint(images * (16 / 255)), labels])
    expected = np.column_stack([original.data, original.target])
    assert sorted(found.tolist()) == sorted(expected.tolist())
    assert (images.min(), images.max()) == (0, 255)


def test_digits_have_all_classes_in_both_splits_in_proportion():
    arrays = digits.read(dataset().options, [], Path())

    train, test = np.bincount(arrays.train_labels), np.bincount(arrays.test_labels)

    assert len(train) == len(test) == 10 == len(arrays.class_names)
    np.testing.assert_allclose(test, 0.2 * (train + test), atol=1)


# preparing --------------------------------------------------------------------------------------


def file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path / "project")


@pytest.fixture
def official(project, monkeypatch) -> Path:
    """The tiny archive instead of the official one."""
    project.archives.mkdir(parents=True)
    path = tar(project.archives / "cifar-10-python.tar.gz", batches())
    entry = Archive(path.name, "http://127.0.0.1:9/", path.stat().st_size, file_hash(path))
    monkeypatch.setitem(SOURCES, "cifar10", Source((entry,)))
    monkeypatch.delenv("IMCL_SHA256SUMS", raising=False)
    return path


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_are_those_of_numpy(channels):
    rng = np.random.default_rng(channels)
    images = rng.integers(0, 256, (50, 6, 7, channels)).astype(np.uint8)
    images[..., 0] //= 3  # so that the channels differ

    mean, std = statistics(images)

    pixels = images.astype(np.float64) / 255
    np.testing.assert_allclose(mean, pixels.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std((0, 1, 2)), rtol=1e-12)


def test_prepare_describes_what_load_returns(official, project):
    mine = dataset("cifar10")

    made = prepare.prepare(project, mine)
    described, arrays = prepare.load(project, mine)

    folder = folder_of(project, mine)
    assert described == made
    assert names(folder) == ["dataset.json", *ARRAY_FILES]
    assert made["arrays"] == {f[:-4]: file_hash(folder / f) for f in ARRAY_FILES}
    listed = "".join(f"{file_hash(folder / f)}  {f}\n" for f in ARRAY_FILES)
    assert made["sha256"] == hashlib.sha256(listed.encode()).hexdigest()  # as sha256sum writes it
    assert made["archives"] == {official.name: file_hash(official)}
    config = {"source": "cifar10", "padding": 1, "flip": False}
    assert (made["name"], made["config"]) == ("mine", config)
    assert (made["n_train"], made["n_test"], made["shape"]) == (10, 2, [32, 32, 3])
    assert made["class_names"] == list(arrays.class_names) == CLASSES
    # The shades are 0 1 10 11 20 21 30 31 40 41: mean 20.5, variance 200.25.
    np.testing.assert_allclose(made["mean"], [20.5 / 255] * 3, rtol=1e-12)
    np.testing.assert_allclose(made["std"], [np.sqrt(200.25) / 255] * 3, rtol=1e-12)
    assert arrays.train_images[:, 5, 5, 2].tolist() == [0, 1, 10, 11, 20, 21, 30, 31, 40, 41]
    assert arrays.test_images.shape == (2, 32, 32, 3)
    assert arrays.train_labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert arrays.test_labels.tolist() == [8, 9]


def test_the_digits_are_those_of_the_committed_records(project):
    """As the records in paper/results/quick state them."""
    made = prepare.prepare(project, Dataset("digits", dataset().options))

    assert made["sha256"] == "b131d9b16b12e8f68233fecd7c4485541c2520ab17068c6c39f39b9bb3a6e1af"


def test_the_same_preparation_gives_the_same_files(tmp_path):
    mine = dataset(train_size=300, subset_seed=4)
    first, second = Project(tmp_path / "a"), Project(tmp_path / "b")
    for project in (first, second):
        prepare.prepare(project, mine)

    for name in ["dataset.json", *ARRAY_FILES]:
        made, again = (folder_of(project, mine) / name for project in (first, second))
        assert file_hash(made) == file_hash(again)


def test_the_lock_of_a_dataset_is_beside_its_folder(project):
    """So it is no data, and stays when a user deletes the folder to prepare it anew."""
    mine = dataset()
    prepare.prepare(project, mine)

    assert names(project.data) == [f".{mine.key}.lock", mine.key]


@pytest.mark.parametrize("name", ARRAY_FILES)
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_load_finds_a_changed_array(official, project, name, damage):
    mine = dataset("cifar10")
    prepare.prepare(project, mine)
    file = folder_of(project, mine) / name
    content = bytearray(file.read_bytes())
    if damage == "delete":
        file.unlink()
    elif damage == "truncate":
        file.write_bytes(content[:-1])
    else:
        content[-1] ^= 1
        file.write_bytes(content)

    with pytest.raises(ImclError, match=rf"^{file}: missing or changed .*`imcl prepare mine`"):
        prepare.load(project, mine)


def test_a_dataset_that_is_not_prepared_is_named(project):
    path = project.dataset(dataset().key)

    with pytest.raises(ImclError, match=rf"^{path}: missing; run `imcl prepare mine`"):
        prepare.load(project, dataset())


@pytest.mark.parametrize("content", [b"", b"[]", b'{"name": "mine"}', b"\xff"])
def test_a_damaged_description_is_named(project, content):
    prepare.prepare(project, dataset())
    path = project.dataset(dataset().key)
    path.write_bytes(content)

    with pytest.raises(ImclError, match=rf"^{path}: damaged"):
        prepare.load(project, dataset())


def test_an_archive_is_checked_before_it_is_opened(official, project, monkeypatch):
    opened = []
    monkeypatch.setattr(cifar10, "read", lambda *_: opened.append(1))
    evil = pickle.dumps(calls(project.root / "touched")["os.system"], protocol=2)
    tar(official, {**batches(), "data_batch_1": evil})

    with pytest.raises(ImclError, match=rf"^{official}: SHA-256 is"):
        prepare.prepare(project, dataset("cifar10"))

    assert opened == []
    assert not folder_of(project, dataset("cifar10")).exists()


def test_arrays_that_do_not_fit_are_not_stored(project, monkeypatch):
    bad = replace(small(), train_labels=np.array([0, 1, 9, 0, 1, 2]))
    monkeypatch.setattr(digits, "read", lambda *_: bad)

    with pytest.raises(ImclError, match=r"mine: train labels 0..9 for 3 classes"):
        prepare.prepare(project, dataset())

    assert names(folder_of(project, dataset())) == []


def test_pictures_of_the_user_are_looked_for_in_the_project(project, monkeypatch):
    """Not in the current folder; a path from the root stays as it is."""
    seen = []
    monkeypatch.setattr(
        "imcl.data.folder.read", lambda options, *_: seen.append(options) or small()
    )

    for path in ("mine", "/pictures"):
        prepare.prepare(project, dataset("folder", path=path, side=4))

    assert [options.path for options in seen] == [str(project.root / "mine"), "/pictures"]


# subsets ----------------------------------------------------------------------------------------


@pytest.fixture
def unequal(monkeypatch) -> Arrays:
    """60, 30 and 10 pictures of three classes, mixed; each is grey in the shade of its number."""
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [60, 30, 10]))
    arrays = replace(small(100), train_labels=labels)
    monkeypatch.setattr(digits, "read", lambda *_: arrays)
    return arrays


def subset(project: Project, size: int, seed: int) -> Arrays:
    mine = dataset(train_size=size, subset_seed=seed)
    assert prepare.prepare(project, mine)["n_train"] == size
    return prepare.load(project, mine)[1]


def test_a_subset_keeps_the_shares_the_order_and_the_test_set(unequal, project):
    arrays = subset(project, 50, seed=0)

    assert np.bincount(arrays.train_labels).tolist() == [30, 15, 5]
    chosen = arrays.train_images[:, 0, 0, 0].tolist()
    assert chosen == sorted(set(chosen))
    assert arrays.train_labels.tolist() == unequal.train_labels[chosen].tolist()
    np.testing.assert_array_equal(arrays.test_images, unequal.test_images)
    np.testing.assert_array_equal(arrays.test_labels, unequal.test_labels)


def test_a_subset_depends_on_its_seed_alone(unequal, tmp_path):
    chosen = [
        subset(Project(tmp_path / str(i)), 50, seed).train_images[:, 0, 0, 0].tolist()
        for i, seed in enumerate([7, 7, 8])
    ]

    assert chosen[0] == chosen[1]
    assert chosen[0] != chosen[2]


@pytest.mark.parametrize("size", [99, 100])
def test_a_subset_may_be_nearly_everything(unequal, project, size):
    assert len(subset(project, size, seed=0).train_labels) == size


def test_statistics_are_those_of_the_subset(unequal, project):
    shades = subset(project, 20, seed=0).train_images[:, 0, 0, 0] / 255

    described, _ = prepare.load(project, dataset(train_size=20, subset_seed=0))

    np.testing.assert_allclose(described["mean"], [shades.mean()] * 3, rtol=1e-12)


@pytest.mark.parametrize(("size", "reason"), [(101, "101 images are more than the 100"), (2, "2")])
def test_a_subset_that_cannot_be_is_refused(unequal, project, size, reason):
    place = re.escape(f"{project.params}: datasets.mine.train_size: ")
    with pytest.raises(ImclError, match=rf"^{place}.*{reason}"):
        subset(project, size, seed=0)

    assert names(folder_of(project, dataset(train_size=size, subset_seed=0))) == []


# interruption -----------------------------------------------------------------------------------


@pytest.fixture
def half(unequal) -> Dataset:
    """A subset of 50 pictures."""
    return dataset(train_size=50, subset_seed=0)


def interrupt(monkeypatch, function: str, project: Project, mine: Dataset) -> None:
    """Let prepare() end at its call of a function."""

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(prepare, function, interrupted)
        prepare.prepare(project, mine)


@pytest.mark.parametrize("function", ["statistics", "sha256"])
def test_an_interrupted_preparation_leaves_nothing(project, monkeypatch, function):
    interrupt(monkeypatch, function, project, dataset())

    assert names(folder_of(project, dataset())) == []


@pytest.mark.parametrize("function", ["statistics", "sha256", "write_json"])
def test_an_interrupted_repetition_leaves_the_earlier_dataset_good(
    half, project, monkeypatch, function
):
    before = np.array(subset(project, 50, seed=0).train_images)

    interrupt(monkeypatch, function, project, half)

    _, after = prepare.load(project, half)
    np.testing.assert_array_equal(after.train_images, before)
    assert names(folder_of(project, half)) == ["dataset.json", *ARRAY_FILES]


def test_an_interrupted_change_is_never_loaded_as_the_earlier_dataset(half, project, monkeypatch):
    """The description is of the earlier arrays, which are gone: load() must say so."""
    prepare.prepare(project, half)
    other = replace(digits.read(), test_labels=np.array([2, 1, 0]))
    monkeypatch.setattr(digits, "read", lambda *_: other)

    interrupt(monkeypatch, "write_json", project, half)

    with pytest.raises(ImclError, match="changed since it was prepared"):
        prepare.load(project, half)


def test_what_a_killed_process_left_is_cleared_away(half, project):
    scratch = folder_of(project, half) / ".scratch"
    scratch.mkdir(parents=True)
    (scratch / "train_images.npy").write_bytes(b"half")

    prepare.prepare(project, half)

    assert names(folder_of(project, half)) == ["dataset.json", *ARRAY_FILES]


def test_two_processes_do_not_prepare_the_same_dataset_at_once(half, unequal, project, monkeypatch):
    """The first stays in its reader until the second waits for it."""
    inside, most, waits = [], [], Event()

    def slow(*_):
        inside.append(1)
        most.append(len(inside))
        assert waits.wait(10)
        inside.pop()
        return unequal

    monkeypatch.setattr(digits, "read", slow)
    monkeypatch.setattr(prepare, "say", lambda message: waits.set())
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: subset(project, 50, seed=0), range(2)))

    assert most == [1, 1]
    np.testing.assert_array_equal(made[0].train_images, made[1].train_images)
    assert names(folder_of(project, half)) == ["dataset.json", *ARRAY_FILES]


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs rights that this user lacks")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_named_and_costs_nothing(half, unequal, small_disk, monkeypatch):
    project = Project(small_disk)
    prepare.prepare(project, half)
    large = replace(unequal, train_images=np.zeros((100, 96, 96, 3), np.uint8))
    large = replace(large, test_images=np.zeros((3, 96, 96, 3), np.uint8))
    monkeypatch.setattr(digits, "read", lambda *_: large)

    folder = folder_of(project, half)
    with pytest.raises(ImclError, match=rf"^{folder}: no space is left on this disk"):
        prepare.prepare(project, half)

    assert prepare.load(project, half)[0]["n_train"] == 50
    assert names(folder) == ["dataset.json", *ARRAY_FILES]


# held-out images --------------------------------------------------------------------------------


def held_out(project: Project, count: int = 20, **options) -> Arrays:
    mine = dataset(**{"validation_share": 0.2, "validation_seed": 3, **options})
    assert prepare.prepare(project, mine)["n_validation"] == count
    return prepare.load(project, mine)[1]


def test_a_validation_share_is_stratified_and_shares_nothing_with_training(unequal, project):
    arrays = held_out(project)

    assert np.bincount(arrays.validation_labels).tolist() == [12, 6, 2]
    assert np.bincount(arrays.train_labels).tolist() == [48, 24, 8]
    train = arrays.train_images[:, 0, 0, 0].tolist()
    validation = arrays.validation_images[:, 0, 0, 0].tolist()
    assert sorted(train + validation) == list(range(100))
    assert arrays.validation_labels.tolist() == unequal.train_labels[validation].tolist()
    assert arrays.train_indices.tolist() == train
    assert arrays.validation_indices.tolist() == validation
    assert arrays.evaluation == "validation"


def test_a_share_is_held_out_from_the_subset(unequal, project):
    """Whoever has so few images cannot hold out others."""
    whole = subset(project, 50, seed=0)
    part = held_out(project, 10, train_size=50, subset_seed=0)
    assert np.bincount(part.validation_labels).tolist() == [6, 3, 1]
    indices = [*part.train_indices, *part.validation_indices]
    assert sorted(indices) == whole.train_indices.tolist()
    other = held_out(project, 10, train_size=50, subset_seed=0, validation_seed=4)
    assert (other.validation_indices != part.validation_indices).any()


def test_without_a_share_the_test_images_are_evaluated(unequal, project):
    assert subset(project, 50, seed=0).evaluation == "test"


# storing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_blocks_are_stored_as_numpy_stores_the_whole(tmp_path, dtype):
    whole = np.arange(60).reshape(10, 2, 3).astype(dtype)

    made = store(tmp_path / "a.npy", (whole[i : i + 3] for i in range(0, 10, 3)))

    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), whole, strict=True)
    np.testing.assert_array_equal(made, whole, strict=True)
    np.save(tmp_path / "b.npy", whole)
    assert file_hash(tmp_path / "a.npy") == file_hash(tmp_path / "b.npy")


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [np.zeros((2, 3), np.uint8), np.zeros((2, 4), np.uint8)],
        [np.zeros((2, 3), np.uint8), np.zeros((2, 3))],
    ],
)
def test_blocks_that_do_not_fit_are_refused(tmp_path, parts):
    with pytest.raises(ImclError):
        store(tmp_path / "a.npy", parts)


# cifar100 ---------------------------------------------------------------------------------------


def cifar100_archive(path: Path, coarse: list[int]) -> Path:
    rows = np.zeros((3, 3072), np.uint8)
    batch = {"data": rows, "fine_labels": [1, 0, 1], "coarse_labels": coarse}
    members = {
        name: pickle.dumps(value, protocol=2)
        for name, value in {
            "train": batch,
            "test": batch,
            "meta": {"fine_label_names": ["apple", "bear"]},
        }.items()
    }
    with tarfile.open(path, "w:gz") as archive:
        for name, blob in members.items():
            info = tarfile.TarInfo(f"cifar-100-python/{name}")
            info.size = len(blob)
            archive.addfile(info, io.BytesIO(blob))
    return path


def test_cifar100_reads_the_superclass_of_each_class(tmp_path):
    arrays = read(cifar100, cifar100_archive(tmp_path / "a.tar.gz", [7, 4, 7]))
    assert arrays.superclasses == (4, 7)
    assert arrays.class_names == ("apple", "bear")
    assert arrays.train_labels.tolist() == [1, 0, 1]


def test_a_class_with_two_superclasses_is_refused(tmp_path):
    path = cifar100_archive(tmp_path / "a.tar.gz", [7, 4, 8])
    with pytest.raises(ImclError, match="two superclasses"):
        read(cifar100, path)


# stl10 ------------------------------------------------------------------------------------------


def stl10_archive(path: Path, **changes: bytes) -> Path:
    """Three training images and one test image; in the first, row 2, column 5 is (1, 2, 3)."""
    planes = np.zeros((3, 3, 96, 96), np.uint8)
    planes[0, :, 5, 2] = 1, 2, 3  # column first
    members = {
        "train_X.bin": planes.tobytes(),
        "train_y.bin": bytes([10, 1, 2]),
        "unlabeled_X.bin": b"",
        "test_X.bin": planes[1:2].tobytes(),
        "test_y.bin": bytes([3]),
        "class_names.txt": " ".join(f"c{i}" for i in range(10)).encode(),
        "fold_indices.txt": b"0 2\n1 2 \n",
        **changes,
    }
    with tarfile.open(path, "w:gz") as archive:
        for name, blob in members.items():
            info = tarfile.TarInfo(f"stl10_binary/{name}")
            info.size = len(blob)
            archive.addfile(info, io.BytesIO(blob))
    return path


def test_stl10_is_read_column_by_column_with_labels_from_0(tmp_path):
    arrays = read(stl10, stl10_archive(tmp_path / "a.tar.gz"))
    assert arrays.train_images.shape == (3, 96, 96, 3)
    assert arrays.train_images[0, 2, 5].tolist() == [1, 2, 3]
    assert arrays.train_images.sum() == 6
    assert arrays.train_labels.tolist() == [9, 0, 1]
    assert arrays.test_labels.tolist() == [2]
    assert [fold.tolist() for fold in arrays.folds] == [[0, 2], [1, 2]]


@pytest.mark.parametrize(
    ("member", "content"),
    [
        ("train_X.bin", b"12345"),
        ("fold_indices.txt", b"0 x\n"),
        ("fold_indices.txt", b"0 3\n"),
        ("fold_indices.txt", b"0 1\n\n"),
        ("fold_indices.txt", b"9" * 500),
        ("class_names.txt", b"\xff"),
        ("test_X.bin", b""),
    ],
)
def test_a_malformed_stl10_member_is_an_error_that_names_the_archive(tmp_path, member, content):
    path = stl10_archive(tmp_path / "a.tar.gz", **{member: content})
    with pytest.raises(ImclError, match=re.escape(str(path))):
        read(stl10, path)


def test_a_fold_is_prepared_and_a_missing_one_refused(project, monkeypatch):
    project.archives.mkdir(parents=True)
    path = stl10_archive(project.archives / "stl10_binary.tar.gz")
    checksums = project.root / "SHA256SUMS"
    checksums.write_text(f"{file_hash(path)}  {path.name}\n")
    monkeypatch.setenv("IMCL_SHA256SUMS", str(checksums))
    second = dataset("stl10", fold=1)
    assert prepare.prepare(project, second)["n_train"] == 2
    assert prepare.load(project, second)[1].train_labels.tolist() == [0, 1]
    with pytest.raises(ImclError, match=r"datasets.mine.fold: 2, but its source has 2 folds"):
        prepare.prepare(project, dataset("stl10", fold=2))
