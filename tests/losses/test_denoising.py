"""Against numpy in double precision, and against each other."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.losses import denoising

SAMPLE, NOISE = np.random.default_rng(0).normal(size=(2, 5, 4, 2)).astype(np.float32)
ALPHA_BAR = np.array([0.9994, 0.7, 0.478, 0.05, 1e-3], np.float32)
ROWS = ALPHA_BAR.astype(float)[:, None, None]
EVERY = {"epsilon": NOISE, "sample": SAMPLE, "v": np.sqrt(ROWS) * NOISE - np.sqrt(1 - ROWS) * SAMPLE}
NOISY = np.sqrt(ROWS) * SAMPLE + np.sqrt(1 - ROWS) * NOISE


def test_diffusion_against_numpy():
    arrays = [jnp.asarray(x) for x in (SAMPLE, NOISE, ALPHA_BAR)]
    np.testing.assert_allclose(jax.jit(denoising.diffused)(*arrays), NOISY, atol=1e-5)
    for name, expected in EVERY.items():
        found = jax.jit(denoising.diffusion_target, static_argnums=0)(name, *arrays)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@jax.jit
def conversions(values, noisy, level):
    return {(a, b): denoising.converted(values[a], noisy, level, a, b) for a, b in itertools.product(EVERY, repeat=2)}


def test_conversions():
    values = {name: jnp.asarray(x, jnp.float32) for name, x in EVERY.items()}
    for (given, wanted), found in conversions(values, jnp.asarray(NOISY, jnp.float32), jnp.asarray(ALPHA_BAR)).items():
        np.testing.assert_allclose(found, EVERY[wanted], atol=2e-3, err_msg=f"{given} as {wanted}")


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_conversions_where_there_is_only_data_or_only_noise(end):
    """v says both; of what the others leave open, `test_extremes` asks that it is finite."""
    data, noise = np.sqrt(1 - end), np.sqrt(end)
    values = {"epsilon": NOISE, "sample": SAMPLE, "v": data * NOISE - noise * SAMPLE}
    found = conversions(
        {n: jnp.asarray(x, jnp.float32) for n, x in values.items()},
        jnp.asarray(data * SAMPLE + noise * NOISE, jnp.float32),
        jnp.full(5, 1 - end),
    )
    for wanted, expected in values.items():
        np.testing.assert_allclose(found["v", wanted], expected, atol=1e-5)


def test_flow_against_numpy():
    time = np.array([0.0, 0.25, 0.5, 0.9, 1.0], np.float32)
    rows = time[:, None, None]
    noisy = jax.jit(denoising.interpolated)(*(jnp.asarray(x) for x in (SAMPLE, NOISE, time)))
    np.testing.assert_allclose(noisy, rows * NOISE + (1 - rows) * SAMPLE, atol=1e-6)
    np.testing.assert_array_equal(noisy[0], SAMPLE[0])
    np.testing.assert_array_equal(noisy[-1], NOISE[-1])
    velocity = denoising.velocity(jnp.asarray(SAMPLE), jnp.asarray(NOISE))
    ahead = jax.jit(denoising.interpolated)(*(jnp.asarray(x) for x in (SAMPLE, NOISE, time + 0.5)))
    np.testing.assert_allclose((ahead - noisy) / 0.5, velocity, atol=1e-5)
    sample, noise = jax.jit(denoising.flow_ends)(velocity, noisy, jnp.asarray(time))
    np.testing.assert_allclose(sample, SAMPLE, atol=1e-5)
    np.testing.assert_allclose(noise, NOISE, atol=1e-5)


def test_each_step_of_a_chunk_may_have_a_time_of_its_own():
    time = np.random.default_rng(1).uniform(size=(5, 4)).astype(np.float32)
    noisy = jax.jit(denoising.interpolated)(*(jnp.asarray(x) for x in (SAMPLE, NOISE, time)))
    np.testing.assert_allclose(noisy, time[..., None] * NOISE + (1 - time[..., None]) * SAMPLE, atol=1e-6)
