"""Frequencies of what is drawn, against the shares that it has."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from jaxrl.replay import draws
from jaxrl.replay.ring import Ring


def stored(is_step: np.ndarray, head: list[int], used: list[int]) -> Ring:
    empty = jnp.zeros((*is_step.shape, 2))
    return Ring({}, {}, empty, jnp.asarray(is_step), jnp.array(head, jnp.int32), jnp.array(used, jnp.int32))


def test_uniform_draws_hit_every_step_alike_and_nothing_else():
    is_step = np.array([[1, 1], [0, 1], [1, 0], [1, 0], [0, 0]], bool)  # the head of world 0 is slot 4, that of world 1 slot 2
    ring = stored(is_step, [4, 2], [5, 3])
    at = draws.uniform(ring, jax.random.key(0), 4000, 1, jnp.int32(0), 1, ring.used.max())
    counts = np.zeros(is_step.shape)
    np.add.at(counts, (np.asarray(at.slot).ravel(), np.asarray(at.world).ravel()), 1)
    assert (counts[~is_step] == 0).all()
    assert scipy.stats.chisquare(counts[is_step]).pvalue > 0.01


def test_entries_come_from_their_own_share_of_the_worlds():
    ring = stored(np.ones((8, 6), bool), [0] * 6, [8] * 6)
    at = draws.uniform(ring, jax.random.key(1), 50, 3, jnp.int32(0), 1, ring.used.max())
    np.testing.assert_array_equal(np.asarray(at.world) // 2, np.broadcast_to([0, 1, 2], (50, 3)))


def test_a_batch_does_not_depend_on_how_worlds_are_shared_out():
    is_step = np.random.default_rng(0).random((16, 4)) < 0.7
    whole = stored(is_step, [3, 5, 0, 9], [16] * 4)
    at = draws.uniform(whole, jax.random.key(2), 5, 8, jnp.int32(0), 1, jnp.int32(16))
    parts = []
    for device in range(2):
        own = slice(2 * device, 2 * device + 2)
        ring = stored(is_step[:, own], [3, 5, 0, 9][own], [16] * 2)
        parts.append(draws.uniform(ring, jax.random.key(2), 5, 8, jnp.int32(4 * device), 2, jnp.int32(16)))
    np.testing.assert_array_equal(at.slot, jnp.concatenate([p.slot for p in parts], 1))
    np.testing.assert_array_equal(at.world, jnp.concatenate([parts[0].world, parts[1].world + 2], 1))


def test_by_priority_inverts_the_cumulative_sum():
    random = np.random.default_rng(0)
    priority = random.random(1000) * (random.random(1000) < 0.5)
    places = np.sort(random.random(500))
    index, probability = draws.by_priority(jnp.asarray(priority, jnp.float32), jnp.asarray(places, jnp.float32))
    exact = np.searchsorted(np.cumsum(priority), places * priority.sum(), side="right")
    assert (np.asarray(index) == exact).mean() > 0.99  # float32 may fall to the other side of a border
    assert (priority[np.asarray(index)] > 0).all()
    np.testing.assert_allclose(probability, priority[np.asarray(index)] / priority.sum(), rtol=1e-5)


def test_extreme_places_hit_something():
    priority = jnp.zeros(300).at[jnp.array([7, 200])].set(jnp.array([1.0, 3.0]))
    index, _ = draws.by_priority(priority, jnp.array([0.0, 0.2499, 0.2501, 0.9999999]))
    np.testing.assert_array_equal(index, [7, 7, 200, 200])


def test_prioritised_frequencies():
    is_step = np.ones((6, 2), bool)
    is_step[3, 0] = False
    ring = stored(is_step, [3, 0], [6, 6])
    priority = jnp.asarray(np.arange(12).reshape(6, 2) * is_step, jnp.float32)
    at, probability = draws.prioritised(ring, priority, jax.random.key(0), 2000, 2, jnp.int32(0), 1)
    counts = np.zeros(is_step.shape)
    np.add.at(counts, (np.asarray(at.slot).ravel(), np.asarray(at.world).ravel()), 1)
    share = np.asarray(priority, np.float64) / float(priority.sum())  # scipy compares sums to 1e-8
    assert (counts[share == 0] == 0).all()
    assert scipy.stats.chisquare(counts[share > 0], share[share > 0] * 4000).pvalue > 0.01
    np.testing.assert_allclose(probability, share[np.asarray(at.slot), np.asarray(at.world)], rtol=1e-5)
