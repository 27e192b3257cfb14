"""The table of where a gain comes from: what base loses and memorises, and what `all` adds."""

from imcl.analysis.gains import Gain
from imcl.analysis.rows import SummaryRow
from imcl.analysis.summary import Summary
from imcl.present.by_method import Part, ending, metric, split
from imcl.present.differences import difference
from imcl.present.render import MISSING, Entry, Row, Table

OF_BASE = (
    metric("base (%)", "accuracy", 100),
    metric("fitted (%)", "train_accuracy", 100),
    metric("lost", "lost_since_best", 100),
)

# From base to `all`: a metric and its scale.
CHANGES = {
    "ECE": ("ece", 100),
    "channels": ("channel_correlation", 1000),
    "kernels": ("kernel_cosine", 1000),
}


def table(summary: Summary, part: Part) -> Table | None:
    """A row for each backbone and noise with both base and `all`; None if there is none."""
    cells = {row["key"]: row for row in summary["cells"]}
    groups: dict[str, list[Row]] = {}
    for gain in summary["gains"]:
        if gain["dataset"] == part.dataset and gain["noise"] in part.axes["noise"]:
            groups.setdefault(gain["backbone"], []).append(_row(gain, cells))
    if not groups:
        return None
    caption = (
        f"{part.title}: where the gain comes from. Accuracy on the "
        f"{split(summary, part.dataset)} images at the last epoch; differences in points, paired "
        "by seed. Fitted: share of the training labels that base predicts, on augmented images. "
        "Lost: base's accuracy at the best evaluated epoch minus that at the last. Views: control "
        "minus base; control uses no way but sees as many augmentations of each image as output "
        "compares. Ways: all minus control. Bold as in the tables of differences. Last columns, "
        "from base to all: expected calibration error (ECE, %), redundancy of channels and of "
        f"kernels (× 1000). {ending(summary, part.dataset)}"
    )
    header = ["backbone", "noise", *(column.title for column in OF_BASE)]
    header += ["views", "ways", "all − base", *CHANGES]
    return Table(f"gain-{part.name}", caption, header, list(groups.values()))


def _row(gain: Gain, cells: dict[str, SummaryRow]) -> Row:
    base, all_ways = cells[gain["base"]], cells[gain["all_ways"]]
    views = difference(cells[gain["control"]]) if gain["control"] else None
    entries = [
        *(column.show(base) for column in OF_BASE),
        views,
        difference(all_ways, "control"),
        difference(all_ways),
    ]
    for name, scale in CHANGES.values():
        before, after = (gain["changes"][name][when] * scale for when in ("before", "after"))
        text, rule = f"{before:.1f} to {after:.1f}", f"mean {name} × {scale}, from base to all"
        entries.append(Entry(text, False, after, rule, (base["key"], all_ways["key"])))
    names = [Entry(gain["backbone"]), Entry(gain["noise"])]
    return names + [entry or Entry(MISSING) for entry in entries]
