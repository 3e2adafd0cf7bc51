"""Residual vector quantisation with codebooks that follow the data (van den Oord et al. 2017, https://arxiv.org/abs/1711.00937, appendix
A.1; Zeghidour et al. 2021, https://arxiv.org/abs/2107.03312, algorithm 1; of action chunks in VQ-BeT, Lee et al. 2024,
https://arxiv.org/abs/2403.03181).

A vector is told by Q codes: that of the nearest entry of the first codebook, of what is left the nearest of the second, and so on. Encoder
and decoder are networks of the caller. The numbers are those of LeRobot's VQ-BeT.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.types import Array, Key


@dataclass(frozen=True)
class Config:
    """`quantizers` codebooks of `codes` vectors of `size` numbers. `decay` and `epsilon` are those of the running averages."""

    quantizers: int = 2
    codes: int = 16
    size: int = 256
    decay: float = 0.8
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("quantizers", "codes", "size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay is {self.decay}, but must be at least 0 and below 1, where codebooks would never move")
        if self.epsilon <= 0:
            raise ValueError(f"epsilon is {self.epsilon}, but must be above 0")


class Codebooks(NamedTuple):
    """No gradient reaches them: they are statistics. To freeze them, do not `update` them."""

    vectors: Array  # [Q, K, D]
    uses: Array  # [Q, K], running average of how many vectors of a batch choose each
    total: Array  # [Q, K, D], running average of the sum of those


class Quantised(NamedTuple):
    """Of vectors [..., D]."""

    codes: Array  # int32 [..., Q]
    vector: Array  # [..., D], the sum of the chosen entries; its gradient goes on to the vector once for each codebook
    commitment: Array  # [..., Q], the mean square of what each codebook leaves; its gradient draws the vector towards the entries


def init(config: Config, key: Key) -> Codebooks:
    """Entries are even in +-sqrt(6 / (K D)), which is PyTorch's `kaiming_uniform_`; nothing has chosen any yet."""
    bound = (6.0 / (config.codes * config.size)) ** 0.5
    vectors = jax.random.uniform(key, (config.quantizers, config.codes, config.size), minval=-bound, maxval=bound)
    return Codebooks(vectors, jnp.zeros(vectors.shape[:2]), vectors)


def _nearest(entries: Array, x: Array) -> Array:
    """int32 [...], which of `entries` [K, D] is nearest to each `x` [..., D]; the first of several."""
    product = jnp.einsum("...d,kd->...k", x, entries, precision=jax.lax.Precision.HIGHEST)
    square = jnp.square(entries).sum(-1)
    return jnp.argmin(square.reshape(*(1,) * (x.ndim - 1), -1) - 2.0 * product, -1).astype(jnp.int32)


def quantise(codebooks: Codebooks, x: Array) -> Quantised:
    """Of `x` [..., D].

    The sum of stages that each pass on their gradient whole: the encoder gets the gradient of what is decoded Q times, as in LeRobot.
    """
    entries = jax.lax.stop_gradient(codebooks.vectors)
    left, vector = x, jnp.zeros_like(x)
    codes, commitment = [], []
    for one in entries:
        code = _nearest(jax.lax.stop_gradient(one), jax.lax.stop_gradient(left))
        chosen = one[code]
        commitment.append(jnp.square(chosen - left).mean(-1))
        vector = vector + left + jax.lax.stop_gradient(chosen - left)
        left = left - chosen
        codes.append(code)
    return Quantised(jnp.stack(codes, -1), vector, jnp.stack(commitment, -1))


def vectors(codebooks: Codebooks, codes: Array) -> Array:
    """The sum of the entries of `codes` [..., Q], [..., D], without gradient.

    Fewer than Q codes are a coarser vector. A code that is none makes NaN.
    """
    stages = [
        jnp.take(jax.lax.stop_gradient(codebooks.vectors[i]), codes[..., i], axis=0, mode="fill", fill_value=jnp.nan)
        for i in range(codes.shape[-1])
    ]
    return sum(stages[1:], stages[0])


def update(config: Config, codebooks: Codebooks, x: Array, codes: Array, mask: Array | None = None) -> Codebooks:
    """After vectors `x` [..., D] that were given `codes` [..., Q] by these codebooks. Those whose `mask` [...] is 0 do not count.

    Over a sharded batch under `jit` the sums are global ones. Entries that nothing chooses first leap away and come back by `decay` with
    each batch, until something does: `epsilon` alone is in their denominator.
    """
    x = jax.lax.stop_gradient(x).reshape(-1, x.shape[-1])
    codes = codes.reshape(len(x), -1)
    weight = jnp.ones(len(x)) if mask is None else (mask.reshape(-1) > 0).astype(x.dtype)
    left = x if mask is None else jnp.where(weight[:, None] > 0, x, 0.0)
    averages = []
    for i in range(config.quantizers):
        chose = jax.nn.one_hot(codes[:, i], config.codes) * weight[:, None]
        summed = jnp.einsum("nk,nd->kd", chose, left, precision=jax.lax.Precision.HIGHEST)
        averages.append((chose.sum(0), summed))
        left = left - codebooks.vectors[i][codes[:, i]]
    counted, summed = (jnp.stack(parts) for parts in zip(*averages, strict=True))
    uses = config.decay * codebooks.uses + (1.0 - config.decay) * counted
    total = config.decay * codebooks.total + (1.0 - config.decay) * summed
    whole = uses.sum(-1, keepdims=True)
    smoothed = (uses + config.epsilon) / (whole + config.codes * config.epsilon) * whole
    # As long as nothing at all has counted, there is nothing to divide by.
    moved = jnp.where(whole[..., None] > 0, total / jnp.where(whole > 0, smoothed, 1.0)[..., None], codebooks.vectors)
    return Codebooks(moved, uses, total)
