"""Between the actions of an environment and the interval [-1, 1] that squashed policies fill."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrl.ops.specs import check_continuous
from jaxrl.types import Array, ArraySpec


class ActionRange(NamedTuple):
    """Both map [..., A] to [..., A]."""

    to_action: Callable[[Array], Array]  # from [-1, 1]
    to_unit: Callable[[Array], Array]  # its inverse; actions outside of the range are clipped


def action_range(spec: ArraySpec, bound: float = 1.0) -> ActionRange:
    """That of an action [A]: from `low` to `high`, and from -bound to bound where the spec has no bounds.

    Raises:
        ValueError: the action is not a vector of floats.
    """
    check_continuous(spec, "action_range", "this environment")
    size = int(spec.shape[0])

    def limits(given: float | tuple[float, ...] | None, otherwise: float) -> np.ndarray:
        whole = np.broadcast_to(np.asarray(np.nan if given is None else given, np.float32), (size,))
        return np.where(np.isfinite(whole), whole, np.float32(otherwise))

    low, high = limits(spec.low, -bound), limits(spec.high, bound)
    middle, half = jnp.asarray((low + high) / 2), jnp.asarray((high - low) / 2)

    def spread(x: Array, like: Array) -> Array:
        return jnp.reshape(x, (1,) * (like.ndim - 1) + x.shape)

    return ActionRange(
        lambda unit: spread(middle, unit) + spread(half, unit) * unit,
        lambda action: jnp.clip((action - spread(middle, action)) / spread(half, action), -1.0, 1.0),
    )
