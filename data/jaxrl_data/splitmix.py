"""A hash of 64 bits, for orders and samples that are the same on every machine."""

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio, odd


def mixed(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64, of uint64 [...] (Steele et al. 2014, https://doi.org/10.1145/2660193.2660195)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
