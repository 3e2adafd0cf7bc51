"""Whole episodes of a policy in worlds on the host, as `play` makes them of an `Env`."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.evaluation.play import Played, Step, returns
from jaxrl.ops.worlds import world_keys
from jaxrl.types import HostEnv, HostWorlds, Params, Policy, TimeStep

WORLDS = 16  # open at the same time


def play_on_host(
    env: HostEnv, policy: Policy, params: Params, num_episodes: int, seed: int, keep: Callable[[Step], Any] = returns
) -> Played:
    """N episodes, as numpy arrays; T is the length of the longest. Episode i begins with the seed `seed + i`.

    What `keep` is given has no state. Worlds whose episode ended run on, unseen, until all of their batch have.
    """
    parts = list(batches(env, policy, params, 0, num_episodes, seed, keep))
    steps = max(len(part.alive) for part in parts)
    over_time = [jax.tree.map(lambda x: _pad(x, steps), (part.alive, part.kept)) for part in parts]
    over_episodes = [(part.terminated, part.diverged) for part in parts]
    alive, kept = jax.tree.map(lambda *x: np.concatenate(x, 1)[:, :num_episodes], *over_time)
    terminated, diverged = jax.tree.map(lambda *x: np.concatenate(x)[:num_episodes], *over_episodes)
    return Played(alive, terminated, diverged, kept)


def batches(
    env: HostEnv, policy: Policy, params: Params, first: int, num_episodes: int, seed: int, keep: Callable[[Step], Any] = returns
) -> Iterator[Played]:
    """Episodes number `first` to `num_episodes` - 1, and those that fill the last batch; each batch is as long as its longest."""
    size = min(WORLDS, num_episodes - first)
    worlds = env.open(size)
    try:
        for number in range(first, num_episodes, size):
            yield _batch(env, policy, params, worlds, size, number, seed, keep)
    finally:
        worlds.close()


def _pad(steps: Any, length: int) -> Any:
    """[T, ...] with zeros up to `length`."""
    return np.concatenate([steps, np.zeros((length - len(steps), *steps.shape[1:]), steps.dtype)])


def _finite(result: TimeStep) -> Any:
    """[N] bool"""
    floats = [
        x for x in (*result.observation.values(), result.reward, result.discount, result.truncation) if np.issubdtype(x.dtype, np.floating)
    ]
    return np.stack([np.isfinite(x.reshape(len(x), -1)).all(1) for x in floats]).all(0)


def _batch(
    env: HostEnv,
    policy: Policy,
    params: Params,
    worlds: HostWorlds,
    size: int,
    first: int,
    seed: int,
    keep: Callable[[Step], Any],
) -> Played:
    """The episodes from number `first` on, one in each world."""
    act, remember = jax.jit(policy.act), jax.jit(policy.remember)  # compiled once: the same function finds its program again
    key = jax.random.key(seed)
    number = first + jnp.arange(size)
    observation = worlds.reset(np.ones(size, bool), seed + first)
    memory = policy.init(size)
    running: Any = np.ones(size, bool)
    terminated, diverged = running & False, running & False
    alive: list[Any] = []
    kept: list[Any] = []
    while running.any() and len(alive) < env.spec.episode_length:
        keys = world_keys(jax.random.fold_in(key, len(alive)), number)
        chunk, memory, extras = act(params, observation, memory, keys, None)
        for k, action in enumerate(np.moveaxis(np.asarray(chunk), 1, 0)[: policy.spec.executed_steps]):
            if len(alive) == env.spec.episode_length:
                break
            memory = remember(observation, memory) if k else memory
            result = worlds.step(action)
            good = _finite(result)
            kept.append(jax.tree.map(np.asarray, keep(Step((), observation, action, result, extras))))
            alive.append(running & good)
            ended = ~good | (result.discount == 0) | (result.truncation > 0)
            terminated = terminated | (alive[-1] & (result.discount == 0))
            diverged = diverged | (running & ~good)
            running = running & ~ended
            observation = worlds.reset(ended) if ended.any() else result.observation
    seen: Any = np.stack(alive)
    return Played(seen, terminated, diverged, jax.tree.map(lambda *x: np.stack(x), *kept))
