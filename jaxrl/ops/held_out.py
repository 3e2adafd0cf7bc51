"""Which episodes are held out for validation."""

import numpy as np


def held_out(hashes: np.ndarray, share: float) -> np.ndarray:
    """[E] bool: the episodes kept for validation, by the hashes [E, at least 8] uint8 of their contents alone, so that copies of one go
    the same way.
    """
    first = np.ascontiguousarray(hashes[:, :8]).view("<u8")[:, 0]
    return first < np.uint64(min(int(share * 2.0**64), 2**64 - 1))
