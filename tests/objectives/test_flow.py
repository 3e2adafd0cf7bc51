"""Flow matching as an objective: its loss against numpy, padding, contexts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks import transformer_denoiser
from jaxrl.objectives import flow
from jaxrl.types import ArraySpec, PolicySpec
from tests.objectives.denoisers import LINES, learns, small, telling

KEY = jax.random.key(0)
SPEC = PolicySpec({"state/arm": ArraySpec((2, 3))}, ArraySpec((2,)), horizon=6)
BATCH = {
    "observation": {"state/arm": jnp.arange(30.0).reshape(5, 2, 3) / 10},
    "action": jax.random.normal(jax.random.key(1), (5, 6, 2)),
    "mask": (jnp.arange(6)[None, :, None] < jnp.array([6, 4, 1, 0, 6])[:, None, None]) * jnp.ones((1, 1, 2)),
}
BATCH["mask"] = BATCH["mask"].at[0, :, 1].set(0.0)  # a dimension that this row's robot has not


@pytest.mark.parametrize("law", ["uniform", "beta"])
def test_loss_against_numpy(law):
    seen = []

    def answer(noisy, time):
        seen.append((np.asarray(noisy, np.float64), np.asarray(time, np.float64)[:, None, None]))
        return jnp.full_like(noisy, 0.5)

    objective = flow.flow(flow.Config(time=law), SPEC, telling(answer))
    elements, mask, _, _ = objective.loss(*objective.init(KEY), BATCH, jax.random.key(2))
    (noisy, time), chunk = seen[0], np.where(BATCH["mask"] > 0, BATCH["action"], 0.0)
    assert ((time > 0) & (time <= 1)).all() and len(np.unique(time)) == 5
    noise = (noisy - (1 - time) * chunk) / time
    assert 0.6 < noise.std() < 1.4  # at padding too
    np.testing.assert_allclose(elements, (0.5 - (noise - chunk)) ** 2, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(mask, BATCH["mask"])


@functools.cache
def slopes():
    network = transformer_denoiser.transformer_denoiser(transformer_denoiser.Config(1, 2, 8), SPEC.observation, (6, 2))
    objective = flow.flow(flow.Config(), SPEC, network)

    @jax.jit
    @jax.value_and_grad
    def mean(params, action):
        elements, mask, _, _ = objective.loss(params, {"flow": {}}, BATCH | {"action": action}, jax.random.key(2))
        return jnp.where(mask > 0, elements, 0).sum()

    return jax.jit(objective.init)(KEY)[0], mean


@pytest.mark.parametrize("garbage", [1e30, jnp.nan, jnp.inf])
def test_padding_reaches_neither_network_nor_loss_nor_gradient(garbage):
    params, mean = slopes()
    clean = mean(params, BATCH["action"])
    dirty = mean(params, jnp.where(BATCH["mask"] == 0, garbage, BATCH["action"]))
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(clean))


def test_without_a_mask_everything_counts():
    objective = flow.flow(flow.Config(), SPEC, telling(lambda noisy, time: noisy))
    elements, mask, _, _ = objective.loss(*objective.init(KEY), {k: v for k, v in BATCH.items() if k != "mask"}, KEY)
    assert (mask == 1).all() and mask.shape == elements.shape == (5, 6, 2)


@pytest.mark.parametrize("sampler", ["euler", "midpoint"])
def test_a_known_chunk_is_found_and_a_prefix_kept(sampler):
    """Along the lines that lead to one chunk from everywhere, which Euler's steps follow exactly."""
    chunk = jnp.sin(jnp.arange(6.0)).reshape(1, 6, 1)
    network = telling(lambda noisy, time: (noisy - chunk) / time.reshape(-1, 1, 1))
    objective = flow.flow(flow.Config(sampler=sampler, inference_steps=5), SPEC, network)
    params, statistics = objective.init(KEY)
    sample, keys = jax.jit(objective.sample), jax.random.split(KEY, 5)
    found = sample(params, statistics, BATCH["observation"], keys)
    np.testing.assert_allclose(found, jnp.broadcast_to(chunk, found.shape), atol=1e-5)
    length = jnp.array([0, 1, 3, 6, 2])
    prefix = jnp.where(jnp.arange(6)[None, :, None] < length[:, None, None], -3.0, jnp.nan) * jnp.ones((1, 1, 2))
    after = sample(params, statistics, BATCH["observation"], keys, {"prefix": prefix, "prefix_length": length, "inference_delay": length})
    np.testing.assert_allclose(after, jnp.where(jnp.isnan(prefix), found, -3.0), atol=1e-5)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="inference_steps is 0, but must be at least 1"):
        flow.Config(inference_steps=0)
    with pytest.raises(ValueError, match="flow needs continuous actions"):
        flow.flow(flow.Config(), SPEC._replace(action=ArraySpec((), "int32", low=0, high=3)), telling(lambda x, time: x))


@pytest.mark.parametrize(("law", "sampler"), [("uniform", "midpoint"), ("beta", "euler")])
def test_learns_under_supervised(law, sampler):
    losses, error = learns(flow.flow(flow.Config(law, sampler), LINES, small()), 1500)
    assert losses[-50:].mean() < 0.3 * losses[:5].mean()
    assert error < 1.0
