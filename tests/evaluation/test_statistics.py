"""Intervals agree with independent formulas and cover what they promise."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from jaxrl.evaluation.statistics import (
    Interval,
    breakdown,
    difference_interval,
    interquartile_interval,
    interval,
    mean_interval,
    rate_difference_interval,
    rate_interval,
)


def test_mean_agrees_with_the_t_test():
    values = np.random.default_rng(0).normal(3.0, 2.0, 17)
    for confidence in (0.9, 0.95):
        expected = stats.ttest_1samp(values, 0.0).confidence_interval(confidence)
        result = mean_interval(values, confidence)
        np.testing.assert_allclose(result, (values.mean(), expected.low, expected.high, 17))


@pytest.mark.parametrize(("draw", "mean", "n"), [("normal", 0.0, 5), ("exponential", 1.0, 200)])
def test_mean_interval_covers_what_it_promises(draw, mean, n):
    generator = np.random.default_rng(1)
    results = [mean_interval(getattr(generator, draw)(size=n)) for _ in range(600)]
    covered = np.mean([result.low <= mean <= result.high for result in results])
    assert 0.92 < covered < 0.975


def test_few_and_equal_values():
    assert mean_interval([4.0, 4.0, 4.0]) == Interval(4.0, 4.0, 4.0, 3)
    one, none = mean_interval([4.0]), mean_interval([])
    assert (one.value, one.n, math.isnan(one.low), math.isnan(one.high)) == (4.0, 1, True, True)
    assert none.n == 0 and math.isnan(none.value)
    assert json.loads(json.dumps(one.to_json(), allow_nan=False)) == {"value": 4.0, "low": None, "high": None, "n": 1}


def test_refuses_what_is_not_finite_or_not_one_value_per_sample():
    with pytest.raises(ValueError, match="2 of 3 values are not finite"):
        mean_interval([1.0, math.nan, math.inf])
    with pytest.raises(ValueError, match="one value per sample"):
        mean_interval(np.zeros((2, 2)))


@pytest.mark.parametrize(("successes", "n"), [(0, 200), (4, 200), (200, 200), (1, 2)])
def test_rate_agrees_with_wilsons_formula(successes, n):
    z, rate = stats.norm.ppf(0.975), successes / n
    middle = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    result = rate_interval(successes, n)
    np.testing.assert_allclose(result, (rate, middle - half, middle + half, n), atol=1e-12)
    assert 0 <= result.low <= rate <= result.high <= 1


def test_rate_of_nothing_and_of_too_much():
    assert rate_interval(0, 0).to_json() == {"value": None, "low": None, "high": None, "n": 0}
    with pytest.raises(ValueError, match="3 successes in 2 trials"):
        rate_interval(3, 2)


def test_truth_values_are_a_rate():
    assert interval(np.array([True, False, False, True])) == rate_interval(2, 4)
    assert interval(np.array([1.0, 0.0, 0.0, 1.0])) == mean_interval([1.0, 0.0, 0.0, 1.0])


def test_breakdown_puts_each_sample_in_one_bin():
    values, by = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([0.0, 0.5, 1.0, 1.5, 2.0])
    bins = breakdown(values, by, (0.0, 1.0, 2.0))
    assert [(one.low, one.high, one.interval) for one in bins] == [
        (0.0, 1.0, mean_interval([1.0, 2.0])),
        (1.0, 2.0, mean_interval([3.0, 4.0, 5.0])),
    ]
    assert [one.interval.n for one in breakdown(values > 2, by, (-2.0, -1.0, 5.0))] == [0, 5]


def test_breakdown_refuses_what_would_lose_samples():
    with pytest.raises(ValueError, match=r"1 of 2 samples lie outside \[0.0, 1.0\]"):
        breakdown([1.0, 2.0], [0.5, 1.5], (0.0, 1.0))
    with pytest.raises(ValueError, match="edges must ascend"):
        breakdown([1.0], [0.5], (1.0, 0.0))
    with pytest.raises(ValueError, match="2 values, but 1"):
        breakdown([1.0, 2.0], [0.5], (0.0, 1.0))


def test_interquartile_mean_and_its_bootstrap_agree_with_numpy():
    generator = np.random.default_rng(2)
    tasks = [generator.normal(mean, 1.0, size) for mean, size in ((0.0, 5), (3.0, 8), (9.0, 7))]

    def middle(values):
        return np.sort(values, -1)[..., 5:-5].mean(-1)  # of 20

    drawn = np.concatenate([task[generator.integers(task.size, size=(20000, task.size))] for task in tasks], -1)
    result = interquartile_interval(tasks, 0.9, resamples=20000)
    assert result.n == 20
    assert result.value == pytest.approx(middle(np.concatenate(tasks)))
    np.testing.assert_allclose((result.low, result.high), np.quantile(middle(drawn), (0.05, 0.95)), atol=0.03)
    assert interquartile_interval(tasks) == interquartile_interval(tasks)


def test_interquartile_mean_is_not_swayed_by_an_outlier():
    assert interquartile_interval([[1.0, 2.0, 3.0, 1e6]]).value == 2.5


def test_interquartile_interval_covers_what_it_promises():
    generator = np.random.default_rng(4)
    results = [interquartile_interval(list(generator.normal(size=(4, 10))), resamples=200) for _ in range(200)]
    assert 0.88 <= np.mean([result.low <= 0 <= result.high for result in results]) <= 0.99


def test_interquartile_interval_of_single_runs_has_no_bounds():
    result = interquartile_interval([[1.0, 2.0], [3.0]])
    assert result.value == pytest.approx(2.0) and math.isnan(result.low) and math.isnan(result.high)
    with pytest.raises(ValueError, match=r"at least one run of each task, got \[2, 0\] runs"):
        interquartile_interval([[1.0, 2.0], []])


def _trials(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Paired outcomes of which so many are of each kind."""
    kinds = np.repeat([[True, True], [True, False], [False, True], [False, False]], [both, first, second, neither], axis=0)
    return kinds[:, 0], kinds[:, 1]


def test_paired_rates_are_as_far_apart_as_published():
    """Hyper-responsiveness of the airway, Bentur et al. 2009, in Fagerland et al. 2014, https://doi.org/10.1002/sim.6148."""
    found = rate_difference_interval(*_trials(1, 1, 7, 12))
    np.testing.assert_allclose(found, (2 / 21 - 8 / 21, -0.507, -0.026, 21), atol=6e-4)
    turned = rate_difference_interval(*_trials(1, 7, 1, 12))
    np.testing.assert_allclose((turned.value, turned.low, turned.high), (-found.value, -found.high, -found.low))


@pytest.mark.parametrize("cells", [(0.4, 0.1, 0.3, 0.2), (0.9, 0.05, 0.04, 0.01), (0.25, 0.25, 0.25, 0.25)])
def test_paired_rates_cover_what_they_promise(cells):
    generator, covered, narrower = np.random.default_rng(3), [], []
    for _ in range(300):
        drawn = generator.multinomial(50, cells)
        found = rate_difference_interval(*_trials(*drawn.tolist()))
        covered.append(found.low <= cells[1] - cells[2] <= found.high)
        narrower.append(found.high - found.low)
    assert np.mean(covered) > 0.925
    if cells[0] == 0.4:  # what two policies have in common takes nothing from the difference
        apart = [rate_difference_interval(*_trials(*generator.multinomial(50, (0.35, 0.15, 0.35, 0.15)).tolist())) for _ in range(300)]
        assert np.mean(narrower) < np.mean([one.high - one.low for one in apart])


def test_differences_of_pairs():
    generator = np.random.default_rng(4)
    first, second = generator.normal(size=12), generator.normal(size=12)
    expected = stats.ttest_rel(first, second).confidence_interval()
    np.testing.assert_allclose(difference_interval(first, second), ((first - second).mean(), expected.low, expected.high, 12))
    same = np.array([True, False, True])
    assert difference_interval(same, same).value == 0 and difference_interval(same, ~same).n == 3
    assert rate_difference_interval(np.zeros(0, bool), np.zeros(0, bool)).n == 0
    with pytest.raises(ValueError, match="3 trials of one and 2 of the other"):
        difference_interval(same, same[:2])
