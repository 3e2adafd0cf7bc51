"""Swings the pole of `jaxrl_envs.tasks.cartpole` up and balances it.

Up by its energy (Astrom & Furuta 2000, https://doi.org/10.1016/S0005-1098(99)00140-5, equation 8): the cart accelerates along with the
swing for as long as the pole has less energy than it has upright at rest. Near the top by linear feedback, the solution of the Riccati
equation for a pole of 1 m and 0.1 kg on a cart of 1 kg.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.types import Array, ArraySpec, Observation, Params, Policy, PolicySpec, PyTree

SPEC = PolicySpec({"state/position": ArraySpec((3,)), "state/velocity": ArraySpec((2,))}, ArraySpec((1,), low=-1.0, high=1.0))
INERTIA = 1 / (1.5 * 9.81)  # [s^2] of the pole about its hinge, over its weight times half its length
FEEDBACK = (1.0, 8.9, 1.4, 2.2)  # of place [1/m], angle [1/rad], speed [s/m] and turn [s/rad]


@dataclass(frozen=True)
class Config:
    """The deviation of the normal noise that is added to the action makes each episode another; the push is the share of the force used."""

    noise: float = 0.1
    push: float = 0.5

    def __post_init__(self) -> None:
        if self.noise < 0:
            raise ValueError(f"noise is {self.noise}, but must not be negative")
        if not 0 < self.push <= 1:
            raise ValueError(f"push is {self.push}, but must be above 0 and at most 1")


def cartpole_swingup(config: Config = Config()) -> Policy:
    """Reads `state/position` (place of the cart in m, cosine and sine of the angle) and `state/velocity` (m/s, rad/s)."""

    def force(position: Array, velocity: Array) -> Array:
        place, cosine, sine = position
        speed, turn = velocity
        lacking = INERTIA * turn**2 / 2 + cosine - 1  # energy, 0 upright and -2 below, both at rest
        swing = config.push * jnp.clip(10 * lacking * turn * cosine, -1.0, 1.0) - 0.2 * place - 0.1 * speed
        balance = jnp.dot(jnp.asarray(FEEDBACK), jnp.stack([place, jnp.arctan2(sine, cosine), speed, turn]))
        return jnp.where((cosine > 0.8) & (jnp.abs(turn) < 4), balance, swing)

    def act(params: Params, observation: Observation, carry: PyTree, key: Any, context: PyTree = None) -> tuple[Array, PyTree, dict]:
        del params, context
        forces = jax.vmap(force)(observation["state/position"], observation["state/velocity"])
        noise = config.noise * jax.vmap(jax.random.normal)(key)
        return jnp.clip(forces + noise, -1.0, 1.0)[:, None, None], carry, {}

    return Policy(SPEC, lambda size: (), act)
