"""Everything that happens at an episode's end, for many worlds at once.

The transition keeps the true final observation. The world then takes its next start from a pool of states made beforehand, under physics
parameters drawn anew, so a random reset costs no physics step. Only worlds whose episode ended are computed on, a few rows at a time.
A world whose state, or anything that its step yields, is not finite is quarantined: its step counts as a truncation without reward whose
final observation is the last good one, it starts anew, and it is counted.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.ops.worlds import finite_rows, world_keys
from jaxrl.rollout.episodes import Episodes, Progress, anew, follow, nothing_seen
from jaxrl.types import SUCCESS, Array, Curriculum, Env, Key, Observation, Params, PyTree, TimeStep


class Worlds(NamedTuple):
    """B worlds between two steps. Randomness depends on their global number, not on how a mesh cuts the worlds."""

    number: Array  # [B] int32
    env: PyTree
    parameters: Params
    tag: PyTree  # [B, ...] what the curriculum credits this episode's outcome to
    observation: Observation
    clock: Array  # [B] int32, steps since the start, or since a random one in the first episode
    length: Array  # [B] int32, steps seen of this episode
    reward: Array  # [B] sum over this episode
    metrics: dict[str, Array]  # [B] sums over this episode
    episodes: Episodes


def _progress(worlds: Worlds) -> Progress:
    return Progress(*(getattr(worlds, name) for name in Progress._fields))


class Draws(NamedTuple):
    """Where new physics parameters come from, and what became of those before."""

    state: PyTree  # of the curriculum
    tally: PyTree  # outcomes since the curriculum last looked


class AutoReset(NamedTuple):
    """Worlds that start anew by themselves."""

    pool: Callable[[Key, Draws], PyTree]  # (key, draws) -> starts
    init: Callable[[Key, Array, PyTree, Draws], Worlds]  # (key, global numbers [B], starts, draws) -> worlds
    step: Callable[[Worlds, Array, PyTree, Draws, Key], tuple[Worlds, Draws, TimeStep, Array]]
    # (worlds, action [B, A], starts, draws, key) -> worlds, draws, what the step yielded, where an episode ended [B]


def auto_reset(env: Env, curriculum: Curriculum, pool_size: int = 512, stagger: bool = True) -> AutoReset:
    """Worlds of `env` that never stop, with physics parameters drawn by `curriculum`, new in each episode.

    `stagger` spreads the first truncations evenly over an episode's length, so that worlds do not end all at once.
    """

    def pool(key: Key, draws: Draws) -> PyTree:
        keys = jax.random.split(key, (pool_size, 2))
        return jax.vmap(lambda k: env.reset(k[0], curriculum.draw(draws.state, k[1])[0])[0])(keys)

    def start(key: Key, starts: PyTree, state: PyTree) -> tuple[PyTree, Params, PyTree, Observation]:
        draw, choose, begin = jax.random.split(key, 3)
        parameters, tag = curriculum.draw(state, draw)
        row = (jax.random.uniform(choose) * pool_size).astype(jnp.int32)
        world, observation = env.restart(jax.tree.map(lambda leaf: leaf[row], starts), parameters, begin)
        return world, parameters, tag, observation

    def renewed(key: Key, starts: PyTree, state: PyTree) -> tuple[PyTree, Params, PyTree, Observation]:
        """A start without the parameters that no draw changes: each array written costs a loop over rows, and more of compiling it."""
        world, parameters, tag, observation = start(key, starts, state)
        return world, jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.core.Tracer) else None, parameters), tag, observation

    def restart(worlds: Worlds, ended: Array, whole: Array, outcome: Array, starts: PyTree, draws: Draws, key: Key) -> tuple[Worlds, Draws]:
        size = ended.shape[0]
        chunk = min(size, max(8, size // 32))

        def some(carry: tuple[Any, PyTree, Array]) -> tuple[Any, PyTree, Array]:
            current, tally, waiting = carry
            rows = jnp.nonzero(waiting, size=chunk, fill_value=size)[0]
            old_tags, outcomes = jax.tree.map(lambda leaf: leaf.at[rows].get(mode="clip"), (current[2], outcome))
            tally = curriculum.credit(tally, old_tags, outcomes, whole.at[rows].get(mode="fill", fill_value=0.0))
            keys = world_keys(key, worlds.number.at[rows].get(mode="clip"))
            fresh = jax.vmap(renewed, (0, None, None))(keys, starts, draws.state)
            current = jax.tree.map(
                lambda new, old: old if new is None else old.at[rows].set(new, mode="drop"), fresh, current, is_leaf=lambda x: x is None
            )
            return current, tally, waiting.at[rows].set(False, mode="drop")

        current = (worlds.env, worlds.parameters, worlds.tag, worlds.observation)
        (current, tally, _) = jax.lax.while_loop(lambda carry: carry[2].any(), some, (current, draws.tally, ended))
        return Worlds(worlds.number, *current, **anew(_progress(worlds), ended)._asdict()), draws._replace(tally=tally)

    def init(key: Key, index: Array, starts: PyTree, draws: Draws) -> Worlds:
        spread, begin = jax.random.split(key)
        current = jax.vmap(start, (0, None, None))(world_keys(begin, index), starts, draws.state)
        clock = (jax.vmap(jax.random.uniform)(world_keys(spread, index)) * env.spec.episode_length).astype(jnp.int32)
        begun = nothing_seen(clock if stagger else jnp.zeros_like(clock), env.spec.metrics)
        return Worlds(index, *current, **begun._asdict())

    def step(worlds: Worlds, action: Array, starts: PyTree, draws: Draws, key: Key) -> tuple[Worlds, Draws, TimeStep, Array]:
        act, begin = jax.random.split(key)
        state, now = jax.vmap(env.step)(worlds.env, action, worlds.parameters, world_keys(act, worlds.number))
        good = finite_rows((jax.vmap(env.vital)(state), now.observation, now.reward, now.discount, now.truncation))
        counted, now, ended, whole = follow(_progress(worlds), now, good, worlds.observation, env.spec.episode_length)
        later = Worlds(worlds.number, state, worlds.parameters, worlds.tag, now.observation, *counted)
        outcome = jnp.where(good, now.metrics.get(SUCCESS, now.discount), 0.0)
        later, draws = restart(later, ended, whole, outcome, starts, draws, begin)
        return later, draws, now, ended

    return AutoReset(pool, init, step)
