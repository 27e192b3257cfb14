"""Zip archives that lie: ImageNet32's and CIFAR-10N's, with wrong headers or wrong members."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hostile import within

from imcl.data import imagenet32
from imcl.data.arrays import Arrays
from imcl.errors import ImclError
from imcl.noise import human
from imcl.study.sources import DatasetOptions

ROWS = np.zeros((2, 3072), np.uint8)
LABELS = np.array([0, 1])


def npy(array: object, shape: bytes | None = None) -> bytes:
    """An array as numpy writes it; `shape` is what its header says instead of (2,)."""
    made = io.BytesIO()
    np.save(made, array, allow_pickle=True)
    content = made.getvalue()
    if shape is not None:  # the header keeps its length
        old = content[content.index(b"'shape': ") : content.index(b"\n")]
        content = content.replace(old, (b"'shape': " + shape + b", }").ljust(len(old)))
    return content


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return made.getvalue()


def headers(content: bytes, offset: int, value: bytes) -> bytes:
    """The archive with a field of each local and central header changed."""
    made = bytearray(content)
    for signature, further in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        at = made.find(signature)
        while at >= 0:
            made[at + offset + further : at + offset + further + len(value)] = value
            at = made.find(signature, at + 4)
    return bytes(made)


LIES = {
    "encrypted": (6, b"\x01", "encrypted"),
    "method": (8, b"\x5d\x00", "compression .* not supported; pack it as deflate"),
    "size": (22, b"\xff\xff\xff\xf0", "unpacks to more than 2 GB"),
}


def imagenet(folder: Path, train: bytes) -> Arrays:
    file = folder / "Imagenet32_train.zip"
    file.write_bytes(train)
    val = folder / "Imagenet32_val.zip"
    val.write_bytes(packed({"val_data": pickle.dumps({"data": ROWS, "labels": [1, 2]}, 2)}))
    (folder / "scratch").mkdir(exist_ok=True)
    options = DatasetOptions(source="imagenet32", padding=4, flip=True)
    return imagenet32.read(options, [file, val], folder / "scratch")


def of_people(folder: Path, content: bytes) -> np.ndarray:
    file = folder / "CIFAR-10_human.pt"
    file.write_bytes(content)
    images = np.zeros((2, 32, 32, 3), np.uint8)
    arrays = Arrays(images, LABELS, images, LABELS, ("a", "b"), train_indices=np.arange(2))
    return human.read(arrays, "worse", [file])


def labels_file(**changes: object) -> bytes:
    labels = dict.fromkeys(["clean_label", *human.KEYS.values()], LABELS) | changes
    return packed({"archive/data.pkl": pickle.dumps(labels, protocol=2)})


@pytest.mark.parametrize(("offset", "value", "reason"), LIES.values(), ids=LIES)
def test_a_zip_that_cannot_be_unpacked_is_named_with_the_reason(tmp_path, offset, value, reason):
    for read, name, content in (
        (imagenet, "Imagenet32_train.zip", packed({"train_data_batch_1": b"x"})),
        (of_people, "CIFAR-10_human.pt", labels_file()),
    ):
        with pytest.raises(ImclError, match=rf"^{tmp_path / name}: .*{reason}"):
            read(tmp_path, headers(content, offset, value))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_is_damaged_inside_is_named(tmp_path, method):
    content = bytearray(packed({"train_data_batch_1": bytes(10_000)}, method))
    content[60:70] = b"\xff" * 10
    with pytest.raises(ImclError, match=rf"^{tmp_path}/Imagenet32_train.zip: "):
        imagenet(tmp_path, bytes(content))


@pytest.mark.parametrize("shape", [b"(1000000000,)", b"(10**9,)", b"(-2,)", b"(3,)", b"(2, 0)"])
def test_the_memory_of_an_npz_is_that_of_its_members_not_of_its_headers(tmp_path, shape):
    batch = packed({"data.npy": npy(ROWS), "labels.npy": npy(LABELS, shape)})
    with (
        within(seconds=10, megabytes=300),
        pytest.raises(ImclError, match=rf"^{tmp_path}/Imagenet32_train.zip: .*batch_1.npz: "),
    ):
        imagenet(tmp_path, packed({"train_data_batch_1.npz": batch}))


def test_an_npz_without_images_is_refused(tmp_path):
    batch = packed({"data.npy": npy(ROWS[:0]), "labels.npy": npy(LABELS[:0])})
    with pytest.raises(ImclError, match=rf"^{tmp_path}/Imagenet32_train.zip: data is uint8 \(0, 3"):
        imagenet(tmp_path, packed({"train_data_batch_1.npz": batch}))


@pytest.mark.parametrize("names", [[], ["a/data.pkl", "b/data.pkl"]])
def test_a_file_of_people_holds_one_pickle(tmp_path, names):
    with pytest.raises(ImclError, match=rf"{len(names)} members data.pkl, not one$"):
        of_people(tmp_path, packed(dict.fromkeys(names, b"")))


WRONG_LABELS = {
    "ragged": [[0], [0, 1]],
    "text": ["0", "1"],
    "text array": np.array(["0", "1"]),
    "float array": np.array([0.0, 1.0]),
    "yes and no": [True, False],
    "too large": [0, 10**30],
    "nested": np.zeros((2, 1), np.int64),
    "none": None,
}


@pytest.mark.parametrize("labels", WRONG_LABELS.values(), ids=WRONG_LABELS)
def test_labels_of_people_of_another_type_are_refused(tmp_path, labels):
    assert of_people(tmp_path, labels_file()).tolist() == [0, 1]
    with pytest.raises(ImclError, match=rf"^{tmp_path}/CIFAR-10_human.pt: "):
        of_people(tmp_path, labels_file(worse_label=labels))


def test_nested_lists_that_share_their_items_take_no_memory(tmp_path):
    """A pickle of 100 bytes for each level, which numpy would expand to 10 billion numbers."""
    nested: list[object] = [0] * 100
    for _ in range(4):
        nested = [nested] * 100
    with within(seconds=5, megabytes=200), pytest.raises(ImclError, match="a list of list"):
        of_people(tmp_path, labels_file(worse_label=nested))
