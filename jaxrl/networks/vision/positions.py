"""Where something is, as vectors."""

import numpy as np


def _waves(angles: np.ndarray) -> np.ndarray:
    """[..., size], sines at the even places and cosines at the odd ones, of wavelengths that are 10000 times the first at last."""
    size = angles.shape[-1]
    waves = angles / 10000.0 ** (2 * (np.arange(size) // 2) / size)
    return np.where(np.arange(size) % 2, np.cos(waves), np.sin(waves))


def along(number: int, size: int) -> np.ndarray:
    """[number, size] (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762)."""
    return _waves(np.repeat(np.arange(number)[:, None], size, 1)).astype(np.float32)


def across(rows: int, columns: int, size: int) -> np.ndarray:
    """[rows, columns, size]: half of it of the row, half of the column, from 1 on, of which the last one is at 2 pi.

    As DETR's (Carion et al. 2020, https://arxiv.org/abs/2005.12872) and ACT's.
    """

    def one(number: int) -> np.ndarray:
        places = np.arange(1, number + 1) / (number + 1e-6) * 2 * np.pi
        return _waves(np.repeat(places[:, None], size // 2, 1))

    down, over = one(rows)[:, None], one(columns)[None]
    grid = (rows, columns, size // 2)
    return np.concatenate([np.broadcast_to(down, grid), np.broadcast_to(over, grid)], -1).astype(np.float32)
