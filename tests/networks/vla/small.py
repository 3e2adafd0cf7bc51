"""What the tests of these networks see: two cameras, one of which is missing in the second row, a state, and an instruction."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.networks.transformer import gemma
from jaxrl.networks.transformer.experts import Computing
from jaxrl.networks.transformer.paligemma import Config as PaliGemma
from jaxrl.networks.vision import vit
from jaxrl.types import ArraySpec, Params

KEY = jax.random.key(0)
EXACT = Computing("float32")
TEXT = gemma.Config(16, 2, 2, 1, 8, 24, 300, computing=EXACT)
SEEING = PaliGemma(vit.Config("siglip", 16, 8, 8, 1, 2, 16), TEXT)  # four patches
ACTION = gemma.Config(8, 2, 2, 1, 8, 12, 0)
OBSERVATION = {
    "image/base": ArraySpec((12, 16, 3), "uint8"),
    "image/wrist": ArraySpec((16, 16, 3), "uint8"),
    "state/arm": ArraySpec((2,), names=("lift", "turn")),
    "state/gripper": ArraySpec((1, 1)),
    "task/instruction": ArraySpec((4,), "int32"),
}
OUTPUT = (3, 2)  # of a chunk


def observation() -> dict[str, Any]:
    draws = np.random.default_rng(0)
    pictures = {name: draws.integers(0, 256, (2, *part.shape), np.uint8) for name, part in OBSERVATION.items() if part.dtype == "uint8"}
    states = {"state/arm": draws.uniform(-1, 1, (2, 2)), "state/gripper": draws.uniform(-1, 1, (2, 1, 1))}
    found = pictures | {name: x.astype(np.float32) for name, x in states.items()}
    found |= {"task/instruction": np.array([[5, 6, 7, 8], [9, 10, -1, -1]], np.int32)}
    found |= {"present/image/base": np.array([1.0, 1.0], np.float32), "present/image/wrist": np.array([1.0, 0.0], np.float32)}
    return {name: jnp.asarray(x) for name, x in found.items()}


def disturbed(init: Any) -> Params:
    """Parameters none of which is as it begins, so that norms and gates count, and what passes through keeps its size."""
    draws = np.random.default_rng(0)

    def leaf(x: Any) -> Any:
        scale = 0.1 if len(x.shape) < 2 or x.shape[-2] < 4 else x.shape[-2] ** -0.5
        return jnp.asarray(draws.normal(size=x.shape) * scale, x.dtype)

    return jax.tree.map(leaf, jax.eval_shape(init, KEY)[0])


def patches(see: Any, params: Params, pictures: list[np.ndarray]) -> np.ndarray:
    """[cameras, patches, width] of pictures uint8 that are square."""
    return np.asarray(see(params, jnp.asarray(np.stack(pictures), jnp.float32) / 127.5 - 1))


def square(picture: np.ndarray) -> np.ndarray:
    """Of 12 x 16, in the middle of black."""
    return np.pad(picture, ((2, 2), (0, 0), (0, 0)))


def linear(part: Params, x: Any) -> np.ndarray:
    """In double precision, where x has fewer numbers than the layer takes, of these alone."""
    x = np.asarray(x, np.float64)
    return x @ np.asarray(part["kernel"], np.float64)[: x.shape[-1]] + np.asarray(part["bias"], np.float64)


def swish(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def waves(time: float, size: int) -> np.ndarray:
    angle = 2 * np.pi * time / (4e-3 * 1000 ** (np.arange(size // 2) / (size // 2 - 1)))
    return np.concatenate([np.sin(angle), np.cos(angle)])


def bfloat16(config: Any) -> Any:
    return replace(config, seeing=replace(config.seeing, text=replace(config.seeing.text, computing=Computing())))
