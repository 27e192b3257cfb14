"""The datasets: where each comes from. A source is one entry here and one module of its name.

The module has a function `read(config, archives, scratch) -> Arrays`: the dataset's entry in
params.yaml, its files, and a folder for what is too large for memory. It is imported when first
used, since the grid needs only the names.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Archive:
    """An official file: its name, address, size in bytes and checksum.

    `md5` stands in where the source publishes no SHA-256. A file `behind_login` is placed by the
    user, as `name` or as `other_form`; its address is the page where it can be had.
    """

    name: str
    url: str
    size: int
    sha256: str | None = None
    md5: str | None = None
    behind_login: bool = False
    other_form: str | None = None

    def path(self, folder: Path) -> Path:
        """Where it lies or would lie in `folder`; under its other form's name if only that does."""
        usual = folder / self.name
        if self.other_form and not usual.exists() and (folder / self.other_form).exists():
            return folder / self.other_form
        return usual


SOURCES: dict[str, tuple[Archive, ...]] = {
    "digits": (),
    "cifar10": (
        Archive(
            "cifar-10-python.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            170_498_071,
            "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        ),
    ),
    "cifar100": (
        Archive(
            "cifar-100-python.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            169_001_437,
            "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        ),
    ),
    "stl10": (
        Archive(
            "stl10_binary.tar.gz",
            "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
            2_640_397_119,
            md5="91f7769df0f17e558f3565bffb0c7dfb",
        ),
    ),
    # No checksum is published, so the reader counts the images. Sizes: the training file's as
    # its users report it, the other one's in its proportion.
    "imagenet32": (
        Archive(
            "Imagenet32_train.zip",
            "https://image-net.org/download-images.php",
            3_590_350_354,
            behind_login=True,
            other_form="Imagenet32_train_npz.zip",
        ),
        Archive(
            "Imagenet32_val.zip",
            "https://image-net.org/download-images.php",
            140_000_000,
            behind_login=True,
            other_form="Imagenet32_val_npz.zip",
        ),
    ),
    "folder": (),
}
