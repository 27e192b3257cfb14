"""Where data and labels come from, and the options of a dataset and of label noise.

A source is an entry in `SOURCES` and a module imcl.data.NAME. A kind of label noise is an entry in
`KINDS` and a module imcl.noise.NAME.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple, Protocol, Self

from pydantic import (
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    Strict,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic.config import JsonValue
from pydantic_core import InitErrorDetails, PydanticCustomError

from imcl.errors import unknown
from imcl.study.spec import Open, Options, Seed, Share, Text, fault, validated

# In place of a seed: each run draws with the seed of its own training.
PerRun = Literal["per_run"]
PER_RUN: Final = "per_run"

_SEED = TypeAdapter[int](Annotated[Seed, Strict()])


def _drawn(value: object, _: ValidatorFunctionWrapHandler) -> object:
    """A seed or `per_run`. A union of the two would report both faults of a wrong value."""
    if value == PER_RUN:
        return value
    if isinstance(value, str) and not value[:1].isdigit():
        raise PydanticCustomError("unfit", unknown("seed", value, [PER_RUN, "a whole number"]))
    return _SEED.validate_python(value)


DrawSeed = Annotated[Seed | PerRun, WrapValidator(_drawn)]

# Options of a dataset that need each other.
TOGETHER = (
    ("train_size", "subset_seed"),
    ("subset_seed", "train_size"),
    ("validation_share", "validation_seed"),
    ("validation_seed", "validation_share"),
)


@dataclass(frozen=True)
class Archive:
    """An official file: its name, address, size in bytes and checksum.

    `md5` is for sources that publish no SHA-256. A file `behind_login` is placed by the user, as
    `name` or as `other_form`; its address is the page that offers it.
    """

    name: str
    url: str
    size: int
    sha256: str | None = None
    md5: str | None = None
    behind_login: bool = False
    other_form: str | None = None

    @property
    def is_published(self) -> bool:
        """Whether a checksum is published."""
        return bool(self.sha256 or self.md5)

    def path(self, folder: Path) -> Path:
        """The file in `folder`: `other_form` if only that is there, `name` if not."""
        usual = folder / self.name
        if self.other_form and not usual.exists() and (folder / self.other_form).exists():
            return folder / self.other_form
        return usual


class Size(NamedTuple):
    """How large a source is.

    Attributes:
        train: training images.
        test: test images.
        side: of an image, in pixels.
        channels: of an image.
        classes: how many.
        fold: training images in each official fold, if there are folds.
    """

    train: int
    test: int
    side: int
    channels: int
    classes: int
    fold: int | None = None


class Counts(NamedTuple):
    """How many pictures of your own there are, and of how many classes."""

    train: int
    test: int
    classes: int


class Contents(Protocol):
    """What a project's own files hold, which no published checksum fixes."""

    def pictures(self, folder: str) -> str | None:
        """The digest of the pictures in `path` of a dataset; None if there are none."""

    def counts(self, folder: str) -> Counts | None:
        """How many pictures there are in `path` of a dataset; None if there are none."""

    def archives(self, archives: Sequence[Archive]) -> str | None:
        """The digest of those archives that are not the published files; None if there are none."""

    def weights(self, file: str) -> str | None:
        """The SHA-256 of `weights` of a backbone; None if there is no such file."""


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from.

    Attributes:
        archives: its official files.
        size: None if it is known only from the data. Only the cost of a study depends on it.
        needs: options that a dataset from this source must have. A dataset from a source that does
            not need them may not have them.
        may: options that a dataset from this source may have, and one from another may not.
        lacks: further options that a dataset from this source may not have.
    """

    archives: tuple[Archive, ...] = ()
    size: Size | None = None
    needs: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()


SOURCES: dict[str, Source] = {
    "digits": Source(size=Size(1437, 360, side=8, channels=1, classes=10)),
    "cifar10": Source(
        (
            Archive(
                "cifar-10-python.tar.gz",
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                170_498_071,
                "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            ),
        ),
        Size(50_000, 10_000, side=32, channels=3, classes=10),
    ),
    "cifar100": Source(
        (
            Archive(
                "cifar-100-python.tar.gz",
                "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
                169_001_437,
                "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
            ),
        ),
        Size(50_000, 10_000, side=32, channels=3, classes=100),
    ),
    "stl10": Source(
        (
            Archive(
                "stl10_binary.tar.gz",
                "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
                2_640_397_119,
                md5="91f7769df0f17e558f3565bffb0c7dfb",
            ),
        ),
        Size(5_000, 8_000, side=96, channels=3, classes=10, fold=1_000),
    ),
    # No checksum is published, so the reader counts the images. The size of the training file is
    # what users report. The size of the other is estimated from its number of images.
    "imagenet32": Source(
        (
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
        Size(1_281_167, 50_000, side=32, channels=3, classes=1_000),
    ),
    "folder": Source(needs=("path", "side"), may=("max_megapixels",), lacks=("fold",)),
}


@dataclass(frozen=True)
class Kind:
    """A kind of label noise; its attributes are those of `Source`."""

    archives: tuple[Archive, ...] = ()
    needs: tuple[str, ...] = ("rate", "noise_seed")
    may: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {
    "symmetric": Kind(),
    "symmetric_inclusive": Kind(),
    "asymmetric": Kind(),
    "pair": Kind(),
    "instance": Kind(),
    "human": Kind(
        (
            Archive(
                "CIFAR-10_human.pt",
                "https://raw.githubusercontent.com/UCSC-REAL/cifar-10-100n/main/data/CIFAR-10_human.pt",
                2_401_007,
                "873e69c39cb9b5e97fb6bae2d60bb59b38a5cbc31d2b868f7903dcb2b9dd2310",
            ),
        ),
        needs=("labels",),
    ),
}


def misfits(
    entry: object, key: str, known: Mapping[str, Source | Kind]
) -> Iterator[InitErrorDetails]:
    """The options that an entry of params.yaml lacks or may not have, given its source or kind.

    Args:
        entry: a dataset or noise, as it was read.
        key: the option that names the source or kind.
        known: the registry.
    """
    chosen = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(chosen, str) or chosen not in known:
        return
    for option in known[chosen].needs:
        if option not in entry:
            yield fault((option,), "missing", "missing", entry)
    for option in foreign(chosen, known):
        if option in entry:
            message = (
                f"{key} {chosen} has no option {option}; leave it out, or choose another {key}"
            )
            yield fault((option,), message, value=entry[option])


def foreign(chosen: str, known: Mapping[str, Source | Kind]) -> tuple[str, ...]:
    """The options that an entry with this source or kind cannot have."""
    special = dict.fromkeys(o for of in known.values() for o in (*of.needs, *of.may))
    own = known[chosen]
    return (*own.lacks, *(option for option in special if option not in own.needs + own.may))


def conditions(key: str, known: Mapping[str, Source | Kind]) -> list[JsonValue]:
    """What `misfits` checks, as JSON schema."""
    alike: dict[tuple[tuple[str, ...], ...], list[JsonValue]] = {}
    for name, of in known.items():
        alike.setdefault((of.needs, foreign(name, known)), []).append(name)
    return [
        {
            "if": {"required": [key], "properties": {key: {"enum": names}}},
            "then": {"required": [*needs], "properties": dict.fromkeys(others, False)},
        }
        for (needs, others), names in alike.items()
    ]


class DatasetOptions(Options):
    """A dataset: a source or a part of one, and how its images are augmented."""

    source: str = Field(
        description="where the images come from", json_schema_extra={"enum": [*SOURCES]}
    )
    path: Open[Text] = Field(
        None, description="folder of your pictures, which holds train/CLASS/ and test/CLASS/"
    )
    side: Open[Annotated[int, Field(ge=1, le=4096)]] = Field(
        None, description="your pictures are resized to this many pixels"
    )
    max_megapixels: Annotated[int, Field(ge=1, le=10_000)] = Field(
        100, description="a picture of yours with more million pixels is refused"
    )
    fold: Open[Annotated[int, Field(ge=0, le=1000)]] = Field(
        None, description="train on this official fold only"
    )
    validation_share: Open[Annotated[float, Field(gt=0, lt=1)]] = Field(
        None, description="share of the training images to evaluate on instead of the test images"
    )
    validation_seed: Open[Seed] = Field(
        None,
        description="seed that draws the images of validation_share; one for all runs",
    )
    train_size: Open[Annotated[int, Field(ge=1, le=10**9)]] = Field(
        None, description="number of images in a stratified subset"
    )
    subset_seed: Open[DrawSeed] = Field(
        None,
        description="seed that draws the images of train_size; per_run: the seed of each training",
    )
    padding: int = Field(
        ge=0, le=1024, description="pixels added on each side before the random crop"
    )
    flip: bool = Field(description="mirror each image with probability 1/2")

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": conditions("source", SOURCES),
            "dependentRequired": {one: [other] for one, other in TOGETHER},
        }
    )

    @model_validator(mode="wrap")
    @classmethod
    def _fits_its_source(cls, entry: object, validate: ModelWrapValidatorHandler[Self]) -> Self:
        found = [*misfits(entry, "source", SOURCES)]
        for one, other in TOGETHER:
            if isinstance(entry, dict) and one in entry and other not in entry:
                found.append(fault((), f"{one} without {other}; give both or neither"))
        options: Self = validated(entry, validate, found)
        return options


class NoiseOptions(Options):
    """Label noise: how the labels of the training images are changed."""

    kind: str = Field(
        description="how wrong labels are chosen", json_schema_extra={"enum": [*KINDS]}
    )
    rate: Open[Share] = Field(None, description="nominal share of wrong labels")
    noise_seed: Open[DrawSeed] = Field(
        None, description="seed that draws the labels; per_run: the seed of each training"
    )
    labels: Open[Literal["aggre", "random1", "random2", "random3", "worse"]] = Field(
        None, description="which set of CIFAR-10N's labels"
    )

    model_config = ConfigDict(json_schema_extra={"allOf": conditions("kind", KINDS)})

    @model_validator(mode="wrap")
    @classmethod
    def _fits_its_kind(cls, entry: object, validate: ModelWrapValidatorHandler[Self]) -> Self:
        options: Self = validated(entry, validate, [*misfits(entry, "kind", KINDS)])
        return options
