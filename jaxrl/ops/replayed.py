"""Replayed steps as the losses of off-policy methods take them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.ops.returns import discounted_sum
from jaxrl.types import Array, Observation, PyTree, Replayed


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


def in_groups(tree: PyTree, size: int, name: str) -> PyTree:
    """[updates, ...] as [updates / size, size, ...].

    Raises:
        ValueError: the updates do not divide; `name` is the option that says `size`.
    """
    number = jax.tree.leaves(tree)[0].shape[0]
    if number % size:
        raise ValueError(f"the source hands over {number} updates at once, no multiple of {name}, {size}; change one of them")
    return jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), tree)
