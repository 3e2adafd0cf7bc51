"""Layers that several torsos are made of."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.ops.paths import map_with_path
from jaxrl.types import Params

SMALLEST = 1e-8


def unit(x: Any, axis: int = -1) -> Any:
    """Of norm 1 along `axis`."""
    return x / jnp.maximum(jnp.sqrt(jnp.square(x).sum(axis, keepdims=True)), SMALLEST)


def unit_kernels(params: Params) -> Params:
    """With each output of every kernel [..., inputs, outputs] reading its inputs with weights of norm 1."""
    return map_with_path(lambda path, x: unit(x, -2) if path.endswith("kernel") else x, params)


def normed(momentum: float, name: str, train: bool) -> nn.Module:
    """Batch normalisation (Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167) over all axes but the last; statistics in float32."""
    # The fast variance is a difference of squares: nothing is left of what varies by a thousandth of its mean, as raw inputs may.
    return nn.BatchNorm(use_running_average=not train, momentum=momentum, epsilon=1e-5, use_fast_variance=False, name=name)


class BatchRenorm(nn.Module):
    """Batch normalisation whose training follows the running statistics (Ioffe 2017, https://arxiv.org/abs/1702.03275).

    The correction by r and d sets in after `warm_up` batches, all at once, as in CrossQ.
    """

    momentum: float = 0.99
    largest_r: float = 3.0
    largest_d: float = 5.0
    warm_up: int = 100_000

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        size = x.shape[-1]
        mean = self.variable("batch_stats", "mean", lambda: jnp.zeros(size))
        variance = self.variable("batch_stats", "var", lambda: jnp.ones(size))
        seen = self.variable("batch_stats", "batches", lambda: jnp.zeros((), jnp.int32))
        scale = self.param("scale", nn.initializers.ones, (size,))
        bias = self.param("bias", nn.initializers.zeros, (size,))
        wide = lambda row: row.reshape(*(1,) * (x.ndim - 1), size)  # noqa: E731
        if not train:
            normal = (x - wide(mean.value)) * wide(jax.lax.rsqrt(variance.value + 1e-3))
            return normal * wide(scale) + wide(bias)
        axes = tuple(range(x.ndim - 1))
        own_mean = x.mean(axes)
        own_variance = jnp.square(x - wide(own_mean)).mean(axes)
        own_std, std = jnp.sqrt(own_variance + 1e-3), jnp.sqrt(variance.value + 1e-3)
        warm = seen.value >= self.warm_up
        r = jnp.where(warm, jnp.clip(own_std / std, 1.0 / self.largest_r, self.largest_r), 1.0)
        d = jnp.where(warm, jnp.clip((own_mean - mean.value) / std, -self.largest_d, self.largest_d), 0.0)
        r, d = jax.lax.stop_gradient((r, d))
        if not self.is_initializing():
            mean.value = self.momentum * mean.value + (1 - self.momentum) * own_mean
            variance.value = self.momentum * variance.value + (1 - self.momentum) * own_variance
            seen.value = seen.value + 1
        normal = (x - wide(own_mean)) / wide(own_std) * wide(r) + wide(d)
        return normal * wide(scale) + wide(bias)


class Scaler(nn.Module):
    """A factor for each feature: it begins at `begin`, and learns as fast as a parameter of size `scale`."""

    begin: float
    scale: float

    @nn.compact
    def __call__(self, x: Any) -> Any:
        factor = self.param("scale", nn.initializers.constant(self.scale), (x.shape[-1],))
        return x * factor.reshape(*(1,) * (x.ndim - 1), -1) * (self.begin / self.scale)


def orthogonal(scale: float = math.sqrt(2.0)) -> Any:
    return nn.initializers.orthogonal(scale)
