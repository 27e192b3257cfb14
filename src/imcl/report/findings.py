"""Where a gain comes from: what base loses and learns by heart, and what `all` adds to whom."""

from imcl import methods
from imcl.report.render import MISSING, Entry, Table, number, protocol

METRICS = {
    "base (%)": ("accuracy", "mean over seeds of accuracy × 100 ± 95 % t-interval"),
    "fitted (%)": ("train_accuracy", "mean over seeds of the last epoch's train_accuracy × 100"),
    "lost": ("lost_since_best", "mean over seeds of oracle accuracy less accuracy, × 100"),
}

# From base to `all`: a metric and its scale.
CHANGES = {
    "ECE": ("ece", 100),
    "channels": ("channel_correlation", 1000),
    "kernels": ("kernel_cosine", 1000),
}


def table(summary: dict, dataset: str) -> Table:
    """A row for each backbone and noise that has base and `all`; control where a study holds it."""
    rows = {(r["dataset"], r["noise"], r["backbone"], r["method"]): r for r in summary["cells"]}
    groups = []
    for backbone in summary["axes"]["backbones"]:
        group = []
        for noise in summary["axes"]["noise"]:
            place = (dataset, noise, backbone)
            base, control, best = (rows.get((*place, m)) for m in ("base", "control", "all"))
            if base and best:
                labels = [Entry(backbone), Entry(noise)]
                group.append([*labels, *_entries(base, control, best)])
        groups.append(group)
    caption = (
        f"{dataset}: where the gain comes from; accuracy on the "
        f"{summary['data'][dataset]['evaluation']} images at the last epoch, differences in points "
        f"and paired by seed. {protocol(len(summary['axes']['seeds']))}. Fitted: share of the "
        "labels trained on that base predicts on augmented images. Lost: its accuracy at the best "
        "of the evaluated epochs less that at the last. Views: control, which sees as many "
        "augmentations of each image as output compares, without any way, less base. Ways: all "
        "less control. Bold as in the tables of differences. From base to all: expected "
        "calibration error (ECE, %), and redundancy of channels and of kernels (× 1000)."
    )
    header = ["backbone", "noise", *METRICS, "views", "ways", "all − base", *CHANGES]
    return Table(f"gain-{dataset}", caption, header, [group for group in groups if group])


def changes(
    summary: dict, dataset: str, noise: str, backbone: str
) -> dict[str, list[tuple[str, Entry]]]:
    """The methods' differences to base there, by what the methods are; no control, all or trial."""
    groups: dict[str, list[tuple[str, Entry]]] = {}
    for row in summary["cells"]:
        name, change = row["method"], difference(row)
        apart = name in ("control", "all", *summary["trials"])
        place = (row["dataset"], row["noise"], row["backbone"])
        if change and not apart and place == (dataset, noise, backbone):
            method = methods.parse(name)
            if method.peer:
                kind = "Peers with ways" if method.ways else "Peers"
            else:
                kind = "Combinations of ways" if len(method.ways) > 1 else "Single ways"
            groups.setdefault(kind, []).append((name, change))
    return groups


def _entries(base: dict, control: dict | None, best: dict) -> list[Entry]:
    own, both = [base["key"]], [base["key"], best["key"]]
    made = [
        number(base["estimates"][metric], own, rule, scale=100) for metric, rule in METRICS.values()
    ]
    made += [
        difference(row, reference) or Entry(MISSING)
        for row, reference in ((control, "base"), (best, "control"), (best, "base"))
    ]
    for metric, scale in CHANGES.values():
        before, after = (row["estimates"][metric]["mean"] * scale for row in (base, best))
        text, rule = f"{before:.1f} to {after:.1f}", f"mean {metric} × {scale}, base to all"
        made.append(Entry(text, False, after, rule, tuple(both)))
    return made


def difference(row: dict | None, reference: str = "base") -> Entry | None:
    """A cell's difference in accuracy to a reference, if it was compared with one."""
    found = row and row.get(f"difference_to_{reference}")
    if not found:
        return None
    rule = f"mean over seeds of accuracy less that of {reference}, × 100, ± 95 % t-interval"
    sources = [row["key"], found["with"]]
    return number(found, sources, rule, scale=100, signed=True, bold=found["significant"])
