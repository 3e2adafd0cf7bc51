"""Text that follows an observation, told token by token: answers about pictures, and what to do next (pi0.5,
https://arxiv.org/abs/2504.16054), which keep a language model able to tell them while it learns to act."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.losses.classification import cross_entropy
from jaxrl.networks.interface import ActingModel, TokenDecoder
from jaxrl.objectives._encoding import check_written, encoding
from jaxrl.ops.specs import with_axes
from jaxrl.types import Array, ArraySpec, Key, Metrics, Objective, Params, PolicySpec, PyTree, Shared


@dataclass(frozen=True)
class Config:
    """Answers have up to `length` tokens out of the `vocabulary` of the language model."""

    length: int = 32
    vocabulary: int = 257_152

    def __post_init__(self) -> None:
        for name in ("length", "vocabulary"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")


def output_shape(config: Config, spec: PolicySpec) -> tuple[int, ...]:
    """Of what the network has to put out for each row: tokens in a sequence, and tokens that there are."""
    del spec
    return config.length, config.vocabulary


def text(config: Config, spec: PolicySpec, network: TokenDecoder | ActingModel, shared: str = "") -> Objective:
    """A batch holds `observation` and `text/answer` `[B, length]`, int32, -1 where there is no token; a row may have none.

    The loss has an element for each token, the cross-entropy; an answer that ends holds the token that says so. It only teaches: what
    acts is another objective. Parameters go by the name `shared` where others have the network too.

    Raises:
        ValueError: the network writes no such answers.
    """
    name = shared or "text"
    encode = encoding(network, name)
    check_written("text", network, config.length, config.vocabulary)

    def init(key: Key) -> tuple[Params, PyTree]:
        params, statistics = network.init(key)
        return {name: params}, {name: statistics}

    def loss(
        params: Params, statistics: PyTree, batch: dict[str, Any], key: Key, condition: Any = None
    ) -> tuple[Array, Array, PyTree, Metrics]:
        answer, metrics = batch["text"]["answer"], Metrics()
        counts, written = answer >= 0, jnp.maximum(answer, 0)
        of_encoder, of_decoder = jax.random.split(key)
        if condition is None:
            condition, statistics, metrics = encode(params, statistics, batch, of_encoder)
        logits = network.logits(params[name], written, condition, of_decoder, train=True)
        right = ((logits.argmax(-1) == written) & counts).sum() / jnp.maximum(counts.sum(), 1)
        return cross_entropy(logits, written), counts.astype(jnp.float32), statistics, metrics | {"right": right}

    answers = {"text/answer": ArraySpec(("batch", config.length), "int32")}
    batch_spec = with_axes(spec.observation, ("batch",), "observation/") | answers
    return Objective(init, loss, None, spec, batch_spec, Shared(name, encode) if shared else None)
