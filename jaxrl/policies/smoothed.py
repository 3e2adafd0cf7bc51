"""Passes actions through a low-pass filter of first order, across the borders of chunks."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.ops.worlds import where_rows
from jaxrl.types import Array, Observation, Params, Policy, PyTree


@dataclass(frozen=True)
class Config:
    """What lies above `cutoff` [Hz] is damped; it delays actions by about 1 / (2 pi cutoff) seconds."""

    cutoff: float = 2.0

    def __post_init__(self) -> None:
        if self.cutoff <= 0:
            raise ValueError(f"cutoff is {self.cutoff} Hz, but must be above 0")


def smoothed(config: Config, policy: Policy) -> Policy:
    """`y_t = y_{t-1} + a (x_t - y_{t-1})` with `a = 1 - exp(-2 pi cutoff / rate)`; an episode's first action passes as it is.

    Raises:
        ValueError: the policy does not know its rate.
    """
    spec = policy.spec
    if spec.rate <= 0:
        raise ValueError("smoothed: the policy does not know its control rate, so a cutoff in Hz has no meaning")
    share = 1.0 - math.exp(-2.0 * math.pi * config.cutoff / spec.rate)

    def init(size: int) -> PyTree:
        return {"last": jnp.zeros((size, *map(int, spec.action.shape))), "begun": jnp.zeros(size, bool), "inner": policy.init(size)}

    def act(params: Params, observation: Observation, carry: PyTree, key: Any, context: Any = None) -> tuple[Array, PyTree, dict]:
        chunk, inner, extras = policy.act(params, observation, carry["inner"], key, context)

        def one(last: Array, action: Array) -> tuple[Array, Array]:
            now = last + share * (action - last)
            return now, now

        start = where_rows(carry["begun"], carry["last"], chunk[:, 0])
        _, steps = jax.lax.scan(one, start, jnp.moveaxis(chunk, 1, 0))
        chunk = jnp.moveaxis(steps, 0, 1)
        return chunk, {"last": chunk[:, spec.executed_steps - 1], "begun": jnp.ones_like(carry["begun"]), "inner": inner}, extras

    def remember(observation: Observation, carry: PyTree) -> PyTree:
        return carry | {"inner": policy.remember(observation, carry["inner"])}

    return Policy(spec._replace(mixed=True), init, act, remember)
