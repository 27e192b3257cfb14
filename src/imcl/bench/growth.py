"""How the time grows: of the plan with the cells, of a cell with its data and its seeds."""

import copy
from collections.abc import Callable, Iterable

from imcl import grid
from imcl.bench.project import Project, project
from imcl.progress import Progress

METHODS = ["base", "output", "intermediate", "representation", "kernel"]
BACKBONES = ["resnet18", "vgg16"]
TRAIN_SIZES = (140, 1400)
SEEDS = (1, 10)


def rows(params: dict, sizes: Iterable[int], cores: int) -> list[dict]:
    """A row for each measurement: what, its size and unit, seconds, and ratio_to_linear.

    The ratio is of the time's growth since the smallest size to the size's own: at most 1 where
    nothing grows worse than linearly.

    Args:
        params: checked parameters; studies of the sizes are put in the place of theirs.
        sizes: numbers of cells, ascending.
        cores: for Snakemake.
    """
    sizes = list(sizes)
    made: list[dict] = []

    def measure(what: str, unit: str, size: int, seconds: float) -> None:
        first = next((row for row in made if row["what"] == what), None)
        linear = first["seconds"] * size / first["size"] if first else seconds
        made.append(
            {
                "what": what,
                "unit": unit,
                "size": size,
                "seconds": seconds,
                "ratio_to_linear": seconds / linear,
            }
        )
        progress.advance(note=f"{what}, {size} {unit}")

    total = 3 * len(sizes) + len(TRAIN_SIZES) + len(SEEDS)
    with project(params) as folder, Progress("growth", total, "measurements") as progress:
        for size in sizes:
            loaded = _of_cells(params, size)
            folder.set(loaded)
            measure("plan", "cells", size, folder.seconds("imcl", "plan"))
            dry = folder.snakemake(cores, "--dry-run", "--quiet", "all")
            measure("dry run", "cells", size, dry)
            for cell in grid.cells(loaded):
                record = folder.folder / cell.record
                record.parent.mkdir(parents=True, exist_ok=True)
                record.touch()
            measure("nothing to do", "cells", size, folder.snakemake(cores, "records"))
        _grow(folder, params, "a cell, by its data", "images", TRAIN_SIZES, _of_data, measure)
        _grow(folder, params, "a cell, by its seeds", "seeds", SEEDS, _of_seeds, measure)
    return made


def _grow(
    folder: Project,
    params: dict,
    what: str,
    unit: str,
    sizes: Iterable[int],
    of_size: Callable[[dict, int], dict],
    measure: Callable,
) -> None:
    for size in sizes:
        loaded = of_size(params, size)
        folder.set(loaded)
        (cell,) = grid.cells(loaded)
        folder.seconds("imcl", "prepare", cell.dataset.name)
        measure(what, unit, size, folder.seconds("imcl", "train", cell.name, "--device", "cpu"))


def _of_cells(params: dict, size: int) -> dict:
    """Parameters whose study has so many cells, for each of 10 as many kinds of noise."""
    noises = {
        f"growth{i}": {"kind": "symmetric", "rate": 0.5, "noise_seed": i} for i in range(size // 10)
    }
    return _with(params, noise=noises, chosen={"noise": list(noises), "methods": METHODS})


def _of_data(params: dict, size: int) -> dict:
    loaded = _with(params)
    loaded["datasets"]["digits"] |= {"train_size": size, "subset_seed": 0}
    return loaded


def _of_seeds(params: dict, size: int) -> dict:
    loaded = _of_data(params, TRAIN_SIZES[0])
    loaded["studies"]["growth"]["seeds"] = list(range(size))
    return loaded


def _with(params: dict, noise: dict | None = None, chosen: dict | None = None) -> dict:
    """Parameters with one study, of one small cell unless `chosen` says more."""
    study = {
        "datasets": ["digits"],
        "noise": ["clean"],
        "backbones": BACKBONES if chosen else BACKBONES[:1],
        "methods": ["base"],
        "seeds": [0],
        "width": 8,
        "training": {"epochs": 10, "warmup_epochs": 0, "batch_size": 64},
        **(chosen or {}),
    }
    return {
        **copy.deepcopy(params),
        "study": "growth",
        "studies": {"growth": study},
        "noise": {**params["noise"], **(noise or {})},
    }
