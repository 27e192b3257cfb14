"""A folder of the user's own pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imcl.data import folder
from imcl.data.arrays import Arrays
from imcl.errors import ImclError
from imcl.study.sources import DatasetOptions

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def picture(path: Path, colour: tuple, size: tuple = (8, 8), mode: str = "RGB", **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path, **options)


@pytest.fixture
def tree(tmp_path) -> Path:
    for split in ("train", "test"):
        picture(tmp_path / "mine" / split / "roses/a.png", RED)
        picture(tmp_path / "mine" / split / "leaves/b.png", GREEN)
    picture(tmp_path / "mine/train/roses/b.png", RED)
    return tmp_path / "mine"


def read(tree: Path, side: int = 4) -> Arrays:
    scratch = tree.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    options = DatasetOptions(source="folder", path=str(tree), side=side, padding=0, flip=False)
    return folder.read(options, [], scratch)


def test_classes_are_the_folders_in_order(tree):
    arrays = read(tree)

    assert arrays.class_names == ("leaves", "roses")
    assert arrays.train_labels.tolist() == [0, 1, 1]
    assert arrays.test_labels.tolist() == [0, 1]
    assert arrays.train_images.shape == (3, 4, 4, 3)
    assert arrays.train_images[:, 0, 0].tolist() == [[0, 255, 0], [255, 0, 0], [255, 0, 0]]
    arrays.check("mine")


def test_the_square_is_the_middle(tree):
    wide = Image.new("RGB", (30, 10), BLUE)
    wide.paste(RED, (10, 0, 20, 10))
    wide.save(tree / "train/roses/a.png")

    assert (read(tree, side=10).train_images[1] == RED).all()


@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (3, 3)), (6, (0, 3))])
def test_the_exif_orientation_is_honoured(tree, orientation, corner):
    """EXIF: 3 is turned by half, 6 is to be turned clockwise by a quarter."""
    stored = Image.new("RGB", (4, 4), BLUE)
    stored.putpixel((0, 0), RED)  # top left as stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tree / "train/roses/a.png", exif=exif)

    image = read(tree).train_images[1]

    assert [tuple(int(n) for n in place) for place in np.argwhere((image == RED).all(2))] == [
        corner
    ]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_mode_becomes_rgb(tree, mode):
    kind = "tiff" if mode == "CMYK" else "png"
    (tree / "train/roses/a.png").unlink()
    picture(tree / f"train/roses/a.{kind}", (255, 255, 255), mode=mode)

    assert (read(tree).train_images[1] == 255).all()


def test_unreadable_files_are_listed_and_refused(tree):
    (tree / "train/roses/broken.png").write_bytes(b"no picture")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tree / "test/leaves/half.png")
    whole = (tree / "test/leaves/half.png").read_bytes()
    (tree / "test/leaves/half.png").write_bytes(whole[: len(whole) // 2])
    (tree / "test/leaves/.DS_Store").write_bytes(b"hidden")

    with pytest.raises(ImclError, match="unreadable pictures: 2") as caught:
        read(tree)

    assert "train/roses/broken.png" in str(caught.value)
    assert "test/leaves/half.png" in str(caught.value)
    assert ".DS_Store" not in str(caught.value)


def test_of_many_unreadable_files_some_are_listed_and_all_counted(tree):
    for i in range(25):
        (tree / f"train/roses/{i}.png").write_bytes(b"no picture")

    with pytest.raises(ImclError, match=r"(?s)unreadable pictures: 25.*and 5 more$"):
        read(tree)


def test_train_and_test_must_have_the_same_classes(tree):
    picture(tree / "train/thorns/a.png", BLUE)
    with pytest.raises(ImclError, match="different classes: thorns"):
        read(tree)


def test_a_class_without_files_is_named(tree):
    (tree / "test/roses/a.png").unlink()
    with pytest.raises(ImclError, match="test/roses: has no files"):
        read(tree)


def test_a_missing_split_is_named(tmp_path):
    with pytest.raises(ImclError, match=r"train: no such folder"):
        read(tmp_path / "nowhere")


def test_one_class_is_refused(tree):
    for split in ("train", "test"):
        (tree / split / "leaves/b.png").unlink()
        (tree / split / "leaves").rmdir()
    with pytest.raises(ImclError, match="only one class"):
        read(tree)
