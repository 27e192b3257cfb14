"""Means with intervals, and differences paired by seed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A mean over n seeds and the half-width of its 95 % t-interval (None for n = 1)."""

    mean: float
    half_width: float | None
    n: int


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of independent values with Student's t-interval."""
    n = len(values)
    if n < 2:
        return Estimate(float(values[0]), None, n)
    error = float(np.std(values, ddof=1)) / n**0.5
    return Estimate(
        float(np.mean(values)), float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * error, n
    )


def paired_p(values: Sequence[float], base: Sequence[float]) -> float | None:
    """Two-sided p of the paired t-test; None where fewer than two pairs leave nothing to test.

    Equal values everywhere give 1; the same difference everywhere gives 0.
    """
    differences = np.subtract(values, base)
    if len(differences) < 2:
        return None
    if np.ptp(differences) == 0:
        return 1.0 if differences[0] == 0 else 0.0
    return float(stats.ttest_1samp(differences, 0).pvalue)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction over the tests that there are; None stays None."""
    tested = [p for p in p_values if p is not None]
    corrected = iter(multipletests(tested, method="holm")[1] if tested else [])
    return [None if p is None else float(next(corrected)) for p in p_values]
