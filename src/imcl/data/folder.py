"""A folder of the user's own pictures: train/CLASS/* and test/CLASS/*."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from imcl.data.arrays import Arrays, Images, Labels, store
from imcl.errors import ImclError
from imcl.study.sources import DatasetOptions

LISTED = 20  # unreadable files in a message
BATCH = 256


def read(options: DatasetOptions, archives: list[Path], scratch: Path) -> Arrays:
    """The pictures below `path`, each cropped to a square and resized to `side` pixels.

    Classes are the folders' names in alphabetical order; files whose name begins with a dot are
    skipped. A picture is turned as its EXIF orientation says and converted to RGB. The square is
    cut from its middle.

    Raises:
        ImclError: a split or class is missing or empty, or files are not readable pictures. The
            message lists them: no picture is skipped silently.
    """
    assert options.path is not None and options.side is not None  # SOURCES says that it needs them
    root, side = Path(options.path), options.side
    classes = {split: _classes(root / split) for split in ("train", "test")}
    names = sorted(classes["train"])
    if names != sorted(classes["test"]):
        different = sorted(set(names) ^ set(classes["test"]))
        raise ImclError(f"{root}: train and test have different classes: {', '.join(different)}")
    if len(names) < 2:
        raise ImclError(
            f"{root / 'train'}: only one class; make a folder for each class, two at least"
        )
    images: dict[str, Images] = {}
    labels: dict[str, Labels] = {}
    unreadable: list[str] = []
    for split, found in classes.items():
        files = [file for name in names for file in found[name]]
        labels[split] = np.repeat(np.arange(len(names)), [len(found[name]) for name in names])
        pictures = _images(files, side, unreadable)
        images[split] = store(scratch / f"{split}_images.npy", pictures)
    if unreadable:
        more = f"\n  ... and {len(unreadable) - LISTED} more" if len(unreadable) > LISTED else ""
        raise ImclError(
            f"{root}: unreadable pictures: {len(unreadable)}; repair or remove them:\n  "
            + "\n  ".join(unreadable[:LISTED])
            + more
        )
    return Arrays(images["train"], labels["train"], images["test"], labels["test"], tuple(names))


def _classes(folder: Path) -> dict[str, list[Path]]:
    """The files of each class, sorted by name."""
    if not folder.is_dir():
        raise ImclError(f"{folder}: no such folder; pictures go to {folder}/CLASS/")
    found = {
        path.name: sorted(f for f in path.iterdir() if f.is_file() and f.name[0] != ".")
        for path in folder.iterdir()
        if path.is_dir() and path.name[0] != "."
    }
    for name, files in found.items():
        if not files:
            raise ImclError(f"{folder / name}: has no files")
    return found


def _images(files: list[Path], side: int, unreadable: list[str]) -> Iterator[Images]:
    """Blocks uint8 (n, side, side, 3); an unreadable picture is black and noted in `unreadable`."""
    for start in range(0, len(files), BATCH):
        block = np.zeros((len(files[start : start + BATCH]), side, side, 3), np.uint8)
        for index, file in enumerate(files[start : start + BATCH]):
            try:
                with Image.open(file) as image:
                    upright = ImageOps.exif_transpose(image).convert("RGB")
                square = ImageOps.fit(upright, (side, side), Image.Resampling.BICUBIC)
                block[index] = np.asarray(square)
            except Exception as error:  # a damaged picture can fail in any way
                unreadable.append(f"{file}: {error}")
        yield block
