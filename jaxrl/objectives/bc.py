"""Behaviour cloning: predicts the chunk of actions that follows an observation, as one chunk or as a distribution over chunks."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.distributions import binned as bins_of_numbers
from jaxrl.distributions import mixture as mixtures
from jaxrl.losses import classification, likelihood, regression
from jaxrl.ops import bins
from jaxrl.ops.bins import Bins
from jaxrl.ops.specs import with_axes
from jaxrl.types import Array, Key, Metrics, Objective, Observation, Params, PolicySpec, PyTree, StatefulNetwork

MINIMUM_STD = 1e-4  # of normalised actions, as in robomimic


@dataclass(frozen=True)
class Config:
    """`head` is what the network's outputs are:

    - "mse", "l1", "huber": the chunk itself, and the distance to what was demonstrated;
    - "gaussian": a mean and a deviation of each number;
    - "mixture": `components` Gaussians over whole chunks (Bishop 1994; robomimic's GMM, Mandlekar et al. 2021), so that ways that were
      both demonstrated are not averaged. Its sampler draws a component and takes that one's mean;
    - "binned": probabilities of `bins` for each number, within `-limit` to `limit` of normalised actions (RT-1, Brohan et al. 2022); the
      sampler takes the likeliest.
    """

    head: Literal["mse", "l1", "huber", "gaussian", "mixture", "binned"] = "mse"
    components: int = 5
    bins: int = 256
    limit: float = 1.0

    def __post_init__(self) -> None:
        if self.components < 1:
            raise ValueError(f"components is {self.components}, but must be at least 1")
        self.ranges()

    def ranges(self) -> Bins:
        """Raises ValueError where there are fewer than two bins, or their limit is not above 0."""
        return Bins(-self.limit, self.limit, self.bins)


class _Head(NamedTuple):
    """What a network's outputs mean. A chunk is [B, H, A]."""

    shape: Callable[[Config, tuple[int, ...]], tuple[int, ...]]  # of a chunk [H, A] -> of the outputs of one row
    loss: Callable[[Config, Array, Array, Array], tuple[Array, Array]]  # outputs, chunk, mask of its shape -> elements and their mask
    sample: Callable[[Config, Array, Key, tuple[int, ...]], Array]  # outputs, one key per row, shape of a chunk -> chunks


def _regression(distance: Callable[[Array, Array], Array]) -> _Head:
    return _Head(
        lambda config, chunk: chunk, lambda config, output, x, mask: (distance(output, x), mask), lambda config, output, key, chunk: output
    )


def _log_std(output: Array) -> Array:
    return jnp.log(jax.nn.softplus(output) + MINIMUM_STD)


def _gaussian_loss(config: Config, output: Array, x: Array, mask: Array) -> tuple[Array, Array]:
    return likelihood.gaussian_nll(output[..., 0], _log_std(output[..., 1]), x), mask


def _mixture(config: Config, output: Array, chunk: tuple[int, ...]) -> dict[str, Array]:
    """Its parameters, of free outputs [B, K (1 + 2 H A)]."""
    logits, rest = output[..., : config.components], output[..., config.components :]
    mean, std = jnp.moveaxis(rest.reshape(*rest.shape[:-1], 2, config.components, *chunk), rest.ndim - 1, 0)
    return {"logits": logits, "mean": mean, "log_std": _log_std(std)}


def _mixture_loss(config: Config, output: Array, x: Array, mask: Array) -> tuple[Array, Array]:
    """One element per row: nats per number that counts, so that a row at an episode's end weighs what every other one does."""
    number = (mask > 0).sum((-2, -1))
    nll = likelihood.mixture_nll(**_mixture(config, output, x.shape[-2:]), x=x, mask=mask)
    return nll / jnp.maximum(number, 1), (number > 0).astype(nll.dtype)


def _mixture_sample(config: Config, output: Array, key: Key, chunk: tuple[int, ...]) -> Array:
    def one(parameters: Params, key: Key) -> Array:
        return mixtures.mode(parameters | {"logits": jax.nn.one_hot(jax.random.categorical(key, parameters["logits"]), config.components)})

    return jax.vmap(one)(_mixture(config, output, chunk), key)


def _binned_loss(config: Config, output: Array, x: Array, mask: Array) -> tuple[Array, Array]:
    which, _ = bins.encode(config.ranges(), x)
    return classification.cross_entropy(output, jnp.asarray(which)), mask


def _binned_sample(config: Config, output: Array, key: Key, chunk: tuple[int, ...]) -> Array:
    distribution = bins_of_numbers.binned(config.ranges())
    return distribution.to_action(distribution.mode({"logits": output}))


HEADS = {
    "mse": _regression(regression.squared_error),
    "l1": _regression(regression.absolute_error),
    "huber": _regression(regression.huber_error),
    "gaussian": _Head(lambda config, chunk: (*chunk, 2), _gaussian_loss, lambda config, output, key, chunk: output[..., 0]),
    "mixture": _Head(lambda config, chunk: (config.components * (1 + 2 * math.prod(chunk)),), _mixture_loss, _mixture_sample),
    "binned": _Head(lambda config, chunk: (*chunk, config.bins), _binned_loss, _binned_sample),
}


def output_shape(config: Config, spec: PolicySpec) -> tuple[int, ...]:
    """Of what the network has to put out for each row."""
    return HEADS[config.head].shape(config, (spec.horizon, *map(int, spec.action.shape)))


def bc(config: Config, spec: PolicySpec, network: StatefulNetwork) -> Objective:
    """`network` maps a batch of observations to outputs `[B, *output_shape(config, spec)]`.

    A batch holds `observation` and `action` `[B, horizon, action_dim]`, and may hold `mask` of the same shape, 0 at padded steps and
    dimensions.
    """
    head, chunk = HEADS[config.head], (spec.horizon, *map(int, spec.action.shape))

    def init(key: Key) -> tuple[Params, PyTree]:
        params, statistics = network.init(key)
        return {"bc": params}, {"bc": statistics}

    def loss(params: Params, statistics: PyTree, batch: dict[str, Any], key: Key) -> tuple[Array, Array, PyTree, Metrics]:
        action = batch["action"]
        mask = batch.get("mask", jnp.ones(action.shape))
        output, own = network.apply(params["bc"], statistics["bc"], batch["observation"], key, train=True)
        # Padding may hold anything: 0 * NaN is NaN in a gradient, so it must not reach the head.
        elements, counts = head.loss(config, output, jnp.where(mask > 0, action, 0.0), mask)
        return elements, counts, statistics | {"bc": own}, {}

    def sample(params: Params, statistics: PyTree, observation: Observation, key: Key, context: Any = None) -> Array:
        del context  # whatever is in flight
        output, _ = network.apply(params["bc"], statistics["bc"], observation)
        return head.sample(config, output, key, chunk)

    batch_spec = with_axes(spec.observation, ("batch",), "observation/") | with_axes({"action": spec.action}, ("batch", spec.horizon))
    return Objective(init, loss, sample, spec, batch_spec)
