"""Gives a policy that reads the last observations what it needs, one observation at a time."""

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp

from jaxrl.ops.worlds import where_rows
from jaxrl.types import Array, ArraySpec, Observation, Params, Policy, PyTree

OVER_TIME = ("state/", "image/", "depth/")


@dataclass(frozen=True)
class Config:
    """The policy reads `steps` observations, every `stride`-th one, the present one last."""

    steps: int = 2
    stride: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")


def _one(name: str, spec: ArraySpec, steps: int) -> ArraySpec:
    """What one step shows of an array of the history."""
    if not name.startswith(OVER_TIME):
        return spec
    if not spec.shape or spec.shape[0] != steps:
        raise ValueError(f"history: the policy reads {name} of the shape {spec.shape}, which does not begin with {steps} steps")
    return replace(spec, shape=spec.shape[1:])


def history(config: Config, policy: Policy) -> Policy:
    """`policy` reads arrays [B, steps, ...]; what comes back reads [B, ...] and remembers the steps before, also while a chunk is executed.

    Before an episode's first step it was as it is then, as in training (`jaxrl_data.transforms.window`).

    Raises:
        ValueError: what the policy reads does not have so many steps.
    """
    shown = {name: _one(name, spec, config.steps) for name, spec in policy.spec.observation.items()}
    names = tuple(name for name in shown if name.startswith(OVER_TIME))
    length = (config.steps - 1) * config.stride + 1

    def init(size: int) -> PyTree:
        arrays = {name: jnp.zeros((size, length, *map(int, shown[name].shape)), shown[name].dtype) for name in names}
        return {"seen": arrays, "begun": jnp.zeros(size, bool), "inner": policy.init(size)}

    def remember(observation: Observation, carry: PyTree) -> PyTree:
        seen = {name: jnp.concatenate([x[:, 1:], observation[name][:, None]], 1) for name, x in carry["seen"].items()}
        first = {name: jnp.broadcast_to(observation[name][:, None], x.shape) for name, x in carry["seen"].items()}
        return carry | {"seen": where_rows(carry["begun"], seen, first), "begun": jnp.ones_like(carry["begun"])}

    def act(params: Params, observation: Observation, carry: PyTree, key: Any, context: Any = None) -> tuple[Array, PyTree, dict]:
        carry = remember(observation, carry)
        read = observation | {name: x[:, :: config.stride] for name, x in carry["seen"].items()}
        chunk, inner, extras = policy.act(params, read, carry["inner"], key, context)
        return chunk, carry | {"inner": inner}, extras

    return Policy(policy.spec._replace(observation=shown), init, act, remember)
