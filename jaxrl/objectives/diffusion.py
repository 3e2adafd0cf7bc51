"""Diffusion Policy: chunks of actions by denoising (Chi et al. 2023, https://arxiv.org/abs/2303.04137)."""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxrl.generative import diffusion as process
from jaxrl.generative import rows, schedules
from jaxrl.losses.denoising import Prediction, diffused, diffusion_target
from jaxrl.losses.regression import squared_error
from jaxrl.networks.interface import Denoiser
from jaxrl.ops.specs import check_continuous, with_axes
from jaxrl.types import Array, Key, Metrics, Objective, Observation, Params, PolicySpec, PyTree


@dataclass(frozen=True)
class Config:
    """`num_steps` is that of the diffusion that is trained; the sampler takes `inference_steps` of them, 0 takes all.

    `clip_sample` bounds the chunk that the network makes out at each step of a sampler, in normalised actions; 0 does not. The published
    policy has 1 and actions in [-1, 1]; of actions with unit variance, as `supervised` makes them, 5 cuts only what is far out.
    """

    num_steps: int = 100
    schedule: schedules.Name = "squaredcos_cap_v2"
    prediction: Prediction = "epsilon"
    sampler: Literal["ddpm", "ddim", "dpm_solver"] = "ddpm"
    inference_steps: int = 0
    clip_sample: float = 5.0

    def __post_init__(self) -> None:
        if self.clip_sample < 0:
            raise ValueError(f"clip_sample is {self.clip_sample}, but must be 0 (do not clip) or above")
        self.steps()

    def steps(self) -> process.Steps:
        """Of the sampler."""
        return process.SAMPLERS[self.sampler](schedules.schedule(self.schedule, self.num_steps), self.inference_steps or self.num_steps)


def errors(config: Config, denoise: rows.Denoise, chunk: Array, step: Array, noise: Array) -> Array:
    """Squared, [B, H, A], of what `denoise` says of `chunk` under `noise` at `step` [B] of the diffusion."""
    table = jnp.asarray(schedules.schedule(config.schedule, config.num_steps).alpha_bar, jnp.float32)
    alpha_bar = table[step]
    output = denoise(diffused(chunk, noise, alpha_bar), step / config.num_steps)
    return squared_error(output, diffusion_target(config.prediction, chunk, noise, alpha_bar))


def diffusion(config: Config, spec: PolicySpec, network: Denoiser) -> Objective:
    """A batch holds `observation` and `action` `[B, horizon, action_dim]`, and may hold `mask` of the same shape, 0 at padding.

    Padding is 0 before noise is added, and the network sees that noise; whatever it held reaches neither network, loss nor gradient.
    `sample` takes in a `prefix` of the chunk in flight by inpainting (Lugmayr et al. 2022, https://arxiv.org/abs/2201.09865).
    """
    check_continuous(spec.action, "diffusion", "the policy")
    shape = (spec.horizon, int(spec.action.shape[0]))
    steps = config.steps()

    def init(key: Key) -> tuple[Params, PyTree]:
        params, statistics = network.init(key)
        return {"diffusion": params}, {"diffusion": statistics}

    def loss(params: Params, statistics: PyTree, batch: dict[str, Any], key: Key) -> tuple[Array, Array, PyTree, Metrics]:
        own, action = params["diffusion"], batch["action"]
        mask = batch.get("mask", jnp.ones(action.shape))
        chunk = jnp.where(mask > 0, action, 0.0)
        of_step, of_noise, of_encoder, of_network = jax.random.split(key, 4)
        step = jax.random.randint(of_step, action.shape[:1], 0, config.num_steps)
        condition, kept = network.encode(own, statistics["diffusion"], batch["observation"], of_encoder, train=True)
        denoise = lambda noisy, time: network.denoise(own, noisy, time, condition, of_network, train=True)  # noqa: E731
        elements = errors(config, denoise, chunk, step, jax.random.normal(of_noise, action.shape))
        return elements, mask, statistics | {"diffusion": kept}, {}

    def sample(params: Params, statistics: PyTree, observation: Observation, key: Key, context: Any = None) -> Array:
        own = params["diffusion"]
        condition, _ = network.encode(own, statistics["diffusion"], observation)
        return process.sample(
            steps,
            lambda noisy, time: network.denoise(own, noisy, time, condition),
            rows.normal(rows.numbered(key, 0), shape),
            lambda i: rows.normal(rows.numbered(key, i + 1), shape),
            config.prediction,
            config.clip_sample,
            rows.prefix(context, spec.horizon),
        )

    batch_spec = with_axes(spec.observation, ("batch",), "observation/") | with_axes({"action": spec.action}, ("batch", spec.horizon))
    return Objective(init, loss, sample, spec, batch_spec)
