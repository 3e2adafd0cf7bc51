"""Automatic domain randomisation: each end of each parameter's range moves by itself, as the policy does at that very end.

OpenAI et al. 2019, https://arxiv.org/abs/1910.07113, algorithm 1. Some episodes are played with one parameter at an end of its present
range; their successes fill that end's buffer. A full buffer moves the end out where enough of them succeeded, in where too few did, and is
emptied. A parameter that is a vector moves as one: at an end, all its entries are there.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.curricula._space import box_metrics, inside, space_of, update_mean
from jaxrl.types import Array, Curriculum, Env, Key, Metrics, Params

_SIDES = ("low", "high")


@dataclass(frozen=True)
class Config:
    """`step` is a share of the way from the nominal value to the end of the whole range; an end starts `initial` of that way out.

    An end moves out where at least `widen_above` of the `buffer` episodes played there succeeded, in below `narrow_below`.
    """

    boundary_share: float = 0.5  # of the episodes, played at an end
    buffer: int = 64
    step: float = 0.05
    initial: float = 0.0
    widen_above: float = 0.8
    narrow_below: float = 0.5

    def __post_init__(self) -> None:
        for name in ("boundary_share", "step", "widen_above"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be above 0 and at most 1")
        if not 0 <= self.initial <= 1:
            raise ValueError(f"initial is {self.initial}, but must lie between 0 and 1")
        if self.buffer < 1:
            raise ValueError(f"buffer is {self.buffer}, but must be at least 1")
        if not 0 <= self.narrow_below < self.widen_above:
            raise ValueError(f"narrow_below is {self.narrow_below}, but must be at least 0 and below widen_above, {self.widen_above}")


class Buffers(NamedTuple):
    """Of each end."""

    successes: Array  # [E]
    episodes: Array  # [E]


class State(NamedTuple):
    """How far out each end is, and the outcomes there since it last moved."""

    out: Array  # [E] shares of the way from the nominal value to the end of the whole range
    buffers: Buffers


def adr(config: Config, env: Env) -> Curriculum:
    """Automatic domain randomisation. Raises ValueError where the environment varies nothing."""
    space = space_of(env, "adr")
    group, center = np.asarray(space.group), np.asarray(space.center)
    # Where the nominal values of all its numbers are at one end of their ranges, a parameter has nowhere to go on that side.
    rooms = [(center[group == g].max(), 1.0 - center[group == g].min()) for g in range(len(space.names))]
    ends = [(g, side) for g, both in enumerate(rooms) for side, room in enumerate(both) if room > 0]
    of, sides = np.array([g for g, _ in ends]), np.array([side for _, side in ends])

    def reach(out: Array) -> tuple[Array, Array]:
        """[G] and [G]: how far the ranges go below and above the nominal values."""
        both = jnp.zeros((2, len(space.names))).at[sides, of].set(out)
        return both[0], both[1]

    def init() -> State:
        return State(jnp.full(len(ends), config.initial), tally())

    def tally() -> Buffers:
        return Buffers(jnp.zeros(len(ends)), jnp.zeros(len(ends)))

    def draw(state: State, key: Key) -> tuple[Params, Array]:
        anywhere, choose = jax.random.split(key)
        pick = jax.random.uniform(choose, (2,))
        end = (pick[0] * len(ends)).astype(jnp.int32)
        there = pick[1] < config.boundary_share
        point = space.draw(anywhere)
        point = jnp.where(there & (group == jnp.asarray(of)[end]), jnp.asarray(sides, jnp.float32)[end], point)
        return space.at(inside(space, *reach(state.out), point)), jnp.where(there, end, len(ends))

    def credit(tally: Buffers, tags: Array, outcomes: Array, count: Array) -> Buffers:
        return Buffers(tally.successes.at[tags].add(outcomes * count, mode="drop"), tally.episodes.at[tags].add(count, mode="drop"))

    def observe(state: State, new: Buffers) -> State:
        seen = Buffers(*(a + b for a, b in zip(state.buffers, new, strict=True)))
        rate, full = update_mean(*seen), seen.episodes >= config.buffer
        move = jnp.where(rate >= config.widen_above, config.step, jnp.where(rate < config.narrow_below, -config.step, 0.0))
        out = jnp.clip(state.out + jnp.where(full, move, 0.0), 0.0, 1.0)
        return State(out, Buffers(*(jnp.where(full, 0.0, x) for x in seen)))

    def metrics(state: State) -> Metrics:
        return {"curriculum/width": state.out.mean()} | box_metrics(space, *reach(state.out))

    return Curriculum(init, draw, tally, credit, observe, metrics)
