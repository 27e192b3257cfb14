"""Statistics against tables and scipy."""

import pytest
from scipy.stats import ttest_rel

from imcl import stats


def test_interval_by_hand():
    # Standard error 1 / sqrt 3; Student's t for 2 degrees of freedom and 95 % is 4.303 in tables.
    mean, half_width, n = stats.estimate([1.0, 2.0, 3.0])
    assert (mean, n) == (2.0, 3)
    assert half_width == pytest.approx(4.303 / 3**0.5, abs=5e-4)


def test_one_value_has_no_interval():
    assert stats.estimate([0.5]) == (0.5, None, 1)


def test_paired_p_agrees_with_scipy():
    values, base = [0.9, 0.85, 0.93, 0.9], [0.88, 0.86, 0.9, 0.85]
    assert stats.paired_p(values, base) == pytest.approx(ttest_rel(values, base).pvalue)


def test_a_tie_is_no_certainty():
    assert stats.paired_p([0.5, 0.5], [0.5, 0.5]) == 1
    assert stats.paired_p([0.9, 0.8, 0.7], [0.8, 0.7, 0.6]) is None  # equal but for rounding
    assert stats.paired_p([0.5], [0.4]) is None
    assert stats.estimate([0.3, 0.1 + 0.2])[1:] == (None, 2)


def test_holm_by_hand():
    # Sorted 0.01, 0.03, 0.04: times 3, 2, 1, made monotonous.
    assert stats.holm([0.01, None, 0.04, 0.03]) == [
        pytest.approx(0.03),
        None,
        pytest.approx(0.06),
        pytest.approx(0.06),
    ]
    assert stats.holm([None]) == [None]
