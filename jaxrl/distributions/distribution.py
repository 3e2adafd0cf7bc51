"""What a distribution over actions is."""

from collections.abc import Callable
from typing import NamedTuple

from jaxrl.types import Array, ArraySpec, Key, Params, Spec


class Distribution(NamedTuple):
    """Over `x`, from which `to_action` makes the action by a fixed bijection. `log_prob` and `entropy` are those of the action.

    Keeping `x` beside the action spares the inverse of the bijection, which loses digits near its ends. Of a discrete action `x` is [...].
    """

    sample: Callable[[Params, Key], Array]  # x, [..., A], one draw per row of the parameters
    log_prob: Callable[[Params, Array], Array]  # [..., A] -> [...]
    entropy: Callable[[Params, Key], Array]  # [...]; the key is for estimates by sampling
    kl: Callable[[Params, Params], Array]  # KL(p || q), [...]
    mode: Callable[[Params], Array]  # x, [..., A]
    to_action: Callable[[Array], Array]
    parameters: Callable[[ArraySpec], Spec]  # action -> what the parameters are, of one row
    discrete: bool = False  # over one of a number of choices
