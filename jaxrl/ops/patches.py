"""Square pieces of images, side by side."""

import jax.numpy as jnp

from jaxrl.types import Array


def patches(images: Array, size: int, stride: int) -> Array:
    """Pieces of `size` x `size` pixels, `stride` apart, without padding: [..., height, width, C] to [..., rows, columns, size * size * C].

    A dense layer on them is a convolution. Where `stride` divides `size`, the entries of a piece are in another order than row by row.
    """
    if size % stride == 0 and stride > 1:  # fewer and longer pieces, of pixels that are gathered first
        *batch, height, width, channels = images.shape
        rows, columns = height // stride, width // stride
        cells = jnp.reshape(images[..., : rows * stride, : columns * stride, :], (*batch, rows, stride, columns, stride, channels))
        gathered = jnp.reshape(jnp.swapaxes(cells, -4, -3), (*batch, rows, columns, stride * stride * channels))
        return patches(gathered, size // stride, 1)
    rows, columns = ((length - size) // stride + 1 for length in images.shape[-3:-1])
    ends = stride * (rows - 1) + 1, stride * (columns - 1) + 1
    offsets = [(i, j) for i in range(size) for j in range(size)]
    return jnp.concatenate([images[..., i : i + ends[0] : stride, j : j + ends[1] : stride, :] for i, j in offsets], -1)
