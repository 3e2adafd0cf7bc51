"""Exploration noise: what it is like, how long it is held, and that it begins anew with an episode."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from jaxrl.ops.noise import Noise, repeated, scaled, white
from jaxrl.ops.worlds import where_rows


def drawn(noise: Noise, rows: int, steps: int, ends: Any = None) -> np.ndarray:
    """[steps, rows, size]; the episodes of `ends` [steps, rows] end after those steps."""

    def step(carry: Any, now: Any) -> tuple[Any, Any]:
        key, ended = now
        value, carry = noise.draw(carry, jax.random.split(key, rows))
        return where_rows(ended, noise.init(rows), carry), value

    ends = jnp.zeros((steps, rows), bool) if ends is None else ends
    return np.asarray(jax.lax.scan(step, noise.init(rows), (jax.random.split(jax.random.key(0), steps), ends))[1])


def runs(values: np.ndarray) -> np.ndarray:
    """The lengths of runs of equal numbers in each column [steps, rows], but the last ones, which are cut."""
    found = []
    for column in values.T:
        changes = np.flatnonzero(np.diff(column)) + 1
        found.extend(np.diff(np.concatenate([[0], changes])))
    return np.array(found)


def test_white_noise_is_standard_normal():
    assert scipy.stats.kstest(drawn(white(3), 50, 40).ravel(), "norm").pvalue > 0.01


def test_noise_is_held_as_long_as_a_zeta_distribution_says():
    values = drawn(repeated(2, longest=4), 200, 100)
    lengths = runs(values[..., 0])
    share = np.arange(1, 5) ** -2.0
    counts = np.bincount(lengths, minlength=5)[1:]
    assert counts.sum() == len(lengths) and lengths.max() == 4
    assert scipy.stats.chisquare(counts, share / share.sum() * len(lengths)).pvalue > 0.01
    assert len(np.unique(lengths[:20])) > 1  # rows have times of their own
    np.testing.assert_array_equal(np.diff(values[..., 0], axis=0) == 0, np.diff(values[..., 1], axis=0) == 0)
    assert scipy.stats.kstest(values[::9, ::3, 0].ravel(), "norm").pvalue > 0.01


def test_each_episode_has_a_scale_of_its_own():
    ends = jnp.zeros((6, 500), bool).at[2].set(True)
    values = drawn(scaled(white(400), 0.1, 0.5), 500, 6, ends)
    scales = values.std(-1)  # [steps, rows]
    np.testing.assert_allclose(scales[1], scales[0], rtol=0.3)
    assert np.corrcoef(scales[0], scales[2])[0, 1] > 0.9
    assert abs(np.corrcoef(scales[2], scales[3])[0, 1]) < 0.2
    assert scipy.stats.kstest(scales[4], scipy.stats.uniform(0.1, 0.4).cdf).pvalue > 0.01


def test_a_scale_says_nothing_of_the_noise_it_scales():
    noise = scaled(repeated(2, longest=16), 0.1, 0.5)
    value, (_, scale) = noise.draw(noise.init(2000), jax.random.split(jax.random.key(3), 2000))
    for column in np.asarray(value / scale[:, None]).T:
        assert abs(scipy.stats.spearmanr(scale, column)[0]) < 0.1
