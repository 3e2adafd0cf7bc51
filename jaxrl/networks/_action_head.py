"""From what an actor puts out to the parameters of a distribution over its actions."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.distributions.categorical import categorical
from jaxrl.distributions.distribution import Distribution
from jaxrl.distributions.normal import normal
from jaxrl.distributions.tanh_normal import tanh_normal
from jaxrl.ops.specs import check_continuous, num_choices
from jaxrl.types import Array, ArraySpec, Params

DISTRIBUTIONS = {"normal": normal, "tanh_normal": tanh_normal}


class ActionHead(NamedTuple):
    """`init` holds parameters of its own, beside those of the network whose output [..., input_size] it reads."""

    input_size: int
    init: Callable[[], Params]
    apply: Callable[[Params, Array], dict[str, Array]]  # (params, output) -> the parameters of `distribution`, [..., A] each
    distribution: Distribution


def check_std(initial_std: float, minimum_std: float) -> None:
    """Raises ValueError where a policy cannot begin as wide as it shall."""
    if initial_std <= minimum_std:
        raise ValueError(f"initial_std is {initial_std}, but must be above minimum_std, {minimum_std}")


def action_head(
    action: ArraySpec, who: str, distribution: str, standard_deviation: str, initial_std: float, minimum_std: float
) -> ActionHead:
    """One logit per choice of a discrete action, whatever the rest says; for vectors a mean and a standard deviation.

    `standard_deviation`: one free number per action dimension ("parameter"), named `std`, or an output of the network ("output").

    Raises:
        ValueError: the action is neither discrete nor a vector of floats; `who` is the network that asks.
    """
    if number := num_choices(action):
        return ActionHead(number, dict, lambda params, output: {"logits": output}, categorical())
    check_continuous(action, who, "this environment")
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

    return ActionHead(size * (2 if from_output else 1), init, apply, DISTRIBUTIONS[distribution]())
