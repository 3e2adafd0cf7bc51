"""Numbers in a range as the bins they lie in, by the conventions of policies that write actions as tokens."""

from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from jaxrl.types import Array


@dataclass(frozen=True)
class Bins:
    """`number` tokens from `low` to `high`, which are those of every dimension, or one for each.

    - "uniform": as many bins of equal width; a token stands for the middle of its bin. So pi0.5 writes states.
    - "openvla": bins between as many edges, the last token for `high` itself; a token stands for the middle of its bin, the last one for
      that of the last bin (Kim et al. 2024, https://arxiv.org/abs/2406.09246). Theirs is the id 31999 - token, the last 256 of Llama's.
    - "rt1": the same bins; a token stands for their lower end, so it errs by up to a whole bin, and downwards on average by half of one
      (Brohan et al. 2022, https://arxiv.org/abs/2212.06817, as in the code of RT-1-X, which has 512 of them).
    """

    low: float | tuple[float, ...] = -1.0
    high: float | tuple[float, ...] = 1.0
    number: int = 256
    convention: Literal["uniform", "openvla", "rt1"] = "uniform"

    def __post_init__(self) -> None:
        low, high = np.asarray(self.low, np.float64), np.asarray(self.high, np.float64)
        if low.ndim and high.ndim and low.shape != high.shape:
            raise ValueError(f"bins have {low.size} lower ends and {high.size} upper ones; give each dimension both, or all the same")
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
            raise ValueError(f"bins go from {self.low} to {self.high}, but must go upwards between finite numbers in every dimension")
        if self.number < 2:
            raise ValueError(f"number is {self.number}, but there must be at least 2 bins")


def width(bins: Bins) -> np.ndarray:
    """Of a bin of each dimension, [D] or [] where all are alike."""
    cells = bins.number if bins.convention == "uniform" else bins.number - 1
    return np.asarray((np.asarray(bins.high, np.float64) - np.asarray(bins.low, np.float64)) / cells)


def values(bins: Bins) -> np.ndarray:
    """What each token stands for, [D, number], or [number] where all dimensions are alike."""
    places = np.arange(bins.number) + (0.0 if bins.convention == "rt1" else 0.5)
    if bins.convention == "openvla":
        places = np.minimum(places, bins.number - 1.5)
    return np.asarray(bins.low, np.float64)[..., None] + places * width(bins)[..., None]


def _ends(bins: Bins, x: Array | np.ndarray) -> tuple[Any, Any]:
    """`low` and `high` as arrays that fit to `x` [..., D]."""
    for name, ends in (("low", bins.low), ("high", bins.high)):
        if np.ndim(ends) and np.shape(ends) != x.shape[-1:]:
            raise ValueError(f"bins have {np.size(ends)} dimensions in {name}, but the last axis of {x.shape} has {x.shape[-1:]}")
    dtype = np.float64 if isinstance(x, np.ndarray) else np.float32
    low, high = (np.broadcast_to(np.asarray(ends, dtype), (1,) * max(x.ndim - 1, 0) + x.shape[-1:]) for ends in (bins.low, bins.high))
    return low, high


def encode(bins: Bins, x: Array | np.ndarray) -> tuple[Array | np.ndarray, Array | np.ndarray]:
    """The tokens of `x` [..., D], int32 of its shape, and which of them were clipped, bool: they lay out of the range, or were NaN.

    Arrays of numpy stay on the host, in double precision; others are JAX's, in float32. A number at the edge of two bins may differ.

    Raises:
        ValueError: the bins are those of another number of dimensions.
    """
    xp: Any = np if isinstance(x, np.ndarray) else jnp
    low, high = _ends(bins, x)
    inside = (x >= low) & (x <= high)
    clipped = xp.clip(xp.where(xp.isnan(x), low, x), low, high)
    cells = bins.number if bins.convention == "uniform" else bins.number - 1
    tokens = xp.floor((clipped - low) / (high - low) * cells).astype(np.int32)
    return xp.minimum(tokens, bins.number - 1), ~inside


def decode(bins: Bins, tokens: Array | np.ndarray) -> Array | np.ndarray:
    """What `tokens` [..., D] stand for, float32 of their shape; NaN where a token is none of `number`.

    Raises:
        ValueError: the bins are those of another number of dimensions.
    """
    xp: Any = np if isinstance(tokens, np.ndarray) else jnp
    low, high = _ends(bins, tokens)
    places = tokens.astype(low.dtype)
    if bins.convention == "openvla":
        places = xp.minimum(places, bins.number - 2)
    cells = bins.number if bins.convention == "uniform" else bins.number - 1
    x = low + (places + (0.0 if bins.convention == "rt1" else 0.5)) * ((high - low) / cells)
    return xp.where((tokens >= 0) & (tokens < bins.number), x, np.nan).astype(np.float32)
