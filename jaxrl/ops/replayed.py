"""Replayed steps as the losses of off-policy methods take them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.ops.returns import discounted_sum
from jaxrl.types import Array, Key, Metrics, Observation, Replayed, TrainState


class Sample(NamedTuple):
    """Steps with the return of n of them, [updates, B, ...]: `reward` + `discount` * the value of `next_observation`."""

    observation: Observation
    action: Array
    reward: Array
    discount: Array  # 0 where the episode terminated
    next_observation: Observation
    weight: Array


def samples(
    batch: Replayed,
    gamma: float,
    normalise: Callable[[Observation], Observation],
    to_unit: Callable[[Array], Array] = lambda action: action,
) -> Sample:
    """`batch` with its rewards summed up, observations normalised, and actions in the range that networks take."""
    return Sample(
        observation=normalise(batch.observation),
        action=to_unit(batch.action),
        reward=discounted_sum(batch.reward, gamma),
        discount=batch.discount * jnp.power(gamma, batch.steps.astype(jnp.float32)),
        next_observation=normalise(batch.next_observation),
        weight=batch.weight,
    )


def actor_critic_updates(
    critic_step: Callable[[TrainState, tuple[Sample, Key]], tuple[TrainState, tuple[Metrics, Array]]],
    actor_step: Callable[[TrainState, Sample, Key], tuple[TrainState, Metrics]],
    policy_delay: int,
    state: TrainState,
    parts: Sample,
    key: Key,
) -> tuple[TrainState, Metrics, Array]:
    """A step of the critics on each of [updates], and one of the actor on the last of every `policy_delay`.

    Returns the state, mean metrics, and what `critic_step` tells of each step, [updates, B].

    Raises:
        ValueError: the updates do not divide.
    """
    number = parts.reward.shape[0]
    if number % policy_delay:
        raise ValueError(f"the source hands over {number} updates at once, no multiple of policy_delay, {policy_delay}; change one of them")

    def group(state: TrainState, now: tuple[Sample, Key]) -> tuple[TrainState, tuple[Metrics, Array]]:
        state, (critic_metrics, told) = jax.lax.scan(critic_step, state, now)
        sample, key = jax.tree.map(lambda x: x[-1], now)
        state, actor_metrics = actor_step(state, sample, jax.random.fold_in(key, 1))
        return state, (jax.tree.map(jnp.mean, critic_metrics) | actor_metrics, told)

    groups = jax.tree.map(lambda x: x.reshape(-1, policy_delay, *x.shape[1:]), (parts, jax.random.split(key, number)))
    state, (metrics, told) = jax.lax.scan(group, state, groups)
    return state, jax.tree.map(jnp.mean, metrics), told.reshape(number, *told.shape[2:])
