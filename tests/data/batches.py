"""What batches of `tests.data.episodes` are held to."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tests.data.episodes import picture


def counts(batch: Any) -> np.ndarray:
    """[B] which step each row is, from its state: x is the count that all else follows from."""
    return np.asarray(batch["observation"]["state/pose"])[:, 0].astype(int)


def assert_same(one: Any, other: Any) -> None:
    """Trees of arrays, to the last bit."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def assert_rows(batch: Any, lengths: Sequence[int]) -> None:
    """Each row is what its episode tells, three actions of it and an image of 16 x 16; masked behind the end."""
    for row, count in enumerate(counts(batch)):
        number, step = divmod(int(count), 1000)
        left = lengths[number] - step
        np.testing.assert_array_equal(batch["mask"][row], (np.arange(3) < left)[:, None] * np.ones((1, 2)))
        for k in range(min(3, left)):
            np.testing.assert_allclose(batch["action"][row, k], [np.cos(count + k), (count + k) / 7], rtol=1e-6)
        shown = batch["observation"]["image/front"][row]
        assert shown.shape == (16, 16, 3) and shown.dtype == np.uint8
        np.testing.assert_allclose(shown.mean((0, 1)), picture(count).mean((0, 1)), atol=12)
