"""One token for each number of an action: the bin that it lies in (RT-1, https://arxiv.org/abs/2212.06817; OpenVLA,
https://arxiv.org/abs/2406.09246; states of pi0.5)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxrl.ops import bins as ops
from jaxrl.ops.bins import Bins
from jaxrl.types import Array


class Uniform(NamedTuple):
    """Arrays of numpy are answered with arrays of numpy, on the host; those of JAX with its own, also under `jit`."""

    size: int  # number of tokens
    encode: Callable[[Array | np.ndarray], tuple[Array | np.ndarray, Any]]
    # x [..., D] -> tokens int32 [..., D], and how many of the numbers were clipped: they lay out of the range, or were NaN
    decode: Callable[[Array | np.ndarray], Array | np.ndarray]
    # tokens [..., D] -> float32 [..., D]; what is no token raises ValueError on the host, and is NaN on a device
    error: np.ndarray  # [D], or [] where all are alike: how far what comes back is off at most, if it was not clipped


def uniform(bins: Bins) -> Uniform:
    """Half a bin is the largest error, but for the convention "rt1", where it is a whole one."""

    def encode(x: Array | np.ndarray) -> tuple[Array | np.ndarray, Any]:
        tokens, clipped = ops.encode(bins, x)
        return tokens, clipped.sum()

    def decode(tokens: Array | np.ndarray) -> Array | np.ndarray:
        if isinstance(tokens, np.ndarray) and (bad := (tokens < 0) | (tokens >= bins.number)).any():
            raise ValueError(f"{bad.sum()} of {tokens.size} tokens are none of 0 to {bins.number - 1}, the first is {tokens[bad][0]}")
        return ops.decode(bins, tokens)

    return Uniform(bins.number, encode, decode, ops.width(bins) * (1.0 if bins.convention == "rt1" else 0.5))
