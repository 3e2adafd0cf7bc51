"""Flow matching of chunks of actions, as pi0 has it (Black et al. 2024, https://arxiv.org/abs/2410.24164)."""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxrl.generative import flow as lines
from jaxrl.generative import rows
from jaxrl.losses.denoising import interpolated, velocity
from jaxrl.losses.regression import squared_error
from jaxrl.networks.interface import ActingModel, Denoiser
from jaxrl.objectives._encoding import encoding
from jaxrl.ops.specs import check_continuous, with_axes
from jaxrl.types import Array, Key, Metrics, Objective, Observation, Params, PolicySpec, PyTree, Shared


@dataclass(frozen=True)
class Config:
    """`time` is how the times trained at are drawn: evenly, or by a Beta distribution that looks more at noise.

    `sampler` is of first or of second order in the length of its steps; "midpoint" asks the network twice in each.
    """

    time: Literal["uniform", "beta"] = "beta"
    sampler: Literal["euler", "midpoint"] = "euler"
    inference_steps: int = 10

    def __post_init__(self) -> None:
        if self.inference_steps < 1:
            raise ValueError(f"inference_steps is {self.inference_steps}, but must be at least 1")


def errors(denoise: rows.Denoise, chunk: Array, time: Array, noise: Array) -> Array:
    """Squared, [B, H, A], of what `denoise` says of the way from `noise` to `chunk` at `time` [B]."""
    return squared_error(denoise(interpolated(chunk, noise, time), time), velocity(chunk, noise))


def flow(config: Config, spec: PolicySpec, network: Denoiser | ActingModel, shared: str = "") -> Objective:
    """A batch holds `observation` and `action` `[B, horizon, action_dim]`, and may hold `mask` of the same shape, 0 at padding.

    Padding is 0 before noise is added, and the network sees that noise; whatever it held reaches neither network, loss nor gradient.
    `sample` takes in a `prefix` of the chunk in flight: its steps move along their own straight lines. Parameters go by the name `shared`
    where other objectives have the network too.
    """
    check_continuous(spec.action, "flow", "the policy")
    shape, name = (spec.horizon, int(spec.action.shape[0])), shared or "flow"
    encode = encoding(network, name)

    def init(key: Key) -> tuple[Params, PyTree]:
        params, statistics = network.init(key)
        return {name: params}, {name: statistics}

    def loss(
        params: Params, statistics: PyTree, batch: dict[str, Any], key: Key, condition: Any = None
    ) -> tuple[Array, Array, PyTree, Metrics]:
        own, action, metrics = params[name], batch["action"], Metrics()
        mask = batch.get("mask", jnp.ones(action.shape))
        chunk = jnp.where(mask > 0, action, 0.0)
        of_time, of_noise, of_encoder, of_network = jax.random.split(key, 4)
        if condition is None:
            condition, statistics, metrics = encode(params, statistics, batch, of_encoder)
        denoise = lambda noisy, time: network.denoise(own, noisy, time, condition, of_network, train=True)  # noqa: E731
        time = lines.TIMES[config.time](of_time, action.shape[:1])
        elements = errors(denoise, chunk, time, jax.random.normal(of_noise, action.shape))
        return elements, mask, statistics, metrics

    def sample(params: Params, statistics: PyTree, observation: Observation, key: Key, context: Any = None) -> Array:
        own = params[name]
        condition, _ = network.encode(own, statistics[name], observation)
        return lines.sample(
            config.sampler,
            config.inference_steps,
            lambda noisy, time: network.denoise(own, noisy, time, condition),
            rows.normal(key, shape),
            rows.prefix(context, spec.horizon),
        )

    batch_spec = with_axes(spec.observation, ("batch",), "observation/") | with_axes({"action": spec.action}, ("batch", spec.horizon))
    return Objective(init, loss, sample, spec, batch_spec, Shared(name, encode) if shared else None)
