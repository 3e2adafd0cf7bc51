"""Consistency functions: points of the way, their ends, and chunks by several steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.generative import consistency, rows, schedules

KEY = jax.random.key(0)
WAYS = {"diffusion": consistency.diffused(schedules.schedule("squaredcos_cap_v2", 100), 20), "flow": consistency.straight(10)}


@pytest.mark.parametrize("name", WAYS)
def test_points_lead_from_noise_to_the_chunk(name):
    way = WAYS[name]
    assert (np.diff(way.time) < 0).all() and way.time[-1] == 0
    assert way.signal[0] < 1e-3 and way.noise[0] > 0.999 and (way.signal[-1], way.noise[-1]) == (1, 0)
    last = jnp.full(3, len(way.time) - 1)
    chunk, noise = (jax.random.normal(jax.random.key(i), (3, 4, 2)) for i in range(2))
    np.testing.assert_array_equal(consistency.level(way, chunk, noise, last), chunk)


@pytest.mark.parametrize("name", WAYS)
def test_a_chunk_is_its_own_end_whatever_a_network_says(name):
    """The boundary condition, to the bit."""
    way = WAYS[name]
    chunk = jax.random.normal(KEY, (3, 4, 2)) * 1e3
    found = jax.jit(lambda x: consistency.end(way, lambda x, time: 7.0 - 1e6 * x, x, jnp.full(3, len(way.time) - 1)))(chunk)
    np.testing.assert_array_equal(found, chunk)


def test_scales_of_a_diffusion_are_those_of_the_paper():
    """c_skip and c_out of Song et al. 2023, equation 25, with epsilon 0 and data of unit variance, of x by its share of signal."""
    way = WAYS["diffusion"]
    sigma = way.noise / way.signal
    skip, out = 1 / (sigma**2 + 1), sigma / np.sqrt(1 + sigma**2)
    np.testing.assert_allclose(way.skip, skip / way.signal, rtol=1e-9)
    np.testing.assert_allclose(way.out, -out, rtol=1e-9)
    assert (np.round(way.time * 100)[:3] == [99, 94, 89]).all()


@pytest.mark.parametrize("name", WAYS)
def test_what_says_the_right_thing_finds_the_chunk_from_everywhere(name):
    way = WAYS[name]
    chunk, noise = (jax.random.normal(jax.random.key(i), (len(way.time), 4, 2)) for i in range(2))
    i = jnp.arange(len(way.time))
    x = consistency.level(way, chunk, noise, i)
    signal, sigma = (jnp.asarray(part, jnp.float32).reshape(-1, 1, 1) for part in (way.signal, way.noise))
    say = noise - chunk if name == "flow" else signal * noise - sigma * chunk
    np.testing.assert_allclose(consistency.end(way, lambda x, time: say, x, i), chunk, atol=1e-5)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("name", WAYS)
def test_steps_against_numpy(name, number):
    way, asked = WAYS[name], []
    start, *fresh = (np.asarray(jax.random.normal(jax.random.key(i), (2, 4, 1)), np.float64) for i in range(3))

    def say(x, time):
        asked.append(np.asarray(time))
        return 0.3 * x + time.reshape(-1, 1, 1)

    known = rows.Known(jnp.full((2, 4, 1), 0.7), (jnp.arange(4)[None] < jnp.array([[2], [0]]))[..., None])
    found = consistency.sample(way, number, say, jnp.asarray(start, jnp.float32), lambda step: jnp.asarray(fresh[step - 1]), 0.9, known)
    x, held = start, np.asarray(known.mask)
    for step in range(number):
        point = step * (len(way.time) - 1) // number
        if step:
            x = way.signal[point] * np.where(held, 0.7, x) + way.noise[point] * fresh[step - 1]
        x = np.clip(way.skip[point] * x + way.out[point] * (0.3 * x + way.time[point]), -0.9, 0.9)
        np.testing.assert_allclose(asked[step], way.time[point], rtol=1e-6)
    np.testing.assert_allclose(found, np.where(held, 0.7, x), atol=1e-5)
    assert len(asked) == number
