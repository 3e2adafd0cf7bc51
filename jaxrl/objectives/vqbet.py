"""VQ-BeT: a chunk as a few codes, which a transformer tells from what is seen, and an offset from what they decode to (Lee et al. 2024,
https://arxiv.org/abs/2403.03181). The numbers are those of LeRobot.

There are two stages, and a run for each. "codes" learns to write chunks as codes; "policy" learns to tell them, from `config.pretrained`,
the folder of the first run. There the encoder, the decoder and the codebooks are no parameters but statistics, so nothing moves them and
nothing has to be frozen.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxrl.losses.classification import focal
from jaxrl.losses.regression import absolute_error
from jaxrl.networks.mlp import mlp
from jaxrl.ops.padding import held, masked_mean
from jaxrl.ops.specs import check_continuous, with_axes
from jaxrl.tokenizers import residual_vq
from jaxrl.types import Array, Key, Metrics, Objective, Observation, Params, PolicySpec, PyTree, StatefulNetwork


@dataclass(frozen=True)
class Config:
    """A code stands for `chunk` steps, 0 for all that a batch holds of each row. Of more steps than that every window is a chunk: the
    network has a query for each, and the policy acts by the first.

    `hidden` are the layers of encoder and decoder. Of "codes", `commitment` weighs what draws the encoder to the codebooks. Of "policy",
    `code_weights` and `offset_weight` weigh the focal losses of the codes and the distance of what is predicted. Codes are drawn at
    `temperature`. The published loss predicts by codes that are "drawn" in training too: of two ways that are as likely, it pulls the
    offsets of each to the other one. Those of the "true" codes of the chunk learn what these leave of it.
    """

    stage: Literal["codes", "policy"] = "policy"
    chunk: int = 0
    codebooks: residual_vq.Config = field(default_factory=residual_vq.Config)
    hidden: tuple[int, ...] = (128, 128)
    commitment: float = 5.0
    code_weights: tuple[float, ...] = (5.0, 0.5)
    offset_weight: float = 10_000.0
    offsets: Literal["drawn", "true"] = "drawn"
    gamma: float = 2.0
    temperature: float = 0.1

    def __post_init__(self) -> None:
        if self.chunk < 0:
            raise ValueError(f"chunk is {self.chunk}, but must be 0, which takes all steps, or above")
        if len(self.code_weights) != self.codebooks.quantizers:
            raise ValueError(f"code_weights are {self.code_weights}, but must be one for each of {self.codebooks.quantizers} codebooks")
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, but must be above 0")
        for name in ("commitment", "offset_weight", "gamma"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must not be negative")


def _sizes(config: Config, spec: PolicySpec) -> tuple[int, int, int]:
    """Windows, steps of each, and dimensions of an action. Raises ValueError where a chunk is longer than what a batch holds."""
    steps = config.chunk or spec.horizon
    if steps > spec.horizon:
        raise ValueError(f"vqbet: chunk is {steps}, but a batch holds only {spec.horizon} steps; set the source's horizon to it or above")
    return spec.horizon - steps + 1, steps, int(spec.action.shape[0])


def output_shape(config: Config, spec: PolicySpec) -> tuple[int, ...]:
    """Of what the network has to put out for each row: for each window and code its logit, and an offset of the chunk."""
    windows, steps, dims = _sizes(config, spec)
    return windows, config.codebooks.quantizers, config.codebooks.codes, 1 + steps * dims


def _windows(x: Array, number: int) -> Array:
    """[B, H, A] to [B, number, H - number + 1, A]: those that begin at the first steps."""
    steps = x.shape[1] - number + 1
    return jnp.stack([x[:, i : i + steps] for i in range(number)], 1)


def vqbet(config: Config, spec: PolicySpec, network: StatefulNetwork) -> Objective:
    """`network` maps a batch of observations to outputs `[B, *output_shape(config, spec)]`; the stage "codes" does without.

    A batch holds `observation` and `action` `[B, horizon, action_dim]`, and may hold `mask` of the same shape, 0 at padding. An encoder
    reads a padded step as the last one before it. LeRobot's batches hold actions of the past too, which its queries of past steps learn
    from; here these only add to what the later ones see.

    Raises:
        ValueError: actions are no vectors, or a chunk is longer than what a batch holds.
    """
    check_continuous(spec.action, "vqbet", "the policy")
    number, steps, dims = _sizes(config, spec)
    size = config.codebooks.size
    encoder = mlp(steps * dims, config.hidden, size, "relu")
    decoder = mlp(size, config.hidden, steps * dims, "relu")

    def codes(key: Key) -> tuple[Params, PyTree]:
        keys = jax.random.split(key, 3)
        return {"encoder": encoder.init(keys[0]), "decoder": decoder.init(keys[1])}, residual_vq.init(config.codebooks, keys[2])

    def init(key: Key) -> tuple[Params, PyTree]:
        of_codes, of_network = jax.random.split(key)
        params, codebooks = codes(of_codes)
        if config.stage == "codes":
            return {"codes": params}, {"codes": {"codebooks": codebooks}}
        own, kept = network.init(of_network)
        return {"vqbet": own}, {"codes": params | {"codebooks": codebooks}, "vqbet": kept}

    def encode(params: Params, codebooks: residual_vq.Codebooks, chunks: Array) -> tuple[Array, residual_vq.Quantised]:
        latent = encoder.apply(params["encoder"], chunks.reshape(*chunks.shape[:-2], -1))
        return latent, residual_vq.quantise(codebooks, latent)

    def decode(params: Params, vector: Array) -> Array:
        return decoder.apply(params["decoder"], vector).reshape(*vector.shape[:-1], steps, dims)

    def windows(batch: dict[str, Any]) -> tuple[Array, Array, Array]:
        """Chunks as they are read, 0 at padding and [B, windows, steps, A] of their mask, and which hold anything."""
        action = batch["action"]
        mask = batch.get("mask", jnp.ones(action.shape))
        chunks, masks = _windows(held(action, mask), number), _windows(mask, number)
        return chunks, masks, (masks > 0).any((2, 3)).astype(chunks.dtype)

    def code_loss(params: Params, statistics: PyTree, batch: dict[str, Any], key: Key) -> tuple[Array, Array, PyTree, Metrics]:
        del key
        own, codebooks = params["codes"], statistics["codes"]["codebooks"]
        chunks, mask, present = windows(batch)
        latent, quantised = encode(own, codebooks, chunks)
        distance = absolute_error(decode(own, quantised.vector), chunks)
        elements = distance + config.commitment * quantised.commitment.sum(-1)[..., None, None]
        after = residual_vq.update(config.codebooks, codebooks, latent, quantised.codes, present)
        chosen = (jax.nn.one_hot(quantised.codes, config.codebooks.codes) * present[..., None, None]).sum((0, 1))
        metrics = {"distance": masked_mean(distance, mask), "used": (chosen > 0).mean()}
        return elements, mask, statistics | {"codes": {"codebooks": after}}, metrics

    def chosen(output: Array, statistics: PyTree, which: Array) -> tuple[Array, Array]:
        """What codes [B, windows, Q] decode to, and that with the offset of these codes."""
        kept = statistics["codes"]
        decoded = decode(kept, residual_vq.vectors(kept["codebooks"], which))
        offset = jnp.take_along_axis(output[..., 1:], which[..., None, None], -2)[..., 0, :].sum(-2)
        return decoded, decoded + offset.reshape(decoded.shape)

    def policy_loss(params: Params, statistics: PyTree, batch: dict[str, Any], key: Key) -> tuple[Array, Array, PyTree, Metrics]:
        of_network, of_codes = jax.random.split(key)
        chunks, mask, present = windows(batch)
        _, true = encode(statistics["codes"], statistics["codes"]["codebooks"], chunks)
        output, own = network.apply(params["vqbet"], statistics["vqbet"], batch["observation"], of_network, train=True)
        which = jax.random.categorical(of_codes, output[..., 0] / config.temperature)
        decoded, predicted = chosen(output, statistics, which if config.offsets == "drawn" else true.codes)
        distance = absolute_error(predicted, chunks)
        weights = jnp.asarray(config.code_weights).reshape(1, 1, -1)
        of_code = (focal(output[..., 0], true.codes, config.gamma) * weights).sum(-1)
        elements = of_code[..., None, None] + config.offset_weight * distance
        right = ((which == true.codes) * present[..., None]).sum((0, 1)) / jnp.maximum(present.sum(), 1.0)
        metrics = {f"code_{i}": right[i] for i in range(len(right))}
        metrics |= {"distance": masked_mean(distance, mask), "decoded": masked_mean(absolute_error(decoded, chunks), mask)}
        # 0 where the first stage was forgotten.
        metrics |= {"used": (statistics["codes"]["codebooks"].uses > 0).mean()}
        return elements, mask, statistics | {"vqbet": own}, metrics

    def sample(params: Params, statistics: PyTree, observation: Observation, key: Key, context: Any = None) -> Array:
        del context  # whatever is in flight
        if config.stage == "codes":
            return jnp.zeros((len(key), steps, dims))  # there is nobody yet who acts: the middle of the data
        output, _ = network.apply(params["vqbet"], statistics["vqbet"], observation)
        which = jax.vmap(lambda k, logits: jax.random.categorical(k, logits / config.temperature))(key, output[:, 0, ..., 0])
        return chosen(output[:, :1], statistics, which[:, None])[1][:, 0]

    batch_spec = with_axes(spec.observation, ("batch",), "observation/") | with_axes({"action": spec.action}, ("batch", spec.horizon))
    acts = spec._replace(horizon=steps, executed_steps=min(spec.executed_steps, steps))
    return Objective(init, code_loss if config.stage == "codes" else policy_loss, sample, acts, batch_spec)
