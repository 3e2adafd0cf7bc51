"""Convolutions that are fast on a CPU too."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.types import Array

Layers = tuple[tuple[int, int, int], ...]  # (channels, kernel, stride)


def check_layers(layers: Layers, features: int) -> None:
    """Raises ValueError where there is no layer, or a number is not positive."""
    if not layers or min(number for layer in layers for number in layer) < 1:
        raise ValueError(f"layers: expected at least one (channels, kernel, stride), all positive, got {layers}")
    if features < 1:
        raise ValueError(f"features is {features}, but must be at least 1")


def _whole(x: Array, kernel: Array, stride: int) -> Array:
    """XLA's own."""
    numbers = jax.lax.conv_dimension_numbers(x.shape, kernel.shape, ("NHWC", "HWIO", "NHWC"))
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "VALID", dimension_numbers=numbers)


def _by_rows(x: Array, kernel: Array, stride: int) -> Array:
    """A product of matrices for each row of the kernel: a third of the memory of whole patches."""
    rows, columns = ((length - size) // stride + 1 for length, size in zip(x.shape[-3:-1], kernel.shape[:2], strict=True))
    last, end = stride * (rows - 1) + 1, stride * (columns - 1) + 1

    def product(i: int) -> Array:
        strip = x[:, i : i + last : stride]
        beside = jnp.concatenate([strip[:, :, j : j + end : stride] for j in range(kernel.shape[1])], -1)
        return beside @ kernel[i].reshape(-1, kernel.shape[-1])

    total = product(0)
    for i in range(1, kernel.shape[0]):
        total = total + product(i)
    return total


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _on_cpu(x: Array, kernel: Array, stride: int) -> Array:
    """XLA's own where nothing is differentiated: inside a loop, where training runs, its gradients take many times as long on a CPU."""
    return _whole(x, kernel, stride)


def _forwards(x: Array, kernel: Array, stride: int) -> tuple[Array, Any]:
    return jax.vjp(lambda x, kernel: _by_rows(x, kernel, stride), x, kernel)


def _backwards(stride: int, pull: Any, slope: Array) -> tuple[Array, Array]:
    del stride
    return pull(slope)


_on_cpu.defvjp(_forwards, _backwards)


def convolve(x: Array, kernel: Array, stride: int) -> Array:
    """[..., height, width, C] with a kernel [size, size, C, D] to [..., rows, columns, D], without padding."""
    rows = x.reshape(-1, *x.shape[-3:])
    y = jax.lax.platform_dependent(rows, kernel, cpu=lambda x, k: _on_cpu(x, k, stride), default=lambda x, k: _whole(x, k, stride))
    return y.reshape(*x.shape[:-3], *y.shape[1:])


class Convolution(nn.Module):
    """With a bias; the kernel [size, size, C, channels] is orthogonal."""

    channels: int
    size: int
    stride: int

    @nn.compact
    def __call__(self, x: Any) -> Any:
        shape = (self.size, self.size, x.shape[-1], self.channels)
        kernel = self.param("kernel", nn.initializers.orthogonal(math.sqrt(2.0)), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        return convolve(x, kernel, self.stride) + bias.reshape(*(1,) * (x.ndim - 1), -1)
