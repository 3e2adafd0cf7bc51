"""What an observation comes to as tokens: each of its groups is one, for each step of its history."""

from typing import NamedTuple

import jax

from jaxrl.networks._observation import encoder
from jaxrl.types import Array, Key, Observation, Params, PyTree, Spec, StatefulNetwork


class Groups(NamedTuple):
    """`network` maps an observation [B, ...] to a tuple of features [B, steps, size], one for each group."""

    network: StatefulNetwork
    steps: int  # of history, the present one last
    sizes: tuple[int, ...]  # of the features of each group


def groups(observation: Spec, who: str) -> Groups:
    """In the order of their names.

    Raises:
        ValueError: as `encoder` does; `who` is the network that asks.
    """
    encoder(observation, who)  # says what is wrong with all of it
    names = tuple(sorted(name for name in observation if name.startswith("state/")))
    each = {name: encoder({name: observation[name]}, who) for name in names}

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
