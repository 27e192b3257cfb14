"""Means with intervals, and differences paired by seed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

CONFIDENCE = 0.95


# Accuracies are counts over a number of images: equal values differ by rounding alone.
TIE = 1e-9


class Estimate(NamedTuple):
    """A mean over n seeds and the half-width of its 95 % t-interval.

    The half-width is None where there is nothing to estimate it from: one value, or equal ones,
    whose spread of zero is a matter of rounding and no certainty.
    """

    mean: float
    half_width: float | None
    n: int


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of independent values with Student's t-interval."""
    n, mean = len(values), float(np.mean(values))
    if n < 2 or np.ptp(values) < TIE:
        return Estimate(mean, None, n)
    error = float(np.std(values, ddof=1)) / n**0.5
    return Estimate(mean, float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * error, n)


def paired_p(values: Sequence[float], base: Sequence[float]) -> float | None:
    """Two-sided p of the paired t-test.

    None where the test is undefined: fewer than two pairs, or the same difference in each pair. No
    difference in any pair gives 1.
    """
    differences = np.subtract(values, base)
    if len(differences) < 2:
        return None
    if np.ptp(differences) < TIE:
        return 1.0 if abs(differences[0]) < TIE else None
    return float(stats.ttest_1samp(differences, 0).pvalue)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction over the tests that there are; None stays None."""
    tested = [p for p in p_values if p is not None]
    corrected = iter(multipletests(tested, method="holm")[1] if tested else [])
    return [None if p is None else float(next(corrected)) for p in p_values]
