"""Rewards on a scale that critics can learn at, whatever the task pays.

Lee et al. 2025, https://arxiv.org/abs/2502.15280, section 4.3: a reward is divided by the standard deviation of the discounted sum of what
a world has paid so far, or by the largest such sum over the largest return that a critic can tell, whichever is more.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.ops import running_statistics
from jaxrl.ops.running_statistics import RunningStatistics
from jaxrl.types import Array, ArraySpec, Transition

_NAME = "return"


class RewardScale(NamedTuple):
    """What has been paid."""

    paid: Array  # [B] discounted sum since the episode began, 0 where one begins
    statistics: RunningStatistics  # of such sums
    largest: Array  # [] of their sizes


class Scaling(NamedTuple):
    """The functions of a reward scale."""

    init: Callable[[int], RewardScale]  # number of worlds
    update: Callable[[RewardScale, Transition], RewardScale]  # with an unroll [T, B]
    divisor: Callable[[RewardScale], Array]  # [] what rewards are divided by


def reward_scale(gamma: float, maximum_return: float) -> Scaling:
    """For returns discounted by `gamma`, which a critic can tell up to `maximum_return`."""

    def init(worlds: int) -> RewardScale:
        return RewardScale(jnp.zeros(worlds), running_statistics.init({_NAME: ArraySpec(())}), jnp.zeros(()))

    def update(state: RewardScale, batch: Transition) -> RewardScale:
        def step(paid: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
            reward, goes_on = now
            paid = gamma * paid + reward
            return paid * goes_on, paid

        goes_on = batch.discount * (1.0 - batch.truncation)
        paid, sums = jax.lax.scan(step, state.paid, (batch.reward, goes_on))
        statistics = running_statistics.update(state.statistics, {_NAME: sums})
        return RewardScale(paid, statistics, jnp.maximum(state.largest, jnp.abs(sums).max()))

    def divisor(state: RewardScale) -> Array:
        return jnp.maximum(jnp.sqrt(state.statistics.variance[_NAME] + 1e-8), state.largest / maximum_return)

    return Scaling(init, update, divisor)
