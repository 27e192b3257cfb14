"""The summary of a study: every number of its tables and figures, from its records alone.

Only records of planned cells are read, not all files of a folder. If a cell is removed from
params.yaml, its record stays on disk, but is not in the summary.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter
from typing_extensions import TypedDict  # pydantic checks these on Python 3.11

from imcl.analysis import search, statistics
from imcl.analysis.gains import Gain, gains
from imcl.analysis.gaps import Gaps, gaps
from imcl.analysis.rows import (
    DIFFERENCES,
    LEAST_VIEWS,
    Axes,
    Difference,
    RecordFile,
    Reference,
    SummaryRow,
    axes,
    compared_rows,
    setting,
)
from imcl.analysis.search import SearchRow
from imcl.analysis.statistics import Estimate
from imcl.errors import ImclError
from imcl.files import read_as, sha256, write_json, write_text
from imcl.project import Project
from imcl.records.record import (
    Code,
    DatasetInfo,
    Environment,
    NoiseInfo,
    Record,
    changed_since,
    code_of,
    datasets,
    environment_of,
    noises,
)
from imcl.records.store import Store
from imcl.study import grid
from imcl.study.grid import Cell, Draw
from imcl.study.options import WAYS
from imcl.study.settings import Settings

Named = dict[str, dict[str, Any]]  # options by the name of what they belong to


class Comparisons(TypedDict):
    """The comparisons of a dataset's cells with a reference.

    Attributes:
        planned: how many the study plans.
        made: how many have both records.
        tested: how many have a p-value of the paired t-test.
        higher: the keys of the cells whose mean accuracy is higher.
        better: of those that are significantly better.
        worse: of those that are significantly worse.
        pairs: the most seeds that a planned comparison pairs.
        least_permutation_p: the least p that the permutation test of so many pairs can give.
        permutation_decides: whether it can be significant, Holm-corrected over those tested.
    """

    planned: int
    made: int
    tested: int
    higher: list[str]
    better: list[str]
    worse: list[str]
    pairs: int
    least_permutation_p: float
    permutation_decides: bool


class Trained(TypedDict):
    """How the networks of some settings are trained.

    Attributes:
        settings: dataset/noise/backbone of each.
        width: channels of the first stage; 0 for a network of torchvision or timm.
        seeds: in ascending order.
        training: as in params.yaml.
    """

    settings: list[str]
    width: int
    seeds: list[int]
    training: dict[str, Any]


class Used(TypedDict):
    """The options of a way, and the settings that it has them in, as dataset/noise/backbone."""

    settings: list[str]
    options: dict[str, Any]


class AggregateRow(Estimate):
    """A method's differences to base over datasets and backbones, for one noise or for `all`.

    The estimate is that of `imcl.analysis.statistics.interquartile_mean`.

    Attributes:
        settings: dataset/noise/backbone of the differences.
        complete: whether these are all settings that any method has for this noise.
        best: whether it is the highest of the complete ones for this noise.
        cells: the keys of the cells compared, then of their references.
    """

    method: str
    noise: str
    settings: list[str]
    complete: bool
    best: bool
    cells: list[str]


class Summary(TypedDict):
    """A study's summary.

    Attributes:
        study: its name.
        digest: of its cells' digests.
        committed: whether it comes from committed records alone.
        planned: how many cells the study plans; `cells` are those with a record.
        untrained: those without.
        trained: how the networks are trained.
        ways: by way, the options that its variant uses, with the settings that they are used in;
            `chosen` may change them for a method.
        default: the same of the method `default`, by way; empty if the study does not have it.
        baselines: options by name.
        code: of the records, without repetitions; `environment` likewise.
        earlier: by dataset, what the code computes differently since, with the number of records
            concerned.
        datasets: options by name; `noises` too, and `backbones` of torchvision and timm.
        data: the prepared data, by dataset; that of the first run if each draws its own.
        noise: by `DATASET NOISE`, the noise's options and what its records say of the labels. If
            each run draws its own, the rate and the matrix are means over the runs.
        hashes: of the data by dataset, and of the labels by `DATASET NOISE`: one SHA-256, or one
            for each seed.
        draws: by dataset, `Cell.draws` of its cells.
        comparisons: by dataset and reference.
        chosen: by cell, the options that the study's search chose, and the reason.
        search: what that search tried.
    """

    study: str
    digest: str
    committed: bool
    planned: int
    untrained: Gaps
    axes: Axes
    trained: list[Trained]
    ways: dict[str, list[Used]]
    default: Named
    baselines: Named
    code: list[Code]
    environment: list[Environment]
    earlier: dict[str, dict[str, int]]
    datasets: Named
    noises: Named
    backbones: Named
    data: dict[str, DatasetInfo]
    noise: Named
    hashes: dict[str, list[str | None]]
    draws: dict[str, dict[str, Draw]]
    cells: list[SummaryRow]
    comparisons: dict[str, dict[Reference, Comparisons]]
    aggregate: list[AggregateRow]
    gains: list[Gain]
    chosen: Named
    search: list[SearchRow]


_FILE = TypeAdapter(Summary)


def build(
    project: Project, settings: Settings, committed: bool = False, partial: bool = False
) -> Summary:
    """The summary of the chosen study from its records as they are now; nothing is written.

    Args:
        project: whose records are read.
        settings: of the study that is chosen.
        committed: use committed records alone. Otherwise a record made here comes before the
            committed one.
        partial: leave out cells without a record instead of refusing.

    Raises:
        ImclError: a record is missing, damaged, or was made from other data than the others; or the
            study has no records at all.
    """
    store, study = Store(project), settings.study
    cells = grid.cells(settings)
    there = {cell.name: store.find(cell, study, committed) for cell in cells}
    paths = _places(project, study, cells, committed)
    paths |= {name: path for name, path in there.items() if path}
    if not any(there.values()):
        folder = project.committed_records(study)
        if committed:
            raise ImclError(f"study {study!r} has no records in {folder}")
        raise ImclError(
            f"study {study!r} has no records in {project.records} or {folder}; run "
            f"`snakemake --cores all --config study={study}`"
        )
    found = store.read_all(cells, paths, partial)
    return _summary(project, settings, found, paths, committed)


def write(
    project: Project, settings: Settings, committed: bool = False, partial: bool = False
) -> Summary:
    """Write the summary, metrics/ (for `dvc metrics`) and curves.csv (for `dvc plots`).

    The summary of another study is deleted, since tables and figures show one study.

    Args:
        project: whose records are read.
        settings: of the study that is chosen.
        committed: use committed records alone, otherwise those made here alone.
        partial: leave out cells without a record instead of refusing.

    Raises:
        ImclError: a record is missing, damaged, or of other data than the others.
    """
    study, cells = settings.study, grid.cells(settings)
    paths = _places(project, study, cells, committed)
    found = Store(project).read_all(cells, paths, partial)
    made = _summary(project, settings, found, paths, committed)
    for folder in (project.summaries, project.metrics):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
    for row in made["cells"]:
        write_json(project.metrics / f"{row['cell']}.json", _headline(row))
    write_text(project.curves, _curves(made["cells"]))
    write_json(project.summary(f"{made['study']}-{made['digest']}", committed), made)
    return made


def read(project: Project) -> Summary:
    """The summary that was written last.

    Raises:
        ImclError: there is none, or it is damaged.
    """
    found = sorted(project.summaries.glob("*.json"))
    if not found:
        raise ImclError(f"{project.summaries}: no summary is there; run `imcl summary` first")
    return read_as(found[-1], _FILE)


def _places(
    project: Project, study: str, cells: Iterable[Cell], committed: bool
) -> dict[str, Path]:
    """Where the records made here, or the committed ones, are or would be, by cell name."""
    folder = project.committed_records(study) if committed else project.records
    return {cell.name: folder / project.record(cell.key).name for cell in cells}


def _summary(
    project: Project,
    settings: Settings,
    found: Mapping[str, Record],
    paths: Mapping[str, Path],
    committed: bool,
) -> Summary:
    """The summary of the records found, by cell name."""
    cells = grid.cells(settings)
    there = [cell for cell in cells if cell.name in found]
    made = compared_rows(
        (cell, found[cell.name], _file(project, paths[cell.name])) for cell in there
    )
    shown = axes(cells, made)
    return {
        "study": settings.study,
        "digest": grid.study_digest(cells),
        "committed": committed,
        "planned": len(cells),
        "untrained": gaps(cells, found),
        "axes": shown,
        "trained": _trained(cells),
        "ways": _ways(c for c in grid.cells(_unsearched(settings)) if c.method != "default"),
        "default": {
            name: way.used() for c in cells if c.method == "default" for name, way in c.ways.items()
        },
        "baselines": {c.baseline[0]: c.baseline[1].model_dump() for c in cells if c.baseline},
        "code": _distinct(code_of(r, run) for r in found.values() for run in r["runs"]),
        "environment": _distinct(
            environment_of(r, run) for r in found.values() for run in r["runs"]
        ),
        "earlier": {
            dataset: Counter(
                change
                for cell in there
                if cell.dataset.name == dataset and (change := changed_since(found[cell.name]))
            )
            for dataset in shown["datasets"]
        },
        "datasets": {cell.dataset.name: cell.dataset.config for cell in there},
        "noises": {cell.noise.name: cell.noise.config for cell in there if cell.noise},
        "backbones": {
            cell.backbone: {key: v for key, v in cell.config["backbone"].items() if key != "name"}
            for cell in there
            if cell.foreign
        },
        "data": {cell.dataset.name: datasets(found[cell.name])[0] for cell in there},
        "noise": _noise(found, there),
        "hashes": _hashes(found, there),
        "draws": {
            dataset: grid.merged_draws(c.draws for c in there if c.dataset.name == dataset)
            for dataset in shown["datasets"]
        },
        "cells": made,
        "comparisons": _comparisons(cells, made),
        "aggregate": _aggregate(made, shown["noise"]),
        "gains": gains(made, shown),
        "chosen": {
            cell: choice.model_dump(exclude_unset=True)
            for cell, choice in settings.chosen_study.chosen.items()
        },
        "search": search.gather(project, settings, committed),
    }


def _unsearched(settings: Settings) -> Settings:
    """The same settings without what the search chose for the study."""
    plan = settings.chosen_study.model_copy(update={"chosen": {}})
    return settings.model_copy(update={"studies": {**settings.studies, settings.study: plan}})


def _trained(cells: Iterable[Cell]) -> list[Trained]:
    """How cells are trained; those that are trained alike together."""
    found: dict[str, Trained] = {}
    for cell in cells:
        training = cell.training.model_dump()
        new: Trained = {
            "settings": [],
            "width": cell.width,
            "seeds": cell.seeds,
            "training": training,
        }
        known = found.setdefault(json.dumps([cell.width, cell.seeds, training]), new)
        known["settings"] = list(dict.fromkeys([*known["settings"], "/".join(cell.setting)]))
    return list(found.values())


def _ways(cells: Iterable[Cell]) -> dict[str, list[Used]]:
    """The options of each way that cells have, in the ways' order."""
    found: dict[str, dict[str, Used]] = {way: {} for way in WAYS}
    for cell in cells:
        for way, options in cell.ways.items():
            new: Used = {"settings": [], "options": options.used()}
            known = found[way].setdefault(json.dumps(new["options"]), new)
            known["settings"] = list(dict.fromkeys([*known["settings"], "/".join(cell.setting)]))
    return {way: list(used.values()) for way, used in found.items() if used}


def _noise(found: Mapping[str, Record], cells: Iterable[Cell]) -> Named:
    """What is said of noisy labels, by dataset and noise; over the runs of all cells."""
    options: Named = {}
    labels: dict[str, dict[str | None, NoiseInfo]] = {}  # by their hash
    for cell in cells:
        if cell.noise:
            name, record = f"{cell.dataset.name} {cell.noise.name}", found[cell.name]
            options[name] = cell.noise.config
            drawn = {noise["sha256"]: noise for noise in noises(record)}
            labels.setdefault(name, {}).update(drawn)
    return {name: {**options[name], **_mean([*by.values()])} for name, by in labels.items()}


def _file(project: Project, path: Path) -> RecordFile:
    return {"path": project.relative(path), "sha256": sha256(path)}


def _hashes(found: Mapping[str, Record], cells: Iterable[Cell]) -> dict[str, list[str | None]]:
    """Of the data by dataset, and of noisy labels by dataset and noise."""
    hashes: dict[str, dict[str | None, None]] = {}
    for cell in cells:
        record, name = found[cell.name], cell.dataset.name
        hashes.setdefault(name, {}).update((data["sha256"], None) for data in datasets(record))
        if cell.noise:
            of_noise = hashes.setdefault(f"{name} {cell.noise.name}", {})
            of_noise.update((noise["sha256"], None) for noise in noises(record))
    return {name: [*several] for name, several in hashes.items()}


def _mean(labels: list[NoiseInfo]) -> NoiseInfo:
    """What is said of labels, with their mean rate and matrix over the runs."""
    mean = labels[0].copy()
    mean["realised_rate"] = sum(noise["realised_rate"] for noise in labels) / len(labels)
    if "transition_matrix" in mean:
        matrices = [noise["transition_matrix"] for noise in labels]
        mean["transition_matrix"] = [
            [sum(shares) / len(labels) for shares in zip(*rows, strict=True)]
            for rows in zip(*matrices, strict=True)
        ]
    return mean


Each = TypeVar("Each", Code, Environment)


def _distinct(values: Iterable[Each]) -> list[Each]:
    """The values in order, each once."""
    return list({json.dumps(value, sort_keys=True): value for value in values}.values())


def _comparisons(
    cells: list[Cell], rows: list[SummaryRow]
) -> dict[str, dict[Reference, Comparisons]]:
    found: dict[str, dict[Reference, Comparisons]] = {}
    for dataset in dict.fromkeys(cell.dataset.name for cell in cells):
        for reference, least in LEAST_VIEWS.items():
            mine = [c for c in cells if c.dataset.name == dataset and c.views >= least]
            references = {cell.setting: cell for cell in mine if cell.method == reference}
            paired = [
                len({*cell.seeds} & {*references[cell.setting].seeds})
                for cell in mine
                if cell.method != reference and cell.setting in references
            ]
            made = {
                row["key"]: row[DIFFERENCES[reference]]
                for row in rows
                if row["dataset"] == dataset and DIFFERENCES[reference] in row
            }
            significant = {
                key: entry["mean"] for key, entry in made.items() if entry["significant"]
            }
            tested = sum(entry["p"] is not None for entry in made.values())
            least_p = statistics.least_permutation_p(max(paired, default=1))
            found.setdefault(dataset, {})[reference] = {
                "planned": sum(map(bool, paired)),
                "made": len(made),
                "tested": tested,
                "higher": [key for key, entry in made.items() if entry["mean"] > 0],
                "better": [key for key, mean in significant.items() if mean > 0],
                "worse": [key for key, mean in significant.items() if mean < 0],
                "pairs": max(paired, default=1),
                "least_permutation_p": least_p,
                "permutation_decides": 0 < tested * least_p < statistics.SIGNIFICANCE,
            }
    return found


def _aggregate(rows: list[SummaryRow], noises: list[str]) -> list[AggregateRow]:
    """By method, then noise: over the settings with this noise, and over all of them."""
    made: list[AggregateRow] = []
    compared = [row for row in rows if "difference_to_base" in row]
    for method in dict.fromkeys(row["method"] for row in compared):
        for noise in [*noises, "all"]:
            chosen = [
                row
                for row in compared
                if row["method"] == method and noise in (row["noise"], "all")
            ]
            differences = [row["difference_to_base"] for row in chosen]
            if any(_common(differences)):
                every = {setting(row) for row in compared if noise in (row["noise"], "all")}
                made.append(
                    {
                        "method": method,
                        "noise": noise,
                        "settings": sorted("/".join(setting(row)) for row in chosen),
                        "complete": {setting(row) for row in chosen} == every,
                        "best": False,
                        **statistics.interquartile_mean(_common(differences)),
                        "cells": [
                            *(row["key"] for row in chosen),
                            *(difference["with"] for difference in differences),
                        ],
                    }
                )
    for noise in [*noises, "all"]:
        complete = [row for row in made if row["noise"] == noise and row["complete"]]
        if complete:
            max(complete, key=lambda row: row["mean"])["best"] = True
    return made


def _common(differences: Sequence[Difference]) -> list[list[float]]:
    """The values of differences for the seeds that all of them have."""
    shared = set[int].intersection(*({*d["seeds"]} for d in differences)) if differences else set()
    return [
        [v for s, v in zip(d["seeds"], d["values"], strict=True) if s in shared]
        for d in differences
    ]


def _headline(row: SummaryRow) -> dict[str, float]:
    """What `dvc metrics` shows of a cell: accuracy in percent, the difference in points."""
    estimates = row["estimates"]
    shown = {"accuracy": round(100 * estimates["accuracy"]["mean"], 3)}
    if "difference_to_base" in row:
        shown["difference"] = round(100 * row["difference_to_base"]["mean"], 3)
    return shown | {name: round(estimates[name]["mean"], 4) for name in ("nll", "ece")}


def _curves(rows: list[SummaryRow]) -> str:
    """CSV: a line for each evaluated epoch of each cell, means over the seeds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["dataset", "noise", "backbone", "method", "epoch", "train_accuracy", "accuracy"]
    )
    for row in rows:
        for point in row["history"]:
            if "accuracy" in point:
                shares = [point["train_accuracy"], point["accuracy"]["mean"]]
                writer.writerow([*setting(row), row["method"], point["epoch"], *shares])
    return text.getvalue()
