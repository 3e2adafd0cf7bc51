"""Random changes of images against numpy and scipy, and schedules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxrl.ops.augmentation import colour_jitter, crop, random_rotation, random_shift, shift_images
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


def test_crops_are_parts_and_without_a_key_the_middle():
    images = np.arange(40 * 7 * 9 * 2, dtype=np.uint16).reshape(40, 7, 9, 2)
    np.testing.assert_array_equal(crop(jnp.asarray(images), 3, 5), images[:, 2:5, 2:7])
    np.testing.assert_array_equal(crop(jnp.asarray(images), 7, 9, jax.random.key(0)), images)
    parts, found = np.asarray(crop(jnp.asarray(images), 3, 5, jax.random.key(0))), set()
    for i in range(40):
        hits = [(y, x) for y in range(5) for x in range(5) if (images[i, y : y + 3, x : x + 5] == parts[i]).all()]
        assert len(hits) == 1
        found.update(hits)
    assert {y for y, _ in found} == {x for _, x in found} == set(range(5))


def test_rotation_against_scipy():
    images, key = np.random.default_rng(0).uniform(size=(3, 6, 9, 2)).astype(np.float32), jax.random.key(3)
    turned = np.asarray(random_rotation(jnp.asarray(images), key, 40.0))
    angles = np.deg2rad(40.0) * np.asarray(jax.random.uniform(key, (3, 1, 1), minval=-1.0)).ravel()
    assert len({*np.sign(angles)}) == 2
    y, x = np.meshgrid(np.arange(6) - 2.5, np.arange(9) - 4.0, indexing="ij")
    for i, angle in enumerate(angles):
        places = [np.cos(angle) * y - np.sin(angle) * x + 2.5, np.sin(angle) * y + np.cos(angle) * x + 4.0]
        want = np.stack([ndimage.map_coordinates(images[i, ..., c], places, order=1, mode="nearest") for c in range(2)], -1)
        np.testing.assert_allclose(turned[i], want, atol=1e-5)
    np.testing.assert_allclose(random_rotation(jnp.asarray(images), key, 0.0), images, atol=1e-6)


def test_light_against_the_transform_of_data():
    colour_matrix = pytest.importorskip("jaxrl_data.transforms.augment").colour_matrix
    images, key = np.random.default_rng(0).uniform(size=(5, 2, 4, 3, 3)).astype(np.float32), jax.random.key(1)
    most = np.array([0.3, 0.4, 0.5, 0.1])
    lit = np.asarray(colour_jitter(jnp.asarray(images), key, *most.tolist()))
    off = np.asarray(jax.random.uniform(key, (4, 5), minval=-1.0)).T * most
    for image, (brightness, contrast, saturation, hue), found in zip(images, off, lit, strict=True):
        matrix = colour_matrix(255 * image.reshape(-1, 3).mean(0), brightness, 1 + contrast, 1 + saturation, hue)
        want = np.clip((255 * image @ matrix[:, :3].T + matrix[:, 3]) / 255, 0, 1)
        np.testing.assert_allclose(found, want, atol=1e-5)
    np.testing.assert_allclose(colour_jitter(jnp.asarray(images), key), images, atol=1e-5)


def test_linear_schedule():
    counts = jnp.array([0, 5, 10, 20])
    np.testing.assert_allclose(linear(counts, 1.0, 0.2, 10), [1.0, 0.6, 0.2, 0.2], rtol=1e-6)
