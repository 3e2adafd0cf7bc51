"""A policy's episodes as recordings to learn from. They are played some at a time, so that memory does not grow with their number."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxrl.evaluation.play import Played, Step, draw, play
from jaxrl.evaluation.play_on_host import batches
from jaxrl.replay.recording import Recording
from jaxrl.types import Env, HostEnv, Params, Policy, Spec

AT_ONCE = 64  # episodes that are played at the same time in an `Env`, if they are not too large:
BYTES = 2**28  # of what is kept of them


def episodes(env: Env | HostEnv, policy: Policy, params: Params, num_episodes: int, seed: int, first: int = 0) -> Iterator[Recording]:
    """Episodes number `first` to `num_episodes` - 1 in the randomised world, each in a recording of its own.

    All that was seen, privileged groups too, what the policy did, and how they ended. They follow from the seed and their number.

    Raises:
        ValueError: an episode was not finite from its first step on.
    """
    spec = policy.spec._replace(observation=env.spec.observation)
    if first >= num_episodes:
        return
    if isinstance(env, HostEnv):
        number, played = first, batches(env, policy, params, first, num_episodes, seed, _kept)
    else:
        size = min(_at_once(env.spec.observation, env.spec.episode_length), num_episodes)
        number, played = first // size * size, _on_device(env, policy, params, size, first // size, seed)
    for batch in played:
        for place in range(batch.alive.shape[1]):
            if first <= number < num_episodes:
                yield _episode(batch, place, number, spec)
            number += 1
        del batch  # before the next is played
        if number >= num_episodes:
            return


def recorded(env: Env | HostEnv, policy: Policy, params: Params, num_episodes: int, seed: int) -> Recording:
    """All of `episodes` in one."""
    parts = list(episodes(env, policy, params, num_episodes, seed))
    arrays = [(one.observation, one.action, one.reward, one.final_observation, one.terminated) for one in parts]
    observation, action, reward, final, terminated = jax.tree.map(lambda *x: np.concatenate(x), *arrays)
    ends = np.cumsum([len(one.action) for one in parts])
    return Recording(observation, action, reward, ends, parts[0].spec, final, terminated)


def _kept(step: Step) -> dict[str, Any]:
    later = step.result.observation
    return {"observation": step.observation, "action": step.action, "reward": step.result.reward, "later": later}


def _at_once(observation: Spec, length: int) -> int:
    step = sum(math.prod(int(n) for n in spec.shape) * np.dtype(spec.dtype).itemsize for spec in observation.values())
    return max(1, min(AT_ONCE, BYTES // max(1, 2 * step * length)))


def _on_device(env: Env, policy: Policy, params: Params, size: int, first: int, seed: int) -> Iterator[Played]:
    """Without end: batch after batch of `size` episodes, from batch number `first` on."""
    run = play(env, policy, keep=_kept, num_episodes=size)
    for batch in itertools.count(first):
        draws, steps = jax.random.split(jax.random.fold_in(jax.random.key(seed), batch))
        yield jax.device_get(run(params, draw(env.sample, draws, size), steps))


def _episode(played: Played, place: int, number: int, spec: Any) -> Recording:
    alive = played.alive[:, place]
    if not alive.any():
        raise ValueError(f"episode {number} was not finite from its first step on, so nothing is to be recorded; take another seed")
    rows = jax.tree.map(lambda x: np.asarray(x[alive, place]), played.kept)
    final = {name: array[-1:] for name, array in rows["later"].items()}
    terminated = np.asarray(played.terminated[place : place + 1])
    return Recording(rows["observation"], rows["action"], rows["reward"], np.array([alive.sum()]), spec, final, terminated)
