"""The orthonormal discrete cosine transform as a matrix product: chunks are short, and a product runs anywhere."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.types import Array


def matrix(size: int) -> np.ndarray:
    """Of the DCT-II [size, size], rows by frequency; its transpose is its inverse."""
    frequency, step = np.arange(size)[:, None], np.arange(size)[None]
    rows = np.sqrt(2.0 / size) * np.cos(np.pi * frequency * (2 * step + 1) / (2 * size))
    rows[0] /= np.sqrt(2.0)
    return rows


def dct(x: Array) -> Array:
    """Along time: [..., H, D] to coefficients [..., H, D], the lowest frequency first."""
    return jnp.einsum("kt,...td->...kd", jnp.asarray(matrix(x.shape[-2]), x.dtype), x, precision=jax.lax.Precision.HIGHEST)


def idct(coefficients: Array) -> Array:
    """The inverse of `dct`."""
    rows = jnp.asarray(matrix(coefficients.shape[-2]), coefficients.dtype)
    return jnp.einsum("kt,...kd->...td", rows, coefficients, precision=jax.lax.Precision.HIGHEST)
