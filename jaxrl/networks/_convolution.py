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


_NUMBERS = ("NHWC", "HWIO", "NHWC")


def _whole(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """XLA's own."""
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=_NUMBERS)


def _taps(x: Array, size: tuple[int, ...], stride: int, padding: int) -> list[list[Array]]:
    """What each entry of a kernel of this size meets, [rows][columns] of [B, rows of the result, columns of it, C]."""
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows, columns = (stride * ((length - reach) // stride) + 1 for length, reach in zip(x.shape[1:3], size, strict=True))
    return [[x[:, i : i + rows : stride, j : j + columns : stride] for j in range(size[1])] for i in range(size[0])]


def _by_rows(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """A product of matrices for each row of the kernel: a third of the memory of whole patches."""
    strips = (jnp.concatenate(row, -1) for row in _taps(x, kernel.shape[:2], stride, padding))
    products = [strip @ row.reshape(-1, row.shape[-1]) for strip, row in zip(strips, kernel, strict=True)]
    return functools.reduce(jnp.add, products)


def _slope_of_input(x: Array, kernel: Array, stride: int, padding: int, slope: Array) -> Array:
    if x.shape[-1] >= 256:  # many channels, few pixels: there products of matrices take half as long
        (back,) = jax.linear_transpose(lambda x: _by_rows(x, kernel, stride, padding), x)(slope)
        return back
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    lengths = zip(x.shape[1:3], kernel.shape[:2], slope.shape[1:3], strict=True)
    around = [(size - 1 - padding, length + padding - 1 - stride * (result - 1)) for length, size, result in lengths]
    return jax.lax.conv_general_dilated(slope, turned, (1, 1), around, lhs_dilation=(stride, stride), dimension_numbers=_NUMBERS)


def _slope_of_kernel(x: Array, kernel: Array, stride: int, padding: int, slope: Array) -> Array:
    if x.shape[-1] < 32 or (x.shape[-1] <= 64 and x.shape[0] <= 16):  # here a convolution whose batch are channels and channels the batch
        lengths = zip(x.shape[1:3], kernel.shape[:2], slope.shape[1:3], strict=True)
        around = [(padding, size + stride * (result - 1) - length - padding) for length, size, result in lengths]
        over, by = x.transpose(3, 1, 2, 0), slope.transpose(1, 2, 0, 3)
        found = jax.lax.conv_general_dilated(over, by, (1, 1), around, rhs_dilation=(stride, stride), dimension_numbers=_NUMBERS)
        return found.transpose(1, 2, 0, 3)
    across = slope.reshape(-1, slope.shape[-1]).T
    met = _taps(x, kernel.shape[:2], stride, padding)
    return jnp.stack([jnp.stack([(across @ tap.reshape(-1, x.shape[-1])).T for tap in row]) for row in met])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _on_cpu(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """XLA's own, with gradients in the forms that it has fast code for.

    It turns a convolution into such a form in the outermost program alone: inside a loop, where training runs, its own gradients take up to
    a hundred times as long. Which form is fastest where was measured at the sizes of a ResNet-18 (experiments/benchmarks/vision.py).
    """
    return _whole(x, kernel, stride, padding)


def _forwards(x: Array, kernel: Array, stride: int, padding: int) -> tuple[Array, Any]:
    return _whole(x, kernel, stride, padding), (x, kernel)


def _backwards(stride: int, padding: int, kept: Any, slope: Array) -> tuple[Array, Array]:
    x, kernel = kept
    return _slope_of_input(x, kernel, stride, padding, slope), _slope_of_kernel(x, kernel, stride, padding, slope)


_on_cpu.defvjp(_forwards, _backwards)


def convolve(x: Array, kernel: Array, stride: int, padding: int = 0) -> Array:
    """[..., height, width, C] with a kernel [size, size, C, D] to [..., rows, columns, D], with `padding` zeros on each side."""
    rows = x.reshape(-1, *x.shape[-3:])
    y = jax.lax.platform_dependent(
        rows, kernel, cpu=lambda x, k: _on_cpu(x, k, stride, padding), default=lambda x, k: _whole(x, k, stride, padding)
    )
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
