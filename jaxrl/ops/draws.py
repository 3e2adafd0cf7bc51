"""Random numbers by name."""

from itertools import accumulate

import jax

from jaxrl.types import Array, Key


def uniforms(key: Key, /, **sizes: int) -> dict[str, Array]:
    """Uniform draws in [0, 1), [size] by name, from one call: each call of the generator costs compile time."""
    draws = jax.random.uniform(key, (sum(sizes.values()),))
    ends = accumulate(sizes.values())
    return {name: draws[end - size : end] for (name, size), end in zip(sizes.items(), ends, strict=True)}
