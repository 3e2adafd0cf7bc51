"""Textures beside a model's own, for pictures that differ from episode to episode."""

import functools

import mujoco
import numpy as np

BANK_SIZE = 16
_SIDE = 64  # pixels
_CELLS = (2, 4, 8, 16)  # along a side


def _cells(kind: int, cells: int, drawn: np.random.Generator) -> np.ndarray:
    """[cells, cells, 3] brightness and tint: checkers, stripes, tinted patches, grey noise."""
    row, column = np.indices((cells, cells))
    pair = drawn.uniform(0.3, 1.0, (2, 3))
    patterns = {0: pair[(row + column) % 2], 1: pair[row % 2], 2: drawn.uniform(0.3, 1.0, (cells, cells, 3))}
    return patterns[kind] if kind in patterns else np.repeat(drawn.uniform(0.2, 1.0, (cells, cells, 1)), 3, -1)


@functools.cache
def bank() -> mujoco.MjModel:
    """A model that holds nothing but `BANK_SIZE` two-dimensional textures, always the same."""
    drawn, spec = np.random.default_rng(0), mujoco.MjSpec()
    for index in range(BANK_SIZE):
        cells = _cells(index // len(_CELLS), _CELLS[index % len(_CELLS)], drawn)
        image = np.kron(cells, np.ones((_SIDE // len(cells), _SIDE // len(cells), 1)))
        texture = spec.add_texture(name=str(index), type=mujoco.mjtTexture.mjTEXTURE_2D, width=_SIDE, height=_SIDE, nchannel=3)
        texture.data = (255 * image).astype(np.uint8).tobytes()
    return spec.compile()
