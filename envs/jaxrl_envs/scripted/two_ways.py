"""Passes the post of `jaxrl_envs.tasks.two_ways` on one side or the other, by the toss of a coin at the beginning."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.types import Array, ArraySpec, Observation, Params, Policy, PolicySpec, PyTree

SPEC = PolicySpec({"state/position": ArraySpec((2,))}, ArraySpec((2,), low=(-0.5, -1.0), high=(1.5, 1.0)))


@dataclass(frozen=True)
class Config:
    """The way is `width * sin(pi x)` [m] to one side, gone along at about `stride` [m] a step, with noise of that deviation [m]."""

    width: float = 0.35
    stride: float = 0.06
    noise: float = 0.01

    def __post_init__(self) -> None:
        if self.stride <= 0 or self.noise < 0:
            raise ValueError(f"stride is {self.stride} and noise {self.noise} m, but must be above 0, and not negative")


def two_ways(config: Config = Config()) -> Policy:
    """Reads `state/position` [m]."""

    def init(size: int) -> PyTree:
        return {"side": jnp.zeros(size)}  # not yet chosen

    def act(params: Params, observation: Observation, carry: PyTree, key: Any, context: PyTree = None) -> tuple[Array, PyTree, dict]:
        del params, context
        coin, noise = jnp.moveaxis(jax.vmap(jax.random.split)(key), 1, 0)
        tossed = jnp.where(jax.vmap(jax.random.bernoulli)(coin), 1.0, -1.0)
        side = jnp.where(carry["side"] == 0, tossed, carry["side"])
        x = observation["state/position"][:, 0]
        slope = config.width * jnp.pi * jnp.cos(jnp.pi * jnp.clip(x, 0.0, 1.0))
        ahead = jnp.minimum(x + 2 * config.stride / jnp.sqrt(1 + slope**2), 1.0)
        way = jnp.stack([ahead, side * config.width * jnp.sin(jnp.pi * jnp.clip(ahead, 0.0, 1.0))], -1)
        shaken = way + config.noise * jax.vmap(lambda k: jax.random.normal(k, (2,)))(noise)
        return shaken[:, None], {"side": side}, {}

    return Policy(SPEC, init, act)
