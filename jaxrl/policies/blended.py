"""Goes over from one chunk to the next instead of jumping."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from jaxrl.types import Array, Observation, Params, Policy, PyTree


@dataclass(frozen=True)
class Config:
    """Over the first `steps` of a new chunk the weight of what the old one says of them falls linearly to 0."""

    steps: int = 4

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}, but must be at least 1")


def blended(config: Config, policy: Policy) -> Policy:
    """Step i of a new chunk weighs `(i + 1) / (steps + 1)`, the old one's step for the same time the rest.

    Raises:
        ValueError: of the old chunk fewer steps are left over than are blended.
    """
    spec = policy.spec
    left = spec.horizon - spec.executed_steps
    if config.steps > left:
        raise ValueError(
            f"steps is {config.steps}, but of {spec.horizon} predicted steps {spec.executed_steps} are executed, so only {left} are left; "
            "blend fewer or execute fewer"
        )
    own = jnp.ones(spec.horizon).at[: config.steps].set(jnp.arange(1, config.steps + 1) / (config.steps + 1))

    def init(size: int) -> PyTree:
        chunk = jnp.zeros((size, spec.horizon, *map(int, spec.action.shape)))
        return {"chunk": chunk, "begun": jnp.zeros(size, bool), "inner": policy.init(size)}

    def act(params: Params, observation: Observation, carry: PyTree, key: Any, context: Any = None) -> tuple[Array, PyTree, dict]:
        chunk, inner, extras = policy.act(params, observation, carry["inner"], key, context)
        weight = jnp.where(carry["begun"][:, None], own[None], 1.0)[..., None]
        chunk = weight * chunk + (1.0 - weight) * jnp.roll(carry["chunk"], -spec.executed_steps, 1)
        return chunk, {"chunk": chunk, "begun": jnp.ones_like(carry["begun"]), "inner": inner}, extras

    def remember(observation: Observation, carry: PyTree) -> PyTree:
        return carry | {"inner": policy.remember(observation, carry["inner"])}

    return Policy(spec._replace(mixed=True), init, act, remember)
