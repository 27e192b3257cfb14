"""The tables of the accuracy, other measures and cost of each cell of a dataset."""

from dataclasses import replace

from imcl.analysis.rows import SummaryRow
from imcl.analysis.summary import Summary
from imcl.present.by_method import (
    Column,
    Part,
    by_method,
    covered,
    metric,
    seeds,
    seeds_of,
    split,
)
from imcl.present.differences import holm
from imcl.present.render import Entry, Table, number, protocol

ACCURACY = metric("", "accuracy", 100)


def accuracy(summary: Summary, part: Part) -> Table:
    """Accuracy at the last epoch. Bold: the best method, if it differs significantly from base."""

    def show(row: SummaryRow) -> Entry | None:
        entry = ACCURACY.show(row)
        difference = row.get("difference_to_base")
        bold = row["best"] and difference is not None and difference["significant"]
        return entry and replace(entry, bold=bold)

    title = f"{split(summary, part.dataset)} accuracy (%) at the last epoch."
    rules = ""
    if summary["comparisons"][part.dataset]["base"]["tested"]:
        rules = (
            "Bold: the best method, if it differs from base (paired by seed, at least three "
            f"seeds, p < 0.05 after {holm(summary, part, 'base')})."
        )
    return _table(summary, part, "accuracy", title, [Column("", show)], rules)


def oracle(summary: Summary, part: Part) -> Table:
    """Accuracy at the epoch that is best on the evaluated images."""
    title = (
        f"oracle {split(summary, part.dataset)} accuracy (%): at the epoch that is best on the "
        "evaluated images themselves, and what is lost from there to the last epoch."
    )
    rules = "The accuracy at that epoch is no result, since the epoch is chosen on these images."
    columns = [metric("oracle", "oracle_accuracy", 100), metric("lost", "lost_since_best", 100)]
    return _table(summary, part, "oracle", title, columns, rules)


def calibration(summary: Summary, part: Part) -> Table:
    """Likelihood, calibration error and, with two classes, the area under the ROC curve."""
    columns = [metric("NLL", "nll", 1, 2), metric("ECE", "ece", 100)]
    measures = "negative log-likelihood (NLL, nats), expected calibration error (ECE, 15 bins, %)"
    if all("roc_auc" in row["estimates"] for row in part.rows(summary)):
        measures += ", area under the ROC curve (AUC, %)"
        columns.append(metric("AUC", "roc_auc", 100))
    return _table(summary, part, "calibration", f"{measures}.", columns)


def redundancy(summary: Summary, part: Part) -> Table:
    """How alike channels and kernels are."""
    caption = (
        "redundancy: mean squared off-diagonal correlation between channels on the evaluated "
        "images, and mean squared off-diagonal cosine between kernels; both × 1000."
    )
    columns = [
        metric("channels", "channel_correlation", 1000),
        metric("kernels", "kernel_cosine", 1000),
    ]
    return _table(summary, part, "redundancy", caption, columns)


def cost(summary: Summary, part: Part) -> Table:
    """Parameters, and time and memory relative to base.

    It is shown only if all methods can be compared: not if some were trained on another kind of
    machine than base. The benches tell what each method costs in any case.
    """

    def time(row: SummaryRow) -> Entry | None:
        found = row.get("cost_to_base")
        rule = "training_seconds divided by that of base"
        return found and number(found["time"], [row["key"], found["with"]], rule, digits=2)

    def memory(row: SummaryRow) -> Entry | None:
        found = row.get("cost_to_base")
        rule = "peak_memory_bytes divided by that of base"
        return found and number(found["memory"], [row["key"], found["with"]], rule, digits=2)

    title = "cost of training: trained parameters; time without evaluation and memory, over base's."
    rules = (
        "Memory is the peak of the process. Other jobs may have run on the machine at the same "
        "time. Methods with an augment variant pass each image through the network several times."
    )
    layout = by_method(
        summary, part, [Column("time", time), Column("memory", memory)], [PARAMETERS]
    )
    over_seeds = protocol(seeds_of(summary, part.dataset), intervals=False)
    table = layout.table(f"cost-{part.name}", f"{part.title}: {title} {over_seeds}", rules)
    comparable = all("cost_to_base" in row for row in part.rows(summary))
    return replace(table, shown=comparable)


PARAMETERS = Column(
    "parameters",
    lambda row: number(row["training_parameters"], [row["key"]], "training_parameters", digits=0),
)


def error(summary: Summary, part: Part) -> Table:
    """Error at the last epoch."""
    caption = "error (%) at the last epoch."
    return _table(summary, part, "error", caption, [metric("", "error", 100)])


def _table(
    summary: Summary,
    part: Part,
    name: str,
    title: str,
    columns: list[Column],
    rules: str = "",
) -> Table:
    """A table of means over the seeds."""
    dataset = part.dataset
    return by_method(summary, part, columns).table(
        f"{name}-{part.name}",
        f"{part.title}: {title} {seeds(summary, dataset)}",
        f"{rules} {covered(summary, dataset)}".strip(),
    )
