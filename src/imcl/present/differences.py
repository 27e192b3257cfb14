"""The differences to a reference, paired by seed, and their aggregate over all settings.

A reference is `base` or `control`.
"""

from typing import Literal

from imcl.analysis.rows import DIFFERENCES, Reference, SummaryRow
from imcl.analysis.summary import Summary
from imcl.present.by_method import Column, Part, by_method, ending, split
from imcl.present.render import MISSING, Entry, Table, number, p_value

P_VALUES: dict[str, Literal["p_holm", "permutation_p_holm"]] = {
    "paired t-test": "p_holm",
    "paired permutation test": "permutation_p_holm",
}


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
    """The differences to a reference with the p-values of both tests."""
    caption = (
        f"{part.title}: difference to {reference} in points of {split(summary, part.dataset)} "
        "accuracy, paired by seed."
    )
    comparisons = summary["comparisons"][part.dataset][reference]
    if comparisons["tested"]:
        caption += (
            " p: paired t-test; perm.: paired permutation test; both after "
            f"{holm(summary, part, reference)}. Bold: p of the t-test < 0.05 with at least three "
            f"seeds. With n = {comparisons['pairs']} seeds a permutation test "
            f"cannot give less than p = {comparisons['least_permutation_p']:.2g} before the "
            "correction."
        )
    if reference == "control":
        caption += (
            " Only methods that see as many augmentations of each image as control are compared."
        )
    found = [
        row[DIFFERENCES[reference]] for row in part.rows(summary) if DIFFERENCES[reference] in row
    ]
    apart = sum(bool(each["elsewhere"]) for each in found)
    if apart:
        caption += (
            f" In {apart} of {len(found)} comparisons, paired seeds were trained on different "
            "devices."
        )
    columns = [
        Column("", lambda row: difference(row, reference)),
        Column("p", lambda row: tested(row, "paired t-test", reference)),
        Column("perm.", lambda row: tested(row, "paired permutation test", reference)),
    ]
    return Table(
        f"difference-to-{reference}-{part.name}",
        f"{caption} {ending(summary, part.dataset)}",
        *by_method(summary, part, columns),
    )


def aggregate(summary: Summary) -> Table:
    """The differences to base over all datasets and backbones, by noise and over all noises."""
    found = {(entry["method"], entry["noise"]): entry for entry in summary["aggregate"]}
    axes = summary["axes"]
    there = {noise for _, noise in found}
    noises = [noise for noise in [*axes["noise"], "all"] if noise in there]
    rule = (
        "mean over seeds of the interquartile mean over settings of the differences to base, "
        "× 100, ± 95 % t-interval"
    )
    lines = []
    for method in dict.fromkeys(method for method, _ in found):
        line = [Entry(method)]
        for noise in noises:
            entry = found.get((method, noise))
            line.append(
                number(entry, entry["cells"], rule, scale=100, signed=True)
                if entry and entry["complete"]
                else Entry(MISSING)
            )
        lines.append(line)
    caption = (
        f"Differences to base over all datasets ({', '.join(axes['datasets'])}) and backbones "
        f"({', '.join(axes['backbones'])}) that have records, in points of accuracy, paired by "
        "seed: for each seed the interquartile mean over these settings. Last column: all label "
        "noises. A dash: the method lacks records of a setting. "
        f"{ending(summary, *axes['datasets'])}"
    )
    return Table("aggregate", caption, ["method", *noises], [lines], labels=1)
