"""Expands a study into cells, each with a digest of everything that decides its result.

The name of a file ends with the digest of what it depends on. So after a change of a parameter the
file with the new name is missing and is made, whatever the file times say and whichever engine
(Snakemake or DVC) ran last.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any, Literal, NamedTuple, NotRequired, Self

from typing_extensions import TypedDict  # pydantic cannot check typing's before Python 3.12

from imcl.errors import UsageError, unknown
from imcl.study import methods
from imcl.study.backbones import ForeignOptions
from imcl.study.options import DEFAULT, WAYS, Baseline, Way
from imcl.study.settings import Candidate, Grid, Settings, Training, Tried
from imcl.study.sources import (
    KINDS,
    PER_RUN,
    SOURCES,
    Archive,
    Contents,
    Counts,
    DatasetOptions,
    NoiseOptions,
)

# Raise a number by hand when a change to the code is meant to change results. It changes the digest
# of everything that uses the component: "data", "validation", "noise", "train", "evaluate", or a
# kind of noise, backbone, precision, way or baseline by its name. A component that is not listed is
# at 1.
REVISIONS: dict[str, int] = {
    "bf16": 2,
    "coteaching": 2,
    "instance": 2,
    "resnet18": 2,
    "tf32": 2,
    "validation": 3,
}

# Options of a dataset that do not change its stored arrays, because they act only in training.
AUGMENTATION = ("padding", "flip")

# Options that only refuse data, so no result depends on them.
LIMITS = {"max_megapixels"}

NO_PICTURES = "its pictures are not here: bring them, or the data/contents/ that was made of them"


class BackboneConfig(TypedDict):
    """The network.

    Attributes:
        name: as in params.yaml.
        width: channels of the first stage, if it is a backbone of this package.
        source: the library that it is of, if not.
        network: its name there.
        weights: the SHA-256 of the file that its training starts from, if there is one.
    """

    name: str
    width: NotRequired[int]
    source: NotRequired[str]
    network: NotRequired[str]
    weights: NotRequired[str]


class BaselineConfig(TypedDict, total=False):
    """The name and options of the cell's baseline, if it has one."""

    baseline: dict[str, Any]


class CellConfig(BaselineConfig):
    """Everything that decides a cell's result. Records hold it, and the digest is computed from it.

    Attributes:
        dataset: its name and options.
        noise: its name, which may be `clean`, and options.
        backbone: its name, and width or source.
        method: the method's name.
        views: number of augmentations of each image in a step.
        ways: for each way, the options that its variant uses.
        training: as `settings.Training`.
        seeds: in ascending order.
        revisions: of the components that are above 1.
    """

    dataset: dict[str, Any]
    noise: dict[str, Any]
    backbone: BackboneConfig
    method: str
    views: int
    ways: dict[str, dict[str, Any]]
    training: dict[str, Any]
    seeds: list[int]
    revisions: dict[str, int]


def digest(config: object) -> str:
    """The first twelve hex digits of the SHA-256 of a configuration's canonical JSON.

    Keys are sorted and 5.0 is written as 5, so neither order nor spelling matters.
    """
    text = json.dumps(_canonical(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _canonical(value: object) -> object:
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _revisions(*components: str) -> dict[str, int]:
    return {name: REVISIONS[name] for name in components if REVISIONS.get(name, 1) != 1}


# What is drawn at random before training is the same for all runs of a cell, or drawn anew for each
# of them. Over several cells it may be mixed.
Draw = Literal["same", "anew", "mixed"]

Setting = tuple[str, str, str]  # dataset, noise and backbone


@dataclass(frozen=True)
class Dataset:
    """A dataset of params.yaml.

    If its subset is drawn for each run, it has files only as `of_run` gives it.

    Attributes:
        content: of the files that no published checksum fixes, as `Contents` gives it. It takes the
            place of their folder's path in the digest, so the folder may be moved.
        run: the seed of the training for which its subset is drawn; None if all have the same.
        counts: of your own pictures, if their content is known.
    """

    name: str
    options: DatasetOptions
    content: str | None = None
    run: int | None = None
    counts: Counts | None = None

    @property
    def drawn_per_run(self) -> bool:
        """Whether each run is still to draw its own subset."""
        return self.options.subset_seed == PER_RUN

    def of_run(self, seed: int) -> Self:
        """What the training with this seed uses: the same as a dataset with this subset_seed."""
        if not self.drawn_per_run:
            return self
        options = self.options.model_copy(update={"subset_seed": seed})
        return replace(self, options=options, run=seed)

    def of_runs(self, seeds: Iterable[int]) -> list[Self]:
        """What the trainings with these seeds use: one for all of them, or one for each."""
        return list(dict.fromkeys(self.of_run(seed) for seed in seeds))

    @property
    def lacks(self) -> str:
        """Why its records cannot be found; empty unless it is of files whose content is unknown."""
        own = self.options.path or not all(archive.is_published for archive in self.archives)
        return NO_PICTURES if own and self.content is None else ""

    @property
    def words(self) -> list[str]:
        """What names it on the command line."""
        return [self.name, *_run_words(self.run)]

    @cached_property
    def config(self) -> dict[str, Any]:
        """The options that params.yaml states and that decide a result, and the content."""
        return _stated(self.options, self.content)

    @cached_property
    def digest(self) -> str:
        """Of everything that decides the stored arrays."""
        assert not self.drawn_per_run, "only the dataset of a run has arrays"
        stored = {key: value for key, value in self.config.items() if key not in AUGMENTATION}
        return digest({**stored, "revisions": _revisions(*self.components)})

    @property
    def key(self) -> str:
        """The name of its files: its name and digest."""
        return f"{self.name}-{self.digest}"

    @property
    def components(self) -> list[str]:
        """The components of the code that decide its arrays and labels."""
        return ["data", *(["validation"] if "validation_share" in self.config else [])]

    @property
    def archives(self) -> tuple[Archive, ...]:
        """The official files of its source."""
        return SOURCES[self.options.source].archives


@dataclass(frozen=True)
class Noise:
    """The noisy labels of one dataset; drawn for each run as a `Dataset` may be.

    Attributes:
        content: of the file with people's labels, if it is not the published one.
    """

    name: str
    options: NoiseOptions
    dataset: Dataset
    content: str | None = None
    run: int | None = None

    @property
    def drawn_per_run(self) -> bool:
        """Whether each run is still to draw its own labels, or the subset that they belong to."""
        return self.options.noise_seed == PER_RUN or self.dataset.drawn_per_run

    def of_run(self, seed: int) -> Self:
        """What the training with this seed uses: the same as noise with this noise_seed."""
        if not self.drawn_per_run:
            return self
        options = self.options
        if options.noise_seed == PER_RUN:
            options = options.model_copy(update={"noise_seed": seed})
        return replace(self, options=options, dataset=self.dataset.of_run(seed), run=seed)

    def of_runs(self, seeds: Iterable[int]) -> list[Self]:
        """What the trainings with these seeds use: one for all of them, or one for each."""
        return list(dict.fromkeys(self.of_run(seed) for seed in seeds))

    @property
    def words(self) -> list[str]:
        """What names it on the command line."""
        return [self.dataset.name, self.name, *_run_words(self.run)]

    @cached_property
    def config(self) -> dict[str, Any]:
        """The options that params.yaml states, and the content."""
        return _stated(self.options, self.content)

    @cached_property
    def digest(self) -> str:
        assert not self.drawn_per_run, "only the noise of a run has labels"
        revisions = _revisions(*self.components)
        return digest({"dataset": self.dataset.digest, **self.config, "revisions": revisions})

    @property
    def key(self) -> str:
        """The name of its files: its name and digest."""
        return f"{self.name}-{self.digest}"

    @property
    def components(self) -> list[str]:
        """The components of the code that decide its labels."""
        return ["noise", self.options.kind]

    @property
    def archives(self) -> tuple[Archive, ...]:
        """The official files of its kind."""
        return KINDS[self.options.kind].archives


def _stated(options: DatasetOptions | NoiseOptions, content: str | None) -> dict[str, Any]:
    if content is None:
        return options.model_dump(exclude_unset=True, exclude=LIMITS)
    return {
        **options.model_dump(exclude_unset=True, exclude={*LIMITS, "path"}),
        "content": content,
    }


def _run_words(seed: int | None) -> list[str]:
    return [] if seed is None else ["--seed", str(seed)]


@dataclass(frozen=True)
class Foreign:
    """A network of torchvision or timm.

    Attributes:
        name: as in params.yaml.
        options: its library, its name there, and its pretrained weights.
        content: the SHA-256 of the file of these weights. It takes the place of the file's path in
            the digest, so the file may be moved.
    """

    name: str
    options: ForeignOptions
    content: str | None = None

    @property
    def lacks(self) -> str:
        """Why its records cannot be found; empty unless it has weights whose content is unknown."""
        file = self.options.weights
        known = file is None or self.content is not None
        return "" if known else f"its pretrained weights are not here: bring {file}"

    @property
    def config(self) -> BackboneConfig:
        """What decides a result."""
        options = self.options
        config: BackboneConfig = {
            "name": self.name,
            "source": options.source,
            "network": options.name,
        }
        if options.weights is not None:
            config["weights"] = self.content or options.weights
        return config


class Data(NamedTuple):
    """What a run is trained on; no noise means clean labels."""

    dataset: Dataset
    noise: Noise | None


@dataclass(frozen=True)
class Cell:
    """One cell of the grid: a dataset, a noise, a backbone and a method, with all its seeds.

    Attributes:
        dataset: what it is trained and evaluated on, as params.yaml states it.
        noise: of the training labels, as params.yaml states it; None for clean ones.
        backbone: the network's name.
        foreign: the network, if it is none of this package.
        width: channels of the network's first stage; 0 if it is foreign, as that has its own.
        method: the method's name.
        ways: the options of its ways, by name.
        baseline: its name and options, if the cell has one.
        views: augmentations of each image in a step.
        training: how it is trained.
        seeds: in ascending order.
    """

    dataset: Dataset
    noise: Noise | None
    backbone: str
    foreign: Foreign | None
    width: int
    method: str
    ways: dict[str, Way]
    baseline: tuple[str, Baseline] | None
    views: int
    training: Training
    seeds: list[int]

    @property
    def noise_name(self) -> str:
        return self.noise.name if self.noise else "clean"

    @property
    def setting(self) -> Setting:
        """Dataset, noise and backbone: cells that agree in these differ only in the method."""
        return self.dataset.name, self.noise_name, self.backbone

    @property
    def name(self) -> str:
        return "-".join([*self.setting, self.method])

    @property
    def lacks(self) -> str:
        """Why its record cannot be found: what is not here of which its digest depends."""
        return self.dataset.lacks or (self.foreign.lacks if self.foreign else "")

    def data(self, seed: int) -> Data:
        """What the training with this seed uses. It is the same for each method of a study."""
        return Data(self.dataset.of_run(seed), self.noise and self.noise.of_run(seed))

    @property
    def all_data(self) -> list[Data]:
        """What its trainings use: one for all of them, or one for each seed."""
        return list(dict.fromkeys(map(self.data, self.seeds)))

    @property
    def drawn_per_run(self) -> set[str]:
        """Which of `dataset` and `noise` differ between its runs."""
        parts = {"dataset": self.dataset, "noise": self.noise}
        return {name for name, part in parts.items() if part and part.drawn_per_run}

    @property
    def draws(self) -> dict[str, Draw]:
        """What is drawn at random before training: noise, subset, held-out share."""
        options, draws = self.dataset.options, dict[str, Draw]()
        if self.noise and self.noise.options.noise_seed is not None:
            draws["noise"] = "anew" if self.noise.drawn_per_run else "same"
        if options.subset_seed is not None:
            draws["subset"] = "anew" if self.dataset.drawn_per_run else "same"
        if options.validation_seed is not None:
            draws["held-out share"] = "anew" if self.dataset.drawn_per_run else "same"
        return draws

    @cached_property
    def config(self) -> CellConfig:
        baseline: BaselineConfig = {}
        if self.baseline:
            name, options = self.baseline
            baseline = {"baseline": {"name": name, **options.model_dump()}}
        return {
            "dataset": {"name": self.dataset.name, **self.dataset.config},
            "noise": {"name": self.noise_name, **(self.noise.config if self.noise else {})},
            "backbone": self.foreign.config
            if self.foreign
            else {"name": self.backbone, "width": self.width},
            "method": self.method,
            "views": self.views,
            "ways": {name: way.used() for name, way in self.ways.items()},
            **baseline,
            "training": self.training.model_dump(),
            "seeds": self.seeds,
            "revisions": _revisions(
                *self.dataset.components,
                *(self.noise.components if self.noise else []),
                "train",
                "evaluate",
                *([] if self.foreign else [self.backbone]),
                self.training.precision,
                *self.ways,
                *([self.baseline[0]] if self.baseline else []),
            ),
        }

    @cached_property
    def digest(self) -> str:
        return digest(self.config)

    @property
    def key(self) -> str:
        """The name of the cell's files: its name and digest."""
        return f"{self.name}-{self.digest}"

    def of_seed(self, seed: int) -> Self:
        """The cell with this seed alone. Its digest does not depend on the other seeds."""
        return replace(self, seeds=[seed])

    @property
    def runs(self) -> list[Self]:
        """The cell with each of its seeds alone."""
        return [self.of_seed(seed) for seed in self.seeds]

    @property
    def run_key(self) -> str:
        """The name of the files of a cell with one seed: its name, seed and digest."""
        (seed,) = self.seeds
        return f"{self.name}-seed{seed}-{self.digest}"


def datasets(settings: Settings, names: Iterable[str] | None = None) -> dict[str, Dataset]:
    """Datasets of params.yaml by name (default: all)."""
    return {
        name: _dataset(settings, name) for name in (settings.datasets if names is None else names)
    }


def noise_of(settings: Settings, name: str, dataset: Dataset) -> Noise:
    """A noise of params.yaml on the labels of a dataset."""
    options, contents = settings.noise[name], settings.contents
    return Noise(name, options, dataset, content(options, contents) if contents else None)


def foreign(settings: Settings, backbone: str) -> Foreign | None:
    """A network of params.yaml; None for a backbone of this package."""
    if backbone not in settings.backbones:
        return None
    options, contents = settings.backbones[backbone], settings.contents
    known = contents.weights(options.weights) if contents and options.weights else None
    return Foreign(backbone, options, known)


def content(options: DatasetOptions | NoiseOptions, contents: Contents) -> str | None:
    """The content of the files that no published checksum fixes; None if there are none."""
    if isinstance(options, NoiseOptions):
        return contents.archives(KINDS[options.kind].archives)
    if options.path:
        return contents.pictures(options.path)
    # A mirror may pack the same pictures into another file, so a checksum need not be the published
    # one. `prepare` checks it, and records name the hash of the pictures themselves.
    return contents.archives([a for a in SOURCES[options.source].archives if not a.is_published])


def _dataset(settings: Settings, name: str) -> Dataset:
    options, contents = settings.datasets[name], settings.contents
    if contents is None:
        return Dataset(name, options)
    counts = contents.counts(options.path) if options.path else None
    return Dataset(name, options, content(options, contents), counts=counts)


def merged_draws(several: Iterable[Mapping[str, Draw]]) -> dict[str, Draw]:
    """The `Cell.draws` of several cells as one."""
    merged: dict[str, Draw] = {}
    for draws in several:
        for what, draw in draws.items():
            merged[what] = draw if merged.get(what, draw) == draw else "mixed"
    return dict(sorted(merged.items()))


def cells(settings: Settings, study: str | None = None) -> list[Cell]:
    """The cells of a study, in the order of params.yaml; those of several blocks once.

    Args:
        settings: as `imcl.study.load.load` returns them.
        study: the study's name (default: the one that params.yaml chooses).
    """
    made: dict[str, Cell] = {}
    for block in settings.grids(study or settings.study):
        for cell in _cells(settings, block):
            made.setdefault(cell.name, cell)
    return list(made.values())


def contradictions(settings: Settings, study: str) -> Iterator[str]:
    """Blocks of a study that do not fit together, a sentence for each.

    Two may share a cell, but not two cells with one name. Methods that are compared, on the same
    dataset, noise and backbone, need the same width, training and options of a way that several
    have. Only what a search has chosen may differ, the candidates of one, and the default.
    """
    named: dict[str, tuple[int, Cell]] = {}
    compared: dict[Setting, dict[str, tuple[int, str, object]]] = {}
    for index, block in enumerate(settings.grids(study)):
        for cell in _cells(settings, block):
            first, other = named.setdefault(cell.name, (index, cell))
            if other.config != cell.config:
                yield (
                    f"blocks[{first}] and blocks[{index}] both have the cell {cell.name}, but "
                    f"differ: {'; '.join(changes(other.config, cell.config))}; leave it out of one"
                )
            elif "@" not in cell.method:
                known = compared.setdefault(cell.setting, {})
                for key, value in _flat(_compared(settings, block, cell)).items():
                    first, name, before = known.setdefault(key, (index, cell.name, value))
                    if before != value:
                        yield (
                            f"blocks[{first}] and blocks[{index}]: {name} and {cell.name} are "
                            f"compared, but differ: {key} {before} -> {value}; give them the same"
                        )


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two configurations: the option, and both values."""
    before, now = _flat(old), _flat(new)
    return [
        f"{key} {before.get(key, 'absent')} -> {now.get(key, 'absent')}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _compared(settings: Settings, block: Grid, cell: Cell) -> dict[str, Any]:
    """What must be the same in cells that are compared, as far as they have it."""
    ways = {
        name: settings.way(name, cell.noise_name, block.ways).used()
        for name in cell.ways
        if cell.method != "default"
    }
    return {"width": cell.width, "training": cell.training.model_dump(), "ways": ways}


def study_digest(planned: Sequence[Cell]) -> str:
    """The digest of a study, computed from the digests of its cells."""
    return digest([cell.digest for cell in planned])


def study_key(settings: Settings) -> str:
    """The chosen study's name and digest, for the names of files."""
    return f"{settings.study}-{study_digest(cells(settings))}"


def find(settings: Settings, name: str) -> Cell:
    """The cell of the chosen study with this name or key.

    Raises:
        UsageError: no such cell, or its parameters changed since the key was made.
    """
    by_name = {cell.name: cell for cell in cells(settings)}
    bare, _, tail = name.rpartition("-")
    cell = by_name.get(name) or by_name.get(bare)
    if cell is None:
        raise UsageError(f"study {settings.study!r}: {unknown('cell', name, by_name)}")
    if cell.name != name and cell.key != name:
        raise UsageError(
            f"{name}: the parameters of {cell.name} have changed: its digest is now "
            f"{cell.digest}, not {tail}; start the run again"
        )
    return cell


def _cells(settings: Settings, block: Grid) -> Iterator[Cell]:
    known = datasets(settings, block.datasets)
    for dataset, noise, backbone, method in product(
        block.datasets, block.noise, block.backbones, block.methods
    ):
        yield _cell(settings, block, known[dataset], noise, backbone, method)


def _cell(
    settings: Settings, block: Grid, dataset: Dataset, noise: str, backbone: str, method: str
) -> Cell:
    baseline, used = methods.parse(method)
    layers = _layers(settings, block, (dataset.name, noise, backbone), method)

    def way(name: str) -> Way:
        if method == "default":
            return WAYS[name](**DEFAULT[name])
        options = settings.way(name, noise, block.ways)
        for layer in layers:
            options = options.overridden(getattr(layer, name))
            if isinstance(layer, Candidate) and name in layer.times.model_fields_set:
                weight = getattr(layer.times, name) * options.weight
                options = options.model_copy(update={"weight": float(f"{weight:.6g}")})
        return options

    training = block.training.model_copy(
        update={
            name: getattr(layer.training, name)
            for layer in layers
            for name in layer.training.model_fields_set
        }
    )
    against = None
    if baseline:
        of_baseline = settings.baseline(baseline)
        for layer in layers:
            of_baseline = of_baseline.overridden(getattr(layer, baseline))
        against = baseline, of_baseline
    ways = {name: way(name) for name in used}
    other = foreign(settings, backbone)
    compared = 1 if against is None else against[1].views
    views = max([compared, *(each.views for each in ways.values())])
    if method == "control":  # as many as the `augment` variant of output
        views = way("output").model_copy(update={"variant": "augment"}).views
    return Cell(
        dataset=dataset,
        noise=None if noise == "clean" else noise_of(settings, noise, dataset),
        backbone=backbone,
        foreign=other,
        width=0 if other else block.width or 0,
        method=method,
        ways=ways,
        baseline=against,
        views=views,
        training=training,
        seeds=sorted(block.seeds),
    )


def _layers(settings: Settings, block: Grid, setting: Setting, method: str) -> list[Tried]:
    """What a search has chosen for a cell or tries with it, the weaker first."""
    whole, number = methods.candidate(method)
    parts = ["output"] if whole == "control" else methods.parse(whole).parts
    named = ("base",) if whole == "default" else ("base", *parts, whole)
    cells = ["-".join([*setting, name]) for name in dict.fromkeys(named)]
    layers = [block.chosen[cell].options for cell in cells if cell in block.chosen]
    return layers if number is None else [*layers, settings.search.candidates[whole][number - 1]]
