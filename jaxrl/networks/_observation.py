"""What an observation comes to as a vector of features for each of its steps."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.networks.vision.cameras import names_of_cameras
from jaxrl.networks.vision.pooling import Vision, pooled
from jaxrl.types import Array, Key, Network, Observation, Params, PyTree, Spec, StatefulNetwork


class Encoder(NamedTuple):
    """`network` maps an observation [B, ...] to features [B, steps, size]."""

    network: StatefulNetwork
    steps: int  # of history, the present one last
    size: int  # of the features of each step


def seeing(seen: Encoder, network: Network) -> StatefulNetwork:
    """`network` of features [..., steps, size] as one of observations; its parameters have those of the encoder beside them."""

    def init(key: Key) -> tuple[Params, PyTree]:
        params, statistics = seen.network.init(jax.random.fold_in(key, 1))
        return beside(params, **network.init(key)), statistics

    def apply(params: Params, statistics: PyTree, x: Observation, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        own = None if key is None else jax.random.fold_in(key, 1)
        features, statistics = seen.network.apply(params.get("encoder", {}), statistics, x, own, train)
        return network.apply(params, features, key, train), statistics

    return StatefulNetwork(init, apply)


def beside(encoder: Params, **parts: Params) -> Params:
    """The parameters of an encoder, where it has any, and of what follows it: a part without leaves would be lost in a checkpoint."""
    return ({"encoder": encoder} if jax.tree.leaves(encoder) else {}) | parts


def _steps(observation: Spec, names: tuple[str, ...], who: str) -> int:
    """How many steps of history the states have: [n] is one, [steps, n] says so itself."""
    shapes = {name: observation[name].shape for name in names}
    if odd := [name for name, shape in shapes.items() if len(shape) not in (1, 2)]:
        raise ValueError(f"{who} takes states [n] or [history, n], but {odd[0]} has the shape {shapes[odd[0]]}")
    lengths = {name: int(shape[0]) if len(shape) == 2 else 1 for name, shape in shapes.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{who} takes states of one history, but they differ: {lengths}")
    return next(iter(lengths.values()))


def encoder(observation: Spec, who: str, vision: Vision | None = None) -> Encoder:
    """Every `state/<group>`, [n] or [history, n], side by side in the order of their names, and behind them what the cameras see.

    Without `vision` pictures are not looked at. A key makes pictures different, and states drop out, where `train` is set.

    Raises:
        ValueError: there is neither a state nor a picture, a state is no vector for each step, their histories differ, or pictures are not
            what `vision` takes; `who` is the network that asks.
    """
    names = tuple(sorted(name for name in observation if name.startswith("state/")))
    look = pooled(vision, observation, who) if vision is not None and names_of_cameras(vision.cameras, observation, who) else None
    if not names and look is None:
        wanted = "state/<group>" if vision is None else "state/<group> or image/<camera>"
        raise ValueError(f"{who} needs at least one {wanted} observation; offered are {', '.join(sorted(observation)) or 'none'}")
    steps = _steps(observation, names, who) if names or look is None else look.steps
    if look is not None and look.steps != steps:
        raise ValueError(f"{who} takes states and pictures of one history, but states have {steps} steps and pictures {look.steps}")
    if vision is not None and vision.state_dropout and look is None:
        raise ValueError(f"{who}: state_dropout is {vision.state_dropout}, but without pictures nothing would be left to see; set it to 0")
    size = sum(int(observation[name].shape[-1]) for name in names)

    def init(key: Key) -> tuple[Params, PyTree]:
        return look.network.init(key) if look is not None else ({}, {})

    def apply(params: Params, statistics: PyTree, x: Observation, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        parts = [x[name] if len(observation[name].shape) == 2 else x[name][..., None, :] for name in names]
        if look is None:
            return jnp.concatenate(parts, -1), statistics
        own, dropping = (None, None) if key is None else jax.random.split(key)
        seen, statistics = look.network.apply(params, statistics, x, own, train)
        if vision is not None and vision.state_dropout and train and dropping is not None:
            kept = jax.random.bernoulli(dropping, 1.0 - vision.state_dropout, (*seen.shape[:-2], 1, 1))
            parts = [jnp.where(kept, part, 0.0) for part in parts]
        return jnp.concatenate([*parts, seen], -1), statistics

    return Encoder(StatefulNetwork(init, apply), steps, size + (look.size if look is not None else 0))
