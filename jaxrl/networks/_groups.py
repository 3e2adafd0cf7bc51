"""The groups of an observation that a network takes side by side."""

import jax.numpy as jnp

from jaxrl.types import Array, Observation, Spec


def groups(observation: Spec, who: str, kinds: tuple[str, ...] = ("state",)) -> tuple[str, ...]:
    """The names of every `<kind>/<group>`: in the order of `kinds`, and sorted within each.

    Raises:
        ValueError: there is none of the first kind, or one is not a vector; `who` is the network that asks.
    """
    found = [sorted(name for name in observation if name.startswith(f"{kind}/")) for kind in kinds]
    if not found[0]:
        offered = ", ".join(sorted(observation)) or "none"
        raise ValueError(f"{who} needs at least one {kinds[0]}/<group> observation; offered are {offered}")
    names = tuple(name for some in found for name in some)
    for name in names:
        if len(observation[name].shape) != 1:
            raise ValueError(f"{who} takes vectors, but {name} has the shape {observation[name].shape}")
    return names


def images(observation: Spec, who: str) -> tuple[str, ...]:
    """The names of every `image/<camera>`, sorted.

    Raises:
        ValueError: one is no uint8 [height, width, channels], or they differ in size; `who` is the network that asks.
    """
    names = tuple(sorted(name for name in observation if name.startswith("image/")))
    for name in names:
        shape, dtype = observation[name].shape, observation[name].dtype
        if len(shape) != 3 or dtype != "uint8":
            raise ValueError(f"{who} takes images [height, width, channels] of uint8, but {name} has the shape {shape} of {dtype}")
    sizes = {name: observation[name].shape[:2] for name in names}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"{who} takes images of one size, but they differ: {sizes}")
    return names


def width(observation: Spec, names: tuple[str, ...]) -> int:
    """The number of entries that `concatenate` yields."""
    return sum(int(observation[name].shape[0]) for name in names)


def concatenate(observation: Observation, names: tuple[str, ...]) -> Array:
    """The named groups, each [..., n], side by side."""
    return jnp.concatenate([observation[name] for name in names], -1)
