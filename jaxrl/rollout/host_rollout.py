"""Batches from a policy acting in worlds on the host: other people's simulators, stepped from Python."""

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.ops.specs import transition_spec
from jaxrl.ops.worlds import finite_rows, where_rows, world_keys
from jaxrl.rollout.episodes import Progress, anew, follow, forget, means, nothing_seen
from jaxrl.types import Array, HostEnv, HostWorlds, Key, Observation, Params, Policy, PyTree, Source, TimeStep, Transition


@dataclass(frozen=True)
class Config:
    """`stagger` spreads the first truncations evenly over an episode's length, so that worlds do not end all at once."""

    num_worlds: int = 16
    unroll_length: int = 64
    stagger: bool = True

    def __post_init__(self) -> None:
        for name in ("num_worlds", "unroll_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")


class HostState(NamedTuple):
    """What there is between two batches beside the simulators, whose own state no checkpoint holds."""

    steps: Array  # [] int32 that each world has made: whether the simulators stand where this state left them
    observation: Observation  # [B]
    fresh: Array  # [B] bool, an episode begins: the policy's carry is of the one before
    carry: PyTree  # of the policy, [B, ...]
    progress: Progress


class _Live:
    """The simulators, which are opened once, and the steps they have made."""

    def __init__(self) -> None:
        self.worlds: HostWorlds | None = None
        self.steps = 0


def _seed(key: Key) -> int:
    return int(jax.random.randint(key, (), 0, 2**30))


def host_rollout(config: Config, env: HostEnv, policy: Policy) -> Source:
    """A host source of `Transition`s `[unroll_length, num_worlds, ...]` by `policy`, as `rollout` makes them of an `Env`.

    World i begins with a seed counted up from one that follows from the key. A state that the simulators have moved on from, as after a
    resume or a rollback, begins new episodes with a warning: such a run goes on, but not bit by bit as it would have.

    Raises:
        ValueError: the numbers do not divide.
    """
    size, length, executed = config.num_worlds, config.unroll_length, policy.spec.executed_steps
    if length % executed:
        raise ValueError(f"unroll_length is {length}, no multiple of the {executed} steps the policy executes per inference")
    number = jnp.arange(size, dtype=jnp.int32)
    live = _Live()

    @jax.jit
    def infer(behaviour: Params, state: HostState, key: Key, first: Array) -> tuple[Array, PyTree, dict[str, Array]]:
        carry = where_rows(state.fresh, policy.init(size), state.carry)
        return policy.act(behaviour, state.observation, carry, world_keys(jax.random.fold_in(key, first), number), None)

    @jax.jit
    def look(state: HostState) -> HostState:
        carry = policy.remember(state.observation, where_rows(state.fresh, policy.init(size), state.carry))
        return state._replace(carry=carry, fresh=jnp.zeros(size, bool))

    @jax.jit
    def count(state: HostState, now: TimeStep) -> tuple[Progress, TimeStep, Array]:
        counted, now, ended, _ = follow(
            state.progress,
            now,
            finite_rows((now.observation, now.reward, now.discount, now.truncation)),
            state.observation,
            env.spec.episode_length,
        )
        return anew(counted, ended), now, ended

    def begin(worlds: HostWorlds, key: Key) -> HostState:
        """Every world at the start of an episode."""
        spread, seed = jax.random.split(key)
        every: Any = np.ones(size, bool)
        clock = jax.random.randint(spread, (size,), 0, env.spec.episode_length if config.stagger else 1, jnp.int32)
        observation = worlds.reset(every, _seed(seed))
        return _arrays(HostState(jnp.int32(0), observation, every, policy.init(size), nothing_seen(clock, env.spec.metrics)))

    def init(key: Key, behaviour: Params) -> HostState:
        del behaviour
        if live.worlds is None:
            live.worlds = env.open(size)
        live.steps = 0
        return begin(live.worlds, key)

    def execute(worlds: HostWorlds, state: HostState, action: Any, extras: dict[str, Any]) -> tuple[HostState, Transition]:
        counted, result, ended = count(state, worlds.step(action))
        result, ended = jax.device_get((result, ended))
        taken = Transition(state.observation, action, result.reward, result.discount, result.truncation, result.observation, extras)
        observation = worlds.reset(ended) if ended.any() else result.observation
        return HostState(state.steps + 1, observation, state.fresh | ended, state.carry, counted), taken

    def advance(state: HostState, behaviour: Params, key: Key) -> tuple[HostState, Transition]:
        if live.worlds is None:
            raise RuntimeError("host_rollout: next was called before init, or after close")
        restart, act = jax.random.split(key)
        if int(state.steps) != live.steps:
            warnings.warn(
                f"the simulators of {env.spec.name} are not where this state left them, because their own state is in no checkpoint: "
                "all worlds begin new episodes, so the run does not go on bit by bit as it would have",
                stacklevel=2,
            )
            begun = begin(live.worlds, restart)
            state = begun._replace(steps=state.steps, progress=begun.progress._replace(episodes=state.progress.episodes))
        state = state._replace(progress=state.progress._replace(episodes=forget(state.progress.episodes)))
        rows = []
        none: Any = np.zeros(size, bool)
        for first in range(0, length, executed):
            chunk, carry, extras = infer(behaviour, state, act, first)
            chunk, extras = jax.device_get((chunk, extras))
            state = state._replace(carry=carry, fresh=none)
            for k in range(executed):
                state, taken = execute(live.worlds, state if k == 0 else look(state), chunk[:, k], extras)
                rows.append(taken)
        live.steps = int(state.steps)
        return _arrays(state), jax.tree.map(lambda *steps: jnp.asarray(np.stack(steps)), *rows)

    def close() -> None:
        if live.worlds is not None:
            live.worlds.close()
        live.worlds = None

    return Source(
        spec=transition_spec(env.spec, policy.spec.extras, (length, size)),
        init=init,
        next=advance,
        pure=False,
        steps_per_batch=length * size,
        metrics=lambda state: means(state.progress.episodes),
        close=close,
    )


def _arrays(state: HostState) -> HostState:
    return jax.tree.map(jnp.asarray, state)
