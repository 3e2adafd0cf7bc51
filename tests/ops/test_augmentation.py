"""Shifts of images against numpy, and schedules."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.ops.augmentation import random_shift, shift_images
from jaxrl.ops.schedules import linear


def test_each_image_is_one_of_its_shifts():
    images = np.arange(40 * 5 * 6 * 2, dtype=np.uint8).reshape(40, 5, 6, 2)
    shifted = np.asarray(random_shift(jnp.asarray(images), jax.random.key(0), 2))
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    found = set()
    for i in range(40):
        hits = [(y, x) for y in range(5) for x in range(5) if (padded[i, y : y + 5, x : x + 6] == shifted[i]).all()]
        assert hits
        found.update(hits[:1])
    assert len(found) > 10
    assert shifted.dtype == np.uint8


def test_images_of_one_row_move_alike_and_nothing_else_does():
    image = jnp.arange(3 * 8 * 8, dtype=jnp.uint8).reshape(3, 8, 8, 1)
    moved = shift_images({"image/left": image, "image/right": image, "state/a": jnp.ones((3, 2))}, jax.random.key(1), 3)
    np.testing.assert_array_equal(moved["image/left"], moved["image/right"])
    assert (moved["image/left"] != image).any()
    np.testing.assert_array_equal(moved["state/a"], 1.0)


def test_linear_schedule():
    counts = jnp.array([0, 5, 10, 20])
    np.testing.assert_allclose(linear(counts, 1.0, 0.2, 10), [1.0, 0.6, 0.2, 0.2], rtol=1e-6)
