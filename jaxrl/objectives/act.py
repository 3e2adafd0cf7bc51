"""Action Chunking with Transformers: chunks through a conditional VAE (Zhao et al. 2023, https://arxiv.org/abs/2304.13705)."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.losses import likelihood, regression
from jaxrl.networks.interface import Autoencoder
from jaxrl.ops.specs import with_axes
from jaxrl.types import Array, Key, Metrics, Objective, Observation, Params, PolicySpec, PyTree


@dataclass(frozen=True)
class Config:
    """`kl_weight` is that of the divergence of the latent vector's posterior from a standard normal distribution."""

    kl_weight: float = 10.0

    def __post_init__(self) -> None:
        if self.kl_weight < 0:
            raise ValueError(f"kl_weight is {self.kl_weight}, but must be at least 0")


def act(config: Config, spec: PolicySpec, network: Autoencoder) -> Objective:
    """L1 between a demonstrated chunk and what is made of a draw from its posterior, and the posterior's divergence.

    A batch holds `observation` and `action` `[B, horizon, action_dim]`, and may hold `mask` of the same shape, 0 at padded steps and
    dimensions. The divergence of a row is spread over those of its elements that count, so that their mean over the batch is the mean of
    the distance, plus `kl_weight` times the mean of the divergence over rows that hold any. Samples are made of the latent vector 0.
    """

    def init(key: Key) -> tuple[Params, PyTree]:
        params, statistics = network.init(key)
        return {"act": params}, {"act": statistics}

    def loss(params: Params, statistics: PyTree, batch: dict[str, Any], key: Key) -> tuple[Array, Array, PyTree, Metrics]:
        own, seen = params["act"], batch["observation"]
        mask = batch.get("mask", jnp.ones(batch["action"].shape))
        action = jnp.where(mask > 0, batch["action"], 0.0)  # padding may hold anything, and 0 * NaN is NaN
        looking, inferring, drawing, decoding = jax.random.split(key, 4)
        condition, kept = network.encode(own, statistics["act"], seen, looking, train=True)
        mean, log_variance = network.posterior(own, seen, action, mask.max(-1), inferring, train=True)
        latent = mean + jnp.exp(log_variance / 2) * jax.random.normal(drawing, mean.shape)
        distance = regression.absolute_error(network.decode(own, latent, condition, decoding, train=True), action)
        divergence = likelihood.gaussian_kl_to_standard(mean, log_variance / 2).sum(-1)

        weight = mask.sum((1, 2))
        counts, total = weight > 0, mask.sum()
        rows = jnp.maximum(counts.sum(), 1)
        share = jnp.where(counts, total / (rows * jnp.where(counts, weight, 1.0)), 0.0)
        elements = distance + config.kl_weight * (share * divergence)[:, None, None]
        metrics = {
            "l1": jnp.where(mask > 0, distance * mask, 0.0).sum() / jnp.maximum(total, 1e-6),
            "kl": jnp.where(counts, divergence, 0.0).sum() / rows,
        }
        return elements, mask, statistics | {"act": kept}, metrics

    def sample(params: Params, statistics: PyTree, observation: Observation, key: Key, context: Any = None) -> Array:
        del context  # whatever is in flight
        condition, _ = network.encode(params["act"], statistics["act"], observation)
        return network.decode(params["act"], jnp.zeros((key.shape[0], network.latent_size)), condition)

    batch_spec = with_axes(spec.observation, ("batch",), "observation/") | with_axes({"action": spec.action}, ("batch", spec.horizon))
    return Objective(init, loss, sample, spec, batch_spec)
