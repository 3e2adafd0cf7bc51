"""The order of samples: a permutation in each epoch, shares by weight, the same wherever one begins."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy.stats import spearmanr

from jaxrl_data.order import Share, _floor_sum, order, permuted, rows_of_host, weights

MIXTURE = {"a": Share(1000, 1.0), "b": Share(37, 2.0), "c": Share(5, 0.25)}


@pytest.mark.parametrize("size", [1, 2, 3, 64, 65, 1000, 4097])
def test_each_index_is_hit_once(size):
    for key in (0, 1, 2**64 - 1):
        assert sorted(permuted(np.arange(size), size, key)) == list(range(size))
    if size > 10:
        assert (permuted(np.arange(size), size, 0) != permuted(np.arange(size), size, 1)).mean() > 0.9


def test_large_sets_need_no_memory_and_stay_inside():
    size = 10**12 + 39
    at = permuted(np.array([0, 1, size - 1]), size, 3)
    assert ((at >= 0) & (at < size)).all() and len(set(at.tolist())) == 3


def test_stored_and_drawn_order_are_not_related():
    size = 20_000
    drawn = permuted(np.arange(size), size, 11)
    assert abs(spearmanr(np.arange(size), drawn).statistic) < 0.03
    assert abs(spearmanr(drawn[:-1], drawn[1:]).statistic) < 0.03  # nor are neighbours with each other


@given(some.integers(0, 40), some.integers(1, 50), some.integers(0, 200), some.integers(0, 200))
def test_floor_sum(n, m, a, b):
    assert _floor_sum(n, m, a, b) == sum((a * i + b) // m for i in range(n))


def test_counts_are_those_of_the_draws_and_shares_those_of_the_weights():
    mixed = order(MIXTURE, seed=5)
    whole = mixed.draws(0, 4000)
    for sample in (0, 1, 2, 17, 3999, 4000):
        assert mixed.before(sample) == [(whole.of[:sample] == k).sum() for k in range(3)]
    shares = np.array([1.0, 2.0, 0.25]) / 3.25
    for first in range(0, 4000 - 64, 64):  # within each batch, not only in the long run
        found = np.bincount(whole.of[first : first + 64], minlength=3)
        assert np.abs(found - 64 * shares).max() < 2.5


def test_every_item_comes_once_in_an_epoch():
    mixed = order(MIXTURE, seed=5)
    draws = mixed.draws(0, 3250)
    for k, share in enumerate(MIXTURE.values()):
        items = draws.item[draws.of == k]
        for epoch in range(len(items) // share.items):
            assert sorted(items[epoch * share.items : (epoch + 1) * share.items]) == list(range(share.items))
    first, second = (draws.item[draws.of == 1][i * 37 : (i + 1) * 37] for i in (0, 1))
    assert (first != second).any()
    assert mixed.epochs(3250)["b"] == pytest.approx(2000 / 37, abs=0.1)


@pytest.mark.parametrize("first", [0, 999, 10**7, 10**15, 2**64 - 3])
def test_it_does_not_matter_where_one_begins(first):
    mixed = order(MIXTURE, seed=1)
    whole = mixed.draws(first, 100)
    for size in (1, 7, 50):
        for start in range(0, 100 - size, size):
            part = mixed.draws(first + start, size)
            np.testing.assert_array_equal(part.of, whole.of[start : start + size])
            np.testing.assert_array_equal(part.item, whole.item[start : start + size])


def test_another_seed_is_another_order_and_a_mixture_is_told_by_its_names():
    one, other = order(MIXTURE, 0).draws(0, 500), order(MIXTURE, 1).draws(0, 500)
    assert (one.item != other.item).mean() > 0.8
    single = order({"a": MIXTURE["a"]}, 0).draws(0, 1000)
    assert set(single.of) == {0} and sorted(single.item) == list(range(1000))


def test_few_steps_of_an_episode_meet_in_a_batch():
    """100 episodes of 100 steps, batches of 256: in a random order 256 / 100 on average, and hardly ever more than a dozen."""
    draws = order({"a": Share(10_000, 1.0)}, 0).draws(0, 10_000)
    most = [max(Counter(draws.item[i : i + 256] // 100).values()) for i in range(0, 9984, 256)]
    assert max(most) <= 12


def test_hosts_share_a_batch():
    parts = [rows_of_host(640, 64, 4, host) for host in range(4)]
    assert [row for part in parts for row in part] == list(range(640, 704))
    with pytest.raises(ValueError, match="batch_size is 64, which 3 hosts do not divide"):
        rows_of_host(0, 64, 3, 0)


def test_weights_by_size():
    counts = {"a": 100.0, "b": 400.0}
    assert weights(counts) == pytest.approx({"a": 0.2, "b": 0.8})
    assert weights(counts, 2.0) == pytest.approx({"a": 1 / 3, "b": 2 / 3})
    assert weights(counts, float("inf")) == pytest.approx({"a": 0.5, "b": 0.5})


def test_what_cannot_be_is_refused():
    for make, message in (
        (lambda: order({}, 0), "the mixture is empty"),
        (lambda: Share(0, 1.0), "items is 0"),
        (lambda: Share(1, 0.0), "weight is 0.0, but must be above 0"),
        (lambda: weights({"a": 1.0}, 0.0), "temperature is 0.0"),
        (lambda: weights({"a": 0.0}), "a: its size is 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_parts_are_sets_within_a_set():
    parts = {str(number): Share(1 + number % 5, 1.0) for number in range(200)}
    mixed = order({"a": Share(40, 1.0), "b": Share(sum(part.items for part in parts.values()), 3.0, parts)}, seed=2)
    whole, first = mixed.draws(0, 3000), np.cumsum([0, *(part.items for part in parts.values())])
    items = whole.item[whole.of == 1]
    found = np.searchsorted(first, items, side="right") - 1
    assert np.bincount(found[:200], minlength=200).max() <= 3, "none comes again long before the others come"
    assert abs(np.bincount(found, minlength=200) - len(items) / 200).max() < 3
    for number, part in enumerate(parts.values()):
        own = items[found == number] - first[number]
        assert sorted(own[: part.items]) == list(range(part.items))
    for start in (1, 17, 2990):
        later = mixed.draws(start, 10)
        np.testing.assert_array_equal(later.of, whole.of[start : start + 10])
        np.testing.assert_array_equal(later.item, whole.item[start : start + 10])
    with pytest.raises(ValueError, match="items is 3, but those of its parts are 4"):
        Share(3, 1.0, {"x": Share(4, 1.0)})
