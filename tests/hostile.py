"""Hostile inputs: every one must be refused in clear words, or be harmless.

    python tests/hostile.py --inputs 500 --seed 1

Settings are generated from their specification; archives, pictures and records are small valid ones
that were damaged. Each input is read in a process of its own, with limits of time and memory.
"""

import argparse
import copy
import gzip
import io
import json
import lzma
import math
import os
import pickle
import random
import resource
import select
import signal
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from handmade import ROOT, empty_project, parameters, record
from PIL import Image

from imcl.data import cifar10, cifar100, folder, imagenet32, stl10
from imcl.data.arrays import Arrays
from imcl.errors import ImclError
from imcl.files import json_text
from imcl.noise import human
from imcl.records.candidates import candidates
from imcl.records.record import Record
from imcl.records.seal import sealed
from imcl.records.store import Store
from imcl.study import grid, schema
from imcl.study.load import checked, load
from imcl.study.sources import DatasetOptions

SECONDS = 20
MEGABYTES = 400

HOSTILE: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 5.0, 1e308, -1e308, 5e-324, math.nan, math.inf, -math.inf),
    *(10**6, 2**31, 2**40, 2**62, 2**63 - 1, 2**63, -(2**63), 10**40),
    *("", " ", "x" * 300, "nan", "1e-3", "no", "../..", "/", "$(id)", "%s{}", "größe", "日本", "-"),
    *("\u202eevil", "\u2066a\u2069", "a\nb", "\x1b[2J", "\x00", "\ufeff", "\u2028", "\U0001f600"),
    *([], {}, [[]], [None], {"a": {}}, {"": 1}, [1, "a"], [[1], [1, 2]], b"\xff\x00"),
]


class Attempt(NamedTuple):
    """A hostile input.

    Attributes:
        name: what it is.
        place: what a refusal has to name.
        read: reads it. What it returns is valid; an AssertionError says that it is not.
    """

    name: str
    place: str
    read: Callable[[], object]


class Outcome(NamedTuple):
    kind: str  # "refused", "harmless" or "failed"
    note: str


class TooSlow(BaseException):
    """No Exception, so that no reader can take it for a fault of its input."""


@contextmanager
def within(seconds: float, megabytes: int | None = None) -> Iterator[None]:
    """Raise TooSlow after so long, and MemoryError if so much memory is taken on top."""

    def stop(number: int, frame: object) -> None:
        raise TooSlow(f"not finished after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    if megabytes is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, limits[1]))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def judge(attempt: Attempt) -> Outcome:
    """What comes of an attempt, read in this process."""
    try:
        with within(SECONDS, MEGABYTES):
            attempt.read()
    except ImclError as error:
        lines = str(error).splitlines()
        unprintable = [line for line in lines if not line.isprintable()]
        if attempt.place not in lines[0]:
            return Outcome("failed", f"the refusal does not name {attempt.place}: {error}")
        if unprintable or len(lines) > 30 or max(map(len, lines)) > 2000:
            return Outcome("failed", f"the refusal cannot be shown: {str(error)[:300]!r}")
        return Outcome("refused", str(error))
    except BaseException as error:  # whatever it is, it is no clear refusal
        trace = traceback.extract_tb(error.__traceback__)
        ours = next((f for f in reversed(trace) if "/imcl/" in f.filename), trace[-1])
        at = f"{Path(ours.filename).name}:{ours.lineno}"
        return Outcome("failed", f"{type(error).__name__} at {at}: {str(error)[:300]}")
    return Outcome("harmless", "")


def judge_apart(attempt: Attempt) -> Outcome:
    """What comes of an attempt, read in a process of its own, which may hang or crash."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with suppress(BaseException), os.fdopen(writing, "w") as pipe:
            json.dump(judge(attempt), pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        hangs = not select.select([pipe], [], [], 2 * SECONDS)[0]
        if hangs:
            os.kill(child, signal.SIGKILL)
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if hangs or not text:
        return Outcome("failed", "hangs" if hangs else f"the process ended with {status}")
    return Outcome(*json.loads(text))


# Settings ---------------------------------------------------------------------------------------

SCHEMA = schema.schema()


def fields(node: dict[str, Any], place: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, Any]]:
    """Every field of the specification: its place and its schema. Of lists the first entry."""
    if "$ref" in node:
        node = {**SCHEMA["$defs"][node["$ref"].rpartition("/")[2]], **node}
    yield place, node
    for key, child in node.get("properties", {}).items():
        yield from fields(child, (*place, key))
    if isinstance(node.get("additionalProperties"), dict):
        yield from fields(node["additionalProperties"], (*place, "*"))
    if isinstance(node.get("items"), dict):
        yield from fields(node["items"], (*place, 0))


FIELDS = [*fields(SCHEMA)][1:]


def put(raw: Any, place: tuple[str | int, ...], value: object, rng: random.Random) -> None:
    """Set a field of the parameters; `*` stands for any entry there is."""
    *parents, last = place
    for key in parents:
        if key == "*":
            key = rng.choice([*raw] or ["some"])
            raw.setdefault(key, {})
        elif isinstance(raw, dict):
            raw.setdefault(key, {})
        elif not raw:
            raw.append({})
        raw = raw[key]
        if not isinstance(raw, dict | list):
            return
    if isinstance(raw, list):
        raw[:1] = [value]
    else:
        raw[rng.choice([*raw, "some"]) if last == "*" else last] = value


def beyond(field: dict[str, Any], rng: random.Random) -> list[Any]:
    """Values at and beyond the bounds of a field."""
    found: list[Any] = []
    for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        if key in field:
            at = field[key]
            found += [at, at + 1, at - 1, -at, at * 2, at + 0.5, str(at)]
    if "enum" in field:
        value = rng.choice(field["enum"])
        found += [value.upper(), value[:-1], f"{value} ", [value], f"{value}\u200b"]
    return found


def settings(path: Path, rng: random.Random) -> Attempt:
    """The committed parameters with a hostile value in a field of their specification."""
    raw = parameters()
    place, field = rng.choice(FIELDS)
    choices = beyond(field, rng) if rng.random() < 0.5 else []
    value = copy.deepcopy(rng.choice(choices or HOSTILE))
    put(raw, place, value, rng)

    def read() -> None:
        path.write_text(yaml.safe_dump(raw, allow_unicode=True, sort_keys=False), "utf-8")
        accepted(load(path), raw)

    return Attempt(f"settings {'.'.join(map(str, place))} = {value!r:.60}", str(path), read)


def accepted(loaded: Any, raw: object) -> None:
    """Settings that are accepted are those that were written, and all studies can be planned."""
    assert loaded.model_dump(exclude_unset=True) == raw
    for study in loaded.studies:
        for cell in grid.cells(loaded, study):
            assert len(cell.key) < 200


BOMBS = ("merge", "alias", "text", "depth", "flow", "keys", "pipe", "device", "folder", "sparse")


def text(path: Path, rng: random.Random) -> Attempt:
    """A YAML file that is damaged, is no file, or grows when it is read."""
    kind = rng.choice([*BOMBS, "edit", "edit", "edit"])
    width, height = rng.randint(2, 60), rng.randint(5, 60)
    stars = [", ".join([f"*a{i - 1}"] * width) for i in range(height)]
    made = {
        "merge": lambda: [f"a{i}: &a{i} {{<<: [{stars[i]}]}}" for i in range(1, height)],
        "alias": lambda: [f"a{i}: &a{i} [{stars[i]}]" for i in range(1, height)],
        "text": lambda: [f"b: &b {'x' * 10**5}", f"c: [{', '.join(['*b'] * 9000)}]"],
        "depth": lambda: ["b: " + rng.choice("[{") * 10**4],
        "flow": lambda: ["b: [" + "a: [b, " * 10**4],
        "keys": lambda: [f"k{i}: {i}" for i in range(15_000)],
        "edit": lambda: [edited((ROOT / "params.yaml").read_text("utf-8"), rng)],
    }

    def read() -> None:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to(rng.choice(["/dev/zero", "/dev/full", "/dev/ptmx", "/dev/tty"]))
        elif kind == "folder":
            path.mkdir()
        elif kind == "sparse":
            with path.open("wb") as file:
                file.truncate(10**12)
        else:
            start = [] if kind == "edit" else ["a0: &a0 {x: 1}"]
            path.write_text("\n".join([*start, *made[kind]()]), "utf-8", "surrogatepass")
        accepted(load(path), yaml.safe_load(path.read_text("utf-8")))

    return Attempt(f"text {kind}", str(path), read)


PIECES = [
    *("\t", ":", "- ", "&a ", "*a", "<<: *a", "{", "]", "'", "#", "\u202e", "\x07"),
    *("!!int ", "!!int ''", "!!float ''", "!!binary ", "!!set {", "!!timestamp "),
]


def edited(whole: str, rng: random.Random) -> str:
    at = rng.randrange(len(whole))
    return whole[:at] + rng.choice([*PIECES, "\ud800"]) + whole[at + rng.randint(0, 20) :]


# Archives and pictures --------------------------------------------------------------------------


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, lost, repeated or put in."""
    made = bytearray(content)
    at = rng.randrange(len(made) + 1)
    match rng.choice(["flip", "flip", "flips", "cut", "cut inside", "repeat", "insert", "empty"]):
        case "flip" if made:
            made[at % len(made)] ^= 1 << rng.randrange(8)
        case "flips" if made:
            for _ in range(rng.randint(2, 40)):
                made[rng.randrange(len(made))] = rng.randrange(256)
        case "cut":
            del made[at:]
        case "cut inside":
            del made[at : at + rng.randint(1, 100)]
        case "repeat":
            made[at:at] = made[:at]
        case "insert":
            made[at:at] = rng.randbytes(rng.randint(1, 100))
        case "empty":
            made.clear()
    return bytes(made)


def wrong_arrays(rng: random.Random) -> Any:
    """An array of another type or shape than a reader expects."""
    dtype = rng.choice(["u1", "i1", "i8", "f4", "f8", "?", "U3", "O", "c8", "M8[s]", "V4"])
    shape = rng.choice([(), (0,), (2,), (3,), (2, 3072), (2, 3071), (0, 3072), (2, 2), (2, 0, 5)])
    with np.errstate(all="ignore"):
        return np.full(shape, rng.choice([0, 1, 7, 255]), "i8").astype(dtype)


def replaced(values: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """A batch with one entry of another kind."""
    values, key = dict(values), rng.choice([*values])
    lists = [[], [[0], [0, 1]], ["a", "b"], [0.5, 1.0], [0, -1], [0, 10**6], [0, 10**30], [None, 1]]
    names = [["a\x1b[2J", "b"], ["a", "a"], [1, 2], "ab", ["\u202ea", "b"], [b"a", b"b"], [["a"]]]
    match rng.randrange(5):
        case 0:
            del values[key]
        case 1:
            values[key] = wrong_arrays(rng)
        case 2:
            values[key] = copy.deepcopy(rng.choice(HOSTILE))
        case 3:
            values[key] = rng.choice(names)
        case 4:
            values[key] = rng.choice(lists)
    return values


def rows(count: int) -> Any:
    return np.arange(count * 3072).reshape(count, 3072).astype(np.uint8)


def tarred(path: Path, top: str, members: dict[str, bytes], rng: random.Random) -> None:
    """A tar.gz of the members, of which one may be a link, a device or lie elsewhere."""
    odd = rng.choice([*members]) if rng.random() < 0.2 else None
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(content)
            if name == odd:
                types = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)
                member.type = rng.choice([*types, tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE])
                member.linkname = rng.choice(["/dev/zero", "/etc/passwd", "..", member.name])
                member.name = rng.choice([member.name, f"/{member.name}", f"../{member.name}"])
            archive.addfile(member, io.BytesIO(content))


Batches = dict[str, dict[str, Any]]


def pickled(batches: Batches, rng: random.Random) -> dict[str, bytes]:
    """The batches' pickles, of which one is wrong inside or damaged."""
    wrong = rng.choice([*batches])
    members = {}
    for name, values in batches.items():
        if name == wrong and rng.random() < 0.6:
            values = replaced(values, rng)
        members[name] = pickle.dumps(values, protocol=rng.choice([0, 2, 2, 4]))
    if rng.random() < 0.3:
        members[wrong] = damaged(members[wrong], rng)
    return members


def cifar_10(place: Path, rng: random.Random) -> Arrays:
    names = [*cifar10.TRAIN, *cifar10.TEST]
    batches: Batches = {name: {"data": rows(2), "labels": [0, 1]} for name in names}
    batches[cifar10.META] = {"label_names": ["a", "b"]}
    file = place / "cifar.tar.gz"
    tarred(file, "cifar-10-batches-py", pickled(batches, rng), rng)
    return cifar10.read(options("cifar10"), [spoilt(file, rng)], place)


def cifar_100(place: Path, rng: random.Random) -> Arrays:
    batch = {"data": rows(2), "fine_labels": [0, 1], "coarse_labels": [0, 0]}
    batches: Batches = {"train": batch, "test": dict(batch)}
    batches["meta"] = {"fine_label_names": ["a", "b"]}
    file = place / "cifar.tar.gz"
    tarred(file, "cifar-100-python", pickled(batches, rng), rng)
    return cifar100.read(options("cifar100"), [spoilt(file, rng)], place)


def stl_10(place: Path, rng: random.Random) -> Arrays:
    pixels = 3 * stl10.SIDE**2
    members = {
        "train_X.bin": bytes(2 * pixels),
        "train_y.bin": b"\x01\x02",
        "test_X.bin": bytes(2 * pixels),
        "test_y.bin": b"\x02\x01",
        "class_names.txt": b"a\nb\n",
        "fold_indices.txt": b"0 1\n1 0\n",
    }
    name = rng.choice([*members])
    texts = [b"", b"\n", b"0\n\n", b"-1 0", b"9" * 500, b"a b", b"0.5", b"\xff\xfe", b"1e3", b"0 2"]
    members[name] = rng.choice([damaged(members[name], rng), rng.choice(texts)])
    file = place / "stl10.tar.gz"
    tarred(file, stl10.FOLDER, members, rng)
    return stl10.read(options("stl10"), [spoilt(file, rng)], place)


def zipped(path: Path, members: dict[str, bytes], rng: random.Random) -> Path:
    """A zip of the members; its headers may say that it is encrypted or packed in another way."""
    kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    with zipfile.ZipFile(path, "w", rng.choice(kinds)) as file:
        for name, content in members.items():
            file.writestr(name, content)
    content = bytearray(path.read_bytes())
    lie = rng.choice([None, None, "encrypted", "method", "size"])
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(signature)
        while lie and at >= 0:
            if lie == "encrypted":
                content[at + flags] |= 1
            elif lie == "method":
                content[at + flags + 2] = rng.choice([1, 9, 93, 99])
            else:
                content[at + flags + 16 : at + flags + 20] = b"\xff\xff\xff\x7f"
            at = content.find(signature, at + 4)
    path.write_bytes(content)
    return path


def npz(values: dict[str, Any], rng: random.Random) -> bytes:
    """A numpy archive; a header may promise more rows than there are."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        for key, value in values.items():
            array = io.BytesIO()
            with suppress(ValueError):  # of a ragged list
                np.save(array, np.asarray(value), allow_pickle=True)
            content = array.getvalue()
            if rng.random() < 0.1:
                content = content.replace(b"(2,", b"(%d," % rng.choice([3, 10**9, 10**18, -2]))
            file.writestr(f"{key}.npy", content)
    return made.getvalue()


def imagenet_32(place: Path, rng: random.Random) -> Arrays:
    def batch() -> dict[str, Any]:
        return {"data": rows(2), "labels": [1, 1000]}

    files = []
    for name, names in (("train", imagenet32.TRAIN), ("val", imagenet32.TEST)):
        batches: Batches = {name: batch() for name in names}
        if rng.random() < 0.5:
            members = pickled(batches, rng)
        else:
            wrong = rng.choice(names)
            batches[wrong] = replaced(batches[wrong], rng)
            members = {f"{name}.npz": npz(values, rng) for name, values in batches.items()}
        files.append(zipped(place / f"Imagenet32_{name}.zip", members, rng))
    os.environ["IMCL_SHA256SUMS"] = str(place / "sums")
    sums = "".join(f"{'0' * 64}  {file.name}\n" for file in files)
    (place / "sums").write_text(sums)
    at = rng.randrange(2)
    files[at] = spoilt(files[at], rng)
    return imagenet32.read(options("imagenet32"), files, place)


def human_labels(place: Path, rng: random.Random) -> Arrays:
    labels = np.arange(4) % 2
    batch = dict.fromkeys(["clean_label", *human.KEYS.values()], labels)
    members = {f"archive/{name}": c for name, c in pickled({"data.pkl": batch}, rng).items()}
    if rng.random() < 0.2:
        members["other/data.pkl"] = b""
    file = zipped(place / "human.pt", members, rng)
    images = np.zeros((4, 8, 8, 3), np.uint8)
    arrays = Arrays(images, labels, images, labels, ("a", "b"), train_indices=np.arange(4))
    found = human.read(arrays, rng.choice([*human.KEYS]), [spoilt(file, rng)])
    assert found.dtype == np.int64 and set(found) <= {0, 1}
    return arrays.relabelled(found)


def pictures(place: Path, rng: random.Random) -> Arrays:
    """A folder of small pictures in several formats and modes, of which some are damaged."""
    top = place / "pictures"
    modes = {
        "png": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
        "tiff": ["L", "RGB", "CMYK", "F", "I;16", "LAB"],
        "jpeg": ["L", "RGB", "CMYK"],
        "gif": ["P", "L"],
        "bmp": ["RGB", "1"],
        "webp": ["RGB", "RGBA"],
    }
    for split in ("train", "test"):
        for name in ("a", "b"):
            at = top / split / name
            at.mkdir(parents=True)
            for index in range(2):
                form = rng.choice([*modes])
                made = io.BytesIO()
                size = rng.choice([(8, 8), (1, 9), (30, 20)])
                Image.new(rng.choice(modes[form]), size, 1).save(made, form)
                content = made.getvalue()
                if rng.random() < 0.3:
                    content = damaged(content, rng)
                (at / f"{index}.{form}").write_bytes(content)
    side = {"path": str(top), "side": rng.choice([1, 8, 33])}
    return folder.read(options("folder", **side), [], place)


def options(source: str, **others: Any) -> DatasetOptions:
    return DatasetOptions(source=source, padding=1, flip=False, **others)


def spoilt(file: Path, rng: random.Random) -> Path:
    """The file itself, or damaged."""
    if rng.random() < 0.3:
        file.write_bytes(damaged(file.read_bytes(), rng))
    return file


READERS = (cifar_10, cifar_100, stl_10, imagenet_32, human_labels, pictures)


def archive(path: Path, rng: random.Random) -> Attempt:
    """A small archive or a folder of pictures, damaged or wrong inside."""
    reader = rng.choice(READERS)

    def read() -> None:
        path.mkdir()
        arrays = reader(path, rng)
        arrays.check(str(path))
        assert all(isinstance(name, str) and "\x1b" not in name for name in arrays.class_names)
        for labels in (arrays.train_labels, arrays.test_labels):
            assert labels.dtype == np.int64
        inside = {p.name for p in path.parent.iterdir()}
        assert inside == {path.name}, f"wrote outside: {inside}"

    return Attempt(f"archive {reader.__name__}", str(path), read)


# Records ----------------------------------------------------------------------------------------


def places(node: object, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    items = node.items() if isinstance(node, dict) else enumerate(node) if _list(node) else ()
    for key, child in items:
        yield from places(child, (*place, key))


def _list(node: object) -> Any:
    return node if isinstance(node, list) else None


def changed(made: Any, rng: random.Random) -> Any:
    """A record with one entry removed, replaced or added."""
    made = json.loads(json.dumps(made))
    *parents, last = rng.choice([*places(made)][1:])
    node = made
    for key in parents:
        node = node[key]
    value = copy.deepcopy(rng.choice([v for v in HOSTILE if not isinstance(v, bytes)]))
    match rng.choice(["replace", "replace", "remove", "add"]):
        case "replace":
            node[last] = value
        case "remove":
            del node[last]
        case "add" if isinstance(node, dict):
            node["\x1b\u202e" if rng.random() < 0.2 else "more"] = value
        case "add":
            node.append(value)
    return made


def stored(path: Path, rng: random.Random) -> Attempt:
    """A record that was edited by hand, sealed again or not, or whose text is damaged."""

    def read() -> None:
        path.mkdir()
        project = empty_project(path)
        cell = grid.cells(checked(parameters(), project.params))[0]
        original: Record = record(cell, [0.5, 0.75])
        kind = rng.choice(["edit", "edit", "seal", "seal", "seal", "text", "deep", "twice"])
        content = json_text(original).encode()
        if kind in ("edit", "seal"):
            made = changed(original, rng)
            made = sealed(made) if kind == "seal" else made
            content = json.dumps(made, indent=1).encode() + b"\n"
        elif kind == "text":
            content = damaged(content, rng)
        elif kind == "deep":
            content = content.replace(b'"runs": ', b'"runs": ' + b"[" * 10**5)
        else:
            content = content.replace(b'"seed": 1,', b'"seed": 1, "seed": 1,')
        file = project.record(cell.key)
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
        store = Store(project)
        assert isinstance(store.faults(cell, file), list)
        store.glance(file)
        found = store.read(cell, file)
        if kind != "seal":  # whoever seals it again may change a number within its bounds
            assert json.dumps(found) == json.dumps(original)

    return Attempt("record", str(path), read)


def measured(path: Path, rng: random.Random) -> Attempt:
    """A measurement that was edited by hand, or whose text is damaged."""
    original = rng.choice(sorted(ROOT.glob("paper/results/bench/*.json"))).read_bytes()

    def read() -> None:
        made = changed(json.loads(original), rng)
        made = sealed(made) if rng.random() < 0.5 else made
        whole = json.dumps(made, indent=1).encode()
        path.write_bytes(whole if rng.random() < 0.7 else damaged(whole, rng))
        found, faults = Store(empty_project(path.parent)).measurement(path)
        if faults or found is None:
            assert faults, "refused without a reason"
            raise ImclError("\n".join(f"{path}: {fault}" for fault in faults[:20]))

    return Attempt("measurement", str(path), read)


def packed(path: Path, rng: random.Random) -> Attempt:
    """A damaged archive of records, as `imcl merge` takes it."""
    content = {f"results/records/{n}.json": b'{"seal": ""}' * 50 for n in range(3)}

    def read() -> None:
        path.mkdir()
        archive = path / "records"
        kind = rng.choice(["tar", "tar", "gz", "xz", "zip"])
        if kind == "zip":
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
                for name, text in content.items():
                    file.writestr(name, text)
        else:
            form = rng.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
            with tarfile.open(archive, "w", format=form) as tar:
                for name, text in content.items():
                    member = tarfile.TarInfo(rng.choice(["", "x" * 200, "ä/"]) + name)
                    member.size = len(text)
                    tar.addfile(member, io.BytesIO(text))
        whole, inside = archive.read_bytes(), rng.random() < 0.5
        pack = {"gz": gzip.compress, "xz": lzma.compress}.get(kind, bytes)
        archive.write_bytes(pack(damaged(whole, rng)) if inside else damaged(pack(whole), rng))
        for place, _ in candidates(archive):
            assert place.startswith(str(archive))

    return Attempt("packed records", str(path), read)


# The run ----------------------------------------------------------------------------------------

KINDS = (
    settings,
    settings,
    settings,
    text,
    archive,
    archive,
    archive,
    stored,
    stored,
    measured,
    packed,
)


def attempts(count: int, seed: int, scratch: Path) -> Iterator[Attempt]:
    """So many hostile inputs; the same seed gives the same ones."""
    for number in range(count):
        rng = random.Random(f"{seed}-{number}")
        place = scratch / str(number)
        place.mkdir()
        yield KINDS[number % len(KINDS)](place / "input", rng)


def run(count: int, seed: int, shown: bool = True) -> Counter[str]:
    """Try the inputs; print those that failed, and how many came to what."""
    outcomes: Counter[str] = Counter()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        for number, attempt in enumerate(attempts(count, seed, Path(scratch))):
            outcome = judge_apart(attempt)
            outcomes[outcome.kind] += 1
            outcomes[f"{attempt.name.split()[0]} {outcome.kind}"] += 1
            if outcome.kind == "failed":
                print(f"{number}: {attempt.name}: {outcome.note}", flush=True)
            elif not shown:
                print(f"{number}: {attempt.name}: {outcome.kind} {outcome.note}")
    seconds = time.perf_counter() - begun
    for kind in ("refused", "harmless", "failed"):
        parts = [
            f"{n} {k.split()[0]}" for k, n in sorted(outcomes.items()) if k.endswith(f" {kind}")
        ]
        print(f"{outcomes[kind]} {kind} ({', '.join(parts)})")
    print(f"{count} hostile inputs, seed {seed}, {seconds:.0f} s")
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--inputs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--all", action="store_true", help="print every outcome")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # Pillow warns of damaged pictures
    outcomes = run(arguments.inputs, arguments.seed, not arguments.all)
    return 1 if outcomes["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
