"""Memory that is used again, and only when nobody looks at it."""

import gc

import jax.numpy as jnp
import numpy as np

from jaxrl_data.buffers import Buffers

SHAPE = (64, 1, 64, 64)  # of which a view is what a batch without an axis of the history is


def _address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def test_memory_comes_back() -> None:
    buffers = Buffers()
    first = buffers.empty(SHAPE, np.uint8)
    place = _address(first)
    del first
    gc.collect()
    assert _address(buffers.empty(SHAPE, np.uint8)) == place


def test_a_view_keeps_its_memory() -> None:
    """Numpy lets a view of a view refer to the first array alone; that one must be what is watched."""
    buffers = Buffers()
    first = buffers.empty(SHAPE, np.uint8)
    first[...] = 7
    seen = first[:, 0][3:]
    del first
    gc.collect()
    buffers.empty(SHAPE, np.uint8)[...] = 1
    assert (seen == 7).all()


def test_an_array_of_jax_keeps_its_memory() -> None:
    """Which on CPUs may be the same memory."""
    buffers = Buffers()
    first = buffers.empty(SHAPE, np.uint8)
    first[...] = 7
    seen = jnp.asarray(first)
    del first
    gc.collect()
    buffers.empty(SHAPE, np.uint8)[...] = 1
    assert (np.asarray(seen) == 7).all()


def test_arrays_in_use_have_memory_of_their_own() -> None:
    buffers = Buffers()
    one, two, small = buffers.empty(SHAPE, np.uint8), buffers.empty(SHAPE, np.uint8), buffers.empty((2, 3), np.float32)
    assert not np.shares_memory(one, two)
    assert small.shape == (2, 3) and small.dtype == np.float32
