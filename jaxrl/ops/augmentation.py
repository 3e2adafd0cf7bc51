"""Random changes of images that leave what they show as it is."""

import math

import jax
import jax.numpy as jnp
import numpy as np

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


def crop(images: Array, height: int, width: int, key: Key | None = None) -> Array:
    """A part of each of the images [B, rows, columns, C]: at a random place of its own, without a key the middle."""
    batch, rows, columns, channels = images.shape
    if key is None:
        y, x = round((rows - height) / 2), round((columns - width) / 2)
        return images[:, y : y + height, x : x + width]
    down, across = jax.random.split(key)
    top = jax.random.randint(down, (batch,), 0, rows - height + 1)
    left = jax.random.randint(across, (batch,), 0, columns - width + 1)
    return jax.vmap(lambda image, y, x: jax.lax.dynamic_slice(image, (y, x, 0), (height, width, channels)))(images, top, left)


def random_rotation(images: Array, key: Key, degrees: float) -> Array:
    """Float images [B, height, width, C], each turned about its middle by up to `degrees`: linear between pixels, and beyond the border as
    at it.
    """
    batch, height, width, channels = images.shape
    angle = jax.random.uniform(key, (batch, 1, 1), minval=-1.0) * math.radians(degrees)
    y, x = jnp.meshgrid(jnp.arange(height) - (height - 1) / 2, jnp.arange(width) - (width - 1) / 2, indexing="ij")
    from_y = jnp.cos(angle) * y[None] - jnp.sin(angle) * x[None] + (height - 1) / 2
    from_x = jnp.sin(angle) * y[None] + jnp.cos(angle) * x[None] + (width - 1) / 2
    top, left = jnp.floor(from_y), jnp.floor(from_x)
    down, across = from_y - top, from_x - left
    flat = images.reshape(batch, height * width, channels)

    def corner(below: int, beside: int) -> Array:
        row = jnp.clip(top.astype(jnp.int32) + below, 0, height - 1)
        place = row * width + jnp.clip(left.astype(jnp.int32) + beside, 0, width - 1)
        weight = (down if below else 1 - down) * (across if beside else 1 - across)
        return weight[..., None] * jnp.take_along_axis(flat, place.reshape(batch, -1, 1), 1).reshape(images.shape)

    return corner(0, 0) + corner(0, 1) + corner(1, 0) + corner(1, 1)


_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_TO_YIQ = np.array([_GREY, [0.59590059, -0.27455667, -0.32134392], [0.21153661, -0.52273617, 0.31119955]], np.float32)


def colour_jitter(
    images: Array, key: Key, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0, hue: float = 0.0
) -> Array:
    """Images [B, ..., 3] in [0, 1] in another light, all of a row alike: brightness by up to this part of white, contrast about the mean
    colour and saturation by factors up to this much off 1, hue by turns. One affine change of the colours, clipped once.
    """
    batch, axes = images.shape[0], tuple(range(1, images.ndim - 1))
    off = jax.random.uniform(key, (4, batch), minval=-1.0) * jnp.array([[brightness], [contrast], [saturation], [hue]])
    lit, turn, wide = off[0], 2 * math.pi * off[3], lambda numbers: numbers.reshape(batch, *(1,) * (images.ndim - 1))
    row = lambda *numbers: jnp.stack([jnp.broadcast_to(number, (batch,)) for number in numbers], -1)  # noqa: E731
    cos, sin, none, one = jnp.cos(turn), jnp.sin(turn), jnp.zeros(()), jnp.ones(())
    rotation = jnp.stack([row(one, none, none), row(none, cos, -sin), row(none, sin, cos)], -2)
    grey = jnp.tile(jnp.asarray(_GREY)[None], (3, 1))[None]
    mixed = (1 + off[2])[:, None, None] * jnp.eye(3)[None] - off[2][:, None, None] * grey
    turned = jnp.einsum("ij,bjk,kl,blm->bim", np.linalg.inv(_TO_YIQ), rotation, _TO_YIQ, mixed)
    mean = images.mean(axes, keepdims=True) + wide(lit)
    changed = mean + (images + wide(lit) - mean) * (1 + wide(off[1]))
    return jnp.clip(jnp.einsum("b...j,bij->b...i", changed, turned), 0.0, 1.0)


def shift_images(observation: Observation, key: Key, pad: int) -> Observation:
    """Every `image/<camera>` of a batch of observations shifted, those of one row alike; the rest passes through."""
    return {name: random_shift(x, key, pad) if name.startswith("image/") else x for name, x in observation.items()}


def shift_sample(sample: Sample, key: Key, pad: int) -> Sample:
    """The images at both ends of steps [B], each end shifted by itself."""
    now, later = jax.random.split(key)
    return sample._replace(
        observation=shift_images(sample.observation, now, pad), next_observation=shift_images(sample.next_observation, later, pad)
    )
