"""Statistics against tables, scipy, published numbers and full enumeration."""

import numpy as np
import pytest
from scipy.stats import permutation_test, ttest_rel
from statsmodels.stats.multitest import multipletests

from imcl.analysis import statistics
from imcl.errors import ImclError


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


def test_permutation_p_counts_swaps_that_differ_by_rounding_alone_as_equal():
    """The differences, 1, -1, -1 and 1 hundredths, have the sum 0, but not for a computer. All sums
    of swaps are as far from 0."""
    values, base = [0.02, 0.0, 0.02, 0.04], [0.01, 0.01, 0.03, 0.03]
    assert statistics.permutation_p(values, base) == 1


def test_the_least_permutation_p_is_what_the_test_gives_where_it_draws_swaps():
    steps = [float(k) for k in range(1, 21)]  # 20 pairs: more swaps than are enumerated
    least = statistics.permutation_p(steps, [0.0] * 20)
    assert least == statistics.least_permutation_p(20) == pytest.approx(2 / (2**15 + 1))


def test_the_interquartile_mean_by_hand():
    # The first seed's middle two of 0, 2, 4, 90 are 2 and 4; the second's of 1, 3, 5, -70: 1 and 3.
    found = statistics.interquartile_mean([[0, 1], [2, 3], [90, -70], [4, 5]])
    assert found == statistics.estimate([3.0, 2.0])
    # Of fewer than four settings nothing is cut off.
    assert statistics.interquartile_mean([[0, 9], [1, 9], [5, 9]]) == statistics.estimate([2, 9])


def test_the_interquartile_mean_of_one_setting_is_its_mean():
    values = [0.1, 0.5, 0.3]
    assert statistics.interquartile_mean([values]) == statistics.estimate(values)


def test_the_interquartile_mean_of_one_seed_has_no_interval():
    one = {"mean": 3.0, "half_width": None, "n": 1, "std": None}
    assert statistics.interquartile_mean([[1.0], [5.0]]) == one


@pytest.mark.parametrize("settings", [2, 6])
@pytest.mark.parametrize("seeds", [3, 5])
def test_the_interval_of_the_interquartile_mean_covers_the_truth(settings, seeds):
    """In 95 of 100 studies. Settings differ in their true value and in their spread, evenly about
    10, and those of a seed depend on each other."""
    rng, studies = np.random.default_rng(settings), 2000
    place = np.linspace(-1, 1, settings)
    spread = (0.5 + place**2)[:, None]
    noise = rng.normal(size=(studies, settings, seeds)) + rng.normal(size=(studies, 1, seeds))
    drawn = 10 + 3 * place[:, None] + spread * noise
    found = [statistics.interquartile_mean(study) for study in drawn.tolist()]
    covered = np.mean([abs(f["mean"] - 10) <= f["half_width"] for f in found])
    error = (0.95 * 0.05 / studies) ** 0.5  # of the simulation
    assert 0.95 - 3 * error < covered < 0.95 + 3 * error


# refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "statistic",
    [
        lambda bad: statistics.estimate([1.0, bad]),
        lambda bad: statistics.estimate([bad]),
        lambda bad: statistics.paired_p([1.0, bad, 2.0], [0.0] * 3),
        lambda bad: statistics.paired_p([1.0, 2.0, 3.0], [0.0, bad, 0.0]),
        lambda bad: statistics.paired_p([bad], [0.0]),
        lambda bad: statistics.permutation_p([1.0, bad, 2.0], [0.0] * 3),
        lambda bad: statistics.permutation_p([1.0, 2.0, 3.0], [0.0, bad, 0.0]),
        lambda bad: statistics.interquartile_mean([[1.0, 2.0], [bad, 3.0]]),
        # Cut off, it would leave no trace.
        lambda bad: statistics.interquartile_mean([[1.0], [2.0], [3.0], [bad]]),
        lambda bad: statistics.holm([0.01, None, bad]),
    ],
)
def test_a_number_that_is_not_finite_is_refused(statistic, bad):
    with pytest.raises(ImclError, match=f"{bad}"):
        statistic(bad)


@pytest.mark.parametrize("bad", [-0.01, 1.01])
def test_holm_refuses_what_is_no_probability(bad):
    with pytest.raises(ImclError, match=f"{bad} is no p-value"):
        statistics.holm([0.5, bad])


@pytest.mark.parametrize("test", [statistics.paired_p, statistics.permutation_p])
@pytest.mark.parametrize("base", [[0.0], [], [0.0, 1.0], [0.0] * 4])
def test_values_without_partners_are_refused(test, base):
    with pytest.raises(ImclError, match=f"3 values cannot be paired with {len(base)}"):
        test([1.0, 2.0, 3.0], base)


def test_settings_with_different_numbers_of_seeds_are_refused():
    with pytest.raises(ImclError, match=r"different numbers of seeds: 2, 1"):
        statistics.interquartile_mean([[1.0, 2.0], [3.0]])


@pytest.mark.parametrize("empty", [[], [[]], [[], []]])
def test_no_values_have_no_mean(empty):
    with pytest.raises(ImclError, match="no values"):
        statistics.interquartile_mean(empty)
    with pytest.raises(ImclError, match="no values"):
        statistics.estimate([])
