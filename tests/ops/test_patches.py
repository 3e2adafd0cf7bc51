"""Patches against XLA's own convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops.patches import patches


@pytest.mark.parametrize(("height", "width", "size", "stride"), [(9, 7, 3, 1), (10, 9, 3, 2), (11, 8, 4, 2), (8, 8, 8, 8), (9, 9, 4, 3)])
def test_a_dense_layer_on_patches_is_a_convolution(height, width, size, stride):
    image_key, kernel_key = jax.random.split(jax.random.key(0))
    images = jax.random.normal(image_key, (2, height, width, 3))
    kernel = jax.random.normal(kernel_key, (size, size, 3, 4))
    # The order of the entries of a patch, read off an image of as many channels as that patch has pixels.
    pixels = jnp.arange(size * size * 3, dtype=jnp.float32).reshape(1, size, size, 3)
    order = patches(pixels, size, stride)[0, 0, 0].astype(int)
    assert sorted(order.tolist()) == list(range(size * size * 3))
    convolved = jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
    )
    found = jnp.einsum("bhwp,po->bhwo", patches(images, size, stride), kernel.reshape(-1, 4)[order], precision="highest")
    np.testing.assert_allclose(found, convolved, rtol=1e-4, atol=1e-4)


def test_leading_axes_are_kept():
    assert patches(jnp.zeros((5, 2, 8, 8, 1)), 4, 2).shape == (5, 2, 3, 3, 16)
