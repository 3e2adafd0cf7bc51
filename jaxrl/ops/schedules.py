"""Numbers that change with a count, of updates or steps."""

import jax.numpy as jnp

from jaxrl.types import Array


def linear(count: Array, start: float, end: float, duration: int) -> Array:
    """From `start` at 0 evenly to `end` at `duration`, and `end` from there on; any shape."""
    share = jnp.clip(count.astype(jnp.float32) / duration, 0.0, 1.0)
    return start + (end - start) * share
