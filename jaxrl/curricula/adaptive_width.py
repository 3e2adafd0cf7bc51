"""Ranges that follow the success rate: wider while the policy does well, narrower when it fails. One width for all parameters."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp

from jaxrl.curricula._space import box_metrics, inside, space_of, update_mean
from jaxrl.types import Array, Curriculum, Env, Key, Metrics, Params, PyTree


@dataclass(frozen=True)
class Config:
    """The width is a share of the whole ranges, about the nominal values. It changes by `change` of itself after `num_episodes` episodes:
    up where at least `target` of them succeeded, down where less than half of `target` did."""

    target: float = 0.8
    num_episodes: int = 256
    change: float = 0.1
    initial_width: float = 0.1
    smallest_width: float = 0.01

    def __post_init__(self) -> None:
        for name in ("target", "change", "initial_width", "smallest_width"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be above 0 and at most 1")
        if self.num_episodes < 1:
            raise ValueError(f"num_episodes is {self.num_episodes}, but must be at least 1")
        if self.smallest_width > self.initial_width:
            raise ValueError(f"initial_width is {self.initial_width}, below smallest_width, {self.smallest_width}")


class Tally(NamedTuple):
    """Episodes that ended."""

    successes: Array  # []
    episodes: Array  # []


class State(NamedTuple):
    """The width now, and what has been seen of it."""

    width: Array  # [] share of the whole ranges
    seen: Tally
    rate: Array  # [] success rate at the last change


def adaptive_width(config: Config, env: Env) -> Curriculum:
    """Success-adaptive width. Raises ValueError where the environment varies nothing."""
    space = space_of(env, "adaptive_width")
    each = jnp.ones(len(space.names))

    def init() -> State:
        return State(jnp.asarray(config.initial_width), tally(), jnp.zeros(()))

    def tally() -> Tally:
        return Tally(jnp.zeros(()), jnp.zeros(()))

    def draw(state: State, key: Key) -> tuple[Params, PyTree]:
        return space.at(inside(space, state.width * each, state.width * each, space.draw(key))), ()

    def credit(tally: Tally, tags: PyTree, outcomes: Array, count: Array) -> Tally:
        return Tally(tally.successes + (outcomes * count).sum(), tally.episodes + count.sum())

    def observe(state: State, new: Tally) -> State:
        seen = Tally(*(a + b for a, b in zip(state.seen, new, strict=True)))
        rate = update_mean(*seen)
        enough = seen.episodes >= config.num_episodes
        factor = jnp.where(rate >= config.target, 1.0 + config.change, jnp.where(rate < config.target / 2, 1.0 - config.change, 1.0))
        width = jnp.clip(state.width * factor, config.smallest_width, 1.0)
        return State(
            width=jnp.where(enough, width, state.width),
            seen=Tally(*(jnp.where(enough, 0.0, x) for x in seen)),
            rate=jnp.where(enough, rate, state.rate),
        )

    def metrics(state: State) -> Metrics:
        return {"curriculum/width": state.width, "curriculum/success_rate": state.rate} | box_metrics(
            space, state.width * each, state.width * each
        )

    return Curriculum(init, draw, tally, credit, observe, metrics)
