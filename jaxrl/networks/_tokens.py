"""What an observation comes to as tokens: of each step of its history all that its cameras see is one, and each of its states."""

from typing import NamedTuple

import jax

from jaxrl.networks._observation import encoder
from jaxrl.networks.vision.cameras import names_of_cameras
from jaxrl.networks.vision.pooling import Vision
from jaxrl.types import Array, Key, Observation, Params, PyTree, Spec, StatefulNetwork


class Groups(NamedTuple):
    """`network` maps an observation [B, ...] to a tuple of features [B, steps, size], one for each group."""

    network: StatefulNetwork
    steps: int  # of history, the present one last
    sizes: tuple[int, ...]  # of the features of each group


def groups(observation: Spec, who: str, vision: Vision | None = None) -> Groups:
    """Pictures, then states in the order of their names.

    Raises:
        ValueError: as `encoder` does, or states are to drop out; `who` is the network that asks.
    """
    encoder(observation, who, vision)  # says what is wrong with all of it
    if vision is not None and vision.state_dropout:
        raise ValueError(f"{who}: state_dropout is {vision.state_dropout}, but states are tokens here, which do not drop out; set it to 0")
    pictures = names_of_cameras(vision.cameras, observation, who) if vision is not None else ()
    each = {"pictures": encoder({name: observation[name] for name in pictures}, who, vision)} if pictures else {}
    each |= {name: encoder({name: observation[name]}, who) for name in sorted(observation) if name.startswith("state/")}

    def init(key: Key) -> tuple[Params, PyTree]:
        keys = jax.random.split(key, len(each))
        begun = {name: one.network.init(k) for (name, one), k in zip(each.items(), keys, strict=True)}
        params, statistics = ({name: part[i] for name, part in begun.items() if jax.tree.leaves(part[i])} for i in range(2))
        return params, statistics

    def apply(
        params: Params, statistics: PyTree, x: Observation, key: Key | None = None, train: bool = False
    ) -> tuple[tuple[Array, ...], PyTree]:
        keys = [None] * len(each) if key is None else list(jax.random.split(key, len(each)))
        features: list[Array] = []
        kept: PyTree = {}
        for (name, one), own in zip(each.items(), keys, strict=True):
            output, after = one.network.apply(params.get(name, {}), statistics.get(name, {}), x, own, train)
            features.append(output)
            kept |= {name: after} if name in statistics else {}
        return tuple(features), kept

    first = next(iter(each.values()))
    return Groups(StatefulNetwork(init, apply), first.steps, tuple(one.size for one in each.values()))
