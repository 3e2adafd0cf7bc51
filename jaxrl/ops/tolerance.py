"""Rewards that are 1 within bounds and fall off smoothly outside, as in the DeepMind Control Suite (Tassa et al. 2018, section 2)."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

Array = jax.Array


def _finite_support(scaled: Array, value: Array) -> Array:
    return jnp.where(jnp.abs(scaled) < 1, value, 0.0)


# Each takes the distance in margins and the value wanted at distance 1.
_SIGMOIDS: dict[str, Callable[[Array, float], Array]] = {
    "gaussian": lambda d, v: jnp.exp(jnp.square(d) * math.log(v)),
    "hyperbolic": lambda d, v: 1 / jnp.cosh(d * math.acosh(1 / v)),
    "long_tail": lambda d, v: 1 / (1 + jnp.square(d) * (1 / v - 1)),
    "reciprocal": lambda d, v: 1 / (1 + jnp.abs(d) * (1 / v - 1)),
    "tanh_squared": lambda d, v: 1 - jnp.square(jnp.tanh(d * math.atanh(math.sqrt(1 - v)))),
    "linear": lambda d, v: _finite_support(d * (1 - v), 1 - d * (1 - v)),
    "quadratic": lambda d, v: _finite_support(d * math.sqrt(1 - v), 1 - jnp.square(d) * (1 - v)),
    "cosine": lambda d, v: _finite_support(d * math.acos(2 * v - 1) / math.pi, (1 + jnp.cos(d * math.acos(2 * v - 1))) / 2),
}
_REACH_ZERO = ("linear", "quadratic", "cosine")


def tolerance(
    x: Array,
    bounds: tuple[float, float] = (0.0, 0.0),
    margin: float = 0.0,
    value_at_margin: float = 0.1,
    sigmoid: str = "gaussian",
) -> Array:
    """1 where `x` is within `bounds`, `value_at_margin` at the distance `margin` from them, 0 outside if `margin` is 0. Any shape.

    Raises:
        ValueError: bounds in the wrong order, a negative margin, an unknown sigmoid, or a value that the sigmoid cannot have there.
    """
    lower, upper = bounds
    if lower > upper:
        raise ValueError(f"tolerance: the lower bound {lower} is above the upper bound {upper}")
    if margin < 0:
        raise ValueError(f"tolerance: margin {margin} is negative")
    if sigmoid not in _SIGMOIDS:
        raise ValueError(f"tolerance: sigmoid {sigmoid!r} is unknown; there are {', '.join(_SIGMOIDS)}")
    if not 0 <= value_at_margin < 1 or (value_at_margin == 0 and sigmoid not in _REACH_ZERO):
        raise ValueError(f"tolerance: value_at_margin {value_at_margin} is out of range for the sigmoid {sigmoid}")
    within = (lower <= x) & (x <= upper)
    if margin == 0:
        return jnp.where(within, 1.0, 0.0)
    distance = jnp.where(x < lower, lower - x, x - upper) / margin
    return jnp.where(within, 1.0, _SIGMOIDS[sigmoid](distance, value_at_margin))
