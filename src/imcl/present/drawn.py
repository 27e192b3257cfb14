"""The numbers of the figures and the HTML report, as tables, and the methods that a figure shows.

These tables are not in the paper, but `imcl trace` finds them.
"""

from collections.abc import Sequence
from dataclasses import replace

from imcl.analysis.summary import Summary
from imcl.present.by_method import Column, Part, metric
from imcl.present.cells import ACCURACY, PARAMETERS, accuracy, error
from imcl.present.differences import difference, tested
from imcl.present.render import MISSING, Entry, Table, number
from imcl.study import methods

CURVES = 4  # methods in a figure of learning curves
MOST_LINES = 7  # that a reader can tell apart in one figure


def lines(there: Sequence[str], most: int = MOST_LINES) -> list[str]:
    """The methods that get a line of their own, of those that are there.

    If there are too many, combinations are left out first, then baselines, then single ways.
    """

    def rank(name: str) -> int:
        method = methods.parse(name)
        if name in ("base", "control", "all"):
            return 0
        if name == "default" or (len(method.ways) == 1 and not method.baseline):
            return 1
        return 2 if method.baseline else 3

    kept = sorted(there, key=rank)[:most]
    return [method for method in there if method in kept]


def tables(summary: Summary, part: Part) -> list[Table]:
    """What the figures of a part show."""
    of_figures = [
        error(summary, part),
        _curves(summary, part),
        replace(accuracy(summary, part), name=f"noise-{part.name}"),
        _transition(summary, part),
    ]
    return [replace(table, shown=False) for table in of_figures]


def _curves(summary: Summary, part: Part) -> Table:
    """The learning curves: a row for each cell, a column for each evaluated epoch."""
    cells = part.rows(summary)
    epochs = sorted({p["epoch"] for row in cells for p in row["history"] if "accuracy" in p})
    rule = "mean over seeds of accuracy at this epoch, × 100, ± 95 % t-interval"
    rows = []
    for row in cells:
        points = {p["epoch"]: p["accuracy"] for p in row["history"] if "accuracy" in p}
        labels = [Entry(row["backbone"]), Entry(row["method"]), Entry(row["noise"])]
        rows.append(labels + [number(points.get(e), [row["key"]], rule, scale=100) for e in epochs])
    header = ["backbone", "method", "noise", *map(str, epochs)]
    caption = f"{part.title}: accuracy (%) by epoch."
    return Table(f"curves-{part.name}", caption, header, [rows], labels=3)


def _transition(summary: Summary, part: Part) -> Table:
    """The transition matrices: a row for each noise and true class."""
    rows = []
    for noise in part.axes["noise"]:
        matrix = summary["noise"].get(f"{part.dataset} {noise}", {}).get("transition_matrix", [])
        sources = [row["key"] for row in part.rows(summary) if row["noise"] == noise]
        rule = "noise.transition_matrix, × 100"
        for true, shares in enumerate(matrix):
            labels = [Entry(noise), Entry(str(true))]
            rows.append(labels + [number(s, sources, rule, scale=100, digits=0) for s in shares])
    classes = max((len(row) - 2 for row in rows), default=0)
    caption = f"{part.title}: share (%) of each true class (row) that has each label (column)."
    if summary["draws"][part.dataset].get("noise", "same") != "same":
        caption += " Labels that each run draws for itself: mean over the runs."
    header = ["noise", "class", *map(str, range(classes))]
    return Table(f"transition-{part.name}", caption, header, [rows])


RESULTS = (
    ACCURACY._replace(title="accuracy (%)"),
    Column("to base", difference),
    Column("p", lambda row: tested(row, "paired t-test")),
    metric("oracle (%)", "oracle_accuracy", 100),
    metric("NLL", "nll", 1, 2),
    metric("ECE (%)", "ece", 100),
    metric("channels × 1000", "channel_correlation", 1000),
    metric("kernels × 1000", "kernel_cosine", 1000),
    PARAMETERS,
    Column(
        "seconds",
        lambda row: number(
            row["training_seconds"], [row["key"]], "training_seconds per seed", digits=0
        ),
    ),
    Column(
        "n", lambda row: number(row["estimates"]["accuracy"]["n"], [row["key"]], "seeds", digits=0)
    ),
)


def results(summary: Summary) -> Table:
    """The main table of the HTML report: a row for each cell."""
    rows = [
        [Entry(row["dataset"]), Entry(row["noise"]), Entry(row["backbone"]), Entry(row["method"])]
        + [column.show(row) or Entry(MISSING) for column in RESULTS]
        for row in summary["cells"]
    ]
    header = ["dataset", "noise", "backbone", "method", *(column.title for column in RESULTS)]
    return Table("results", "All cells.", header, [rows], labels=4, shown=False)
