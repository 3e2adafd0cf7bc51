"""What an observation comes to as a vector of features for each of its steps."""

from typing import NamedTuple

import jax.numpy as jnp

from jaxrl.types import Array, Key, Observation, Params, PyTree, Spec, StatefulNetwork


class Encoder(NamedTuple):
    """`network` maps an observation [B, ...] to features [B, steps, size]."""

    network: StatefulNetwork
    steps: int  # of history, the present one last
    size: int  # of the features of each step


def _steps(observation: Spec, names: tuple[str, ...], who: str) -> int:
    """How many steps of history the states have: [n] is one, [steps, n] says so itself."""
    shapes = {name: observation[name].shape for name in names}
    if odd := [name for name, shape in shapes.items() if len(shape) not in (1, 2)]:
        raise ValueError(f"{who} takes states [n] or [history, n], but {odd[0]} has the shape {shapes[odd[0]]}")
    lengths = {name: int(shape[0]) if len(shape) == 2 else 1 for name, shape in shapes.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{who} takes states of one history, but they differ: {lengths}")
    return next(iter(lengths.values()))


def encoder(observation: Spec, who: str) -> Encoder:
    """Every `state/<group>`, [n] or [history, n], side by side in the order of their names.

    Raises:
        ValueError: there is no state, one is no vector for each step, or their histories differ; `who` is the network that asks.
    """
    names = tuple(sorted(name for name in observation if name.startswith("state/")))
    if not names:
        raise ValueError(f"{who} needs at least one state/<group> observation; offered are {', '.join(sorted(observation)) or 'none'}")
    steps = _steps(observation, names, who)
    size = sum(int(observation[name].shape[-1]) for name in names)

    def init(key: Key) -> tuple[Params, PyTree]:
        del key
        return {}, {}

    def apply(params: Params, statistics: PyTree, x: Observation, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        del params, key, train
        parts = [x[name] if len(observation[name].shape) == 2 else x[name][..., None, :] for name in names]
        return jnp.concatenate(parts, -1), statistics

    return Encoder(StatefulNetwork(init, apply), steps, size)
