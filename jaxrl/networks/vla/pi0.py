"""pi0 (Black et al. 2024, https://arxiv.org/abs/2410.24164): an expert for actions beside a PaliGemma, whose keys and values it sees."""

from dataclasses import dataclass, field

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks._denoising import chunk_shape
from jaxrl.networks.interface import Denoiser
from jaxrl.networks.transformer import gemma
from jaxrl.networks.transformer.experts import experts
from jaxrl.networks.transformer.paligemma import SIZES as PALIGEMMA
from jaxrl.networks.transformer.paligemma import Config as PaliGemma
from jaxrl.networks.transformer.paligemma import paligemma
from jaxrl.networks.vla import _prefix, _weights
from jaxrl.networks.vla._time import waves
from jaxrl.types import Array, Key, Observation, Params, PyTree, Spec


@dataclass(frozen=True)
class Config:
    """`seeing` reads pictures and words, and `action` is the expert beside it, which computes as `seeing.text` does.

    States and actions have up to `action_dim` numbers, and are 0 in the rest. `cameras` names those to see, without "image/", in the order
    that the model sees them in; none named are all, sorted. What is `insulated` of `seeing` learns nothing from the expert's loss
    (https://arxiv.org/abs/2505.23705).

    `weights` is what to begin with: the folder of a checkpoint of openpi; safetensors of PaliGemma, or of its Gemma or SigLIP alone, a file
    or a folder, beside which all else begins at random; or what `jaxrl weights` has written. Parameters that one of the patterns `fresh` is
    found in begin at random, and those of others that one is found in need not be used.
    """

    seeing: PaliGemma = field(default_factory=PaliGemma)
    action: gemma.Config = field(default_factory=lambda: gemma.SIZES["300m"])
    action_dim: int = 32
    cameras: tuple[str, ...] = ()
    insulated: bool = False
    weights: str = ""
    fresh: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.action.vocabulary or self.action.condition:
            raise ValueError("action: the expert has neither a vocabulary nor a condition here; set both to 0")
        if self.action_dim < 1:
            raise ValueError(f"action_dim is {self.action_dim}, but must be at least 1")
        _weights.check_fresh(self.weights, self.fresh)


SIZES = {"debug": Config(PALIGEMMA["debug"], gemma.SIZES["debug_expert"]), "3b": Config()}


class _Heads(nn.Module):
    """Between numbers and tokens, in float32."""

    width: int
    action_dim: int

    def setup(self) -> None:
        self.state_proj, self.action_in_proj = nn.Dense(self.width), nn.Dense(self.width)
        self.action_time_mlp_in, self.action_time_mlp_out = nn.Dense(self.width), nn.Dense(self.width)
        self.action_out_proj = nn.Dense(self.action_dim)

    def state(self, x: Array) -> Array:
        return self.state_proj(x)

    def tokens(self, noisy: Array, time: Array) -> Array:
        """[B, H, width] of actions [B, H, action_dim] at times [B]."""
        x = self.action_in_proj(noisy)
        wave = jnp.broadcast_to(waves(time, self.width)[:, None], x.shape)
        return self.action_time_mlp_out(nn.swish(self.action_time_mlp_in(jnp.concatenate([x, wave], -1))))

    def velocity(self, x: Array) -> Array:
        return self.action_out_proj(x.astype(jnp.float32))

    def __call__(self, x: Array, time: Array) -> Array:
        """What `init` runs."""
        return self.velocity(self.tokens(x, time) + self.state(x))


def pi0(config: Config, observation: Spec, output_shape: tuple[int, ...]) -> Denoiser:
    """Sees pictures `image/<camera>`, states and the instruction `task/instruction`: tokens, -1 where there is none.

    Parameters are those of `paligemma`, the expert's as "action", and what stands between numbers and tokens under openpi's names. The
    state is a token of the expert that does not see the actions, so it is read with the prefix, and a step of a sampler has tokens of
    actions alone. Where an action has fewer numbers than `action_dim`, the network sees no noise in the rest.

    Raises:
        ValueError: actions are no vectors or too long, or the observation is not of one step of such.
    """
    horizon, numbers = chunk_shape(output_shape, "pi0")
    seen = _prefix.layout(observation, config.cameras, config.action_dim, "pi0")
    if numbers > config.action_dim:
        raise ValueError(f"pi0 has room for {config.action_dim} numbers of an action, but it has {numbers}; set action_dim")
    seeing, width = paligemma(config.seeing), config.action.width
    sizes = {"text": config.seeing.text.size(), "action": config.action.size()}
    body = experts(sizes, config.seeing.text.computing, ("text",) if config.insulated else ())
    expert = experts({"action": sizes["action"]}, config.seeing.text.computing)
    heads = _Heads(width, config.action_dim)

    def init(key: Key) -> tuple[Params, PyTree]:
        of_seeing, of_expert, of_heads = jax.random.split(key, 3)
        made = heads.init(of_heads, jnp.zeros((1, 1, config.action_dim)), jnp.zeros(1))["params"]
        return seeing.init(of_seeing) | expert.init(of_expert) | dict(made), {}

    def run(method: str, params: Params, *arguments: Array) -> Array:
        return heads.apply({"params": params}, *arguments, method=method)  # type: ignore[return-value]

    def encode(
        params: Params, statistics: PyTree, x: Observation, key: Key | None = None, train: bool = False
    ) -> tuple[_prefix.Behind, PyTree]:
        del key, train
        prefix, valid = _prefix.tokens(seeing, config.seeing.vision.image, params, seen, x, _prefix.words(x))
        state = run("state", params, _prefix.padded(_prefix.state(seen, x), config.action_dim))[:, None]
        mask, places, *behind = _prefix.blocks(valid, (1, horizon))
        _, cache = body.read(params, {"text": prefix, "action": state}, mask, places)
        return _prefix.Behind(cache, *behind), statistics

    def denoise(params: Params, noisy: Array, time: Array, condition: _prefix.Behind, key: Key | None = None, train: bool = False) -> Array:
        del key, train
        x = run("tokens", params, _prefix.padded(noisy, config.action_dim), time)
        x = expert.apply(params, {"action": x}, condition.mask, condition.places, cache=condition.cache)["action"]
        return run("velocity", params, x)[..., :numbers]

    return Denoiser(_weights.beginning(init, config.weights, config.fresh), encode, denoise)
