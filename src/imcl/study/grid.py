"""Expands a study into cells, each with a digest of everything that decides its result.

The name of a file ends with the digest of what it depends on. So after a change of a parameter the
file with the new name is missing and is made, whatever the file times say and whichever engine
(Snakemake or DVC) ran last.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from typing_extensions import TypedDict  # pydantic cannot check typing's before Python 3.12

from imcl.errors import UsageError, unknown
from imcl.study import methods
from imcl.study.options import WAYS, Baseline, Way
from imcl.study.settings import Settings, Training
from imcl.study.sources import KINDS, SOURCES, Archive, DatasetOptions, NoiseOptions

# Raise a number by hand when a change to the code is meant to change results. It changes the digest
# of everything that uses the component: "data", "validation", "noise", "train", "evaluate", or a
# backbone, way or baseline by its name. A component that is not listed is at 1.
REVISIONS: dict[str, int] = {"resnet18": 2, "validation": 2}

# Options of a dataset that do not change its stored arrays, because they act only in training.
AUGMENTATION = ("padding", "flip")


class BackboneConfig(TypedDict):
    name: str
    width: int


class BaselineConfig(TypedDict, total=False):
    """The name and options of the cell's baseline, if it has one."""

    baseline: dict[str, Any]


class CellConfig(BaselineConfig):
    """Everything that decides a cell's result. Records hold it, and the digest is computed from it.

    Attributes:
        dataset: its name and options.
        noise: its name, which may be `clean`, and options.
        backbone: its name and width.
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


@dataclass(frozen=True)
class Dataset:
    """A dataset of params.yaml."""

    name: str
    options: DatasetOptions

    @cached_property
    def config(self) -> dict[str, Any]:
        """The options that params.yaml states."""
        return self.options.model_dump(exclude_unset=True)

    @cached_property
    def digest(self) -> str:
        """Of everything that decides the stored arrays."""
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
    """The noisy labels of one dataset."""

    name: str
    options: NoiseOptions
    dataset: Dataset

    @cached_property
    def config(self) -> dict[str, Any]:
        """The options that params.yaml states."""
        return self.options.model_dump(exclude_unset=True)

    @cached_property
    def digest(self) -> str:
        parts = {"dataset": self.dataset.digest, **self.config, "revisions": _revisions("noise")}
        return digest(parts)

    @property
    def key(self) -> str:
        """The name of its files: its name and digest."""
        return f"{self.name}-{self.digest}"

    @property
    def archives(self) -> tuple[Archive, ...]:
        """The official files of its kind."""
        return KINDS[self.options.kind].archives


@dataclass(frozen=True)
class Cell:
    """One cell of the grid: a dataset, a noise, a backbone and a method, with all its seeds.

    Attributes:
        dataset: what it is trained and evaluated on.
        noise: of the training labels; None for clean ones.
        backbone: the network's name.
        width: channels of the network's first stage.
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
    def name(self) -> str:
        return f"{self.dataset.name}-{self.noise_name}-{self.backbone}-{self.method}"

    @cached_property
    def config(self) -> CellConfig:
        baseline: BaselineConfig = {}
        if self.baseline:
            name, options = self.baseline
            baseline = {"baseline": {"name": name, **options.model_dump()}}
        return {
            "dataset": {"name": self.dataset.name, **self.dataset.config},
            "noise": {"name": self.noise_name, **(self.noise.config if self.noise else {})},
            "backbone": {"name": self.backbone, "width": self.width},
            "method": self.method,
            "views": self.views,
            "ways": {name: way.used() for name, way in self.ways.items()},
            **baseline,
            "training": self.training.model_dump(),
            "seeds": self.seeds,
            "revisions": _revisions(
                *self.dataset.components,
                *(["noise"] if self.noise else []),
                "train",
                "evaluate",
                self.backbone,
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


def datasets(settings: Settings) -> dict[str, Dataset]:
    """All datasets of params.yaml by name."""
    return {name: Dataset(name, options) for name, options in settings.datasets.items()}


def cells(settings: Settings, study: str | None = None) -> list[Cell]:
    """The cells of a study, in the order of params.yaml.

    Args:
        settings: as `imcl.study.load.load` returns them.
        study: the study's name (default: the one that params.yaml chooses).
    """
    study = study or settings.study
    plan, known = settings.studies[study], datasets(settings)
    return [
        _cell(settings, study, known[dataset], noise, backbone, method)
        for dataset in plan.datasets
        for noise in plan.noise
        for backbone in plan.backbones
        for method in plan.methods
    ]


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


def _cell(
    settings: Settings, study: str, dataset: Dataset, noise: str, backbone: str, method: str
) -> Cell:
    plan, training = settings.studies[study], settings.training_of(study)
    trial = settings.trials.get(method)
    if trial is None:
        baseline, used = methods.parse(method)
        ways = {name: settings.way(name, study, noise) for name in used}
    else:
        baseline, given = None, trial.given()
        ways = {
            name: settings.way(name, study, noise).overridden(given[name])
            for name in WAYS
            if name in given
        }
        if "training" in given:
            training = training.overridden(given["training"])
    views = max((way.views for way in ways.values()), default=1)
    if method == "control":  # as many as the `augment` variant of output
        output = settings.way("output", study, noise)
        views = output.model_copy(update={"variant": "augment"}).views
    return Cell(
        dataset=dataset,
        noise=None if noise == "clean" else Noise(noise, settings.noise[noise], dataset),
        backbone=backbone,
        width=plan.width,
        method=method,
        ways=ways,
        baseline=(baseline, settings.baseline(baseline)) if baseline else None,
        views=views,
        training=training,
        seeds=sorted(plan.seeds),
    )
