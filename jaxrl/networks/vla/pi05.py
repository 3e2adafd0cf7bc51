"""pi0.5 (Physical Intelligence 2025, https://arxiv.org/abs/2504.16054): a state in words, and an expert whose norms follow the time.

Beside actions out of noise it writes tokens behind the same prefix: FAST's, or text. With `insulated` these alone teach what sees and reads
(Driess et al. 2025, https://arxiv.org/abs/2505.23705), and the expert learns from it without disturbing it.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks._denoising import chunk_shape
from jaxrl.networks.interface import ActingModel
from jaxrl.networks.transformer import gemma
from jaxrl.networks.transformer.experts import experts
from jaxrl.networks.transformer.paligemma import SIZES as PALIGEMMA
from jaxrl.networks.transformer.paligemma import Config as PaliGemma
from jaxrl.networks.transformer.paligemma import paligemma
from jaxrl.networks.vla import _prefix, _weights, _words
from jaxrl.networks.vla._time import waves
from jaxrl.networks.vla._writing import Read, last_of, writing
from jaxrl.types import Array, Key, Metrics, Observation, Params, PyTree, Spec

AFTER = ";\nAction: "  # a state, and so in front of what is said or done


@dataclass(frozen=True)
class Config:
    """As of `pi0`; the condition of the expert's norms is as wide as the expert.

    A state is written by `tokenizer`, the file of the language's own, in bins between `-limit` and `limit` of the numbers as they are
    normalised; or it is "hidden". Sequences have up to `longest` tokens.
    """

    seeing: PaliGemma = field(default_factory=PaliGemma)
    action: gemma.Config = field(default_factory=lambda: gemma.SIZES["300m"])
    action_dim: int = 32
    state: Literal["text", "hidden"] = "text"
    tokenizer: str = ""
    limit: float = 1.0
    longest: int = 256
    cameras: tuple[str, ...] = ()
    insulated: bool = False
    weights: str = ""
    fresh: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.action.vocabulary or self.action.condition:
            raise ValueError("action: the expert has no vocabulary, and its condition is as wide as itself; set both to 0")
        for name in ("action_dim", "longest"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        _words.check(self.state, self.tokenizer, self.limit)
        _weights.check_fresh(self.weights, self.fresh)


SIZES = {"debug": Config(PALIGEMMA["debug"], gemma.SIZES["debug_expert"]), "3b": Config()}


class Condition(NamedTuple):
    read: Read
    behind: _prefix.Behind  # as the expert sees it
    outside: Array  # bool [B, numbers of a state]


class _Heads(nn.Module):
    """Between numbers and tokens, in float32."""

    width: int
    action_dim: int

    def setup(self) -> None:
        self.action_in_proj, self.action_out_proj = nn.Dense(self.width), nn.Dense(self.action_dim)
        self.time_mlp_in, self.time_mlp_out = nn.Dense(self.width), nn.Dense(self.width)

    def tokens(self, noisy: Array) -> Array:
        return self.action_in_proj(noisy)

    def condition(self, time: Array) -> Array:
        """[B, 1, width] of times [B]."""
        return nn.swish(self.time_mlp_out(nn.swish(self.time_mlp_in(waves(time, self.width)))))[:, None]

    def velocity(self, x: Array) -> Array:
        return self.action_out_proj(x.astype(jnp.float32))

    def __call__(self, x: Array, time: Array) -> Array:
        """What `init` runs."""
        return self.velocity(self.tokens(x) + self.condition(time))


def pi05(config: Config, observation: Spec, output_shape: tuple[int, ...]) -> ActingModel:
    """Sees pictures `image/<camera>`, the instruction `task/instruction`, tokens, -1 where there is none, and states, of which it reads.

    `output_shape` is that of a chunk. Parameters are as of `pi0`, and tables of the state's text are statistics. Where an action has fewer
    numbers than `action_dim`, the network sees no noise in the rest.

    Raises:
        ValueError: actions are no vectors or too long, the observation is not of one step of such, or there is no tokenizer for the state.
    """
    horizon, numbers = chunk_shape(output_shape, "pi05")
    seen = _prefix.layout(observation, config.cameras, config.action_dim, "pi05")
    if numbers > config.action_dim:
        raise ValueError(f"pi05 has room for {config.action_dim} numbers of an action, but it has {numbers}; set action_dim")
    seeing, width = paligemma(config.seeing), config.action.width
    body = experts({"text": config.seeing.text.size()}, config.seeing.text.computing)
    expert = experts({"action": replace(config.action, condition=width).size()}, config.seeing.text.computing)
    told = _words.words(config.state, config.tokenizer, config.limit, AFTER, config.seeing.text.vocabulary, seen)
    heads, write = _Heads(width, config.action_dim), writing(seeing.text, config.longest)

    def init(key: Key) -> tuple[Params, PyTree]:
        of_seeing, of_expert, of_heads = jax.random.split(key, 3)
        made = heads.init(of_heads, jnp.zeros((1, 1, config.action_dim)), jnp.zeros(1))["params"]
        return seeing.init(of_seeing) | expert.init(of_expert) | dict(made), told.init()

    def run(method: str, params: Params, x: Array) -> Array:
        return heads.apply({"params": params}, x, method=method)  # type: ignore[return-value]

    def encode(params: Params, statistics: PyTree, x: Observation, key: Key | None = None, train: bool = False) -> tuple[Condition, PyTree]:
        del key, train
        text, outside = told.text(statistics, x)
        prefix, valid = _prefix.tokens(seeing, config.seeing.vision.image, params, seen, x, text)
        mask, places, *behind = _prefix.blocks(valid, (horizon,))
        after, cache = body.read(params, {"text": prefix}, mask, places)
        read = Read(cache, valid, last_of(after["text"], valid))
        shown = jax.lax.stop_gradient(cache) if config.insulated else cache
        return Condition(read, _prefix.Behind(shown, *behind), outside), statistics

    def denoise(params: Params, noisy: Array, time: Array, condition: Condition, key: Key | None = None, train: bool = False) -> Array:
        del key, train
        x, (cache, mask, places) = run("tokens", params, _prefix.padded(noisy, config.action_dim)), condition.behind
        x = expert.apply(params, {"action": x}, mask, places, {"action": run("condition", params, time)}, cache)["action"]
        return run("velocity", params, x)[..., :numbers]

    def measures(condition: Condition) -> Metrics:
        return _words.measures(condition.outside)

    def logits(params: Params, tokens: Array, condition: Condition, key: Key | None = None, train: bool = False) -> Array:
        return write.logits(params, tokens, condition.read, key, train)

    def begin(params: Params, condition: Condition) -> PyTree:
        return write.begin(params, condition.read)

    def step(params: Params, token: Array, cache: PyTree, condition: Condition) -> tuple[Array, PyTree]:
        return write.step(params, token, cache, condition.read)

    made: Any = _weights.beginning(init, config.weights, config.fresh)
    return ActingModel(made, encode, denoise, logits, begin, step, measures, config.longest, config.seeing.text.vocabulary)
