"""Means with intervals, differences paired by seed, and an aggregate over settings."""

from collections.abc import Sequence
from functools import cache
from typing import Any, TypedDict

import numpy as np

# scipy takes a second to import, so each function imports what it uses: commands that only list
# files start without it.

CONFIDENCE = 0.95
SIGNIFICANCE = 0.05  # the p below which a difference is called significant
RESAMPLES = 2000

# Accuracies are counts divided by a number of images, so a smaller difference is only rounding.
TIE = 1e-9


class Estimate(TypedDict):
    """The mean of n values, with its 95 % t-interval.

    Attributes:
        mean: of the values.
        half_width: of the interval; None for one value, and for equal ones: they are equal because
            accuracies are coarse, not because they are certain.
        n: how many values.
        std: their standard deviation, over n - 1; None for one value.
    """

    mean: float
    half_width: float | None
    n: int
    std: float | None


class Aggregate(TypedDict):
    """The interquartile mean of n values from several settings, with its 95 % interval.

    The bounds are None if no setting has two values to resample.
    """

    mean: float
    low: float | None
    high: float | None
    n: int


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of independent values with Student's t-interval."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return {"mean": mean, "half_width": None, "n": n, "std": None}
    std = float(np.std(values, ddof=1))
    if np.ptp(values) < TIE:
        return {"mean": mean, "half_width": None, "n": n, "std": 0.0}
    return {"mean": mean, "half_width": _student(n - 1) * std / n**0.5, "n": n, "std": std}


@cache
def _student(freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, freedom))


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
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(differences, 0).pvalue)


def permutation_p(values: Sequence[float], base: Sequence[float]) -> float | None:
    """Two-sided p of the paired permutation test, which assumes no distribution.

    Under the null hypothesis each pair may be swapped. The mean difference is compared with those
    of all 2^n swaps, or of a random sample of them for n > 15. None for fewer than two pairs.
    """
    if len(values) < 2:
        return None
    from scipy.stats import permutation_test

    test = permutation_test(
        (np.subtract(values, base),),
        np.mean,
        permutation_type="samples",
        n_resamples=2**15,
        rng=np.random.default_rng(0),
    )
    return float(test.pvalue)


def least_permutation_p(n: int) -> float:
    """The least p that the permutation test of n pairs can give: 0.0625 for five."""
    return min(1.0, 2 / 2**n)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction over the p-values that are not None; None stays None."""
    # Written here: that of statsmodels collects garbage at each call, which was half the time of
    # judging the claims.
    order = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected, largest = list(p_values), 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        corrected[index] = largest
    return corrected


def interquartile_mean(settings: Sequence[Sequence[float]]) -> Aggregate:
    """The mean of the middle half of all values, with a stratified bootstrap interval.

    Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (NeurIPS
    2021): values are resampled within each setting, never across, and the bounds are percentiles of
    the resampled means.

    Args:
        settings: for each setting (dataset, noise, backbone) its values by seed.
    """
    from scipy.stats import bootstrap, trim_mean

    samples = [np.asarray(values, float) for values in settings]
    drawn = [sample for sample in samples if len(sample) > 1]
    single = np.array([sample[0] for sample in samples if len(sample) == 1])
    mean, n = float(trim_mean(np.concatenate(samples), 0.25)), sum(map(len, samples))
    if not drawn:
        return {"mean": mean, "low": None, "high": None, "n": n}

    def middle(*resampled: np.ndarray, axis: int = -1) -> Any:
        fixed = np.broadcast_to(single, (*resampled[0].shape[:-1], len(single)))
        return trim_mean(np.concatenate([*resampled, fixed], axis=axis), 0.25, axis=axis)

    interval = bootstrap(
        drawn,
        middle,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return {"mean": mean, "low": float(interval.low), "high": float(interval.high), "n": n}
