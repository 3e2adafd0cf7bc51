"""Asks at each step, and executes the mean of all that was predicted for it (ACT, Zhao et al. 2023, https://arxiv.org/abs/2304.13705)."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from jaxrl.types import Array, Observation, Params, Policy, PyTree


@dataclass(frozen=True)
class Config:
    """The i-th prediction of an action weighs `exp(-coefficient * i)`, where the oldest has i = 0: above 0, old ones weigh more."""

    coefficient: float = 0.01


def temporal_ensemble(config: Config, policy: Policy) -> Policy:
    """Chunks hold means of all predictions so far, of which one step is executed.

    The means are kept, not the predictions: with `n` of them behind a mean, the next one changes it to
    `(mean * sum_{i<n} w_i + new * w_n) / sum_{i<=n} w_i`.

    Raises:
        ValueError: the policy goes on from earlier chunks of which several steps were executed, so it cannot be asked at each.
    """
    if policy.spec.mixed and policy.spec.executed_steps > 1:
        raise ValueError(
            f"it asks at each step, but these chunks go on from earlier ones of which {policy.spec.executed_steps} steps are executed; "
            "leave out receding_horizon, or what mixes them before this"
        )
    horizon, shape = policy.spec.horizon, tuple(map(int, policy.spec.action.shape))
    weights = jnp.exp(-config.coefficient * jnp.arange(horizon, dtype=jnp.float32))
    sums = jnp.cumsum(weights)

    def init(size: int) -> PyTree:
        mean, number = jnp.zeros((size, horizon, *shape)), jnp.zeros((size, horizon), jnp.int32)
        return {"mean": mean, "number": number, "inner": policy.init(size)}  # of each step from the present one on

    def act(params: Params, observation: Observation, carry: PyTree, key: Any, context: Any = None) -> tuple[Array, PyTree, dict]:
        chunk, inner, extras = policy.act(params, observation, carry["inner"], key, context)
        number = carry["number"]
        before = jnp.where(number > 0, sums[number - 1], 0.0)[..., None]
        mean = (carry["mean"] * before + chunk * weights[number][..., None]) / sums[number][..., None]
        moved = jnp.roll(mean, -1, 1).at[:, -1].set(0.0), jnp.roll(number + 1, -1, 1).at[:, -1].set(0)
        return mean, {"mean": moved[0], "number": moved[1], "inner": inner}, extras

    def remember(observation: Observation, carry: PyTree) -> PyTree:
        return carry | {"inner": policy.remember(observation, carry["inner"])}

    return Policy(policy.spec._replace(executed_steps=1, mixed=True), init, act, remember)
