"""Where a gain comes from: the cells that show it, and how `all` changes the calibration.

From base to control only the number of augmentations of each image grows; from control to `all` the
four ways are added. The accuracies and differences are in the summary's rows of these cells.
"""

from itertools import product

from typing_extensions import TypedDict  # pydantic checks these on Python 3.11

from imcl.analysis.rows import Axes, SummaryRow, setting


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
        ece: the expected calibration error, from base to `all`.
    """

    dataset: str
    noise: str
    backbone: str
    base: str
    control: str | None
    all_ways: str
    ece: Change


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
        found.append(
            {
                "dataset": dataset,
                "noise": noise,
                "backbone": backbone,
                "base": base["key"],
                "control": control["key"] if control else None,
                "all_ways": all_ways["key"],
                "ece": {
                    "before": base["estimates"]["ece"]["mean"],
                    "after": all_ways["estimates"]["ece"]["mean"],
                },
            }
        )
    return found
