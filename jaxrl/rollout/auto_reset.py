"""Everything that happens at an episode's end, for many worlds at once.

The transition keeps the true final observation. The world then takes its next start from a pool of states made beforehand, under physics
parameters drawn anew, so a random reset costs no physics step. Only worlds whose episode ended are computed on, a few rows at a time.
A world whose state, observation or reward is not finite is quarantined: its step counts as a truncation without reward whose final
observation is the last good one, it starts anew, and it is counted.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.ops.worlds import finite_rows, world_keys
from jaxrl.rollout.episodes import Episodes, Tally, anew, follow, tally
from jaxrl.types import Array, Env, Key, Observation, Params, PyTree, TimeStep


class Worlds(NamedTuple):
    """B worlds between two steps. Randomness depends on their global number, not on how a mesh cuts the worlds."""

    number: Array  # [B] int32
    env: PyTree
    parameters: Params
    observation: Observation
    clock: Array  # [B] int32, steps since the start, or since a random one in the first episode
    length: Array  # [B] int32, steps seen of this episode
    reward: Array  # [B] sum over this episode
    metrics: dict[str, Array]  # [B] sums over this episode
    episodes: Episodes


def _tally(worlds: Worlds) -> Tally:
    return Tally(*(getattr(worlds, name) for name in Tally._fields))


class AutoReset(NamedTuple):
    """Worlds that start anew by themselves."""

    pool: Callable[[Key], PyTree]  # key -> starts
    init: Callable[[Key, Array, PyTree], Worlds]  # (key, global numbers [B], starts) -> worlds
    step: Callable[[Worlds, Array, PyTree, Key], tuple[Worlds, TimeStep, Array]]
    # (worlds, action [B, A], starts, key) -> worlds, what the step yielded, where an episode ended [B]


def auto_reset(env: Env, distribution: Callable[[Key], Params], pool_size: int = 512, stagger: bool = True) -> AutoReset:
    """Worlds of `env` that never stop, with physics parameters from `distribution`, new in each episode.

    `stagger` spreads the first truncations evenly over an episode's length, so that worlds do not end all at once.
    """

    def pool(key: Key) -> PyTree:
        keys = jax.random.split(key, (pool_size, 2))
        return jax.vmap(lambda k: env.reset(k[0], distribution(k[1]))[0])(keys)

    def start(key: Key, starts: PyTree) -> tuple[PyTree, Params, Observation]:
        draw, choose, begin = jax.random.split(key, 3)
        parameters = distribution(draw)
        row = (jax.random.uniform(choose) * pool_size).astype(jnp.int32)
        state, observation = env.restart(jax.tree.map(lambda leaf: leaf[row], starts), parameters, begin)
        return state, parameters, observation

    def restart(worlds: Worlds, ended: Array, starts: PyTree, key: Key) -> Worlds:
        size = ended.shape[0]
        chunk = min(size, max(8, size // 32))

        def some(carry: tuple[Any, Array]) -> tuple[Any, Array]:
            current, waiting = carry
            rows = jnp.nonzero(waiting, size=chunk, fill_value=size)[0]
            keys = world_keys(key, worlds.number.at[rows].get(mode="clip"))
            fresh = jax.vmap(start, (0, None))(keys, starts)
            current = jax.tree.map(lambda old, new: old.at[rows].set(new, mode="drop"), current, fresh)
            return current, waiting.at[rows].set(False, mode="drop")

        current = (worlds.env, worlds.parameters, worlds.observation)
        (state, parameters, observation), _ = jax.lax.while_loop(lambda carry: carry[1].any(), some, (current, ended))
        return Worlds(worlds.number, state, parameters, observation, *anew(_tally(worlds), ended))

    def init(key: Key, index: Array, starts: PyTree) -> Worlds:
        spread, begin = jax.random.split(key)
        state, parameters, observation = jax.vmap(start, (0, None))(world_keys(begin, index), starts)
        clock = (jax.vmap(jax.random.uniform)(world_keys(spread, index)) * env.spec.episode_length).astype(jnp.int32)
        return Worlds(index, state, parameters, observation, *tally(clock if stagger else jnp.zeros_like(clock), env.spec.metrics))

    def step(worlds: Worlds, action: Array, starts: PyTree, key: Key) -> tuple[Worlds, TimeStep, Array]:
        act, begin = jax.random.split(key)
        state, now = jax.vmap(env.step)(worlds.env, action, worlds.parameters, world_keys(act, worlds.number))
        good = finite_rows((state, now.observation, now.reward))
        counted, now, ended = follow(_tally(worlds), now, good, worlds.observation, env.spec.episode_length)
        later = Worlds(worlds.number, state, worlds.parameters, now.observation, *counted)
        return restart(later, ended, starts, begin), now, ended

    return AutoReset(pool, init, step)
