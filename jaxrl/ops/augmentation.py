"""Random changes of images that leave what they show as it is."""

import jax
import jax.numpy as jnp

from jaxrl.ops.replayed import Sample
from jaxrl.types import Array, Key, Observation


def random_shift(images: Array, key: Key, pad: int) -> Array:
    """Images [B, height, width, C], each moved by up to `pad` pixels in both directions; what comes in repeats the border.

    DrQ (Yarats et al. 2021, https://arxiv.org/abs/2004.13649, section 4).
    """
    batch, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge")
    start = jax.random.randint(key, (batch, 2), 0, 2 * pad + 1)

    def crop(image: Array, corner: Array) -> Array:
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (height, width, channels))

    return jax.vmap(crop)(padded, start)


def shift_images(observation: Observation, key: Key, pad: int) -> Observation:
    """Every `image/<camera>` of a batch of observations shifted, those of one row alike; the rest passes through."""
    return {name: random_shift(x, key, pad) if name.startswith("image/") else x for name, x in observation.items()}


def shift_sample(sample: Sample, key: Key, pad: int) -> Sample:
    """The images at both ends of steps [B], each end shifted by itself."""
    now, later = jax.random.split(key)
    return sample._replace(
        observation=shift_images(sample.observation, now, pad), next_observation=shift_images(sample.next_observation, later, pad)
    )
