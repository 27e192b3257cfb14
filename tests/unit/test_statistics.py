"""Statistics against tables, scipy, published numbers and full enumeration."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import permutation_test, ttest_rel
from statsmodels.stats.multitest import multipletests

from imcl.analysis import statistics


def test_interval_by_hand():
    # Standard error 1 / sqrt 3; Student's t for 2 degrees of freedom and 95 % is 4.303 in tables.
    found = statistics.estimate([1.0, 2.0, 3.0])
    assert found["half_width"] == pytest.approx(4.303 / 3**0.5, abs=5e-4)
    assert found == {"mean": 2.0, "half_width": found["half_width"], "n": 3, "std": 1.0}


def test_one_value_has_no_interval():
    one = {"mean": 0.5, "half_width": None, "n": 1, "std": None}
    assert statistics.estimate([0.5]) == one


def test_paired_p_agrees_with_scipy():
    values, base = [0.9, 0.85, 0.93, 0.9], [0.88, 0.86, 0.9, 0.85]
    assert statistics.paired_p(values, base) == pytest.approx(ttest_rel(values, base).pvalue)


def test_a_tie_is_no_certainty():
    assert statistics.paired_p([0.5, 0.5], [0.5, 0.5]) == 1
    assert statistics.paired_p([0.9, 0.8, 0.7], [0.8, 0.7, 0.6]) is None  # equal but for rounding
    assert statistics.paired_p([0.5], [0.4]) is None
    found = statistics.estimate([0.3, 0.1 + 0.2])
    assert (found["half_width"], found["n"], found["std"]) == (None, 2, 0.0)


def test_holm_by_hand():
    # Sorted 0.01, 0.03, 0.04: times 3, 2, 1, made monotonous.
    assert statistics.holm([0.01, None, 0.04, 0.03]) == [
        pytest.approx(0.03),
        None,
        pytest.approx(0.06),
        pytest.approx(0.06),
    ]
    assert statistics.holm([None]) == [None]


def test_holm_agrees_with_statsmodels():
    p_values = np.random.default_rng(0).uniform(0, 0.3, 20).round(2).tolist()  # ties included
    theirs = multipletests(p_values, method="holm")[1]
    assert statistics.holm(p_values) == pytest.approx(theirs.tolist())


def test_permutation_p_of_darwins_maize():
    """Fisher, The Design of Experiments (1935), section 21: of the 2^15 sums of Darwin's 15
    differences between crossed and self-fertilised maize, 1,726 are as far from 0, so 0.05267."""
    crossed_less_selfed = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    found = statistics.permutation_p(crossed_less_selfed, [0] * 15)
    assert found == pytest.approx(1726 / 2**15)


def test_permutation_p_agrees_with_scipys_on_pairs_and_with_its_least_value():
    values, base = [0.9, 0.85, 0.93, 0.9], [0.88, 0.86, 0.9, 0.85]
    theirs = permutation_test(
        (values, base), lambda a, b: np.mean(np.subtract(a, b)), permutation_type="samples"
    )
    assert statistics.permutation_p(values, base) == pytest.approx(theirs.pvalue)
    assert statistics.permutation_p([1, 2, 3, 4, 5], [0] * 5) == 2 / 2**5
    assert statistics.least_permutation_p(5) == 2 / 2**5
    assert statistics.least_permutation_p(0) == 1
    assert statistics.permutation_p([0.5, 0.5], [0.5, 0.5]) == 1
    # 0.1 + 0.2 - 0.3 is not 0, and not a difference either
    assert statistics.permutation_p([0.1 + 0.2, 0.3], [0.3, 0.1 + 0.2]) == 1
    assert statistics.permutation_p([0.5], [0.4]) is None


def test_the_interquartile_mean_by_hand():
    # Of eight values the middle four are 2, 3, 4, 5.
    assert statistics.interquartile_mean([[0, 2, 4, 90], [1, 3, 5, 70]])["mean"] == 3.0 + 0.5
    single = statistics.interquartile_mean([[1.0], [5.0]])
    assert single == {"mean": 3.0, "low": None, "high": None, "n": 2}


def test_its_interval_is_that_of_all_stratified_resamples():
    settings = [[0.0, 1.0, 5.0], [10.0, 14.0], [3.0]]
    resampled = product(*[product(values, repeat=len(values)) for values in settings])
    middles = []
    for parts in resampled:
        ordered = sorted(sum(parts, ()))
        middles.append(np.mean(ordered[1:5]))  # of six values the middle four
    found = statistics.interquartile_mean(settings)
    assert found["n"] == 6
    assert (found["low"], found["high"]) == pytest.approx(
        np.percentile(middles, [2.5, 97.5]), abs=0.3
    )


def test_the_same_values_give_the_same_interval():
    settings = [[0.0, 1.0, 5.0], [10.0, 14.0]]
    assert statistics.interquartile_mean(settings) == statistics.interquartile_mean(settings)
