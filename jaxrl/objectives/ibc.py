"""Implicit behaviour cloning: an energy of chunks, which is least at what was demonstrated, and is searched when acting (Florence et al.
2021, https://arxiv.org/abs/2109.00137)."""

from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxrl.generative import rows
from jaxrl.losses.contrastive import info_nce
from jaxrl.networks.interface import Energy
from jaxrl.ops.specs import check_continuous, with_axes
from jaxrl.types import Array, Key, Metrics, Objective, Observation, Params, PolicySpec, PyTree


@dataclass(frozen=True)
class DerivativeFree:
    """Chunks are weighed `iterations` times, by the softmax of their energies, negative. In between as many are drawn anew by these
    weights, and normal noise is added, of the deviation `noise`, which shrinks by the factor `shrink` each time.

    `choice` "drawn" draws one by the last weights and does not clip, as Diffusion Policy's; "best" clips to the range each time and takes
    the heaviest, as in the paper (algorithm 1, with 3 iterations, noise 0.33 and shrink 0.5).
    """

    iterations: int = 5
    noise: float = 0.03
    shrink: float = 1.0
    choice: Literal["drawn", "best"] = "best"

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"iterations is {self.iterations}, but must be at least 1")
        if self.noise < 0 or not 0 < self.shrink <= 1:
            raise ValueError(f"noise is {self.noise} and shrink {self.shrink}, but must not be negative, and above 0 and at most 1")


@dataclass(frozen=True)
class Langevin:
    """Steps down the slope of the energy with normal noise of the deviation `noise` (section B.3; google-research/ibc).

    The length falls from `first_step` to `last_step` as `(1 - i / (iterations - 1))**power`. Each number of the slope is clipped to
    `gradient_clip`, 0 does not clip, and of a step to `largest_step`, a share of half the range.
    """

    iterations: int = 100
    first_step: float = 0.1
    last_step: float = 1e-5
    power: float = 2.0
    noise: float = 1.0
    gradient_clip: float = 0.0
    largest_step: float = 0.1

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"iterations is {self.iterations}, but must be at least 1")
        for name in ("first_step", "last_step", "power", "largest_step"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be above 0")
        for name in ("noise", "gradient_clip"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must not be negative")


@dataclass(frozen=True)
class Config:
    """`negatives` are drawn evenly from the range of normalised actions, `-limit` to `limit` and beyond it by the share `buffer` of its
    width, and then follow the slope of the energy if they are "langevin". Demonstrated chunks get noise of the deviation `positive_noise`.

    `gradient_penalty` weighs the square of how far the slope of the energy, its largest number, exceeds `gradient_margin`: Langevin steps
    want it bounded. The sampler begins with `samples` chunks drawn evenly.
    """

    negatives: int = 256
    negative: Literal["uniform", "langevin"] = "uniform"
    positive_noise: float = 1e-4
    limit: float = 1.0
    buffer: float = 0.05
    gradient_penalty: float = 0.0
    gradient_margin: float = 1.0
    sampler: Literal["derivative_free", "langevin"] = "derivative_free"
    samples: int = 1024
    derivative_free: DerivativeFree = field(default_factory=DerivativeFree)
    langevin: Langevin = field(default_factory=Langevin)

    def __post_init__(self) -> None:
        for name in ("negatives", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if self.limit <= 0:
            raise ValueError(f"limit is {self.limit}, but must be above 0; normalised actions lie between it and its negative")
        for name in ("positive_noise", "buffer", "gradient_penalty", "gradient_margin"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must not be negative")

    def reach(self) -> float:
        """The end of the range, on either side of 0."""
        return self.limit * (1.0 + 2.0 * self.buffer)


def _uniform(config: Config, key: Key, shape: tuple[int, ...]) -> Array:
    return jax.vmap(lambda k: jax.random.uniform(k, shape, minval=-config.reach(), maxval=config.reach()))(key)


def _picked(chunks: Array, which: Array) -> Array:
    """Of chunks [B, N, H, A] those with the numbers `which` [B, M]."""
    return jnp.take_along_axis(chunks, which[..., None, None], 1)


def _drawn(weights: Array, key: Key, number: int) -> Array:
    """int32 [B, number], drawn with replacement by the softmax of `weights` [B, N]; each takes a search among N, not N random numbers."""

    def one(weights: Array, key: Key) -> Array:
        shares = jnp.cumsum(jax.nn.softmax(weights))
        return jnp.searchsorted(shares, shares[-1] * jax.random.uniform(key, (number,)), side="right")

    return jnp.minimum(jax.vmap(one)(weights, key), weights.shape[1] - 1)


def _derivative_free(config: Config, energy: Any, chunks: Array, key: Key) -> Array:
    """From chunks [B, N, H, A] to one of each row, [B, H, A]."""
    own = config.derivative_free

    def draw(chunks: Array, key: Key, number: int) -> Array:
        return _picked(chunks, _drawn(-energy(chunks), key, number))

    def again(chunks: Array, i: Array) -> tuple[Array, None]:
        chosen, noise = rows.numbered(key, 2 * i), rows.numbered(key, 2 * i + 1)
        chunks = draw(chunks, chosen, chunks.shape[1]) + own.noise * own.shrink**i * rows.normal(noise, chunks.shape[1:])
        return jnp.clip(chunks, -config.reach(), config.reach()) if own.choice == "best" else chunks, None

    chunks, _ = jax.lax.scan(again, chunks, jnp.arange(own.iterations - 1))
    if own.choice == "best":
        return _picked(chunks, energy(chunks).argmin(1, keepdims=True))[:, 0]
    return draw(chunks, rows.numbered(key, 2 * own.iterations), 1)[:, 0]


def _slope(energy: Any, chunks: Array) -> Array:
    """Of the energy of each chunk, of their shape."""
    return jax.grad(lambda chunks: energy(chunks).sum())(chunks)


def _langevin(config: Config, energy: Any, chunks: Array, key: Key, mask: Array | None = None) -> Array:
    """Chunks [B, N, H, A] some way down the slope. Where `mask` [B, 1, H, A] is 0 they stay as they are."""
    own = config.langevin
    furthest = own.largest_step * config.reach()

    def step(chunks: Array, i: Array) -> tuple[Array, None]:
        share = 1.0 - i / max(own.iterations - 1, 1)
        length = (own.first_step - own.last_step) * share**own.power + own.last_step
        slope = _slope(energy, chunks)
        if own.gradient_clip:
            slope = jnp.clip(slope, -own.gradient_clip, own.gradient_clip)
        move = length * (0.5 * slope + own.noise * rows.normal(rows.numbered(key, i), chunks.shape[1:]))
        moved = jnp.clip(chunks - jnp.clip(move, -furthest, furthest), -config.reach(), config.reach())
        return moved if mask is None else jnp.where(mask > 0, moved, chunks), None

    chunks, _ = jax.lax.scan(step, chunks, jnp.arange(own.iterations))
    return chunks


def ibc(config: Config, spec: PolicySpec, network: Energy) -> Objective:
    """A batch holds `observation` and `action` `[B, horizon, action_dim]`, and may hold `mask` of the same shape, 0 at padding.

    The loss has one element per row (Florence et al. 2021, equation 1). Padding is 0 in the demonstrated chunk and in all others, so it
    tells nothing of which is which. Metrics tell how many numbers lie outside of the range, which the sampler never finds, and how often
    the demonstrated chunk had the least energy.
    """
    check_continuous(spec.action, "ibc", "the policy")
    shape = (spec.horizon, int(spec.action.shape[0]))

    def loss(params: Params, statistics: PyTree, batch: dict[str, Any], key: Key) -> tuple[Array, Array, PyTree, Metrics]:
        own, action = params["ibc"], batch["action"]
        mask = batch.get("mask", jnp.ones(action.shape))
        keys = jax.random.split(key, 6)
        condition, kept = network.encode(own, statistics["ibc"], batch["observation"], keys[0], train=True)
        present = (mask > 0)[:, None]
        shown = jnp.where(present, action[:, None], 0.0)
        positive = shown + config.positive_noise * jax.random.normal(keys[1], shown.shape)
        others = _uniform(config, jax.random.split(keys[2], len(action)), (config.negatives, *shape))
        others = jnp.where(present, others, 0.0)
        if config.negative == "langevin":
            still, seen = jax.lax.stop_gradient((own, condition))
            others = _langevin(config, lambda x: network.energy(still, x, seen), others, jax.random.split(keys[3], len(action)), present)
        chunks = jnp.where(present, jnp.concatenate([positive, jax.lax.stop_gradient(others)], 1), 0.0)
        scores = -network.energy(own, chunks, condition, keys[4], train=True)
        elements = info_nce(scores)
        if config.gradient_penalty:
            slope = jnp.where(present, _slope(lambda x: network.energy(own, x, condition, keys[5], train=True), chunks), 0.0)
            excess = jnp.maximum(jnp.abs(slope).max((2, 3)) - config.gradient_margin, 0.0)
            elements = elements + config.gradient_penalty * jnp.square(excess).mean(1)
        counts = present.any((1, 2, 3)).astype(elements.dtype)
        outside = ((jnp.abs(shown) > config.reach()) & present).sum() / jnp.maximum(present.sum(), 1)
        first = ((scores.argmax(1) == 0) * counts).sum() / jnp.maximum(counts.sum(), 1.0)
        return elements, counts, statistics | {"ibc": kept}, {"outside": outside, "first": first}

    def sample(params: Params, statistics: PyTree, observation: Observation, key: Key, context: Any = None) -> Array:
        del context  # whatever is in flight
        own = params["ibc"]
        condition, _ = network.encode(own, statistics["ibc"], observation)
        start, search = rows.numbered(key, 0), rows.numbered(key, 1)

        def energy(chunks: Array) -> Array:
            return network.energy(own, chunks, condition)

        chunks = _uniform(config, start, (config.samples, *shape))
        if config.sampler == "derivative_free":
            return _derivative_free(config, energy, chunks, search)
        chunks = _langevin(config, energy, chunks, search)
        return _picked(chunks, energy(chunks).argmin(1, keepdims=True))[:, 0]

    def init(key: Key) -> tuple[Params, PyTree]:
        params, statistics = network.init(key)
        return {"ibc": params}, {"ibc": statistics}

    batch_spec = with_axes(spec.observation, ("batch",), "observation/") | with_axes({"action": spec.action}, ("batch", spec.horizon))
    return Objective(init, loss, sample, spec, batch_spec)
