"""A folder of the user's own pictures."""

import errno
import os
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, TiffImagePlugin

from imcl.data import folder
from imcl.data.arrays import Arrays, store
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


def read(tree: Path, side: int = 4, **options) -> Arrays:
    scratch = tree.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    entry = {"source": "folder", "path": str(tree), "side": side, "padding": 0, "flip": False}
    return folder.read(DatasetOptions(**entry, **options), [], scratch)


@pytest.mark.parametrize(("side", "pictures"), [(4, 3), (1448, 1)])
def test_pictures_are_in_memory_a_few_megabytes_at_a_time(tree, monkeypatch, side, pictures):
    sizes: list[int] = []

    def spy(path: Path, blocks: Iterator[np.ndarray]) -> np.ndarray:
        parts = [*blocks]
        sizes.extend(len(part) for part in parts)
        return store(path, parts)

    monkeypatch.setattr(folder, "store", spy)
    read(tree, side)
    assert max(sizes) == pictures
    assert sum(sizes) == 5


def rose(tree: Path, side: int) -> np.ndarray:
    """The first picture of the class roses, uint8 (side, side, 3)."""
    return read(tree, side).train_images[1]


def png(
    depth: int,
    colour: int,
    rows: np.ndarray,
    *chunks: tuple[bytes, bytes],
    size: tuple[int, int] | None = None,
) -> bytes:
    """A PNG of these samples, uint8 or uint16 (height, width * channels); W3C's PNG, section 11.

    Pillow writes no colours with 16 bits. `size` is what the header says instead of the truth.
    """
    width = rows.shape[1] // {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    data = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in rows)
    header = (
        b"IHDR",
        struct.pack(">II", *size or (width, len(rows))) + bytes([depth, colour, 0, 0, 0]),
    )
    parts = (header, *chunks, (b"IDAT", zlib.compress(data)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )


# Every value of 16 bits once, and what it is with 8: 65535 = 257 * 255.
RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)
EIGHT = np.rint(RAMP / 257)


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

    with pytest.raises(
        ImclError, match="files that cannot be used: 2; mend, move or remove"
    ) as caught:
        read(tree)

    assert "train/roses/broken.png" in str(caught.value)
    assert "test/leaves/half.png" in str(caught.value)
    assert ".DS_Store" not in str(caught.value)


def test_of_many_unreadable_files_some_are_listed_and_all_counted(tree):
    for i in range(25):
        (tree / f"train/roses/{i}.png").write_bytes(b"no picture")

    with pytest.raises(ImclError, match=r"(?s)that cannot be used: 25;.*and 5 more$"):
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


# grey with 16 bits ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("png", {}),
        ("tiff", {}),
        ("tiff", {"compression": "tiff_lzw"}),
        ("tiff", {"compression": "tiff_adobe_deflate"}),
        ("jp2", {}),
    ],
)
def test_grey_with_16_bits_keeps_its_scale(tree, kind, options):
    (tree / "train/roses/a.png").unlink()
    Image.fromarray(RAMP).save(tree / f"train/roses/a.{kind}", **options)

    assert (rose(tree, 256) == EIGHT[..., None]).all()


def test_grey_with_16_bits_in_the_other_order_of_bytes(tree):
    Image.fromarray(RAMP.astype(">u2")).save(tree / "train/roses/a.png", "TIFF")
    assert (rose(tree, 256) == EIGHT[..., None]).all()


def test_grey_with_16_bits_in_a_pgm(tree):
    content = b"P5 256 256 65535\n" + RAMP.astype(">u2").tobytes()
    (tree / "train/roses/a.png").write_bytes(content)
    assert (rose(tree, 256) == EIGHT[..., None]).all()


def test_white_may_be_zero(tree):
    """TIFF 6.0, PhotometricInterpretation 0: 0 is white, the largest value black."""
    white_is_zero = TiffImagePlugin.ImageFileDirectory_v2()
    white_is_zero[262] = 0
    Image.fromarray(RAMP).save(tree / "train/roses/a.png", "TIFF", tiffinfo=white_is_zero)
    assert (rose(tree, 256) == 255 - EIGHT[..., None]).all()


def test_grey_with_16_bits_is_turned(tree):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    Image.fromarray(RAMP).save(tree / "train/roses/a.png", exif=exif)
    assert (rose(tree, 256) == np.rot90(EIGHT, -1)[..., None]).all()


def test_a_turned_tiff_is_turned_once(tree):
    stored = Image.new("RGB", (4, 4), BLUE)
    stored.putpixel((0, 0), RED)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[274] = 6
    stored.save(tree / "train/roses/a.png", "TIFF", tiffinfo=tags)
    assert np.argwhere((rose(tree, 4) == RED).all(2)).tolist() == [[0, 3]]


# what has no scale ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "reason"),
    [
        ("int32", "whole numbers of 32 bits or with a sign"),
        ("uint32", "whole numbers of 32 bits or with a sign"),
        ("int16", "whole numbers of 32 bits or with a sign"),
        ("float32", "floating-point numbers"),
    ],
)
def test_numbers_without_a_scale_are_refused_by_name(tree, dtype, reason):
    kinds = {"int32": (32, 2), "uint32": (32, 1), "int16": (16, 2), "float32": (32, 3)}
    (tree / "train/roses/a.png").write_bytes(tiff(np.full((2, 2), 7, dtype), *kinds[dtype]))

    with pytest.raises(ImclError, match=f"its values are {reason}; save it with 8 bits") as caught:
        read(tree)

    assert "train/roses/a.png: " in str(caught.value)


def tiff(values: np.ndarray, bits: int, sample_format: int, photometric: int = 1) -> bytes:
    """A little-endian TIFF of these samples, (height, width) or (height, width, 3)."""
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    channels = values.shape[2] if values.ndim == 3 else 1
    tags = [
        *[(256, values.shape[1]), (257, len(values)), (258, bits), (259, 1), (262, photometric)],
        *[(273, 8), (277, channels), (278, len(values)), (279, len(data)), (339, sample_format)],
    ]
    place = 8 + len(data)
    after = place + 2 + 12 * len(tags) + 4
    entries, extra = b"", b""
    for tag, value in tags:
        if tag == 258 and channels > 1:  # too long for its entry, so it stands behind
            entries += struct.pack("<HHII", tag, 3, channels, after)
            extra = struct.pack(f"<{channels}H", *[value] * channels)
        else:
            entries += struct.pack("<HHII", tag, 4, 1, value)
    head = b"II*\0" + struct.pack("<I", place)
    return head + data + struct.pack("<H", len(tags)) + entries + bytes(4) + extra


def bmp_565(colour: int) -> bytes:
    """A BMP of 2 x 2 pixels of 16 bits, whose masks give red 5, green 6 and blue 5 of them."""
    header = struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 16, 3, 8, 0, 0, 0, 0)
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    pixels = struct.pack("<4H", *[colour] * 4)
    return struct.pack("<2sIHHI", b"BM", 74, 0, 0, 66) + header + masks + pixels


def test_12_bits_are_refused_by_name(tree):
    """Two values of 12 bits fill three bytes."""
    packed = tiff(np.full((2, 3), 255, np.uint8), 12, 1).replace(
        struct.pack("<HHII", 256, 4, 1, 3), struct.pack("<HHII", 256, 4, 1, 2)
    )
    (tree / "train/roses/a.png").write_bytes(packed)
    with pytest.raises(ImclError, match=r"a\.png: its values have 12 bits; save it with 8"):
        read(tree)


def jpeg_2000(bits: int) -> bytes:
    """A header that says how many bits each of three channels has; ISO/IEC 15444-1, A.5.1."""
    file = BytesIO()
    Image.new("RGB", (4, 4)).save(file, "JPEG2000")
    content = bytearray(file.getvalue())
    header = content.index(b"\xff\x51")
    for channel in range(3):
        content[header + 40 + 3 * channel] = bits - 1
    return bytes(content)


DEEP = np.full((2, 6), 1000, np.uint16)


@pytest.mark.parametrize(
    "content",
    [
        png(16, 2, DEEP),
        png(16, 6, np.full((2, 8), 1000, np.uint16)),
        png(16, 4, np.full((2, 4), 1000, np.uint16)),
        tiff(DEEP.reshape(2, 2, 3), 16, 1, photometric=2),
        b"P6 2 2 65535\n" + DEEP.astype(">u2").tobytes(),
        b"P3 2 2 65535\n" + b"1000 " * 12,
        jpeg_2000(16),
    ],
    ids=["RGB PNG", "RGBA PNG", "LA PNG", "RGB TIFF", "P6", "P3", "JPEG 2000"],
)
def test_more_than_8_bits_in_colour_or_with_transparency_are_refused_with_the_remedy(tree, content):
    (tree / "train/roses/a.png").write_bytes(content)
    with pytest.raises(
        ImclError,
        match=r"a\.png: its channels have 16 bits, of which 8 would be cut; save it with 8 bits a "
        "channel, or in grey with 16 bits and without transparency",
    ):
        read(tree)


@pytest.mark.parametrize(("largest", "bits"), [(4095, 12), (256, 9)])
def test_the_bits_that_would_be_cut_are_counted(tree, largest, bits):
    (tree / "train/roses/a.png").write_bytes(b"P6 2 2 %d\n" % largest + bytes(24))
    with pytest.raises(ImclError, match=f"channels have {bits} bits, of which {bits - 8} would"):
        read(tree)


@pytest.mark.parametrize(
    "content",
    [
        b"P6 2 2 255\n" + bytes([255, 0, 0] * 4),
        b"P6 2 2 100\n" + bytes([100, 0, 0] * 4),
        b"P3 2 2 3\n" + b"3 0 0 " * 4,
        bmp_565(0xF800),
    ],
    ids=["PPM", "PPM of another largest value", "plain PPM", "BMP of 5, 6 and 5 bits"],
)
def test_no_more_than_8_bits_are_taken(tree, content):
    (tree / "train/roses/a.png").write_bytes(content)
    assert (rose(tree, 2) == RED).all()


def test_other_formats_are_refused_by_name(tree):
    """SGI with 16 bits, which Pillow would cut to 8."""
    (tree / "train/roses/a.png").write_bytes(
        struct.pack(">hBBHHHH", 474, 0, 2, 3, 2, 2, 3).ljust(512, b"\0") + bytes(24)
    )
    with pytest.raises(ImclError) as refused:
        read(tree)
    assert str(refused.value).endswith(
        f"\n  {tree}/train/roses/a.png: damaged, or of none of the formats PNG, JPEG, TIFF, GIF, "
        "BMP, WEBP, PPM, JPEG2000"
    )


def test_no_program_is_run_for_a_picture(tree, tmp_path, monkeypatch):
    """PostScript under another name, which Pillow would have Ghostscript run."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    (tree / "train/roses/a.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(ImclError, match=r"a\.png: damaged, or of none of the formats PNG"):
        read(tree)
    assert not (tmp_path / "ran").exists()


def test_a_picture_that_cannot_be_opened_is_named_once(tree, monkeypatch):
    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(folder.Image, "open", refuse)
    with pytest.raises(ImclError, match=r"\n  \S+/roses/a\.png: Permission denied(\n|$)"):
        read(tree)


def test_too_little_memory_is_no_fault_of_a_picture(tree, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(folder.Image, "open", refuse)
    with pytest.raises(MemoryError):
        read(tree)


# transparency -----------------------------------------------------------------------------------

WHITE = (255, 255, 255)


@pytest.mark.parametrize(
    ("mode", "content"),
    [
        ("RGBA", (255, 0, 0, 0)),
        ("LA", (0, 0)),
    ],
)
def test_transparent_pixels_are_white_whatever_is_beneath(tree, mode, content):
    Image.new(mode, (4, 4), content).save(tree / "train/roses/a.png")
    assert (rose(tree, 4) == WHITE).all()


def test_half_transparent_pixels_are_laid_on_white(tree):
    """Red of opacity 0.4: 255 red, and 255 * (1 - 0.4) = 153 of the others."""
    Image.new("RGBA", (4, 4), (255, 0, 0, 102)).save(tree / "train/roses/a.png")
    assert (rose(tree, 4) == (255, 153, 153)).all()


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_entry_of_a_palette_is_white(tree, kind):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 255, 255, 0, 0])
    image.putpixel((0, 0), 0)
    image.save(tree / "train/roses/a.png", kind, transparency=1)
    found = rose(tree, 4)
    assert found[0, 0].tolist() == [0, 0, 255]
    assert (found.reshape(-1, 3)[1:] == WHITE).all()


def test_a_transparent_colour_is_white(tree):
    """PNG's tRNS names one colour; another that differs by one stays."""
    grey = png(8, 0, np.array([[10, 11], [10, 11]], np.uint8), (b"tRNS", b"\0\x0a"))
    (tree / "train/roses/a.png").write_bytes(grey)
    assert rose(tree, 2)[0].tolist() == [[255] * 3, [11] * 3]
    deep = png(16, 0, np.array([[0, 257], [0, 257]], np.uint16), (b"tRNS", b"\0\0"))
    (tree / "train/roses/a.png").write_bytes(deep)
    assert rose(tree, 2)[0].tolist() == [[255] * 3, [1] * 3]


@pytest.mark.parametrize(
    ("depth", "row"),
    [(1, [0b01000000]), (2, [0b00010000]), (4, [0x01]), (8, [0, 1]), (16, [0, 0, 0, 1])],
)
@pytest.mark.parametrize("transparent", [0, 1])
def test_a_transparent_grey_is_white_at_every_depth(tree, depth, row, transparent):
    """Two pixels, 0 and 1, of which one is transparent; the other keeps its shade."""
    content = png(
        depth,
        0,
        np.array([row, row], np.uint8),
        (b"tRNS", bytes([0, transparent])),
        size=(2, 2),
    )
    (tree / "train/roses/a.png").write_bytes(content)
    shades = [0, round(255 / (2**depth - 1))]
    shades[transparent] = 255
    assert rose(tree, 2)[:, :, 0].tolist() == [shades, shades]


@pytest.mark.parametrize("kind", ["GIF", "MPO", "PNG", "TIFF", "WEBP"])
def test_of_several_frames_the_first_counts(tree, kind):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (GREEN, BLUE, RED)]
    options = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(
        tree / "train/roses/a.png", kind, save_all=True, append_images=frames[1:], **options
    )
    assert np.abs(rose(tree, 4).astype(int) - GREEN).max() <= 1  # an MPO holds JPEGs


def test_cmyk_ink_takes_light_away(tree):
    """Full cyan leaves no red; half black leaves half of the rest."""
    Image.new("CMYK", (4, 4), (255, 0, 0, 127)).save(tree / "train/roses/a.png", "TIFF")
    assert (rose(tree, 4) == (0, 128, 128)).all()


# what is no picture of a class ------------------------------------------------------------------


def test_everything_that_is_no_picture_of_a_class_is_named(tree):
    picture(tree / "train/stray.png", RED)
    picture(tree / "train/roses/more/c.png", RED)
    (tree / "train/roses/gone.png").symlink_to("nowhere.png")
    (tree / "train/roses/loop.png").symlink_to("loop.png")
    (tree / "test/lost").symlink_to("nowhere")
    os.mkfifo(tree / "test/roses/pipe.png")
    os.mkfifo(tree / "test/pipe")

    with pytest.raises(ImclError, match="that are no pictures of a class: 7;") as caught:
        read(tree)

    for place, kind in {
        "train/stray.png": "a file, outside the folders of the classes",
        "train/roses/more": "a folder inside a class",
        "train/roses/gone.png": "a link that leads nowhere",
        "train/roses/loop.png": "a link that leads nowhere",
        "test/lost": "a link that leads nowhere, outside the folders of the classes",
        "test/roses/pipe.png": "a device or a pipe",
        "test/pipe": "a device or a pipe, outside the folders of the classes",
    }.items():
        assert f"{tree / place}: {kind}" in str(caught.value)


def test_links_to_pictures_and_to_classes_are_followed(tree):
    (tree / "test/roses").rename(tree.parent / "elsewhere")
    (tree / "test/roses").symlink_to(tree.parent / "elsewhere")
    (tree / "train/roses/c.png").symlink_to(tree / "train/leaves/b.png")
    assert read(tree).train_images[:, 0, 0].tolist() == [
        [0, 255, 0],
        *[[255, 0, 0]] * 2,
        [0, 255, 0],
    ]


def test_a_class_that_contains_itself_is_refused(tree):
    for split in ("train", "test"):
        (tree / split / "self").symlink_to(".")
    with pytest.raises(ImclError, match="self/leaves: a folder inside a class"):
        read(tree)


def test_what_lies_beside_train_and_test_is_named(tree, capsys):
    picture(tree / "val/roses/a.png", RED)
    (tree / "LICENCE").touch()
    read(tree)
    assert "only train and test are used, not LICENCE, val\n" in capsys.readouterr().err


def test_names_that_a_terminal_would_obey_are_escaped(tree):
    (tree / "train/roses/\x1b[2J.png").write_bytes(b"")
    with pytest.raises(ImclError, match="cannot be used: 1;") as caught:
        read(tree)
    assert str(caught.value).replace("\n", "").isprintable()
    for split in ("train", "test"):
        picture(tree / split / "bell\x07/a.png", RED)
    with pytest.raises(ImclError, match=r"bell\\x07: a class whose name has characters"):
        read(tree)


# a limit of pixels ------------------------------------------------------------------------------


def promise(width: int, height: int) -> bytes:
    """A PNG whose header says that it is so large; it holds one pixel."""
    return png(8, 2, np.zeros((1, 3), np.uint8), size=(width, height))


@pytest.mark.parametrize(("width", "height"), [(12_000, 11_000), (100_000, 100_000)])
def test_a_picture_of_more_pixels_than_the_limit_is_refused(tree, width, height):
    (tree / "train/roses/a.png").write_bytes(promise(width, height))
    limit = Image.MAX_IMAGE_PIXELS

    with pytest.raises(
        ImclError, match=r"a\.png: more than 100 megapixels; .* raise max_megapixels"
    ):
        read(tree)

    assert limit == Image.MAX_IMAGE_PIXELS


def test_the_limit_can_be_raised(tree):
    """The header promises more than the file holds: only then is it read at all."""
    (tree / "train/roses/a.png").write_bytes(promise(12_000, 11_000))
    with pytest.raises(ImclError, match=r"a\.png: (image file is truncated|.*unrecognized)"):
        read(tree, max_megapixels=132)
    picture(tree / "train/roses/a.png", RED, (1001, 1000))
    assert (rose(tree, 4) == RED).all()
    with pytest.raises(ImclError, match="more than 1 megapixels"):
        read(tree, max_megapixels=1)
