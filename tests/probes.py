"""Probe environments: each asks for one ability, so the first that fails names the fault (idea from rejax).

All but the last are the same decision process of two states with other numbers. The numbers are arrays, so one compiled program serves
every one of these. The last asks for a memory.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.ops.specs import choice
from jaxrl.rollout.hide import observed_as
from jaxrl.types import Array, ArraySpec, Env, EnvSpec, Key, Observation, Space, TimeStep

STATES = 2


class Numbers(NamedTuple):
    """Of each state [2], but for `starts`."""

    starts: Array  # [] int32: 1 begins in state 0, 2 in either
    reward: Array
    target: Array  # the action that is wanted; missing it by x costs `cost * x^2`
    cost: Array
    following: Array  # int32, the state after it
    discount: Array  # 0 where the episode terminates
    truncation: Array  # 1 where it is cut


class Probe(NamedTuple):
    numbers: Numbers
    value: Callable[[float], tuple[float, ...]]  # gamma -> of the states that occur
    action: tuple[float, ...] = ()  # of the states, where it matters
    faults: dict[str, Callable[[float], float]] = {}  # what a known fault makes of the last value


def numbers(
    reward: tuple[float, float],
    starts: int = 1,
    target: tuple[float, float] = (0.0, 0.0),
    cost: float = 0.0,
    following: tuple[int, int] = (1, 1),
    discount: tuple[float, float] = (0.0, 0.0),
    truncation: tuple[float, float] = (0.0, 0.0),
) -> Numbers:
    floats = [jnp.array(x, jnp.float32) for x in (reward, target, (cost, cost), discount, truncation)]
    return Numbers(jnp.int32(starts), *floats[:3], jnp.array(following, jnp.int32), *floats[3:])


# The first state pays -2, the second 1 and leads to itself; after it the episode is cut, or ends.
_TWO_STEPS = {"reward": (-2.0, 1.0), "following": (1, 1)}

PROBES: dict[str, Probe] = {
    "value": Probe(
        numbers((1.0, 0.0), following=(0, 0)), lambda gamma: (1.0,), faults={"bootstraps a termination": lambda gamma: 1.0 / (1.0 - gamma)}
    ),
    "discounting": Probe(
        numbers((0.0, 1.0), discount=(1.0, 0.0)), lambda gamma: (gamma, 1.0), faults={"does not discount": lambda gamma: 1.0}
    ),
    "credit": Probe(numbers((1.0, -1.0), starts=2), lambda gamma: (1.0, -1.0), faults={"mixes worlds or steps": lambda gamma: 0.0}),
    "policy": Probe(numbers((0.0, 0.0), target=(0.5, 0.0), cost=1.0), lambda gamma: (0.0,), (0.5,)),
    "policy and value": Probe(numbers((1.0, -1.0), starts=2, target=(0.5, -0.5), cost=1.0), lambda gamma: (1.0, -1.0), (0.5, -0.5)),
    "truncation": Probe(
        numbers(**_TWO_STEPS, discount=(1.0, 1.0), truncation=(0.0, 1.0)),
        lambda gamma: (-2.0 + gamma / (1.0 - gamma), 1.0 / (1.0 - gamma)),
        faults={
            "takes a truncation for a termination": lambda gamma: 1.0,
            "bootstraps from the observation after the reset": lambda gamma: (1.0 - 2.0 * gamma) / (1.0 - gamma**2),
        },
    ),
    "termination": Probe(
        numbers(**_TWO_STEPS, discount=(1.0, 0.0)),
        lambda gamma: (-2.0 + gamma, 1.0),
        faults={"takes a termination for a truncation": lambda gamma: 1.0 / (1.0 - gamma)},
    ),
}


class State(NamedTuple):
    index: Array  # [] int32


def observe(index: Array) -> Observation:
    """[2], which state it is; a policy and a privileged critic see the same."""
    which = jax.nn.one_hot(index, STATES)
    return {"state/which": which, "privileged/which": which}


def guess(action: Array, levels: int = 0) -> Array:
    """What actions stand for, from -1 to 1: continuous ones [..., 1] their entry, one of `levels` choices [...] its place among them."""
    return 2.0 * action.astype(jnp.float32) / (levels - 1) - 1.0 if levels else action[..., 0]


def probe_env(table: Numbers, levels: int = 0) -> Env:
    """The process with these numbers, which are its physics too. Its actions are continuous, or one of `levels` evenly spaced guesses."""
    which = ArraySpec((STATES,), names=("first", "second"), unit="1")
    spec = EnvSpec(
        name="probe",
        observation={"state/which": which, "privileged/which": which},
        action=choice(levels) if levels else ArraySpec((1,), names=("guess",), unit="1", low=-1.0, high=1.0),
        episode_length=100,
        dt=0.0,
        metrics=("miss",),
    )

    def reset(key: Key, physics: Numbers) -> tuple[State, Observation]:
        index = jax.random.randint(key, (), 0, physics.starts)
        return State(index), observe(index)

    def restart(state: State, physics: Numbers, key: Key) -> tuple[State, Observation]:
        del physics, key
        return state, observe(state.index)

    def step(state: State, action: Array, physics: Numbers, key: Key) -> tuple[State, TimeStep]:
        del key
        now = jax.tree.map(lambda x: x[state.index], physics._replace(starts=jnp.zeros(STATES)))
        miss = jnp.square(guess(action, levels) - now.target)
        later = State(now.following)
        return later, TimeStep(observe(later.index), now.reward - now.cost * miss, now.discount, now.truncation, {"miss": miss})

    return Env(spec, reset, step, restart, table, lambda key: table)


def pictured(observation: Observation) -> Observation:
    """With the state as an image too, [..., 5, 5, 1]: black in the first, white in the second."""
    white = observation["state/which"][..., 1]
    image = jnp.broadcast_to(white[..., None, None, None] * 255, (*white.shape, 5, 5, 1))
    return observation | {"image/which": image.astype(jnp.uint8)}


def with_pictures(env: Env) -> Env:
    """`env`, whose observations are `pictured`."""
    return observed_as(env, {**env.spec.observation, "image/which": ArraySpec((5, 5, 1), "uint8")}, pictured)


def lines(names: tuple[str, ...] = ("mass", "delay"), sizes: tuple[int, ...] = (3, 1), center: tuple[float, ...] = (0.5, 0.0)) -> Space:
    """A space whose physics are its points; by default three masses from 1 to 3 and a delay from 0 to 2, nominally 2 and 0."""
    group = tuple(g for g, size in enumerate(sizes) for _ in range(size))
    low = jnp.array([1.0, 0.0])[jnp.array(group)]

    return Space(
        names=names,
        units=("kg", "s"),
        group=group,
        center=tuple(center[g] for g in group),
        draw=lambda key: jax.random.uniform(key, (len(group),)),
        at=lambda point: point,
        quantile=lambda point: low + 2.0 * point,
        summary=lambda physics: {"delay": physics[:, -1]},
    )


# Memory: what a policy has to do at the end depends on what it saw at the start alone.


class Recall(NamedTuple):
    cue: Array  # [] 0.5 or -0.5
    clock: Array  # [] int32


def recall_env(length: int) -> Env:
    """The first of `length` observations shows a cue; the last action has to be that cue, and missing it by x costs x^2.

    Without a memory the best action is 0, which costs 0.25.
    """
    spec = EnvSpec(
        name="recall",
        observation={"state/cue": ArraySpec((2,), names=("cue", "last"), unit="1")},
        action=ArraySpec((1,), names=("guess",), unit="1", low=-1.0, high=1.0),
        episode_length=length,
        dt=0.0,
        metrics=("miss",),
    )

    def look(state: Recall) -> Observation:
        shown = jnp.where(state.clock == 0, state.cue, 0.0)
        return {"state/cue": jnp.stack([shown, 1.0 * (state.clock == length - 1)])}

    def reset(key: Key, physics: Array) -> tuple[Recall, Observation]:
        state = Recall(jnp.where(jax.random.bernoulli(key), 0.5, -0.5), jnp.int32(0))
        return state, look(state)

    def restart(state: Recall, physics: Array, key: Key) -> tuple[Recall, Observation]:
        return state, look(state)

    def step(state: Recall, action: Array, physics: Array, key: Key) -> tuple[Recall, TimeStep]:
        last = 1.0 * (state.clock == length - 1)
        miss = last * jnp.square(action[0] - state.cue)
        later = state._replace(clock=state.clock + 1)
        return later, TimeStep(look(later), -miss, 1.0 - last, jnp.zeros(()), {"miss": miss})

    return Env(spec, reset, step, restart, jnp.zeros(()), lambda key: jnp.zeros(()))
