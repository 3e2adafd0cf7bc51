"""Actor and action-value critics over flat observations, as off-policy methods take them."""

from typing import NamedTuple

from jaxrl.distributions.return_distribution import ReturnDistribution
from jaxrl.types import StatefulNetwork


class ActorQ(NamedTuple):
    """`actor` maps an observation to `{"mean", "log_std"}`, both [..., A], before the squashing to [-1, 1].

    `critic` maps (observation, action [..., A] in [-1, 1]) to the outputs of an ensemble, [E, ..., size], which `returns` reads.
    """

    actor: StatefulNetwork
    critic: StatefulNetwork
    returns: ReturnDistribution
