"""Sequences against the numbers of a collector that counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.replay.sequences import Config, sequences
from tests.replay.test_collected import counting


def test_sequences_hold_the_steps_of_one_episode():
    config = Config(capacity=40, batch_size=32, num_updates=2, length=6, initial_steps=8)
    source = sequences(config, counting(2, 2, 10), 2)
    keys = jax.random.split(jax.random.key(1), 8)
    _, (batches) = jax.jit(lambda s: jax.lax.scan(lambda s, k: source.next(s, (), k), s, keys))(source.init(jax.random.key(0), ()))
    last = jax.tree.map(np.asarray, jax.tree.map(lambda x: x[-1], batches))  # numbers up to 19
    number = last.steps.reward
    first = number[..., :1]
    assert last.mask.shape == (2, 32, 6) and first.min() % 1000 >= 0
    length = np.minimum(6, 10 - first % 10)  # episodes have ten steps, and the newest is the last of one
    within = np.arange(6) < length
    np.testing.assert_array_equal(last.mask, within)
    np.testing.assert_array_equal(number, np.where(within, first + np.arange(6), 0.0))
    np.testing.assert_array_equal(np.where(within, last.steps.observation["state/number"][..., 0], 0.0), number)
    np.testing.assert_array_equal(last.begins[..., 0], first[..., 0] % 10 == 0)
    assert (last.begins[..., 1:] == 0).all()
    ends = within & (number % 10 == 9)
    np.testing.assert_array_equal(last.steps.discount == 0, ends & (number % 1000 // 10 % 2 == 0))
    np.testing.assert_array_equal(last.steps.truncation == 1, ends & (number % 1000 // 10 % 2 == 1))
    later = last.steps.next_observation["state/number"][..., 0]
    np.testing.assert_array_equal(later[within], (number + 1 - 0.5 * ends)[within])
    assert jnp.isfinite(later).all()


def test_sequences_longer_than_the_memory_are_refused():
    with pytest.raises(ValueError, match="length is 30, but capacity 40 keeps 20 steps of each of 2 worlds; use a capacity of at least 60"):
        sequences(Config(capacity=40, length=30, initial_steps=8), counting(), 2)
