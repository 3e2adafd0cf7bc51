"""From what an actor puts out to the mean and standard deviation of its actions."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.types import Array, ArraySpec, Params


class NormalHead(NamedTuple):
    """`init` holds parameters of its own, beside those of the network whose output [..., input_size] it reads."""

    input_size: int
    init: Callable[[], Params]
    apply: Callable[[Params, Array], dict[str, Array]]  # (params, output) -> {"mean", "log_std"}, both [..., A]


def check_std(initial_std: float, minimum_std: float) -> None:
    """Raises ValueError where a policy cannot begin as wide as it shall."""
    if initial_std <= minimum_std:
        raise ValueError(f"initial_std is {initial_std}, but must be above minimum_std, {minimum_std}")


def normal_head(action: ArraySpec, who: str, standard_deviation: str, initial_std: float, minimum_std: float) -> NormalHead:
    """`standard_deviation`: one free number per action dimension ("parameter"), named `std`, or an output of the network ("output").

    Raises:
        ValueError: the action is not a vector; `who` is the network that asks.
    """
    if len(action.shape) != 1:
        raise ValueError(f"{who} needs actions that are vectors, but theirs has the shape {action.shape}")
    size = int(action.shape[0])
    from_output = standard_deviation == "output"
    # softplus(offset) + minimum_std == initial_std
    offset = jnp.log(jnp.expm1(initial_std - minimum_std))

    def init() -> Params:
        return {} if from_output else {"std": jnp.full(size, offset, jnp.float32)}

    def apply(params: Params, output: Array) -> dict[str, Array]:
        if from_output:
            mean, raw = jnp.split(output, 2, -1)
            raw = raw + offset
        else:
            mean = output
            raw = jnp.broadcast_to(params["std"], mean.shape)
        return {"mean": mean, "log_std": jnp.log(jax.nn.softplus(raw) + minimum_std)}

    return NormalHead(size * (2 if from_output else 1), init, apply)
