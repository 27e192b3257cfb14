"""`imcl fetch | prepare | noise | data`: from archives to arrays and noisy labels."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imcl import terminal
from imcl.cli.commands import (
    Commands,
    Parents,
    command,
    number,
    print_rows,
    settings,
    with_json,
    with_study,
)
from imcl.errors import ImclError, UsageError, unknown
from imcl.study.spec import MOST_SEED

if TYPE_CHECKING:
    from imcl.study.grid import Dataset, Noise
    from imcl.study.settings import Settings
    from imcl.study.sources import Archive


def register(commands: "Commands[argparse.ArgumentParser]", parents: Parents) -> None:
    """Add the commands."""
    summary = "Download a dataset's archives and check them."
    fetch = command(commands, parents, "fetch", _fetch, summary, "fetch cifar10")
    fetch.add_argument(
        "source", help="a dataset, a source of datasets, or `human` for CIFAR-10N's labels"
    )
    summary = "Convert a dataset to arrays, with its statistics and hash."
    prepare = command(commands, parents, "prepare", _prepare, summary, "prepare digits")
    prepare.add_argument("dataset", help="a dataset of params.yaml")
    noise = command(
        commands, parents, "noise", _noise, "Draw a dataset's noisy labels.", "noise digits n50"
    )
    noise.add_argument("dataset", help="a dataset of params.yaml")
    noise.add_argument("noise", help="an entry of the section noise in params.yaml")
    for drawn in (prepare, noise):
        with_study(drawn)
        drawn.add_argument(
            "--seed",
            type=number(int, 0, MOST_SEED),
            help="of the training that draws its own subset or noise (default: each seed of the "
            "study)",
        )
    summary = "List the datasets and what is left to do for each."
    data = command(commands, parents, "data", _data, summary, "data")
    with_json(data)
    data.add_argument(
        "--contents",
        action="store_true",
        help="print what decides the results besides params.yaml, as JSON: the content of your own "
        "pictures, and of files placed by hand",
    )


def _fetch(arguments: argparse.Namespace) -> None:
    from imcl.data.fetch import expected_checksum, fetch, require_placed
    from imcl.study.sources import KINDS, SOURCES

    known = {name: source.archives for name, source in SOURCES.items()}
    known |= {name: kind.archives for name, kind in KINDS.items() if kind.archives}
    source, folder = arguments.source, arguments.project.archives
    if source not in known:
        datasets = settings(arguments).datasets
        if source not in datasets:
            fault = unknown("dataset", source, dict.fromkeys([*datasets, *known]))
            raise UsageError(f"{arguments.project.params}: {fault}")
        source = datasets[source].source
    if not known[source]:
        print(f"{source}: nothing to fetch")
    require_placed(known[source], folder)
    for archive in known[source]:
        path = fetch(archive, folder)
        checked = "checksum is right" if expected_checksum(archive) else "no checksum is known"
        terminal.tell(f"{path}: {checked}")


def _prepare(arguments: argparse.Namespace) -> None:
    from imcl.data.prepare import prepare

    loaded = settings(arguments)
    dataset = _dataset(arguments, loaded)
    _require(dataset.archives, arguments.project.archives, dataset.name)
    for each in dataset.of_runs(_seeds(arguments, loaded, dataset)):
        made = prepare(arguments.project, each)
        terminal.tell(
            f"{arguments.project.dataset(each.key)}: {made['n_train']:,} training and "
            f"{made['n_test']:,} test images, mean {_decimals(made['mean'])}, "
            f"std {_decimals(made['std'])}"
        )


def _noise(arguments: argparse.Namespace) -> None:
    from imcl.noise.inject import inject
    from imcl.study.grid import noise_of

    project, loaded = arguments.project, settings(arguments)
    dataset = _dataset(arguments, loaded)
    if arguments.noise not in loaded.noise:
        fault = unknown("noise", arguments.noise, loaded.noise)
        raise UsageError(f"{project.params}: {fault}")
    noise = noise_of(loaded, arguments.noise, dataset)
    _require(noise.archives, project.archives, noise.options.kind)
    for each in noise.of_runs(_seeds(arguments, loaded, noise)):
        made = inject(project, each)
        terminal.tell(
            f"{project.noise(each.dataset.key, each.key)}: nominal {made['nominal_rate']:.2%}, "
            f"realised {made['realised_rate']:.2%}"
        )


def _data(arguments: argparse.Namespace) -> None:
    from imcl.data import listing

    project, loaded = arguments.project, settings(arguments)
    if arguments.contents:
        print(json.dumps(listing.contents(project, loaded), indent=1))
    else:
        print_rows(arguments, listing.rows(project, loaded), listing.show)


def _dataset(arguments: argparse.Namespace, loaded: "Settings") -> "Dataset":
    from imcl.study.grid import datasets

    name = arguments.dataset
    if name not in loaded.datasets:
        fault = unknown("dataset", name, loaded.datasets)
        raise UsageError(f"{arguments.project.params}: {fault}")
    return datasets(loaded, [name])[name]


def _seeds(arguments: argparse.Namespace, loaded: "Settings", data: "Dataset | Noise") -> list[int]:
    """The trainings whose data are made, where each draws its own."""
    if arguments.seed is None:
        return loaded.seeds
    if not data.drawn_per_run:
        raise UsageError(
            f"{arguments.project.params}: {' '.join(data.words)} is the same for every training; "
            "leave --seed out, which is for a subset_seed or noise_seed of per_run"
        )
    return [arguments.seed]


def _require(archives: "Sequence[Archive]", folder: Path, source: str) -> None:
    for archive in archives:
        path = archive.path(folder)
        if not path.exists():
            raise ImclError(f"{path}: missing; run `imcl fetch {source}` first")


def _decimals(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)
