"""The denoiser of residual blocks: its equations against numpy, dropout, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks import mlp_denoiser
from jaxrl.types import ArraySpec

OBSERVATION = {"state/arm": ArraySpec((2, 3))}
KEY = jax.random.key(0)


def make(**fields):
    config = mlp_denoiser.Config(**{"width": 8, "depth": 2, "time_size": 4} | fields)
    network = mlp_denoiser.mlp_denoiser(config, OBSERVATION, (5, 2))
    params, _ = jax.jit(network.init)(KEY)
    return network, params


def drawn():
    draws = np.random.default_rng(0)
    return draws.normal(size=(3, 5, 2)).astype(np.float32), np.array([0.0, 0.3, 1.0], np.float32), draws.normal(size=(3, 2, 3))


def test_equations():
    network, params = make()
    noisy, time, observation = drawn()
    condition, _ = network.encode(params, {}, {"state/arm": jnp.asarray(observation, jnp.float32)})
    output = jax.jit(network.denoise)(params, noisy, time, condition)

    p = jax.tree.map(np.asarray, params["blocks"])
    dense = lambda name, x: x @ p[name]["kernel"] + p[name]["bias"]  # noqa: E731
    mish = lambda x: x * np.tanh(np.logaddexp(x, 0.0))  # noqa: E731
    angles = 100 * time[:, None] * np.array([1.0, 1e-4])
    step = dense("time_output", mish(dense("time_hidden", np.concatenate([np.sin(angles), np.cos(angles)], 1))))
    seen = observation.reshape(3, 6)
    x = dense("embed", np.concatenate([noisy.reshape(3, 10), step, seen], 1))
    both = mish(dense("condition_output", mish(np.concatenate([step, dense("condition_hidden", seen)], 1))))
    normal = lambda x, name: (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-6) * p[name]["scale"] + p[name]["bias"]  # noqa: E731
    for i in range(2):
        scale, shift = np.split(dense(f"film_{i}", both), 2, 1)
        y = normal(x, f"norm_{i}") * (1 + scale) + shift
        x = x + dense(f"narrow_{i}", mish(dense(f"wide_{i}", y)))
    np.testing.assert_allclose(output, dense("output", normal(x, "norm")).reshape(3, 5, 2), rtol=1e-4, atol=1e-5)


def test_a_key_drops_out():
    network, params = make(dropout=0.5)
    noisy, time, observation = drawn()
    condition, _ = network.encode(params, {}, {"state/arm": jnp.asarray(observation, jnp.float32)})
    run = jax.jit(network.denoise)
    same, other, without = (run(params, noisy, time, condition, key) for key in (KEY, jax.random.key(1), None))
    assert not np.allclose(same, other) and not np.allclose(same, without)
    np.testing.assert_array_equal(same, run(params, noisy, time, condition, KEY))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 0}, "width is 0"),
        ({"depth": 0}, "depth is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"time_size": 3}, "time_size is 3"),
    ],
)
def test_what_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        mlp_denoiser.Config(**fields)


def test_actions_that_are_no_vectors_are_refused():
    with pytest.raises(ValueError, match=r"mlp_denoiser makes chunks \[horizon, action_dim\]"):
        mlp_denoiser.mlp_denoiser(mlp_denoiser.Config(), OBSERVATION, (5,))
