"""The datasets: where each comes from. A source is one entry here and one module of its name.

The module has a function `read(archives: list[Path]) -> Arrays`. It is imported when first used,
since the grid needs only the names.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """An official file: its name, address, size in bytes and checksum.

    `md5` stands in where the source publishes no SHA-256.
    """

    name: str
    url: str
    size: int
    sha256: str | None
    md5: str | None = None


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
            None,
            "91f7769df0f17e558f3565bffb0c7dfb",
        ),
    ),
}
