"""How one number is drawn, and how numbers hang together."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri
from scipy.stats import norm

from jaxrl.ops.suggestion import suggestion
from jaxrl.types import Array

Interval = tuple[float, float]
Distribution = Literal["uniform", "log_uniform", "normal", "choice"]
_CUT = 2.0  # standard deviations at which a normal distribution ends


@dataclass(frozen=True)
class Range:
    """Between `low` and `high`: uniform; uniform in its logarithm; normal about the middle, cut at two standard deviations, which are the
    bounds; or one of `values`, all alike (then there are no bounds).

    `correlation` is that between the numbers of one parameter (masses of links, gains of motors): 0 draws each by itself, 1 one for all.
    """

    low: float = 0.0
    high: float = 0.0
    distribution: Distribution = "uniform"
    values: tuple[float, ...] = ()
    correlation: float = 0.0

    def __post_init__(self) -> None:
        if self.distribution not in get_args(Distribution):
            raise ValueError(
                f"there is no distribution {self.distribution!r}; {suggestion(str(self.distribution), get_args(Distribution))}"
            )
        if self.distribution == "choice":
            if not self.values or self.low or self.high:
                raise ValueError("a choice is made among `values`: give at least one, and neither low nor high")
            if list(self.values) != sorted(self.values):
                raise ValueError(f"values: expected in rising order, got {self.values}")
        elif self.values:
            raise ValueError(f'values: only a distribution "choice" has them, and this one is "{self.distribution}"')
        if not all(math.isfinite(x) for x in (self.low, self.high, *self.values)):
            raise ValueError(f"bounds and values must be finite, got {(self.low, self.high, *self.values)}")
        if self.low > self.high:
            raise ValueError(f"the lower bound {self.low} is above the upper bound {self.high}")
        if self.distribution == "log_uniform" and self.low <= 0:
            raise ValueError(f"the lower bound of a log_uniform distribution must be positive, got {self.low}")
        if not 0 <= self.correlation <= 1:
            raise ValueError(f"correlation is {self.correlation}, but must lie between 0 and 1")

    @property
    def bounds(self) -> Interval:
        """The lowest and the highest value."""
        return (self.values[0], self.values[-1]) if self.values else (self.low, self.high)


def quantile(of: Range, place: Array) -> Array:
    """The values [...] at the places [...], 0 to 1, in the distribution: a uniform place gives a value so distributed."""
    low, high = of.bounds
    if of.distribution == "choice":
        index = jnp.clip((place * len(of.values)).astype(jnp.int32), 0, len(of.values) - 1)
        return jnp.asarray(of.values, jnp.float32)[index]
    if of.distribution == "log_uniform":
        return jnp.exp(math.log(low) + (math.log(high) - math.log(low)) * place)
    if of.distribution == "normal":
        tail = float(norm.cdf(-_CUT))
        z = ndtri(tail + (1.0 - 2.0 * tail) * place)
        return (low + high) / 2 + (high - low) / (2 * _CUT) * jnp.clip(z, -_CUT, _CUT)
    return low + (high - low) * place


def place(of: Range, value: float) -> float:
    """Where a value lies in the distribution, 0 to 1: the inverse of `quantile`; 0 or 1 for values beyond the bounds."""
    low, high = of.bounds
    if value <= low:
        return 0.0
    if value >= high:
        return 1.0
    if of.distribution == "choice":
        return (int(np.argmin(np.abs(np.subtract(of.values, value)))) + 0.5) / len(of.values)
    if of.distribution == "log_uniform":
        return math.log(value / low) / math.log(high / low)
    if of.distribution == "normal":
        tail = float(norm.cdf(-_CUT))
        z = (value - (low + high) / 2) / (high - low) * 2 * _CUT
        return float((norm.cdf(z) - tail) / (1 - 2 * tail))
    return (value - low) / (high - low)


def coupling(correlations: np.ndarray) -> Callable[[Array], Array]:
    """Standard normal numbers [D] -> places [D], each uniform, with the correlations [D, D] before they are mapped (a Gaussian copula).

    Raises:
        ValueError: no numbers have these correlations with each other.
    """
    values, vectors = np.linalg.eigh(correlations)
    if values[0] < -1e-6:
        raise ValueError("correlations: no numbers can be correlated so with each other (the matrix is not positive semidefinite)")
    mix = jnp.asarray(vectors * np.sqrt(np.maximum(values, 0.0)), jnp.float32)
    return lambda z: ndtr(jnp.matmul(mix, z, precision="highest"))


def correlation_matrix(groups: Sequence[int], own: Sequence[float], between: dict[tuple[int, int], float]) -> np.ndarray:
    """[D, D] from the group of each dimension, its correlation with the others of its group, and those between groups."""
    group, within = np.asarray(groups), np.asarray(own)
    out = np.where(group[:, None] == group[None, :], np.minimum(within[:, None], within[None, :]), 0.0)
    for (a, b), value in between.items():
        pair = (group[:, None] == a) & (group[None, :] == b)
        out[pair | pair.T] = value
    np.fill_diagonal(out, 1.0)
    return out
