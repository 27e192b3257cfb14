"""How the time grows: of the plan with the cells, of a cell with its data and its seeds."""

from imcl.bench.options import Growth, Row
from imcl.bench.workspace import Workspace, workspace
from imcl.progress import Progress
from imcl.project import Project
from imcl.study import grid
from imcl.study.settings import Block, Search, Settings, Study, Training
from imcl.study.sources import NoiseOptions

METHODS = ["base", "output", "intermediate", "representation", "kernel"]
BACKBONES = ["resnet18", "vgg16"]
TRAIN_SIZES = (140, 1400)
SEEDS = (1, 10)

# One small cell.
SMALL = Study(
    datasets=["digits"],
    noise=["clean"],
    backbones=BACKBONES[:1],
    methods=["base"],
    seeds=[0],
    width=8,
    training=Training(epochs=10, warmup_epochs=0, batch_size=64),
)
# So many that each seed is a job.
LONG = {"training": Training(epochs=1_000_000), "seeds": [*range(5)]}


def rows(project: Project, settings: Settings, options: Growth) -> list[Row]:
    """A row for each measurement: what, its size and unit, seconds, and ratio_to_linear.

    The ratio is of the time's growth since the smallest size to the size's own: at most 1 where
    nothing grows worse than linearly. Studies of the sizes replace those of the settings.
    """
    sizes = options.sizes
    made: list[Row] = []

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

    total = 4 * len(sizes) + len(TRAIN_SIZES) + len(SEEDS)
    with (
        workspace(project, settings) as place,
        Progress("growth", total, "measurements") as progress,
    ):
        for size in sizes:
            of_size = _of_cells(settings, size)
            place.set(of_size)
            measure("plan", "cells", size, place.seconds("imcl", "plan"))
            dry = ("--dry-run", "--quiet", "all")
            measure("dry run", "cells", size, place.snakemake(options.cores, *dry))
            place.set(_of_cells(settings, size, **LONG))
            seconds = place.snakemake(options.cores, *dry)
            measure("dry run, each seed a job", "cells", size, seconds)
            place.set(of_size)
            place.project.records.mkdir(parents=True, exist_ok=True)
            for cell in grid.cells(of_size):
                place.project.record(cell.key).touch()
            nothing = place.snakemake(options.cores, "records")
            measure("nothing to do", "cells", size, nothing)
        for size in TRAIN_SIZES:
            seconds = _of_a_cell(place, _with(settings, SMALL, train_size=size))
            measure("a cell, by its data", "images", size, seconds)
        for size in SEEDS:
            study = SMALL.model_copy(update={"seeds": [*range(size)]})
            seconds = _of_a_cell(place, _with(settings, study, train_size=TRAIN_SIZES[0]))
            measure("a cell, by its seeds", "seeds", size, seconds)
    return made


def _of_a_cell(place: Workspace, settings: Settings) -> float:
    """The seconds of training the only cell of the settings, also seeds that are finished."""
    place.set(settings)
    (cell,) = grid.cells(settings)
    if not place.project.dataset(cell.dataset.key).exists():
        place.seconds("imcl", "prepare", cell.dataset.name)
    return place.seconds("imcl", "train", cell.name, "--device", "cpu", "--again")


def _of_cells(settings: Settings, size: int, **changes: object) -> Settings:
    """Settings whose study has so many cells: for each 10 one noise, each noise a block."""
    noise = {
        f"growth{seed}": NoiseOptions(kind="symmetric", rate=0.5, noise_seed=seed)
        for seed in range(size // 10)
    }
    blocks = [Block(noise=[name]) for name in noise]
    chosen = {"blocks": blocks, "backbones": BACKBONES, "methods": METHODS, **changes}
    loaded = _with(settings, SMALL.model_copy(update=chosen))
    return loaded.model_copy(update={"noise": {**settings.noise, **noise}})


def _with(settings: Settings, study: Study, train_size: int | None = None) -> Settings:
    """Settings with this study alone, and the digits cut to so many training images."""
    digits = settings.datasets["digits"]
    if train_size is not None:
        digits = digits.model_copy(update={"train_size": train_size, "subset_seed": 0})
    return settings.model_copy(
        update={
            "study": "growth",
            "studies": {"growth": study},
            "datasets": {**settings.datasets, "digits": digits},
            "search": Search(),  # whose rungs would be studies
        }
    )
