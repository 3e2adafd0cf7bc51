"""Physics on which the policy fails, more often: a bandit over the parameters' ranges.

Each dimension's range is cut into bins, and the failure rate in each bin is tracked. Most episodes draw their bins with probabilities that
grow exponentially with these rates (the exponential weights of Auer et al. 2002, https://doi.org/10.1137/S0097539701398375, with failures
as gains), one bandit for each dimension; the others draw from the whole distribution, so that nothing is forgotten. As bins are drawn for
each dimension by itself, only these others keep the correlations between parameters.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.curricula._space import space_of, update_mean
from jaxrl.types import Array, Curriculum, Env, Key, Metrics, Params


@dataclass(frozen=True)
class Config:
    """`temperature` is the difference of failure rates at which one bin is drawn e times as often as another. The counts of a bin fade
    such that `memory` episodes weigh."""

    num_bins: int = 8
    temperature: float = 0.1
    uniform_share: float = 0.3
    memory: float = 2048.0

    def __post_init__(self) -> None:
        if self.num_bins < 2:
            raise ValueError(f"num_bins is {self.num_bins}, but must be at least 2")
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, but must be positive")
        if not 0 <= self.uniform_share <= 1:
            raise ValueError(f"uniform_share is {self.uniform_share}, but must lie between 0 and 1")
        if self.memory < 1:
            raise ValueError(f"memory is {self.memory}, but must be at least 1 episode")


class Counts(NamedTuple):
    """Of each bin of each dimension."""

    failures: Array  # [D, num_bins]
    episodes: Array  # [D, num_bins]


def adversarial(config: Config, env: Env) -> Curriculum:
    """A failure-seeking bandit. Raises ValueError where the environment varies nothing."""
    space = space_of(env, "adversarial")
    dimensions = jnp.arange(len(space.group))
    shape = (len(space.group), config.num_bins)

    def tally() -> Counts:
        return Counts(jnp.zeros(shape), jnp.zeros(shape))

    def rates(state: Counts) -> Array:
        """[D, num_bins] failure rates, drawn towards that of all episodes where few were seen."""
        overall = update_mean(state.failures.sum(), state.episodes.sum())
        return (state.failures + overall) / (state.episodes + 1.0)

    def draw(state: Counts, key: Key) -> tuple[Params, Array]:
        anywhere, choose, mix = jax.random.split(key, 3)
        point = space.draw(anywhere)
        chosen = jax.random.categorical(choose, rates(state) / config.temperature)
        own = (point * config.num_bins).astype(jnp.int32)
        bins = jnp.where(jax.random.uniform(mix) < config.uniform_share, own, chosen)
        within = point * config.num_bins - own
        return space.at((bins + within) / config.num_bins), bins

    def credit(tally: Counts, tags: Array, outcomes: Array, count: Array) -> Counts:
        at = (dimensions[None, :], tags)
        weights = (((1.0 - outcomes) * count)[:, None], count[:, None])
        return Counts(*(old.at[at].add(new) for old, new in zip(tally, weights, strict=True)))

    def observe(state: Counts, new: Counts) -> Counts:
        fade = 1.0 - jnp.minimum(new.episodes[:1].sum() / config.memory, 1.0)
        return Counts(*(fade * a + b for a, b in zip(state, new, strict=True)))

    def metrics(state: Counts) -> Metrics:
        worst = rates(state).max(1)
        own = {name: np.flatnonzero(np.asarray(space.group) == g) for g, name in enumerate(space.names)}
        return {f"curriculum/{name}/worst_failure_rate": worst[rows].max() for name, rows in own.items()}

    return Curriculum(tally, draw, tally, credit, observe, metrics)
