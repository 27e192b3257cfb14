"""A folder of the user's own pictures: train/CLASS/* and test/CLASS/*."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from imcl.data.arrays import BLOCK_BYTES, Arrays, Images, Labels, store
from imcl.data.contents import entries
from imcl.errors import ImclError, is_plain, printable
from imcl.progress import say
from imcl.study.sources import DatasetOptions

LISTED = 20  # faults in a message
SPLITS = ("train", "test")

# Pillow knows more, but some of those are programs that others run (EPS), and of some it cuts bits
# off without a sign (SGI).
FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "PPM", "JPEG2000")
# What Pillow reads, but cannot convert to 8 bits without a scale that only the user knows.
UNSCALED = {"I": "whole numbers of 32 bits or with a sign", "F": "floating-point numbers"}
REMEDY = "save it with 8 bits a channel, or in grey with 16 bits and without transparency"
# By the raw mode of grey PNGs of 2 and 4 bits: Pillow scales the pixels to 8 bits, but not the one
# value that is transparent.
GREY_SCALES = {"L;2": 85, "L;4": 17}
# The start of a JPEG 2000 stream, and where its header states the number of channels and their bits
# (ISO/IEC 15444-1, A.5.1).
SIZES, CHANNELS, FIRST_DEPTH = b"\xff\x4f\xff\x51", 36, 38
# Tags of TIFF, which Pillow does not honour in pictures of 16 bits.
BITS, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0


def read(options: DatasetOptions, archives: list[Path], scratch: Path) -> Arrays:
    """The pictures below `path`, each cropped to a square and resized to `side` pixels.

    Classes are the folders' names in alphabetical order. Files whose name begins with a dot are
    left out; what else lies beside train and test is named and left out.

    The formats are those of FORMATS. A picture is turned as its EXIF orientation says and converted
    to RGB; colour profiles are ignored. Transparent pixels are laid on white. In grey with 16 bits,
    a value v becomes v / 257, rounded. Of several frames or pages the first counts. The square is
    cut from the middle.

    Raises:
        ImclError: a split or class is missing or empty, something in it is not a picture of a
            class, or files cannot be used: damaged, of another format, larger than
            `max_megapixels`, of whole numbers with 32 bits or a sign, of floating-point numbers, or
            with more than 8 bits in colour or with transparency.
            The message lists them: no picture is skipped silently.
    """
    assert options.path is not None and options.side is not None  # SOURCES says that it needs them
    root, side = Path(options.path), options.side
    faults: list[str] = []
    classes = {split: _classes(root / split, faults) for split in SPLITS}
    _refuse(root, "that are no pictures of a class", faults)
    names = sorted(classes["train"])
    if names != sorted(classes["test"]):
        different = sorted(set(names) ^ set(classes["test"]))
        raise ImclError(f"{root}: train and test have different classes: {', '.join(different)}")
    if len(names) < 2:
        raise ImclError(
            f"{root / 'train'}: only one class; make a folder for each class, two at least"
        )
    beside = [printable(path.name) for path in entries(root) if path.name not in SPLITS]
    if beside:
        say(f"{root}: only train and test are used, not {', '.join(beside)}")
    images: dict[str, Images] = {}
    labels: dict[str, Labels] = {}
    for split, found in classes.items():
        files = [file for name in names for file in found[name]]
        labels[split] = np.repeat(np.arange(len(names)), [len(found[name]) for name in names])
        pictures = _images(files, side, options.max_megapixels, faults)
        images[split] = store(scratch / f"{split}_images.npy", pictures)
    _refuse(root, "that cannot be used", faults)
    return Arrays(images["train"], labels["train"], images["test"], labels["test"], tuple(names))


def _refuse(root: Path, what: str, faults: list[str]) -> None:
    """Raise ImclError if there are faults; some are listed, all are counted."""
    if faults:
        more = f"\n  ... and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
        listed = "\n  ".join(map(printable, faults[:LISTED]))
        raise ImclError(
            f"{root}: files {what}: {len(faults)}; mend, move or remove them:\n  {listed}{more}"
        )


def _classes(folder: Path, faults: list[str]) -> dict[str, list[Path]]:
    """The files of each class, sorted by name; what is no file of a class goes to `faults`."""
    if not folder.is_dir():
        raise ImclError(f"{folder}: no such folder; pictures go to {folder}/CLASS/")
    found: dict[str, list[Path]] = {}
    for path in entries(folder):
        if not path.is_dir():
            faults.append(f"{path}: {_kind(path)}, outside the folders of the classes")
        elif not is_plain(path.name):
            faults.append(f"{path}: a class whose name has characters that cannot be printed")
        else:
            found[path.name] = entries(path)
            faults += (f"{file}: {_kind(file)}" for file in found[path.name] if not file.is_file())
    for name, files in found.items():
        if not files:
            raise ImclError(f"{folder / name}: has no files")
    return found


def _kind(path: Path) -> str:
    """What lies there."""
    if path.is_dir():
        return "a folder inside a class"
    if path.is_file():
        return "a file"
    return "a device or a pipe" if path.exists() else "a link that leads nowhere"


@contextmanager
def _limit(megapixels: int) -> Iterator[None]:
    """Let Pillow refuse larger pictures, also those that hide in others, before it unpacks them."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = megapixels * 1_000_000
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _images(files: list[Path], side: int, megapixels: int, faults: list[str]) -> Iterator[Images]:
    """Blocks uint8 (n, side, side, 3); a picture that cannot be used is black and in `faults`."""
    step = max(1, BLOCK_BYTES // (3 * side**2))
    for start in range(0, len(files), step):
        some = files[start : start + step]
        block = np.zeros((len(some), side, side, 3), np.uint8)
        for index, file in enumerate(some):
            try:
                block[index] = square(file, side, megapixels)
            except ImclError as error:
                faults.append(str(error))
        yield block


def square(file: Path, side: int, megapixels: int) -> Images:
    """A picture as `read` gives it, uint8 (side, side, 3).

    Raises:
        ImclError: it cannot be used.
    """
    try:
        with _limit(megapixels), Image.open(file, formats=FORMATS) as image:
            return np.asarray(ImageOps.fit(_rgb(image), (side, side), Image.Resampling.BICUBIC))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        fault = (
            f"more than {megapixels} megapixels; make it smaller, or raise max_megapixels of the "
            "dataset"
        )
    except UnidentifiedImageError:
        fault = f"damaged, or of none of the formats {', '.join(FORMATS)}"
    except MemoryError:
        raise
    except Exception as error:  # a damaged picture can fail in any way
        fault = str(getattr(error, "strerror", None) or error)
    raise ImclError(f"{file}: {fault}")


def _rgb(image: ImageFile) -> Image.Image:
    """The picture upright, in 8-bit RGB, on white.

    Raises:
        ImclError: its values have no scale that is known, or would be cut off.
    """
    grey16 = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
    if image.mode in UNSCALED and not grey16:
        raise ImclError(f"its values are {UNSCALED[image.mode]}; {REMEDY}")
    bits = _bits(image)
    if grey16 and image.format == "TIFF" and bits < 16:
        raise ImclError(f"its values have {bits} bits; {REMEDY}")
    if not grey16 and bits > 8:
        raise ImclError(
            f"its channels have {bits} bits, of which {bits - 8} would be cut; {REMEDY}"
        )
    inverted = grey16 and getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO
    transparent = image.info.get("transparency")
    if image.format == "PNG" and _how(image) in GREY_SCALES and transparent is not None:
        image.info["transparency"] = transparent * GREY_SCALES[_how(image)]
    upright = ImageOps.exif_transpose(image)
    if grey16:
        values = np.asarray(upright).astype(np.uint32)
        if inverted:
            values = 65535 - values
        if transparent is not None:
            values[values == transparent] = 65535
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if upright.has_transparency_data:
        clear = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    return upright.convert("RGB")


def _bits(image: ImageFile) -> int:
    """How many bits the largest value of a channel has in the file; 8 where it cannot have more."""
    how = _how(image)
    if image.format == "TIFF":
        return max(getattr(image, "tag_v2", {}).get(BITS, (1,)))
    if image.format == "PNG":
        return 16 if str(how).endswith(";16B") else 8
    if image.format == "PPM":  # the mode alone, or with the largest value
        return how[1].bit_length() if isinstance(how, tuple) else 8
    if image.format == "JPEG2000":
        assert image.fp is not None, "an open file"
        image.fp.seek(0)
        header = image.fp.read().partition(SIZES)[2]
        channels = int.from_bytes(header[CHANNELS:FIRST_DEPTH])
        depths = header[FIRST_DEPTH : FIRST_DEPTH + 3 * channels : 3]
        return max((depth & 0x7F) + 1 for depth in depths)
    return 8


def _how(image: ImageFile) -> Any:
    """What Pillow tells its decoder of how the file holds the values."""
    return image.tile[0].args if image.tile else None
