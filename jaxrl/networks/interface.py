"""Networks that objectives learn with, by their parts. The parts of one share its parameters and statistics.

An observation is encoded once, `encode`, however often a sampler then asks about it; rows of a condition come first, but behind the layers
in a cache of a transformer. `statistics` are running ones that come back changed where `train` is set, `{}` where there are none; a key has
a network drop out, where it does.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxrl.types import Array, Key, Metrics, Params, PyTree


def _no_measures(condition: Any) -> Metrics:
    """The `measures` of networks whose condition has nothing to tell."""
    del condition
    return {}


class Denoiser(NamedTuple):
    """Sees a chunk under noise, and says what the objective asks: the noise, the chunk, or the velocity between them.

    `time` [B] lies in [0, 1]: 0 is a clean chunk, 1 noise alone.
    """

    init: Callable[[Key], tuple[Params, PyTree]]  # key -> params, statistics
    encode: Callable[..., tuple[Any, PyTree]]  # (params, statistics, observation, key=None, train=False) -> condition [B, ...], statistics
    denoise: Callable[..., Array]  # (params, noisy [B, H, A], time [B], condition, key=None, train=False) -> [B, H, A]
    measures: Callable[[Any], Metrics] = _no_measures  # condition -> what of it is worth logging


class Energy(NamedTuple):
    """Says how ill a chunk fits an observation; the likeliest one has the least energy."""

    init: Callable[[Key], tuple[Params, PyTree]]  # key -> params, statistics
    encode: Callable[..., tuple[Any, PyTree]]  # (params, statistics, observation, key=None, train=False) -> condition [B, ...], statistics
    energy: Callable[..., Array]  # (params, chunks [B, N, H, A], condition, key=None, train=False) -> [B, N]


class Autoencoder(NamedTuple):
    """A chunk through a latent vector, given an observation (a conditional VAE)."""

    init: Callable[[Key], tuple[Params, PyTree]]  # key -> params, statistics
    encode: Callable[..., tuple[Any, PyTree]]  # (params, statistics, observation, key=None, train=False) -> condition [B, ...], statistics
    posterior: Callable[..., tuple[Array, Array]]
    # (params, observation, chunk [B, H, A], mask [B, H], key=None, train=False) -> mean [B, Z], log variance [B, Z] of the latent vector
    decode: Callable[..., Array]  # (params, latent [B, Z], condition, key=None, train=False) -> chunk [B, H, A]
    latent_size: int  # Z


class TokenDecoder(NamedTuple):
    """Says of each token of a sequence how likely each of V is, after the tokens before it and given an observation.

    `logits` has all of a sequence, while learning; `step` one after the other, while acting, from a cache of what it has read.
    """

    init: Callable[[Key], tuple[Params, PyTree]]  # key -> params, statistics
    encode: Callable[..., tuple[Any, PyTree]]  # (params, statistics, observation, key=None, train=False) -> condition [B, ...], statistics
    logits: Callable[..., Array]  # (params, tokens [B, L], condition, key=None, train=False) -> [B, L, V], of each given those before it
    begin: Callable[[Params, Any], PyTree]  # (params, condition) -> cache, of a sequence without a token yet
    step: Callable[..., tuple[Array, PyTree]]  # (params, last token [B], cache, condition) -> logits [B, V] of the next, cache
    # Before there is a last token, any stands for it.
    measures: Callable[[Any], Metrics] = _no_measures  # condition -> what of it is worth logging


class ActingModel(NamedTuple):
    """A `Denoiser` and a `TokenDecoder` over one tree of parameters, which read an observation once for both."""

    init: Callable[[Key], tuple[Params, PyTree]]
    encode: Callable[..., tuple[Any, PyTree]]
    denoise: Callable[..., Array]
    logits: Callable[..., Array]
    begin: Callable[[Params, Any], PyTree]
    step: Callable[..., tuple[Array, PyTree]]
    measures: Callable[[Any], Metrics]
    longest: int  # L at most
    vocabulary: int  # V
