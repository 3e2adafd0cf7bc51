"""What curricula share: boxes in the unit cube of an environment's physics parameters."""

import jax.numpy as jnp
import numpy as np

from jaxrl.types import Array, Env, Metrics, Space


def space_of(env: Env, curriculum: str) -> Space:
    """The environment's space. Raises ValueError where nothing varies."""
    if env.space is None:
        raise ValueError(f"curriculum {curriculum}: {env.spec.name} varies nothing; give its config ranges, such as env.randomization")
    return env.space


def _box(space: Space, below: Array, above: Array) -> tuple[Array, Array]:
    """The lowest and the highest point [D] of a box about the nominal one, which reaches the shares `below` and `above` [G] of the way
    to the ends."""
    group, center = np.asarray(space.group), jnp.asarray(space.center, jnp.float32)
    return center * (1.0 - below[group]), center + (1.0 - center) * above[group]


def inside(space: Space, below: Array, above: Array, point: Array) -> Array:
    """The point [D] squeezed into that box."""
    low, high = _box(space, below, above)
    return low + (high - low) * point


def box_metrics(space: Space, below: Array, above: Array) -> Metrics:
    """The lowest and the highest value of each parameter in that box, in its unit; of a vector, that of any entry."""
    low, high = (space.quantile(end) for end in _box(space, below, above))
    rows = {name: np.flatnonzero(np.asarray(space.group) == g) for g, name in enumerate(space.names)}
    lowest = {f"curriculum/{name}/low": low[own].min() for name, own in rows.items()}
    return lowest | {f"curriculum/{name}/high": high[own].max() for name, own in rows.items()}


def update_mean(total: Array, count: Array) -> Array:
    """The mean, 0 where nothing was counted."""
    return total / jnp.maximum(count, 1.0)
