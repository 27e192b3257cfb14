"""The differences to a reference, paired by seed, and their aggregate over all settings.

A reference is `base` or `control`.
"""

from typing import Literal

from imcl.analysis.rows import DIFFERENCES, Reference, SummaryRow
from imcl.analysis.summary import Summary
from imcl.present import names
from imcl.present.by_method import (
    MOST_NOISES,
    Column,
    Part,
    by_method,
    covered,
    metric,
    seeds,
    split,
)
from imcl.present.render import MISSING, Entry, Table, number, p_value

P_VALUES: dict[str, Literal["p_holm", "permutation_p_holm"]] = {
    "paired t-test": "p_holm",
    "paired permutation test": "permutation_p_holm",
}

MOST_BOTH = 2  # label noises of a table that shows accuracies beside differences


def difference(row: SummaryRow, reference: Reference = "base") -> Entry | None:
    """A cell's difference in accuracy to a reference, in points; bold if it is significant."""
    found = row.get(DIFFERENCES[reference])
    if found is None:
        return None
    rule = f"mean over seeds of accuracy minus that of {reference}, × 100, ± 95 % t-interval"
    sources = [row["key"], found["with"]]
    return number(found, sources, rule, scale=100, signed=True, bold=found["significant"])


def tested(row: SummaryRow, test: str, reference: Reference = "base") -> Entry | None:
    """The p-value of a cell's difference to a reference; `test` is a key of P_VALUES."""
    found = row.get(DIFFERENCES[reference])
    if found is None:
        return None
    rule = f"p of the {test} against {reference}, after Holm's correction over the table"
    return p_value(found[P_VALUES[test]], [row["key"], found["with"]], rule)


def holm(summary: Summary, part: Part, reference: Reference) -> str:
    """The comparisons that Holm's correction covers, in words: those made so far."""
    count = summary["comparisons"][part.dataset][reference]
    plural = "s" if count["tested"] != 1 else ""
    so_far = (
        f" made so far, of {count['planned']} planned" if count["made"] < count["planned"] else ""
    )
    return (
        f"Holm's correction over the {count['tested']} comparison{plural} with {reference}{so_far}"
    )


def table(summary: Summary, part: Part, reference: Reference) -> Table:
    """The differences to a reference with their p-values.

    Those of the permutation test are shown only where it can be significant with so many seeds.
    """
    title = (
        f"{part.title}: difference to {reference} in points of {split(summary, part.dataset)} "
        "accuracy, paired by seed"
    )
    comparisons = summary["comparisons"][part.dataset][reference]
    title += ", with p after Holm's correction." if comparisons["tested"] else "."
    decides = comparisons["permutation_decides"]
    rules = []
    if comparisons["tested"]:
        rules.append(
            f"p: paired t-test{'; perm.: paired permutation test; both' * decides} after "
            f"{holm(summary, part, reference)}. Bold: p of the t-test < 0.05 with at least three "
            "seeds."
        )
    if comparisons["tested"] and not decides:
        rules.append(
            f"With n = {comparisons['pairs']} seeds a permutation test cannot give less than "
            f"p = {comparisons['least_permutation_p']:.2g} before the correction, so it is not "
            "shown."
        )
    if reference == "control":
        rules.append(
            "Only methods that see as many augmentations of each image as control are compared."
        )
    found = [
        row[DIFFERENCES[reference]] for row in part.rows(summary) if DIFFERENCES[reference] in row
    ]
    apart = sum(bool(each["elsewhere"]) for each in found)
    if apart:
        rules.append(
            f"In {apart} of {len(found)} comparisons, paired seeds were trained on different "
            "devices."
        )
    columns = [
        Column("", lambda row: difference(row, reference)),
        Column("p", lambda row: tested(row, "paired t-test", reference)),
    ]
    if decides:
        columns.append(
            Column("perm.", lambda row: tested(row, "paired permutation test", reference))
        )
    return by_method(summary, part, columns).table(
        f"difference-to-{reference}-{part.name}",
        f"{title} {seeds(summary, part.dataset)}",
        " ".join([*rules, covered(summary, part.dataset)]).strip(),
    )


def effects(summary: Summary, part: Part) -> Table:
    """The differences to base; with few label noises the accuracies beside them.

    With many the row of base shows its accuracy.
    """
    level = metric("accuracy", "accuracy", 100)
    both = len(part.axes["noise"]) <= MOST_BOTH

    def to_base(row: SummaryRow) -> Entry | None:
        if row["method"] == "base":
            return Entry("") if both else level.show(row)
        return difference(row)

    accuracy = f"{split(summary, part.dataset)} accuracy (%) at the last epoch"
    title = (
        f"{part.title}: {accuracy}, and its difference to base (points)."
        if both
        else f"{part.title}: difference to base in points; in the row of base, its {accuracy}."
    )
    compared = summary["comparisons"][part.dataset]["base"]["tested"]
    bold = f"Bold: p < 0.05 after {holm(summary, part, 'base')}." if compared else ""
    columns = [level, Column("− base", to_base)] if both else [Column("", to_base)]
    return by_method(summary, part, columns).table(
        f"effects-{part.name}",
        f"{title} {seeds(summary, part.dataset)}",
        f"{bold} {covered(summary, part.dataset)}".strip(),
    )


def aggregate(summary: Summary) -> list[Table]:
    """The differences to base over all datasets and backbones, by noise and over all noises.

    In several tables if there are many noises.
    """
    found = {(entry["method"], entry["noise"]): entry for entry in summary["aggregate"]}
    axes, shown = summary["axes"], names.of(summary)
    there = {noise for _, noise in found}
    noises = [noise for noise in [*axes["noise"], "all"] if noise in there]
    rule = (
        "mean over seeds of the interquartile mean over settings of the differences to base, "
        "× 100, ± 95 % t-interval"
    )
    title = (
        "Difference to base in points of accuracy, paired by seed: interquartile mean over all "
        f"datasets and backbones that have records. {seeds(summary, *axes['datasets'])}"
    )
    rules = (
        f"Datasets: {', '.join(shown.datasets.values())}; backbones: "
        f"{', '.join(shown.backbones.values())}. For each seed the interquartile mean over these "
        "settings. A dash: the method lacks records of a setting. "
        f"{covered(summary, *axes['datasets'])}"
    )
    made: list[Table] = []
    for start in range(0, len(noises), MOST_NOISES + 1):
        chunk = noises[start : start + MOST_NOISES + 1]
        lines = []
        for method in dict.fromkeys(method for method, _ in found):
            line = [Entry(shown.methods[method], name=method)]
            for noise in chunk:
                entry = found.get((method, noise))
                line.append(
                    number(entry, entry["cells"], rule, scale=100, signed=True)
                    if entry and entry["complete"]
                    else Entry(MISSING)
                )
            if any(entry.value for entry in line):
                lines.append(line)
        header = ["method", *(shown.noise.get(noise, "all labels") for noise in chunk)]
        if not lines:
            continue
        made.append(
            Table(
                "aggregate" + f"-{len(made) + 1}" * bool(made),
                title,
                header,
                [lines],
                labels=1,
                rules=rules.strip(),
                columns=["method", *chunk],
            )
        )
    return made
