"""Consistency functions: from any point of the way from noise to a chunk straight to its end (Song et al. 2023,
https://arxiv.org/abs/2303.01469)."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrl.generative.diffusion import linspace
from jaxrl.generative.rows import Denoise, Known, hold
from jaxrl.generative.schedules import Schedule
from jaxrl.types import Array


class Way(NamedTuple):
    """N points from noise to a chunk, and the chunk, as numbers [N + 1] in float64.

    At point i there is `signal * chunk + noise * (standard normal)`. A consistency function is `skip * x + out * (what a network says
    of x)`; at the chunk `skip` is 1 and `out` 0, so that it is x whatever the network says (equation 5).
    """

    time: np.ndarray  # in [0, 1], as a network is told it
    signal: np.ndarray
    noise: np.ndarray
    skip: np.ndarray
    out: np.ndarray


def diffused(schedule: Schedule, number: int) -> Way:
    """That of a diffusion, whose network says v (Salimans and Ho 2022, https://arxiv.org/abs/2202.00512).

    `skip` and `out` are those of equation 25 of Song et al. for data of unit variance, in the units of x under noise.

    Raises:
        ValueError: there are not that many points.
    """
    steps = linspace(len(schedule.betas), number)
    alpha_bar = np.append(schedule.alpha_bar[steps], 1.0)
    signal, noise = np.sqrt(alpha_bar), np.sqrt(1.0 - alpha_bar)
    return Way(np.append(steps / len(schedule.betas), 0.0), signal, noise, signal, -noise)


def straight(number: int) -> Way:
    """That of a flow, whose network says the mean velocity from x to where it came from."""
    time = np.arange(number, -1, -1) / number
    return Way(time, 1.0 - time, time, np.ones(number + 1), -time)


def _of(numbers: np.ndarray, i: Array, x: Array) -> Array:
    """Those of points i [B], with axes to the rank of `x`."""
    return jnp.asarray(numbers, jnp.float32)[i].reshape(-1, *(1,) * (x.ndim - 1))


def level(way: Way, chunk: Array, noise: Array, i: Array) -> Array:
    """`chunk` [B, H, A] under `noise` at points i [B]."""
    return _of(way.signal, i, chunk) * chunk + _of(way.noise, i, chunk) * noise


def times(way: Way, i: Array) -> Array:
    """Of points i [B]."""
    return jnp.asarray(way.time, jnp.float32)[i]


def end(way: Way, say: Denoise, x: Array, i: Array) -> Array:
    """The chunk that x [B, H, A] at points i [B] leads to."""
    return _of(way.skip, i, x) * x + _of(way.out, i, x) * say(x, times(way, i))


def sample(
    way: Way,
    number: int,
    say: Denoise,
    start: Array,
    noise: Callable[[int], Array],
    clip: float = 0.0,
    known: Known | None = None,
) -> Array:
    """From noise `start` [B, H, A] to chunks in `number` steps: to the end, and back to under fresh noise, `noise(step)` (algorithm 1).

    The steps are at even distances along the points. Chunks are clipped to +-`clip`, 0 does not clip. Known steps of a chunk are put in
    place under the noise of each step; the first holds nothing but noise, so it takes a second one to fit the rest to them.
    """
    x = start
    for step, point in enumerate(np.arange(number) * (len(way.time) - 1) // number):
        i = jnp.full(len(start), point)
        if step:
            under = partial(level, way, noise=noise(step), i=i)
            x = hold(known, under(x), under)
        x = end(way, say, x, i)
        if clip:
            x = jnp.clip(x, -clip, clip)
    return hold(known, x, lambda chunk: chunk)
