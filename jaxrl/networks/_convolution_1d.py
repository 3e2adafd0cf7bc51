"""Convolutions over time that are fast on a CPU too, of [time, B, channels].

On a CPU they are products of matrices, one for each tap of the kernel and over the steps alone where it does not reach into the padding:
of 4 steps and 5 taps, 14 of 20. With time first, these steps are slices without copies. XLA's own does the work of padding too, has no fast
form at all where the kernel is longer than what it slides over, and is slow to differentiate inside a loop, where training runs.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.types import Array


class Window(NamedTuple):
    """How a kernel slides: `length` steps of the input come to `steps` of the output."""

    length: int
    size: int
    stride: int
    padding: int  # zeros on either side

    @property
    def steps(self) -> int:
        return (self.length + 2 * self.padding - self.size) // self.stride + 1


def _taps(window: Window) -> list[tuple[int, int, int, int]]:
    """Of every tap that reads at all: (its place, the first step it reads, the first and the last step it writes)."""
    found = []
    for tap in range(window.size):
        offset = tap - window.padding
        first = max(0, -(offset // window.stride))
        last = min(window.steps - 1, (window.length - 1 - offset) // window.stride)
        if first <= last:
            found.append((tap, window.stride * first + offset, first, last))
    return found


def _read(x: Array, window: Window, start: int, first: int, last: int) -> Array:
    """The steps of an input that a tap multiplies."""
    return jax.lax.slice_in_dim(x, start, start + window.stride * (last - first) + 1, window.stride)


def _down(x: Array, kernel: Array, window: Window) -> Array:
    """[length, B, C] with a kernel [size, C, D] to [steps, B, D]."""
    parts = []
    for tap, start, first, last in _taps(window):
        part = _read(x, window, start, first, last) @ kernel[tap]
        parts.append(jnp.pad(part, ((first, window.steps - 1 - last), (0, 0), (0, 0))))
    return functools.reduce(jnp.add, parts)


def _up(y: Array, kernel: Array, window: Window) -> Array:
    """The transpose of `_down`, [steps, B, D] to [length, B, C]."""
    parts = []
    for tap, start, first, last in _taps(window):
        part = jax.lax.dot_general(y[first : last + 1], kernel[tap], (((2,), (1,)), ((), ())))
        after = window.length - 1 - start - window.stride * (last - first)
        parts.append(jax.lax.pad(part, jnp.zeros((), part.dtype), ((start, after, window.stride - 1), (0, 0, 0), (0, 0, 0))))
    return functools.reduce(jnp.add, parts)


def _products(x: Array, y: Array, window: Window) -> Array:
    """Of the inputs and outputs that each tap joins: what `_down` has for the slope of its kernel, given that of its output."""
    found = {
        tap: jax.lax.dot_general(_read(x, window, start, first, last), y[first : last + 1], (((0, 1), (0, 1)), ((), ())))
        for tap, start, first, last in _taps(window)
    }
    return jnp.stack([found.get(tap, jnp.zeros((x.shape[-1], y.shape[-1]), x.dtype)) for tap in range(window.size)])


# The slope of one product after the other is left to `jnp.stack`: differentiated, `kernel[tap]` would add up whole kernels of zeros.
_on_cpu = jax.custom_vjp(_down, nondiff_argnums=(2,))
_on_cpu.defvjp(
    lambda x, kernel, window: (_down(x, kernel, window), (x, kernel)),
    lambda window, kept, slope: (_up(slope, kept[1], window), _products(kept[0], slope, window)),
)
_on_cpu_transposed = jax.custom_vjp(_up, nondiff_argnums=(2,))
_on_cpu_transposed.defvjp(
    lambda y, kernel, window: (_up(y, kernel, window), (y, kernel)),
    lambda window, kept, slope: (_down(slope, kept[1], window), _products(slope, kept[0], window)),
)


def _whole(x: Array, kernel: Array, window: Window) -> Array:
    """XLA's own."""
    numbers = ("WNC", "WIO", "WNC")
    return jax.lax.conv_general_dilated(x, kernel, (window.stride,), [(window.padding, window.padding)], dimension_numbers=numbers)


def _whole_transposed(y: Array, kernel: Array, window: Window) -> Array:
    """XLA's own transpose of `_whole`."""
    before = window.size - 1 - window.padding
    after = window.length - 1 - (window.steps - 1) * window.stride + window.padding
    flipped, numbers = jnp.swapaxes(kernel[::-1], 1, 2), ("WNC", "WIO", "WNC")
    return jax.lax.conv_general_dilated(y, flipped, (1,), [(before, after)], lhs_dilation=(window.stride,), dimension_numbers=numbers)


def convolve(x: Array, kernel: Array, stride: int = 1, padding: int = 0) -> Array:
    """[length, B, C] with a kernel [size, C, D] to [steps, B, D]."""
    window = Window(x.shape[0], kernel.shape[0], stride, padding)
    run = functools.partial(jax.lax.platform_dependent, x, kernel)
    return run(cpu=lambda x, k: _on_cpu(x, k, window), default=lambda x, k: _whole(x, k, window))


def convolve_transposed(y: Array, kernel: Array, length: int, stride: int, padding: int) -> Array:
    """The transpose of a convolution of `length` steps whose kernel is [size, C, D]: [steps, B, D] to [length, B, C]."""
    window = Window(length, kernel.shape[0], stride, padding)
    run = functools.partial(jax.lax.platform_dependent, y, kernel)
    return run(cpu=lambda y, k: _on_cpu_transposed(y, k, window), default=lambda y, k: _whole_transposed(y, k, window))


class Convolution(nn.Module):
    """With a bias, of [time, B, C]; padded by half of what a step reads, so that without a stride the length stays."""

    channels: int
    size: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        kernel = self.param("kernel", uniform(self.size * x.shape[-1]), (self.size, x.shape[-1], self.channels))
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        return convolve(x, kernel, self.stride, (self.size - 1) // 2) + bias.reshape(1, 1, -1)


class Growth(nn.Module):
    """Twice as many steps by a transposed convolution of 4 taps, with a bias, of [time, B, C]; the kernel is [4, outputs, inputs]."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        channels = x.shape[-1]
        kernel = self.param("kernel", uniform(4 * channels), (4, channels, channels))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        return convolve_transposed(x, kernel, 2 * x.shape[0], 2, 1) + bias.reshape(1, 1, -1)


def uniform(inputs: int) -> Any:
    """Evenly between +-1/sqrt(inputs), torch's own, which the published networks began with."""
    bound = inputs**-0.5
    return lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)
