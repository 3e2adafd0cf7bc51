"""Goes to the disc of `jaxrl_envs.tasks.two_goals` that it is told to, step by step on a straight line."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.types import INSTRUCTION, Array, ArraySpec, Observation, Params, Policy, PolicySpec, PyTree
from jaxrl_envs.tasks.two_goals import INSTRUCTIONS, LENGTH, tokens

SPEC = PolicySpec(
    {"state/position": ArraySpec((2,)), "privileged/discs": ArraySpec((4,)), INSTRUCTION: ArraySpec((LENGTH,), "int32")},
    ArraySpec((2,), low=(-0.7, -0.7), high=(0.7, 0.7)),
)


@dataclass(frozen=True)
class Config:
    """`stride` [m] ahead of where it is, with noise of that deviation [m]."""

    stride: float = 0.12
    noise: float = 0.01

    def __post_init__(self) -> None:
        if self.stride <= 0 or self.noise < 0:
            raise ValueError(f"stride is {self.stride} and noise {self.noise} m, but must be above 0, and not negative")


def two_goals(config: Config = Config()) -> Policy:
    """Reads `state/position` and `privileged/discs` [m], and `task/instruction`."""
    red = jnp.asarray(tokens(INSTRUCTIONS[0]))

    def act(params: Params, observation: Observation, carry: PyTree, key: Any, context: PyTree = None) -> tuple[Array, PyTree, dict]:
        del params, context
        to_red = (observation[INSTRUCTION] == red[None]).all(-1)
        discs = observation["privileged/discs"].reshape(-1, 2, 2)
        goal = jnp.where(to_red[:, None], discs[:, 0], discs[:, 1])
        way = goal - observation["state/position"]
        far = jnp.linalg.norm(way, axis=-1, keepdims=True)
        step = way * jnp.minimum(1.0, config.stride / jnp.maximum(far, 1e-6))
        noise = config.noise * jax.vmap(lambda k: jax.random.normal(k, (2,)))(key)
        return (observation["state/position"] + step + noise)[:, None], carry, {}

    return Policy(SPEC, lambda size: (), act)
