"""The bookkeeping of episodes in many worlds: which steps end one, what was achieved. The same in the program and on the host."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.ops.worlds import where_rows
from jaxrl.types import Array, Metrics, Observation, TimeStep

MEMORY = 0.9  # weight of an episode's statistics after one more batch


class Episodes(NamedTuple):
    """Sums over the finished whole episodes of each world, [B]; recent ones weigh more (see `MEMORY`)."""

    finished: Array
    reward: Array
    length: Array
    terminated: Array
    metrics: dict[str, Array]
    diverged: Array  # of all time, undecayed


class Progress(NamedTuple):
    """Of each world, [B]."""

    clock: Array  # int32, steps since the start, or since a random one in the first episode
    length: Array  # int32, steps seen of this episode
    reward: Array  # sum over this episode
    metrics: dict[str, Array]  # sums over this episode
    episodes: Episodes


def nothing_seen(clock: Array, metrics: tuple[str, ...]) -> Progress:
    """Of worlds that have not made a step; `clock` [B] is where each world begins."""
    zeros = jnp.zeros(clock.shape)
    sums = {name: zeros for name in metrics}
    return Progress(clock, jnp.zeros_like(clock), zeros, sums, Episodes(zeros, zeros, zeros, zeros, sums, jnp.zeros_like(clock)))


def follow(
    progress: Progress, now: TimeStep, good: Array, before: Observation, episode_length: int
) -> tuple[Progress, TimeStep, Array, Array]:
    """One step [B]: the sums with it, the step as learning sees it, where an episode ended, and 1 where it ended as a whole one.

    A step that is not `good` (its state or anything that it yields is not finite) becomes a cut without reward, whose final observation is
    that `before` it.
    """
    ones, zeros = jnp.ones_like(now.reward), jnp.zeros_like(now.reward)
    clock = progress.clock + 1
    now = TimeStep(
        observation=where_rows(good, now.observation, before),
        reward=jnp.where(good, now.reward, zeros),
        discount=jnp.where(good, now.discount, ones),
        truncation=jnp.where(good & (clock < episode_length), now.truncation, ones),
        metrics={name: jnp.where(good, now.metrics[name], zeros) for name in progress.metrics},
    )
    now = now._replace(truncation=now.truncation * now.discount)  # a terminated episode is not cut
    ended = (now.discount == 0) | (now.truncation > 0)
    reward = progress.reward + now.reward
    length = progress.length + 1
    metrics = {name: progress.metrics[name] + now.metrics[name] for name in progress.metrics}
    # The first episode of a staggered world lacks its beginning: it is no sample of the return, nor an outcome.
    whole = (ended & (length == clock)).astype(jnp.float32)
    counts, old = whole * good, progress.episodes
    episodes = Episodes(
        finished=old.finished + counts,
        reward=old.reward + counts * reward,
        length=old.length + counts * length,
        terminated=old.terminated + counts * (1 - now.discount),
        metrics={name: old.metrics[name] + counts * metrics[name] for name in metrics},
        diverged=old.diverged + ~good,
    )
    return Progress(clock, length, reward, metrics, episodes), now, ended, whole


def anew(progress: Progress, ended: Array) -> Progress:
    """With the sums of worlds that begin another episode at zero."""
    zero: Progress = where_rows(ended, jax.tree.map(jnp.zeros_like, progress), progress)
    return zero._replace(episodes=progress.episodes)


def forget(episodes: Episodes) -> Episodes:
    """What the next batch begins with."""
    faded: Episodes = jax.tree.map(lambda x: x * MEMORY, episodes)
    return faded._replace(diverged=episodes.diverged)


def means(episodes: Episodes) -> Metrics:
    """Over recently finished whole episodes, metrics per step; NaN until one has finished."""
    sums = jax.tree.map(jnp.sum, episodes)
    per_episode = {"return": sums.reward, "length": sums.length, "fall_rate": sums.terminated}
    found = {f"episode/{name}": total / sums.finished for name, total in per_episode.items()}
    found |= {f"episode/{name}": total / sums.length for name, total in sums.metrics.items()}
    return found | {"episode/diverged": sums.diverged.astype(jnp.float32)}
