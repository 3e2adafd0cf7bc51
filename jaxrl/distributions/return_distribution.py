"""What a critic says of a return: one number, the probabilities of bins, or quantiles."""

from collections.abc import Callable
from typing import NamedTuple

from jaxrl.types import Array


class ReturnDistribution(NamedTuple):
    """Told in `size` numbers per state and action: a critic's output, [..., size].

    Targets [..., size] are what `loss` compares an output with. They may be averaged: over critics that is the mean of their values or of
    their quantiles, or the mixture of their probabilities.
    """

    size: int
    mean: Callable[[Array], Array]  # output [..., size] -> the expected return [...]
    backup: Callable[[Array, Array, Array], Array]
    # (output [..., size], reward [...], discount [...]) -> the target [..., size], of reward + discount * return; no gradient goes through
    loss: Callable[[Array, Array], Array]  # (output, target) -> [...]
