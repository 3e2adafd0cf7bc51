"""Does the same whatever it sees."""

import jax.numpy as jnp

from jaxrl.types import Array, Observation, Params, Policy, PolicySpec, PyTree


def constant(spec: PolicySpec, value: float = 0.0) -> Policy:
    """Every action is `value`, whatever the parameters; the do-nothing baseline."""

    def act(params: Params, observation: Observation, carry: PyTree, key: Array, context: PyTree = None) -> tuple:
        del params, observation, context
        return jnp.full((key.shape[0], spec.horizon, *spec.action.shape), value, spec.action.dtype), carry, {}

    return Policy(spec, lambda size: (), act)
