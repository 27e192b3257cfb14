"""Every statistic beside a second form of it, written anew in float64 from its definition.

Accuracies are counts of right predictions, so the second forms can count in whole numbers, where
ours sees shares with rounding.
"""

from itertools import product
from math import comb, gamma, pi, sqrt

import numpy as np
import pytest
from scipy.integrate import quad
from statsmodels.stats.multitest import multipletests

from imcl.analysis import statistics

IMAGES = 100


def counts(seeds: int, draw: int) -> tuple[np.ndarray, np.ndarray]:
    """Right predictions by seed, of a method and of its reference, with many equal differences."""
    rng = np.random.default_rng([seeds, draw])
    return rng.integers(0, 5, seeds), rng.integers(0, 5, seeds)


def shares(right: np.ndarray) -> list[float]:
    return [int(r) / IMAGES for r in right]


# the definitions --------------------------------------------------------------------------------


def student(freedom: int, low: float, high: float) -> float:
    """The probability that Student's t is between two bounds, integrated from its density."""
    scale = gamma((freedom + 1) / 2) / (sqrt(freedom * pi) * gamma(freedom / 2))
    density = lambda x: scale * (1 + x * x / freedom) ** (-(freedom + 1) / 2)  # noqa: E731
    return quad(density, low, high)[0]


def standard_error(values: np.ndarray) -> float:
    mean = sum(values) / len(values)
    return sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))


def paired_t(differences: np.ndarray) -> float:
    """Gosset (1908): the probability of a mean as far from 0, in units of its standard error."""
    t = abs(np.mean(differences)) / standard_error(differences)
    return 1 - student(len(differences) - 1, -t, t)


def permutation(differences: np.ndarray) -> float:
    """Fisher (1935): the share of all 2^n ways to swap pairs whose sum is as far from 0."""
    every = product([1, -1], repeat=len(differences))
    sums = [np.dot(signs, differences) for signs in every]
    return sum(abs(s) >= abs(sum(differences)) for s in sums) / len(sums)


def holm(p_values: list[float]) -> list[float]:
    """Holm (1979): a p-value times the number of those not smaller, and never below that of one
    that is smaller."""

    def times(p: float) -> float:
        return p * sum(other >= p for other in p_values)

    return [min(1, max(times(other) for other in p_values if other <= p)) for p in p_values]


def interquartile_means(settings: np.ndarray) -> list[float]:
    """Agarwal et al. (2021), but by seed: of the sorted settings the middle half."""
    cut = len(settings) // 4
    return [
        sum(sorted(seed)[cut : len(settings) - cut]) / (len(settings) - 2 * cut)
        for seed in settings.T
    ]


# compared ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_estimate(seeds):
    values = counts(seeds, 0)[0]
    found = statistics.estimate(shares(values))
    assert found["n"] == seeds
    assert found["mean"] == pytest.approx(sum(values.tolist()) / seeds / IMAGES)
    assert found["std"] == pytest.approx(standard_error(values) * sqrt(seeds) / IMAGES)
    t = found["half_width"] / standard_error(values) * IMAGES
    assert student(seeds - 1, -t, t) == pytest.approx(0.95)


@pytest.mark.parametrize("draw", range(5))
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_paired_p(seeds, draw):
    mine, theirs = counts(seeds, draw)
    found = statistics.paired_p(shares(mine), shares(theirs))
    assert found == pytest.approx(paired_t((mine - theirs).tolist()))


@pytest.mark.parametrize("draw", range(10))
@pytest.mark.parametrize("seeds", [2, 3, 4, 5, 8])
def test_permutation_p(seeds, draw):
    mine, theirs = counts(seeds, draw)
    found = statistics.permutation_p(shares(mine), shares(theirs))
    assert found == pytest.approx(permutation((mine - theirs).tolist()))


def test_permutation_p_of_a_random_sample_of_swaps():
    """20 differences of +-1 with the sum 8: 14 are +1. The swaps with 14 or more, or 6 or less, of
    each sign are counted by binomial coefficients."""
    differences = [1.0] * 14 + [-1.0] * 6
    exact = 2 * sum(comb(20, k) for k in range(14, 21)) / 2**20
    found = statistics.permutation_p(differences, [0.0] * 20)
    assert found == pytest.approx(exact, abs=5 * sqrt(exact / 2**15))


@pytest.mark.parametrize("seeds", range(2, 12))
def test_least_permutation_p(seeds):
    assert statistics.least_permutation_p(seeds) == permutation([1] * seeds)


@pytest.mark.parametrize("draw", range(10))
def test_holm(draw):
    p_values = np.random.default_rng(draw).uniform(0, 0.3, 8).round(2).tolist()  # ties included
    expected = holm(p_values)
    assert expected == pytest.approx(multipletests(p_values, method="holm")[1].tolist())
    assert statistics.holm(p_values) == pytest.approx(expected)


@pytest.mark.parametrize("settings", [1, 2, 3, 4, 7, 8, 12])
def test_interquartile_mean(settings):
    values = np.random.default_rng(settings).normal(size=(settings, 5))
    by_seed = np.array(interquartile_means(values))
    found = statistics.interquartile_mean(values.tolist())
    assert (found["mean"], found["n"]) == (pytest.approx(by_seed.mean()), 5)
    t = found["half_width"] / standard_error(by_seed)
    assert student(4, -t, t) == pytest.approx(0.95)
