"""Flow matching along straight lines: times to train at, and integrators. Time is that of `losses.denoising`: 1 is noise, 0 a chunk."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.generative.rows import Denoise, Known, hold
from jaxrl.losses.denoising import velocity
from jaxrl.types import Array, Key


def uniform(key: Key, shape: tuple[int, ...]) -> Array:
    """Evenly between 0 and 1."""
    return jax.random.uniform(key, shape)


def beta(key: Key, shape: tuple[int, ...]) -> Array:
    """Beta(1.5, 1) between 0.001 and 1, which looks more at noise (Black et al. 2024, https://arxiv.org/abs/2410.24164)."""
    return jax.random.uniform(key, shape) ** (1.0 / 1.5) * 0.999 + 0.001  # the distribution function of Beta(a, 1) is x^a


TIMES: dict[str, Callable[[Key, tuple[int, ...]], Array]] = {"uniform": uniform, "beta": beta}


def _euler(field: Denoise, x: Array, time: Array, dt: Array) -> Array:
    return x - dt * field(x, time)


def _midpoint(field: Denoise, x: Array, time: Array, dt: Array) -> Array:
    return x - dt * field(_euler(field, x, time, dt / 2), time - dt / 2)


SAMPLERS = {"euler": _euler, "midpoint": _midpoint}  # of first and of second order; the second asks the network twice in a step


def sample(sampler: str, number: int, field: Denoise, start: Array, known: Known | None = None) -> Array:
    """From noise `start` [B, H, A] to chunks in `number` steps of equal length, whose times are exact.

    Known steps move along their own straight lines, from where they start to where they have to be.
    """
    times = jnp.asarray(np.arange(number, 0, -1) / number, jnp.float32)
    dt = jnp.float32(1.0 / number)

    def informed(x: Array, time: Array) -> Array:
        return hold(known, field(x, jnp.broadcast_to(time, x.shape[:1])), lambda chunk: velocity(chunk, start))

    x, _ = jax.lax.scan(lambda x, time: (SAMPLERS[sampler](informed, x, time, dt), None), start, times)
    return hold(known, x, lambda chunk: chunk)
