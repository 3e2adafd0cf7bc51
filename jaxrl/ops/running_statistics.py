"""Mean and variance of observations, kept while training (Welford's recurrence in batches, Chan et al. 1983).

The batch may be sharded: its mean is a global one under `jit`, so every device ends with the same statistics.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.types import Array, Observation, Spec

_FLOOR = 1e-6  # of a variance: keeps the noise of what never changes from being blown up


class RunningStatistics(NamedTuple):
    """Of every floating-point observation, each of the shape that its spec says."""

    total: Array  # [] float32, observations taken in
    mean: Observation  # by observation name
    variance: Observation


def init(spec: Spec) -> RunningStatistics:
    """Zero mean and unit variance for every floating-point observation in `spec`; images and tokens are left alone."""
    floats = {name: s for name, s in spec.items() if s.dtype.startswith("float")}
    zeros = {name: jnp.zeros(s.shape, jnp.float32) for name, s in floats.items()}
    ones = {name: jnp.ones(s.shape, jnp.float32) for name, s in floats.items()}
    return RunningStatistics(jnp.zeros((), jnp.float32), zeros, ones)


def update(statistics: RunningStatistics, batch: Observation, max_count: float = 1e8) -> RunningStatistics:
    """Takes in a batch; every axis before those of the spec is averaged over. `max_count` keeps the statistics able to follow."""
    before, means, variances = statistics
    leading = {name: batch[name].shape[: batch[name].ndim - means[name].ndim] for name in means}
    size = math.prod(next(iter(leading.values()), ()))
    total = before + size
    mean, variance = {}, {}
    for name, old in means.items():
        axes = tuple(range(len(leading[name])))
        x = batch[name].astype(jnp.float32)
        batch_mean = x.mean(axes)
        batch_variance = jnp.square(x - jnp.expand_dims(batch_mean, axes)).mean(axes)
        delta = batch_mean - old
        mean[name] = old + delta * (size / total)
        moment = variances[name] * before + batch_variance * size + jnp.square(delta) * (before * size / total)
        variance[name] = moment / total
    return RunningStatistics(jnp.minimum(total, max_count), mean, variance)


def seen(statistics: RunningStatistics, spec: Spec) -> RunningStatistics:
    """Those of what `spec` names alone, for a policy that sees no more."""
    names = [name for name in spec if name in statistics.mean]
    mean, variance = ({name: part[name] for name in names} for part in (statistics.mean, statistics.variance))
    return RunningStatistics(statistics.total, mean, variance)


def normalise(statistics: RunningStatistics, observation: Observation, clip: float | None = 10.0) -> Observation:
    """`(x - mean) / standard deviation`, clipped, for the names that have statistics; the rest passes through.

    `clip` None does not clip. Anything else with statistics, such as an action, is normalised the same way.
    """

    def one(x: Array, mean: Array, variance: Array) -> Array:
        normal = (x - mean) * jax.lax.rsqrt(variance + _FLOOR)
        return normal if clip is None else jnp.clip(normal, -clip, clip)

    return _where_known(one, statistics, observation)


def denormalise(statistics: RunningStatistics, observation: Observation) -> Observation:
    """The inverse of `normalise` where that did not clip."""
    return _where_known(lambda x, mean, variance: mean + jnp.sqrt(variance + _FLOOR) * x, statistics, observation)


def _where_known(function: Callable[[Array, Array, Array], Array], statistics: RunningStatistics, observation: Observation) -> Observation:
    """`function(x, mean, variance)`, all of one rank, for the names that have statistics."""

    def one(name: str, x: Array) -> Array:
        if name not in statistics.mean:
            return x
        shape = (1,) * (x.ndim - statistics.mean[name].ndim) + statistics.mean[name].shape
        mean, variance = (jnp.reshape(s[name], shape) for s in (statistics.mean, statistics.variance))
        return function(x, mean, variance)

    return {name: one(name, x) for name, x in observation.items()}
