"""Any `Env` as a `HostEnv`, for the tests of what steps worlds from Python."""

from typing import Any

import jax
import numpy as np

from jaxrl.types import Env, HostEnv, HostWorlds, Observation, TimeStep


def on_host(env: Env) -> HostEnv:
    """Worlds of `env` in the nominal physics that keep their state between calls; a seed is that of a world's random numbers."""
    begin = jax.jit(jax.vmap(lambda key: env.reset(key, env.nominal)))
    advance = jax.jit(jax.vmap(lambda state, action, key: env.step(state, action, env.nominal, key)))
    split = jax.jit(jax.vmap(jax.random.split))

    def open_worlds(size: int) -> HostWorlds:
        kept: dict[str, Any] = {}

        def reset(which: Any, seed: int | None = None) -> Observation:
            if seed is not None:
                kept["keys"] = jax.vmap(jax.random.key)(np.arange(seed, seed + size))
            keys = split(kept["keys"])
            kept["keys"] = keys[:, 0]
            fresh = jax.device_get(begin(keys[:, 1]))
            old = kept.get("now", fresh)
            kept["now"] = jax.tree.map(lambda new, old: np.where(which.reshape(-1, *[1] * (new.ndim - 1)), new, old), fresh, old)
            return kept["now"][1]

        def step(action: Any) -> TimeStep:
            assert kept["now"] is not None, "reset first"
            keys = split(kept["keys"])
            kept["keys"] = keys[:, 0]
            state, result = jax.device_get(advance(kept["now"][0], action, keys[:, 1]))
            kept["now"] = (state, result.observation)
            return result

        return HostWorlds(reset, step, kept.clear)

    return HostEnv(env.spec, open_worlds)
