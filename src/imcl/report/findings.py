"""Where a gain comes from: what base loses by memorising, and what `all` adds to whom."""

from imcl import stats
from imcl.report.render import MISSING, Entry, Table, number

PAIRED = "mean over seeds of accuracy less that of {}, × 100, ± 95 % t-interval"


def table(summary: dict, dataset: str) -> Table:
    """A row for each backbone and noise that has base and `all`; control where a study holds it."""
    rows = {(r["dataset"], r["noise"], r["backbone"], r["method"]): r for r in summary["cells"]}
    groups = []
    for backbone in summary["axes"]["backbones"]:
        group = []
        for noise in summary["axes"]["noise"]:
            base, control, best = (
                rows.get((dataset, noise, backbone, method))
                for method in ("base", "control", "all")
            )
            if base and best:
                labels = [Entry(backbone), Entry(noise)]
                group.append([*labels, *_entries(base, control, best)])
        groups.append(group)
    caption = (
        f"{dataset}: where the gain comes from, in points of accuracy at the last epoch, mean "
        "± 95 % t-interval, paired by seed. Memorised: what base has lost since its best epoch. "
        "Views: control, which sees as many augmentations of each image without any way, less "
        "base. Ways: all less control. Redundancy of channels and kernels (× 1000) and time of "
        "training relative to base, of all."
    )
    header = ["backbone", "noise", "base (%)", "memorised", "views", "ways", "all − base"]
    header += ["channels", "kernels", "time"]
    return Table(f"gain-{dataset}", caption, header, [group for group in groups if group])


def _entries(base: dict, control: dict | None, best: dict) -> list[Entry]:
    values = base["values"]
    lost = [b - a for a, b in zip(values["accuracy"], values["oracle_accuracy"], strict=True)]
    rule = "mean over seeds of accuracy at the best epoch less that at the last, × 100"
    made = [
        number(base["estimates"]["accuracy"], [base["key"]], "mean accuracy × 100", scale=100),
        number(stats.estimate(lost)._asdict(), [base["key"]], rule, scale=100),
        _difference(control, "base"),
        _difference(best, "control"),
        _difference(best, "base"),
    ]
    for metric in ("channel_correlation", "kernel_cosine"):
        before, after = (row["estimates"][metric]["mean"] * 1000 for row in (base, best))
        sources = (base["key"], best["key"])
        text = f"{before:.1f} to {after:.1f}"
        made.append(Entry(text, False, after, f"mean {metric} × 1000, base to all", sources))
    ratio = best["training_seconds"] / base["training_seconds"]
    sources = [best["key"], base["key"]]
    made.append(number(ratio, sources, "training_seconds, over that of base", digits=2))
    return made


def _difference(row: dict | None, reference: str) -> Entry:
    found = row and row.get(f"difference_to_{reference}")
    if not found:
        return Entry(MISSING)
    sources = [row["key"], found["with"]]
    return number(
        found, sources, PAIRED.format(reference), scale=100, signed=True, bold=found["significant"]
    )
