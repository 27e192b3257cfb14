"""Expands a study into cells, each with a digest of everything that decides its result.

A file is named by the digest of what it depends on. So a changed parameter is a missing file,
whatever the file times say and whichever engine ran last.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from imcl import methods
from imcl.data import SOURCES
from imcl.errors import UsageError, unknown
from imcl.noise import KINDS
from imcl.ways import WAYS

DATA = Path("data")
ARCHIVES = DATA / "archives"
RECORDS = Path("results/records")
WEIGHTS = Path("results/weights")

# Raised by hand when a change to the code is meant to change results: of the component named here
# ("data", "validation", "noise", "train", "evaluate", or a backbone or way by its name), and of all
# that use it. A component that is not named stands at 1.
REVISIONS: dict[str, int] = {"resnet18": 2, "validation": 2}


def digest(config: object) -> str:
    """Twelve hex digits of SHA-256 over the canonical JSON of a configuration.

    Keys are sorted and 5.0 is written as 5, so that neither order nor spelling counts.
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
    """A dataset as an experiment uses it: a source, perhaps a subset of it."""

    name: str
    config: dict

    @cached_property
    def digest(self) -> str:
        """Of what decides the stored arrays; augmentation does not."""
        keys = (
            *("source", "path", "side", "fold"),
            *("validation_share", "validation_seed", "train_size", "subset_seed"),
        )
        stored = {key: self.config[key] for key in keys if key in self.config}
        return digest({**stored, "revisions": _revisions(*self.components)})

    @property
    def components(self) -> list[str]:
        """Of the code, those that decide its arrays and labels."""
        return ["data", *(["validation"] if "validation_share" in self.config else [])]

    @property
    def archives(self) -> list[Path]:
        """Where the files of its source lie, in the registry's order."""
        return [archive.path(ARCHIVES) for archive in SOURCES[self.config["source"]]]

    @property
    def folder(self) -> Path:
        return DATA / f"{self.name}-{self.digest}"

    @property
    def path(self) -> Path:
        """The description, written last: where it stands, the arrays do too."""
        return self.folder / "dataset.json"


@dataclass(frozen=True)
class Noise:
    """Noisy labels of one dataset."""

    name: str
    config: dict
    dataset: Dataset

    @cached_property
    def digest(self) -> str:
        parts = {"dataset": self.dataset.digest, **self.config, "revisions": _revisions("noise")}
        return digest(parts)

    @property
    def archives(self) -> list[Path]:
        """Where the files of its kind lie."""
        return [archive.path(ARCHIVES) for archive in KINDS[self.config["kind"]]]

    @property
    def path(self) -> Path:
        return self.dataset.folder / "noise" / f"{self.name}-{self.digest}.json"


@dataclass(frozen=True)
class Cell:
    """One cell of the grid: a dataset, a noise, a backbone and a method, with all its seeds."""

    dataset: Dataset
    noise: Noise | None
    backbone: str
    method: str
    config: dict

    @property
    def name(self) -> str:
        noise = self.noise.name if self.noise else "clean"
        return f"{self.dataset.name}-{noise}-{self.backbone}-{self.method}"

    @cached_property
    def digest(self) -> str:
        return digest(self.config)

    @property
    def peer(self) -> str | None:
        """The method of `imcl.peers` that the cell trains with, if any."""
        return self.config.get("peer", {}).get("name")

    @property
    def key(self) -> str:
        """The name of the cell's files: its name and digest."""
        return f"{self.name}-{self.digest}"

    @property
    def record(self) -> Path:
        return RECORDS / f"{self.key}.json"

    def weights(self, seed: int) -> Path:
        return WEIGHTS / self.key / f"seed-{seed}.pt"


def datasets(params: dict) -> dict[str, Dataset]:
    """All datasets of params.yaml by name."""
    return {name: Dataset(name, config) for name, config in params["datasets"].items()}


def cells(params: dict, study: str | None = None) -> list[Cell]:
    """The cells of a study, in the order of params.yaml.

    Args:
        params: checked parameters, as `imcl.params.load` returns them.
        study: the study's name; without it the one that params.yaml chooses.
    """
    plan = params["studies"][study or params["study"]]
    training = {**params["training"], **plan.get("training", {})}
    by_noise = {noise: _with_ways(params, plan, noise) for noise in plan["noise"]}
    known = datasets(params)
    return [
        _cell(by_noise[noise], plan, training, known[dataset], noise, backbone, method)
        for dataset in plan["datasets"]
        for noise in plan["noise"]
        for backbone in plan["backbones"]
        for method in plan["methods"]
    ]


def study_digest(planned: list[Cell]) -> str:
    """The digest of a study: of its cells' digests."""
    return digest([cell.digest for cell in planned])


def find(params: dict, name: str) -> Cell:
    """The cell of the chosen study with this name or key.

    Raises:
        UsageError: no such cell, or its parameters changed since the key was made.
    """
    by_name = {cell.name: cell for cell in cells(params)}
    bare, _, tail = name.rpartition("-")
    cell = by_name.get(name) or by_name.get(bare)
    if cell is None:
        raise UsageError(f"study {params['study']!r}: {unknown('cell', name, by_name)}")
    if cell.name != name and cell.key != name:
        raise UsageError(
            f"{name}: the parameters of {cell.name} have changed: its digest is now "
            f"{cell.digest}, not {tail}; start the run again"
        )
    return cell


def _with_ways(params: dict, plan: dict, noise: str) -> dict:
    """The parameters with what a study sets otherwise in the ways where labels are so noisy."""
    own = plan.get("ways", {}).get(noise, {})
    ways = {way: {**options, **own.get(way, {})} for way, options in params["ways"].items()}
    return {**params, "ways": ways}


def _cell(params, plan, training, dataset, noise_name, backbone, method) -> Cell:
    noise = None
    if noise_name != "clean":
        noise = Noise(noise_name, params["noise"][noise_name], dataset)
    peer, options, training = _method(params, method, training)
    config = {
        "dataset": {"name": dataset.name, **dataset.config},
        "noise": {"name": noise_name, **(noise.config if noise else {})},
        "backbone": {"name": backbone, "width": plan["width"]},
        "method": method,
        "views": params["ways"]["output"]["parts"] if method == "control" else _views(options),
        "ways": {way: _used_options(way, chosen) for way, chosen in options.items()},
        **({"peer": {"name": peer, **params["peers"][peer]}} if peer else {}),
        "training": training,
        "seeds": sorted(plan["seeds"]),
        "revisions": _revisions(
            *dataset.components,
            *(["noise"] if noise else []),
            "train",
            "evaluate",
            backbone,
            *options,
            *([peer] if peer else []),
        ),
    }
    return Cell(dataset, noise, backbone, method, config)


def _method(params: dict, method: str, training: dict) -> tuple[str | None, dict, dict]:
    """A method's peer, its ways with their options, and the training with what it sets itself."""
    trial = params["trials"].get(method)
    if trial is None:
        peer, used = methods.parse(method)
        return peer, {way: params["ways"][way] for way in used}, training
    options = {way: {**params["ways"][way], **trial[way]} for way in WAYS if way in trial}
    return None, options, {**training, **trial.get("training", {})}


def _views(options: dict[str, dict]) -> int:
    """How many augmentations of each image the ways see at once."""
    augmented = [o for o in options.values() if o["variant"] == "augment"]
    return max((o.get("parts", 2) for o in augmented), default=1)


def _used_options(way: str, options: dict) -> dict:
    """A way's options without those that only its other variants use."""
    used = ("variant", "weight", "ramp_up", *WAYS[way][options["variant"]])
    return {key: options[key] for key in used}
