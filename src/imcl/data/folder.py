"""A folder of the user's own pictures: train/CLASS/* and test/CLASS/*."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from imcl.data.arrays import Arrays, store
from imcl.errors import ImclError

LISTED = 20  # unreadable files in a message
BATCH = 256


def read(config: dict, archives: list[Path], scratch: Path) -> Arrays:
    """The pictures below `path`, each cut to a square and resized to `side` pixels.

    Classes are the folders' names in order; files whose name begins with a dot are passed over. A
    picture is turned as its EXIF orientation says and made RGB; a square is cut from its middle.

    Raises:
        ImclError: a split or class is missing or empty, or files are no readable pictures; the
            message lists them, and none is left out in silence.
    """
    root, side = Path(config["path"]), config["side"]
    classes = {split: _classes(root / split) for split in ("train", "test")}
    names = sorted(classes["train"])
    if names != sorted(classes["test"]):
        different = sorted(set(names) ^ set(classes["test"]))
        raise ImclError(f"{root}: train and test have different classes: {', '.join(different)}")
    if len(names) < 2:
        raise ImclError(f"{root / 'train'}: one class alone; there must be a folder for each class")
    images, labels, unreadable = {}, {}, []
    for split, found in classes.items():
        files = [file for name in names for file in found[name]]
        labels[split] = np.repeat(np.arange(len(names)), [len(found[name]) for name in names])
        pictures = _images(files, side, unreadable)
        images[split] = store(scratch / f"{split}_images.npy", pictures)
    if unreadable:
        more = f"\n  ... and {len(unreadable) - LISTED} more" if len(unreadable) > LISTED else ""
        raise ImclError(
            f"{root}: unreadable pictures: {len(unreadable)}; mend or remove them:\n  "
            + "\n  ".join(unreadable[:LISTED])
            + more
        )
    return Arrays(images["train"], labels["train"], images["test"], labels["test"], tuple(names))


def _classes(folder: Path) -> dict[str, list[Path]]:
    """The files of each class, in the order of their names."""
    if not folder.is_dir():
        raise ImclError(f"{folder}: no such folder; pictures go to {folder}/CLASS/")
    found = {
        path.name: sorted(f for f in path.iterdir() if f.is_file() and f.name[0] != ".")
        for path in folder.iterdir()
        if path.is_dir() and path.name[0] != "."
    }
    for name, files in found.items():
        if not files:
            raise ImclError(f"{folder / name}: holds no files")
    return found


def _images(files: list[Path], side: int, unreadable: list[str]) -> Iterator[np.ndarray]:
    """Blocks uint8 (n, side, side, 3); in the place of an unreadable picture a black one."""
    for start in range(0, len(files), BATCH):
        block = np.zeros((len(files[start : start + BATCH]), side, side, 3), np.uint8)
        for place, file in zip(block, files[start : start + BATCH], strict=True):
            try:
                with Image.open(file) as image:
                    upright = ImageOps.exif_transpose(image).convert("RGB")
                place[:] = ImageOps.fit(upright, (side, side), Image.Resampling.BICUBIC)
            except Exception as error:  # a damaged picture fails in any way it likes
                unreadable.append(f"{file}: {error}")
        yield block
