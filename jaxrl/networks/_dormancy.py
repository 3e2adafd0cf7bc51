"""The share of neurons that a network does not use (Sokar et al. 2023, https://arxiv.org/abs/2302.12902, definition 3.1)."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxrl.types import Array


def dormant_share(call: Callable[[], Any], threshold: float) -> Array:
    """[] of the outputs of all dense layers that `call` passes through: those whose mean size is at most `threshold` of their layer's.

    `call` applies a network to a batch, not inside another `vmap`.

    Raises:
        ValueError: there is no dense layer.
    """
    dormant: list[Array] = []

    def watch(function: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output = function(*args, **kwargs)
        if isinstance(context.module, nn.Dense):
            size = jnp.abs(output).mean(range(output.ndim - 1))
            dormant.append(size <= threshold * size.mean())
        return output

    with nn.intercept_methods(watch):
        call()
    if not dormant:
        raise ValueError("dormant_share: the network has no dense layer")
    return jnp.concatenate(dormant).astype(jnp.float32).mean()
