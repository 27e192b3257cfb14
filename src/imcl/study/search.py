"""The search for a study's settings: what it tries, step by step, as studies of their own.

Everything is held as in the study, but a share of each dataset's training images is held out, and
networks are evaluated on these, with the labels that a user would have. Noise is drawn before.

The search has stages: base, whose training holds for all methods; then ways and baselines alone;
then their combinations, which start from what was chosen for their parts. In a stage the candidates
of a method go through the rungs of params.yaml. Each rung trains those that are left, and keeps the
best. A rung is a study whose methods are candidates, such as `output@2`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from imcl.errors import UsageError
from imcl.study import methods
from imcl.study.grid import Setting
from imcl.study.references import SEARCH
from imcl.study.settings import Block, Choice, Grid, Rung, Settings, Study, Ways

SEED = 0  # that draws the held-out images


class Race(NamedTuple):
    """What one choice is made for: a method in a setting of the study."""

    setting: Setting
    method: str

    @property
    def cell(self) -> str:
        """The name of its cell in the study."""
        return "-".join([*self.setting, self.method])


Left = Mapping[Race, Sequence[int]]  # the numbers of the candidates that are still in each race


def stages(settings: Settings) -> list[Left]:
    """The races of each stage of the search for the chosen study, with all candidates."""
    numbers = {m: range(1, len(tried) + 1) for m, tried in settings.search.candidates.items()}
    races = [
        Race((dataset, noise, backbone), method)
        for block in settings.grids(settings.study)
        for dataset in block.datasets
        for noise in block.noise
        for backbone in block.backbones
        for method in numbers
        if method in ("base", *block.methods)
    ]
    by_stage: list[dict[Race, Sequence[int]]] = [{}, {}, {}]
    for race in races:
        parts = len(methods.parse(race.method).parts)
        by_stage[min(parts, 2)][race] = numbers[race.method]
    return [stage for stage in by_stage if stage]


def possible(settings: Settings) -> bool:
    """Whether there is something to search with, and images of the chosen study to hold out."""
    return bool(settings.search.rungs and settings.search.candidates) and not _held_out(settings)


def check(settings: Settings) -> None:
    """Raise UsageError if the chosen study cannot be searched."""
    if not (settings.search.rungs and settings.search.candidates):
        raise UsageError("params.yaml: search: has no rungs or no candidates; give both")
    for name in _held_out(settings):
        raise UsageError(
            f"params.yaml: studies.{settings.study}: dataset {name} holds out images already, on "
            "which a search would train; search a study of the whole dataset"
        )


def _held_out(settings: Settings) -> list[str]:
    """The datasets of the chosen study that hold out images themselves."""
    names = {name for block in settings.grids(settings.study) for name in block.datasets}
    return sorted(n for n in names if settings.datasets[n].validation_share is not None)


def rung(settings: Settings, number: int, left: Left, chosen: Mapping[str, Choice]) -> Settings:
    """The settings of a rung, which choose the study of its name.

    Args:
        settings: choose the study that is searched.
        number: of the rung, from 0.
        left: the candidates of its races.
        chosen: what earlier stages have chosen, by cell.
    """
    step, share = settings.search.rungs[number], settings.search.validation_share
    tried: dict[Setting, list[str]] = {}
    for race, numbers in left.items():
        tried.setdefault(race.setting, []).extend(f"{race.method}@{n}" for n in numbers)
    blocks = [
        _block(grid, setting, tried.pop(setting), step)
        for grid in settings.grids(settings.study)
        for setting in [*tried]
        if all(map(list.__contains__, (grid.datasets, grid.noise, grid.backbones), setting))
    ]
    held_out = {"validation_share": share, "validation_seed": SEED}
    name = f"{SEARCH}{settings.study}"
    device = settings.chosen_study.device
    study = Study(blocks=blocks, chosen=dict(chosen), evidence=False, device=device)
    datasets = {
        key: options.model_copy(update=held_out) for key, options in settings.datasets.items()
    }
    return settings.model_copy(
        update={"study": name, "studies": {name: study}, "datasets": datasets}
    )


def _block(grid: Grid, setting: Setting, tried: list[str], rung: Rung) -> Block:
    """A setting of the study as a block, trained for a share of the epochs."""
    dataset, noise, backbone = setting
    whole = grid.training
    epochs = max(1, round(rung.epochs * whole.epochs))
    training = whole.model_copy(
        update={
            "epochs": epochs,
            "warmup_epochs": min(round(rung.epochs * whole.warmup_epochs), epochs - 1),
            "evaluations": 1,  # only the last epoch counts
        }
    )
    ways: dict[str, Any] = {}
    for by_noise in grid.ways:
        for name, options in by_noise[noise].given().items() if noise in by_noise else ():
            ways[name] = ways[name].overridden(options) if name in ways else options
    return Block(
        datasets=[dataset],
        noise=[noise],
        backbones=[backbone],
        methods=tried,
        seeds=rung.seeds,
        ways={noise: Ways(**ways)} if ways else {},
        training=training,
        **({} if grid.width is None else {"width": grid.width}),
    )


def text(settings: Settings) -> str:
    """The settings as a file that `imcl.study.load` reads."""
    return yaml.safe_dump(settings.model_dump(exclude_unset=True), sort_keys=False)
