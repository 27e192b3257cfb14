"""ImageNet32's files in their forms, and what is refused."""

import hashlib
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from imcl.data import imagenet32
from imcl.errors import ImclError
from imcl.study.sources import DatasetOptions

OPTIONS = DatasetOptions(source="imagenet32", padding=4, flip=True)
FORMS = ["zip", "npz"]


def batch(shade: int, labels: list[int]) -> dict:
    rows = np.full((len(labels), 3072), shade, np.uint8)
    rows[:, 1024] = 200  # green, top left
    return {"data": rows, "labels": labels, "mean": np.zeros(3072)}


def batches() -> dict[str, dict]:
    """Two images in each of ten batches: labels 1 and 1000; the batch number is the shade."""
    return {f"train_data_batch_{i}": batch(i, [1, 1000]) for i in range(1, 11)}


def packed(path: Path, members: dict[str, dict], form: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, values in members.items():
            if form == "npz":
                content = io.BytesIO()
                np.savez(content, **{k: np.asarray(v) for k, v in values.items()})
                file.writestr(f"{path.stem}/{name}.npz", content.getvalue())
            else:
                file.writestr(name, pickle.dumps(values, protocol=2))
    return path


def both(folder: Path, form: str, train: dict | None = None, test: dict | None = None):
    archives = [
        packed(folder / "Imagenet32_train.zip", batches() if train is None else train, form),
        packed(folder / "Imagenet32_val.zip", test or {"val_data": batch(11, [1, 2, 3])}, form),
    ]
    (folder / "scratch").mkdir(exist_ok=True)
    return imagenet32.read(OPTIONS, archives, folder / "scratch")


@pytest.fixture
def trusted(tmp_path, monkeypatch) -> None:
    """A checksum list that names the two files, whatever their content: read() checks counts."""
    names = ("Imagenet32_train.zip", "Imagenet32_val.zip")
    (tmp_path / "SHA256SUMS").write_text("".join(f"{'0' * 64}  {name}\n" for name in names))
    monkeypatch.setenv("IMCL_SHA256SUMS", str(tmp_path / "SHA256SUMS"))


@pytest.mark.parametrize("form", FORMS)
def test_both_forms_are_read_in_order_with_labels_from_0(tmp_path, trusted, form):
    arrays = both(tmp_path, form)

    assert arrays.train_images.shape == (20, 32, 32, 3)
    assert arrays.train_images[:, 5, 5, 0].tolist() == [n for i in range(1, 11) for n in (i, i)]
    assert arrays.train_images[0, 0, 0].tolist() == [1, 200, 1]
    assert arrays.train_labels.tolist() == [0, 999] * 10
    assert arrays.test_labels.tolist() == [0, 1, 2]
    assert len(arrays.class_names) == 1000
    arrays.check("imagenet32")
    left = sorted(path.name for path in (tmp_path / "scratch").iterdir())
    assert left == ["test_images.npy", "train_images.npy"]  # no batch stays on the disk


def test_without_a_checksum_the_number_of_images_is_checked(tmp_path, monkeypatch):
    monkeypatch.delenv("IMCL_SHA256SUMS", raising=False)
    with pytest.raises(ImclError, match=r"Imagenet32_train.zip: 20 images, but .* 1,281,167"):
        both(tmp_path, "zip")


@pytest.mark.parametrize("form", FORMS)
def test_a_missing_batch_is_named(tmp_path, trusted, form):
    train = batches()
    del train["train_data_batch_7"]
    with pytest.raises(ImclError, match=r"Imagenet32_train.zip: has no train_data_batch_7"):
        both(tmp_path, form, train)


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_without_labels_is_refused(tmp_path, trusted, form):
    train = batches()
    del train["train_data_batch_2"]["labels"]
    with pytest.raises(ImclError, match=r"Imagenet32_train.zip: .*train_data_batch_2.*labels"):
        both(tmp_path, form, train)


def test_labels_out_of_range_are_refused(tmp_path, trusted):
    arrays = both(tmp_path, "zip", test={"val_data": batch(1, [1001])})
    with pytest.raises(ImclError, match=r"test labels 1000..1000 for 1000 classes"):
        arrays.check("imagenet32")
    arrays = both(tmp_path, "zip", test={"val_data": batch(1, [0])})
    with pytest.raises(ImclError, match=r"test labels -1..-1"):
        arrays.check("imagenet32")


class Evil:
    """Pickles into a call that writes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("form", FORMS)
def test_a_pickle_inside_runs_nothing(tmp_path, trusted, form):
    train, evil = batches(), Evil(tmp_path / "touched")
    train["train_data_batch_1"]["labels"] = np.array([evil, 1], dtype=object)
    if form == "zip":
        train["train_data_batch_1"]["labels"] = evil
    with pytest.raises(ImclError, match=r"Imagenet32_train.zip: .*train_data_batch_1"):
        both(tmp_path, form, train)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("damage", ["truncate", "flip", "html"])
def test_a_damaged_archive_is_an_error_that_names_it(tmp_path, trusted, damage):
    path = packed(tmp_path / "Imagenet32_train.zip", batches(), "zip")
    val = packed(tmp_path / "Imagenet32_val.zip", {"val_data": batch(11, [1])}, "zip")
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        content = content[:-40]
    elif damage == "html":
        content = b"<html>Sign in</html>"
    else:
        content[60] ^= 255
    path.write_bytes(content)
    (tmp_path / "scratch").mkdir()
    with pytest.raises(ImclError, match=rf"^{path}: "):
        imagenet32.read(OPTIONS, [path, val], tmp_path / "scratch")


def test_the_hash_of_both_forms_is_the_same(tmp_path, trusted):
    hashes = set()
    for form in FORMS:
        (tmp_path / form).mkdir()
        both(tmp_path / form, form)
        made = tmp_path / form / "scratch/train_images.npy"
        hashes.add(hashlib.sha256(made.read_bytes()).hexdigest())
    assert len(hashes) == 1
