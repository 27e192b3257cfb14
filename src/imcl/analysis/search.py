"""The search for the settings: what each rung tried, from the rungs' records.

A rung is a study on held-out training images (params.yaml: search). Rejected trials are shown too.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict  # pydantic checks these on Python 3.11

from imcl.errors import ImclError
from imcl.files import read_as, write_json
from imcl.project import Project
from imcl.records.store import Store
from imcl.study.grid import Cell, cells
from imcl.study.settings import Settings


class SearchRow(TypedDict):
    """What one cell of a rung tried, and the results.

    Attributes:
        rung: the study.
        record: the path of its record, from the project's root.
        epochs: of its training, as are `learning_rate` and `weight_decay`.
        settings: its ways with their weights, and the other options of its trial, in words.
        chosen: whether the settings are in use with this noise.
        n: seeds.
        last: mean accuracy at the last epoch.
        best: mean accuracy at the epoch that is best on the evaluated images themselves.
        nll: mean negative log-likelihood at the last epoch, in nats.
    """

    rung: str
    record: str
    dataset: str
    noise: str
    backbone: str
    method: str
    epochs: int
    learning_rate: float
    weight_decay: float
    settings: str
    chosen: bool
    n: int
    last: float
    best: float
    nll: float


class SearchFile(TypedDict):
    """results/search.json: the rows, and whether they come from committed records alone."""

    committed: bool
    rows: list[SearchRow]


_FILE = TypeAdapter(SearchFile)


class ChosenTrial(TypedDict):
    """A trial whose settings are in use, the noise that it was chosen with, and the reason."""

    method: str
    noise: str
    reason: str


def gather(project: Project, settings: Settings, committed: bool = False) -> list[SearchRow]:
    """A row for each cell of the rungs that has a record.

    Args:
        project: whose records are read.
        settings: name the rungs, in their order.
        committed: use committed records alone. Otherwise a record made here comes before the
            committed one.
    """
    search = settings.search
    winners = {
        (choice.method, choice.noise)
        for choices in search.chosen.given().values()
        for choice in choices
    }
    tried = [(rung, cell) for rung in search.rungs for cell in cells(settings, rung)]
    rows: list[SearchRow] = []
    for rung, cell, path, record in Store(project).existing(tried, committed):
        runs = record["runs"]
        rows.append(
            {
                "rung": rung,
                "record": project.relative(path),
                "dataset": cell.dataset.name,
                "noise": cell.noise_name,
                "backbone": cell.backbone,
                "method": cell.method,
                "epochs": cell.training.epochs,
                "learning_rate": cell.training.learning_rate,
                "weight_decay": cell.training.weight_decay,
                "settings": _in_words(cell, settings),
                "chosen": (cell.method, cell.noise_name) in winners,
                "n": len(runs),
                "last": sum(run["final"]["accuracy"] for run in runs) / len(runs),
                "best": sum(run["oracle"]["accuracy"] for run in runs) / len(runs),
                "nll": sum(run["final"]["nll"] for run in runs) / len(runs),
            }
        )
    return rows


def write(project: Project, settings: Settings, committed: bool = False) -> Path:
    """Write results/search.json; return its path. The arguments are those of `gather`."""
    path = project.search(committed)
    found: SearchFile = {
        "committed": committed,
        "rows": gather(project, settings, committed),
    }
    write_json(path, found)
    return path


def read(project: Project, committed: bool = False) -> list[SearchRow]:
    """The rows that were written last.

    Raises:
        ImclError: there are none, or the file is damaged.
    """
    path = project.search(committed)
    if not path.exists():
        command = "imcl search" + " --committed" * committed
        raise ImclError(f"{path}: missing; run `{command}` first")
    return read_as(path, _FILE)["rows"]


def chosen(
    settings: Settings, in_use: Mapping[str, Iterable[Mapping[str, Any]]]
) -> dict[str, list[ChosenTrial]]:
    """The choices that a study uses, by part.

    Args:
        settings: hold what was chosen.
        in_use: of each part (`training`, or a way) the options that the study uses.
    """
    found: dict[str, list[ChosenTrial]] = {}
    for part, choices in settings.search.chosen.given().items():
        for choice in choices:
            trial = settings.trials[choice.method].given()[part].model_dump(exclude_unset=True)
            if any(trial.items() <= used.items() for used in in_use.get(part, ())):
                found.setdefault(part, []).append(
                    {"method": choice.method, "noise": choice.noise, "reason": choice.reason}
                )
    return found


def _in_words(cell: Cell, settings: Settings) -> str:
    """The ways of a cell and the other options of its trial: `kernel cosine × 30, ramp up 0.5`."""
    trial = settings.trials.get(cell.method)
    given = trial.given() if trial else {}
    ways = []
    for name, way in cell.ways.items():
        stated = given[name].model_dump(exclude_unset=True) if name in given else {}
        others = [_option(k, v) for k, v in stated.items() if k not in ("variant", "weight")]
        ways.append(", ".join([f"{name} {way.variant} × {way.weight:g}", *others]))
    return "; ".join(ways)


def _option(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return key if value else f"not {key}"
    return f"{key.replace('_', ' ')} {value:g}"
