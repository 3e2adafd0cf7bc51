"""Memory of batches, used again.

Touching new pages costs several times what it takes to fill them; and where arrays are freed in other threads than they are made in, the C
library keeps what was freed for each thread, several times as much as is in use.
"""

import math
import mmap
import weakref
from collections import defaultdict
from threading import Lock

import numpy as np

_SMALL = 2**16  # bytes; less than that the allocator keeps at hand itself


class Buffers:
    """Arrays whose memory comes back once neither they nor any view of them is left. Thread-safe; holds what was once in use at a time."""

    def __init__(self) -> None:
        self._free: defaultdict[int, list[mmap.mmap]] = defaultdict(list)
        self._lock = Lock()

    def empty(self, shape: tuple[int, ...], dtype: np.typing.DTypeLike) -> np.ndarray:
        """As `np.empty`."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size < _SMALL:
            return np.empty(shape, dtype)
        with self._lock:
            free = self._free[size]
            memory = free.pop() if free else mmap.mmap(-1, size)
        whole = np.frombuffer(memory, dtype)  # of this, which does not own its memory, all views hold a reference
        weakref.finalize(whole, free.append, memory).atexit = False
        return whole.reshape(shape)
