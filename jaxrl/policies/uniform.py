"""A policy that acts at random, whatever it sees: what fills a memory before learning begins."""

from typing import Any

import jax

from jaxrl.ops.action_range import action_range
from jaxrl.ops.specs import num_choices
from jaxrl.types import Array, Observation, Params, Policy, PolicySpec, PyTree


def uniform(spec: PolicySpec, bound: float = 1.0) -> Policy:
    """Actions drawn evenly from their range, `bound` where they have none, or from the numbers that a discrete action may be."""
    choices = num_choices(spec.action)
    shape = tuple(int(n) for n in spec.action.shape)
    shown = spec._replace(horizon=1, executed_steps=1, extras={})

    def act(params: Params, observation: Observation, carry: PyTree, key: Any, context: PyTree = None) -> tuple[Array, PyTree, dict]:
        if choices:
            return jax.vmap(lambda k: jax.random.randint(k, (1,), 0, choices))(key), carry, {}
        unit = jax.vmap(lambda k: jax.random.uniform(k, shape, minval=-1.0, maxval=1.0))(key)
        return action_range(spec.action, bound).to_action(unit)[:, None], carry, {}

    return Policy(shown, lambda size: (), act)
