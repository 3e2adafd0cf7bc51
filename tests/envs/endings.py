"""Many steps of an environment through `auto_reset`."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.curricula.static import fixed
from jaxrl.rollout.auto_reset import Draws, Worlds, auto_reset
from jaxrl.types import Array, Env, Observation, TimeStep


def endings(env: Env, action: Array, steps: int) -> tuple[Observation, TimeStep, Array, Worlds]:
    """Of each step [T, B]: what was seen before it, what it yielded, where an episode ended, the worlds after it."""
    parts = auto_reset(env, fixed(env.sample), pool_size=4, stagger=False)

    @jax.jit
    def run(key: Array) -> Any:
        draws = Draws((), ())
        pool = parts.pool(key, draws)
        begun = parts.init(key, jnp.arange(action.shape[0], dtype=jnp.int32), pool, draws)

        def body(worlds: Worlds, key: Array) -> tuple[Worlds, Any]:
            later, _, result, ended = parts.step(worlds, action, pool, draws, key)
            return later, (worlds.observation, result, ended, later._replace(env=()))

        return jax.lax.scan(body, begun, jax.random.split(key, steps))[1]

    before, result, ended, worlds = run(jax.random.key(0))
    return before, result, ended, worlds
