"""What curricula share: boxes in the unit cube of an environment's physics parameters."""

import jax.numpy as jnp
import numpy as np

from jaxrl.types import Array, Env, Metrics, Space


def space_of(env: Env, curriculum: str) -> Space:
    """The environment's space. Raises ValueError where nothing varies."""
    if env.space is None:
        raise ValueError(f"curriculum {curriculum}: {env.spec.name} varies nothing; give its config ranges, such as env.randomization")
    return env.space


def group_centers(space: Space) -> np.ndarray:
    """[G] the place of each parameter's nominal value in its range."""
    first = [space.group.index(g) for g in range(len(space.names))]
    return np.asarray(space.center, np.float32)[first]


def inside(space: Space, below: Array, above: Array, point: Array) -> Array:
    """The point [D] squeezed into a box about the nominal one, which reaches the shares `below` and `above` [G] of the way to the ends."""
    group, center = np.asarray(space.group), jnp.asarray(space.center, jnp.float32)
    low = center * (1.0 - below[group])
    high = center + (1.0 - center) * above[group]
    return low + (high - low) * point


def box_metrics(space: Space, below: Array, above: Array) -> Metrics:
    """The ends of that box, in the parameters' units."""
    center = jnp.asarray(group_centers(space))
    ends = {"low": center * (1.0 - below), "high": center + (1.0 - center) * above}
    values = {side: space.quantile(places) for side, places in ends.items()}
    return {f"curriculum/{name}/{side}": values[side][g] for side in ends for g, name in enumerate(space.names)}


def update_mean(total: Array, count: Array) -> Array:
    """The mean, 0 where nothing was counted."""
    return total / jnp.maximum(count, 1.0)
