"""Behaviour cloning by regression: predicts the chunk of actions that follows an observation."""

from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp

from jaxrl.losses import regression
from jaxrl.ops.specs import with_axes
from jaxrl.types import Array, Key, Metrics, Objective, Observation, Params, PolicySpec, PyTree, StatefulNetwork

LOSSES = {"mse": regression.squared_error, "l1": regression.absolute_error}


@dataclass(frozen=True)
class Config:
    """`loss` is the distance to the demonstrated action: its square ("mse") or its absolute value ("l1")."""

    loss: Literal["mse", "l1"] = "mse"


def bc(config: Config, spec: PolicySpec, network: StatefulNetwork) -> Objective:
    """`network` maps a batch of observations to chunks `[B, horizon, action_dim]`.

    A batch holds `observation` and `action` `[B, horizon, action_dim]`, and may hold `mask` of the same shape, 0 at padded steps and
    dimensions.
    """
    distance = LOSSES[config.loss]

    def init(key: Key) -> tuple[Params, PyTree]:
        params, statistics = network.init(key)
        return {"bc": params}, {"bc": statistics}

    def loss(params: Params, statistics: PyTree, batch: dict[str, Any], key: Key) -> tuple[Array, Array, PyTree, Metrics]:
        action = batch["action"]
        mask = batch.get("mask", jnp.ones(action.shape))
        prediction, own = network.apply(params["bc"], statistics["bc"], batch["observation"], key, train=True)
        # Padding may hold anything: 0 * NaN is NaN in a gradient, so it must not reach the distance.
        return distance(prediction, jnp.where(mask > 0, action, 0.0)), mask, statistics | {"bc": own}, {}

    def sample(params: Params, statistics: PyTree, observation: Observation, key: Key, context: Any = None) -> Array:
        del key, context  # one prediction per observation, whatever is in flight
        return network.apply(params["bc"], statistics["bc"], observation)[0]

    batch_spec = with_axes(spec.observation, ("batch",), "observation/") | with_axes({"action": spec.action}, ("batch", spec.horizon))
    return Objective(init, loss, sample, spec, batch_spec)
