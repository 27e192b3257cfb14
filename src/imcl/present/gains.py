"""The table of where a gain comes from: what base loses and memorises, and what `all` adds."""

from imcl.analysis.gains import Gain
from imcl.analysis.rows import SummaryRow
from imcl.analysis.summary import Summary
from imcl.present.by_method import Part, covered, metric, seeds, split
from imcl.present.differences import difference
from imcl.present.render import MISSING, NOT_TRAINED, Entry, Row, Table

FITTED = metric("fitted (%)", "train_accuracy", 100)


def table(summary: Summary, part: Part) -> Table | None:
    """A row for each backbone and noise with both base and `all`; None if there is none."""
    cells = {row["key"]: row for row in summary["cells"]}
    groups: dict[str, list[Row]] = {}
    for gain in summary["gains"]:
        if gain["dataset"] == part.dataset and gain["noise"] in part.axes["noise"]:
            groups.setdefault(gain["backbone"], []).append(_row(gain, cells, part))
    if not groups:
        return None
    title = (
        f"{part.title}: where the gain comes from. Fitted: training labels that base predicts; "
        "views: control minus base; ways: all minus control; ECE (%) from base to all. "
        f"{seeds(summary, part.dataset)}"
    )
    rules = (
        f"Differences in points of {split(summary, part.dataset)} accuracy at the last epoch, "
        "paired by seed. Training labels are predicted on augmented images. Control uses no way, "
        "but sees as many augmentations of each image as output compares. Bold as in the tables of "
        "differences. ECE: expected calibration error. "
        f"{covered(summary, part.dataset)}"
    )
    header = ["backbone", "labels", FITTED.title, "views", "ways", "all − base", "ECE"]
    return Table(f"gain-{part.name}", title, header, list(groups.values()), rules=rules.strip())


def _row(gain: Gain, cells: dict[str, SummaryRow], part: Part) -> Row:
    base, all_ways = cells[gain["base"]], cells[gain["all_ways"]]
    before, after = (100 * gain["ece"][when] for when in ("before", "after"))
    entries = [
        FITTED.show(base),
        difference(cells[gain["control"]]) if gain["control"] else Entry(NOT_TRAINED),
        difference(all_ways, "control") if gain["control"] else Entry(NOT_TRAINED),
        difference(all_ways),
        Entry(
            f"{before:.1f} to {after:.1f}",
            value=after,
            rule="mean ece × 100, from base to all",
            sources=(base["key"], all_ways["key"]),
        ),
    ]
    labels = [
        Entry(part.names.backbones[gain["backbone"]], name=gain["backbone"]),
        Entry(part.names.noise[gain["noise"]], name=gain["noise"]),
    ]
    return labels + [entry or Entry(MISSING) for entry in entries]
