"""Where a gain comes from: the cells that show it, and what `all` changes besides the accuracy.

From base to control only the number of augmentations of each image grows; from control to `all` the
four ways are added. The accuracies and differences are in the summary's rows of these cells.
"""

from itertools import product

from typing_extensions import TypedDict  # pydantic checks these on Python 3.11

from imcl.analysis.rows import Axes, SummaryRow, setting
from imcl.study import methods

CHANGED = ("ece", "channel_correlation", "kernel_cosine")


class Change(TypedDict):
    """The mean of a metric over the seeds: of base, and of `all`."""

    before: float
    after: float


class Gain(TypedDict):
    """The cells that show where the gain comes from, for one dataset, noise and backbone.

    Attributes:
        base: the key of base.
        control: the key of control; None where it was not trained.
        all_ways: the key of `all`.
        changes: by metric, from base to `all`.
        methods: the keys of the other methods that were compared with base, by kind of method.
    """

    dataset: str
    noise: str
    backbone: str
    base: str
    control: str | None
    all_ways: str
    changes: dict[str, Change]
    methods: dict[str, list[str]]


def gains(rows: list[SummaryRow], axes: Axes) -> list[Gain]:
    """A gain for each setting that has both base and `all`.

    Args:
        rows: of the summary.
        axes: of the summary; they give the order, with the noise innermost.
    """
    found: list[Gain] = []
    for place in product(axes["datasets"], axes["backbones"], axes["noise"]):
        dataset, backbone, noise = place
        here = {r["method"]: r for r in rows if setting(r) == (dataset, noise, backbone)}
        if "base" not in here or "all" not in here:
            continue
        base, control, all_ways = here["base"], here.get("control"), here["all"]
        by_kind: dict[str, list[str]] = {}
        for name, row in here.items():
            apart = name in ("control", "default", "all")
            if "difference_to_base" in row and not apart:
                by_kind.setdefault(_kind(name), []).append(row["key"])
        found.append(
            {
                "dataset": dataset,
                "noise": noise,
                "backbone": backbone,
                "base": base["key"],
                "control": control["key"] if control else None,
                "all_ways": all_ways["key"],
                "changes": {metric: _change(base, all_ways, metric) for metric in CHANGED},
                "methods": by_kind,
            }
        )
    return found


def _change(base: SummaryRow, all_ways: SummaryRow, metric: str) -> Change:
    return {
        "before": base["estimates"][metric]["mean"],
        "after": all_ways["estimates"][metric]["mean"],
    }


def _kind(name: str) -> str:
    method = methods.parse(name)
    if method.baseline:
        return "Baselines with ways" if method.ways else "Baselines"
    return "Combinations of ways" if len(method.ways) > 1 else "Single ways"
