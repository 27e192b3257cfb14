"""A row of the summary for each cell: its values by seed, their estimates, and its comparisons."""

from collections.abc import Iterable, Sequence
from typing import Literal, NotRequired, cast

from typing_extensions import TypedDict  # pydantic checks these on Python 3.11

from imcl.analysis import statistics
from imcl.analysis.statistics import Estimate
from imcl.records.record import (
    Calibration,
    Predictions,
    Record,
    Run,
    code_of,
    environment_of,
    noises,
)
from imcl.study.grid import Cell

Reference = Literal["base", "control"]
DifferenceKey = Literal["difference_to_base", "difference_to_control"]

DIFFERENCES: dict[Reference, DifferenceKey] = {
    "base": "difference_to_base",
    "control": "difference_to_control",
}

# The references, and how many views of each image a method must see to be compared with one.
LEAST_VIEWS: dict[Reference, int] = {"base": 1, "control": 2}

LEAST_SEEDS = 3  # to call a difference significant

# In the functional syntax, since `with` is a keyword.
With = TypedDict("With", {"with": str})


class Difference(Estimate, With):
    """A cell's accuracy minus that of a reference, paired by seed; shares, not points.

    Attributes:
        with: the key of the reference's cell.
        seeds: those that both cells have.
        values: by seed.
        elsewhere: the seeds that the two trained on devices of different names.
        p: of the paired t-test; None where the test is undefined.
        permutation_p: of the paired permutation test.
        p_holm: p after Holm's correction over the differences of a dataset to this reference.
        permutation_p_holm: permutation_p after the same correction.
        significant: whether p_holm is below 0.05, from at least three seeds.
    """

    seeds: list[int]
    values: list[float]
    elsewhere: list[int]
    p: float | None
    permutation_p: float | None
    p_holm: float | None
    permutation_p_holm: float | None
    significant: bool


class CostToBase(With):
    """The cost of training divided by that of base, whose key is `with`, on the same machine."""

    time: float
    memory: float


class RecordFile(TypedDict):
    """The file of a record: its path from the project's root, and its hash."""

    path: str
    sha256: str


class Point(TypedDict):
    """An epoch, mean over the seeds; with an accuracy if the networks were evaluated after it."""

    epoch: int
    train_accuracy: float
    accuracy: NotRequired[Estimate]


class Bin(TypedDict):
    """A bin of the calibration curve: mean confidence, share of right predictions (both in %)."""

    confidence: float
    correct: float
    count: int


class SummaryRow(TypedDict):
    """A cell's row: what its record says, and comparisons with other cells.

    Attributes:
        cell: its name.
        key: its name and digest.
        realised_rate: share of the training labels that are wrong; mean over the runs.
        training_parameters: number of parameters in training; `parameters`: those that remain.
        views: augmentations of each image in a step.
        commits: of the code, by seed.
        machines: the names of the devices that trained it, by seed.
        training_seconds: mean over the seeds, without evaluation.
        peak_memory_bytes: of the first seed, since later seeds raise the process's peak.
        seeds: in ascending order.
        values: by metric, a value for each seed. Besides the record's final metrics: `error`,
            `oracle_accuracy`, `lost_since_best` (oracle accuracy minus accuracy), and
            `train_accuracy` at the last epoch.
        estimates: by metric, of these values.
        history: by epoch.
        calibration: the bins that have images, over all seeds; only if the record holds them.
        confusion: images by true class and predicted class, over all seeds; only if the record
            holds them.
        best: whether its mean accuracy is the highest for its dataset, noise and backbone.
        cost_to_base: only if base was trained on machines of the same name.
        difference_to_base: only if base was trained.
        difference_to_control: only if control was trained and the method has at least two views.
    """

    cell: str
    key: str
    digest: str
    record: RecordFile
    commits: list[str | None]
    dataset: str
    noise: str
    backbone: str
    method: str
    realised_rate: float
    parameters: int
    training_parameters: int
    views: int
    machines: list[str]
    training_seconds: float
    peak_memory_bytes: int
    seeds: list[int]
    values: dict[str, list[float]]
    estimates: dict[str, Estimate]
    history: list[Point]
    calibration: NotRequired[list[Bin]]
    confusion: NotRequired[list[list[int]]]
    best: bool
    cost_to_base: NotRequired[CostToBase]
    difference_to_base: NotRequired[Difference]
    difference_to_control: NotRequired[Difference]


class Axes(TypedDict):
    """What a study varies: the names that have records, in the study's order, and its seeds."""

    datasets: list[str]
    noise: list[str]
    backbones: list[str]
    methods: list[str]
    seeds: list[int]


def compared_rows(cells: Iterable[tuple[Cell, Record, RecordFile]]) -> list[SummaryRow]:
    """A row for each cell, with its comparisons with the other cells.

    Args:
        cells: those that have a record, with the record and its file.
    """
    made = [_row(*cell) for cell in cells]
    _mark_best(made)
    _compare_costs(made)
    for reference in LEAST_VIEWS:
        _compare(made, reference)
    return made


def axes(cells: Sequence[Cell], rows: Sequence[SummaryRow]) -> Axes:
    """The axes of a study, without the names that have no record yet.

    Args:
        cells: all that the study plans; they give the order.
        rows: of those that have a record.
    """

    def there(
        axis: Literal["dataset", "noise", "backbone", "method"], planned: Iterable[str]
    ) -> list[str]:
        found = {row[axis] for row in rows}
        return [name for name in dict.fromkeys(planned) if name in found]

    return {
        "datasets": there("dataset", (cell.dataset.name for cell in cells)),
        "noise": there("noise", (cell.noise_name for cell in cells)),
        "backbones": there("backbone", (cell.backbone for cell in cells)),
        "methods": there("method", (cell.method for cell in cells)),
        "seeds": sorted({seed for cell in cells for seed in cell.seeds}),
    }


def setting(row: SummaryRow) -> tuple[str, str, str]:
    """Dataset, noise and backbone: rows that agree in these differ only in the method."""
    return row["dataset"], row["noise"], row["backbone"]


def _row(cell: Cell, record: Record, file: RecordFile) -> SummaryRow:
    runs = record["runs"]
    final = [cast(dict[str, float], run["final"]) for run in runs]
    values = {metric: [each[metric] for each in final] for metric in final[0]}
    values["error"] = [1 - run["final"]["accuracy"] for run in runs]
    values["oracle_accuracy"] = [run["oracle"]["accuracy"] for run in runs]
    values["lost_since_best"] = [
        run["oracle"]["accuracy"] - run["final"]["accuracy"] for run in runs
    ]
    values["train_accuracy"] = [run["history"][-1]["train_accuracy"] for run in runs]
    rates = [noise["realised_rate"] for noise in noises(record)]
    row: SummaryRow = {
        "cell": cell.name,
        "key": cell.key,
        "digest": cell.digest,
        "record": file,
        "commits": [code_of(record, run)["commit"] for run in runs],
        "dataset": cell.dataset.name,
        "noise": cell.noise_name,
        "backbone": cell.backbone,
        "method": cell.method,
        "realised_rate": sum(rates) / len(rates),
        "parameters": runs[0]["parameters"],
        "training_parameters": runs[0]["training_parameters"],
        "views": cell.views,
        "machines": [_machines(record, run) for run in runs],
        "training_seconds": sum(c["training_seconds"] for c in record["cost"]) / len(runs),
        "peak_memory_bytes": record["cost"][0]["peak_memory_bytes"],
        "seeds": [run["seed"] for run in runs],
        "values": values,
        "estimates": {metric: statistics.estimate(v) for metric, v in values.items()},
        "history": _history(runs),
        "best": False,
    }
    predictions = [run["predictions"] for run in runs if "predictions" in run]
    if predictions:
        row["calibration"] = _calibration([each["calibration"] for each in predictions])
        if all("confusion" in each for each in predictions):
            row["confusion"] = _confusion(predictions)
    return row


def _machines(record: Record, run: Run) -> str:
    """The names of the devices that trained a run, the last one first."""
    before = [each["differs"].get("device_name") for each in run.get("elsewhere", ())]
    names = [environment_of(record, run)["device_name"], *filter(None, before)]
    return " and ".join(dict.fromkeys(names))


def _history(runs: list[Run]) -> list[Point]:
    history = []
    for epochs in zip(*(run["history"] for run in runs), strict=True):
        point: Point = {
            "epoch": epochs[0]["epoch"],
            "train_accuracy": sum(epoch["train_accuracy"] for epoch in epochs) / len(epochs),
        }
        if "evaluation" in epochs[0]:
            accuracies = [epoch["evaluation"]["accuracy"] for epoch in epochs]
            point["accuracy"] = statistics.estimate(accuracies)
        history.append(point)
    return history


def _calibration(seeds: list[Calibration]) -> list[Bin]:
    bins: list[Bin] = []
    for index in range(len(seeds[0]["count"])):
        count = sum(seed["count"][index] for seed in seeds)
        confidence = sum(seed["confidence"][index] for seed in seeds)
        correct = sum(seed["correct"][index] for seed in seeds)
        if count:
            bins.append(
                {
                    "confidence": 100 * confidence / count,
                    "correct": 100 * correct / count,
                    "count": count,
                }
            )
    return bins


def _confusion(predictions: list[Predictions]) -> list[list[int]]:
    matrices = [each["confusion"] for each in predictions]
    return [
        [sum(counts) for counts in zip(*lines, strict=True)]
        for lines in zip(*matrices, strict=True)
    ]


def _mark_best(rows: list[SummaryRow]) -> None:
    best: dict[tuple[str, str, str], SummaryRow] = {}
    for row in rows:
        other = best.setdefault(setting(row), row)
        if row["estimates"]["accuracy"]["mean"] > other["estimates"]["accuracy"]["mean"]:
            best[setting(row)] = row
    for row in best.values():
        row["best"] = True


def _compare_costs(rows: list[SummaryRow]) -> None:
    bases = {
        setting(row): row
        for row in rows
        if row["method"] == "base" and row["training_seconds"] and row["peak_memory_bytes"]
    }
    for row in rows:
        base = bases.get(setting(row))
        if base is not None and len({*base["machines"], *row["machines"]}) == 1:
            row["cost_to_base"] = {
                "with": base["key"],
                "time": row["training_seconds"] / base["training_seconds"],
                "memory": row["peak_memory_bytes"] / base["peak_memory_bytes"],
            }


def _compare(rows: list[SummaryRow], reference: Reference) -> None:
    """Add the differences to a reference, Holm-corrected over each dataset."""
    compared = [row for row in rows if row["views"] >= LEAST_VIEWS[reference]]
    references = {setting(row): row for row in compared if row["method"] == reference}
    families: dict[str, list[Difference]] = {}
    for row in compared:
        other = references.get(setting(row))
        if other is None or row is other:
            continue
        difference = _difference(row, other)
        if difference is None:
            continue
        row[DIFFERENCES[reference]] = difference
        families.setdefault(row["dataset"], []).append(difference)
    for family in families.values():
        _correct(family)


def _difference(row: SummaryRow, other: SummaryRow) -> Difference | None:
    """Over the seeds that both have; None if there are none."""
    by_seed = [
        dict(zip(each["seeds"], each["values"]["accuracy"], strict=True)) for each in (row, other)
    ]
    seeds = sorted(by_seed[0].keys() & by_seed[1].keys())
    if not seeds:
        return None
    mine, theirs = ([values[seed] for seed in seeds] for values in by_seed)
    values = [a - b for a, b in zip(mine, theirs, strict=True)]
    here, there = (dict(zip(r["seeds"], r["machines"], strict=True)) for r in (row, other))
    return {
        **statistics.estimate(values),
        "seeds": seeds,
        "values": values,
        "elsewhere": [seed for seed in seeds if here[seed] != there[seed]],
        "with": other["key"],
        "p": statistics.paired_p(mine, theirs),
        "permutation_p": statistics.permutation_p(mine, theirs),
        "p_holm": None,
        "permutation_p_holm": None,
        "significant": False,
    }


def _correct(family: Sequence[Difference]) -> None:
    """Add Holm's correction of both tests, and which differences are significant after it."""
    corrected = zip(
        statistics.holm([difference["p"] for difference in family]),
        statistics.holm([difference["permutation_p"] for difference in family]),
        strict=True,
    )
    for difference, (p, permutation_p) in zip(family, corrected, strict=True):
        difference["p_holm"] = p
        difference["permutation_p_holm"] = permutation_p
        difference["significant"] = (
            difference["n"] >= LEAST_SEEDS and p is not None and p < statistics.SIGNIFICANCE
        )
