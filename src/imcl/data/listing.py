"""The state of each dataset, and what is left to do before it can be used."""

import os
from collections.abc import Sequence
from typing import Literal

from typing_extensions import TypedDict

from imcl import terminal
from imcl.data.contents import Manifests
from imcl.data.description import describe
from imcl.errors import ImclError
from imcl.project import Project
from imcl.study.grid import Dataset, content, datasets
from imcl.study.settings import Settings


class Row(TypedDict):
    """A dataset of params.yaml.

    Attributes:
        name: as in params.yaml.
        source: where its images come from.
        state: `prepared`, `fetched` (its source is there but not converted), or `missing`.
        n_train: as in its `Description`, like n_test to sha256; None until it is prepared.
        mean: None also if the runs have different subsets, like std and sha256.
        missing: what to do next; "" if nothing.
    """

    name: str
    source: str
    state: Literal["prepared", "fetched", "missing"]
    n_train: int | None
    n_test: int | None
    mean: list[float] | None
    std: list[float] | None
    sha256: str | None
    missing: str


def rows(project: Project, settings: Settings) -> list[Row]:
    """One row for each dataset of params.yaml.

    One whose subset each run draws is prepared when it is for each seed of the chosen study.
    """
    seeds = settings.seeds
    return [_row(project, dataset, seeds) for dataset in datasets(settings).values()]


def contents(project: Project, settings: Settings) -> dict[str, str]:
    """The content of all that has files of one's own, as the digests have it."""
    manifests = Manifests(project)
    found = {
        f"{section}.{name}": content(options, manifests)
        for section in ("datasets", "noise")
        for name, options in getattr(settings, section).items()
    }
    for name, options in settings.backbones.items():
        if options.weights is not None:
            found[f"backbones.{name}"] = manifests.weights(options.weights)
    return {place: digest for place, digest in found.items() if digest}


def show(rows: list[Row]) -> None:
    """Print the rows as a table."""
    header = ["dataset", "state", "train", "test", "mean", "std", "sha256", "to do"]
    shown = [
        [
            row["name"],
            row["state"],
            _count(row["n_train"]),
            _count(row["n_test"]),
            _decimals(row["mean"]),
            _decimals(row["std"]),
            (row["sha256"] or "")[:12],
            row["missing"],
        ]
        for row in rows
    ]
    terminal.table(header, shown, right=["train", "test"], whole=["state", "train", "test"])


def _row(project: Project, dataset: Dataset, seeds: Sequence[int]) -> Row:
    row: Row = {
        "name": dataset.name,
        "source": dataset.options.source,
        "state": "missing",
        "n_train": None,
        "n_test": None,
        "mean": None,
        "std": None,
        "sha256": None,
        "missing": "",
    }
    absent = _absent(project, dataset)
    runs = dataset.of_runs(seeds)
    if all(project.dataset(run.key).exists() for run in runs):
        try:
            made, *others = [describe(project, run) for run in runs]
        except ImclError as error:
            row["missing"] = str(error)
        else:
            row["state"] = "prepared"
            row["n_train"], row["n_test"] = made["n_train"], made["n_test"]
            if not others:
                row["mean"], row["std"] = made["mean"], made["std"]
                row["sha256"] = made["sha256"]
    elif absent:
        by_hand = dataset.options.path or any(a.behind_login for a in dataset.archives)
        remedy = "place" if by_hand else f"`imcl fetch {dataset.name}`:"
        row["missing"] = f"{remedy} {', '.join(absent)}"
    else:
        row["state"], row["missing"] = "fetched", f"`imcl prepare {dataset.name}`"
    return row


def _absent(project: Project, dataset: Dataset) -> list[str]:
    """The files and folders that the dataset is made from and that are not there."""
    paths = {archive.path(project.archives): archive for archive in dataset.archives}
    absent = [
        f"{path} ({archive.size / 1e6:,.0f} MB)"
        for path, archive in paths.items()
        if not path.exists()
    ]
    pictures = dataset.options.path
    if pictures and not os.path.isdir(project.root / pictures):  # nor if it cannot be looked into
        absent.append(f"{project.root / pictures} (your pictures)")
    return absent


def _count(images: int | None) -> str:
    return "" if images is None else f"{images:,}"


def _decimals(values: list[float] | None) -> str:
    return " ".join(f"{value:.4f}" for value in values or [])
