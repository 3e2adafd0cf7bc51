"""A policy in its environment from where demonstrations began: what it does there is what it was shown."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl.evaluation.play import Played, play, repeat
from jaxrl.evaluation.play_on_host import play_on_host
from jaxrl.types import Array, Env, HostEnv, HostWorlds, Key, Observation, Params, Policy, PyTree, TimeStep

DRAWN = 2048  # starts that an environment draws, of which the nearest are taken
DRAWN_ON_HOST = 1024
_FIRST = 10_000  # seed of the first of these on the host


class Starts(NamedTuple):
    """Of each demonstration the nearest start that the environment has drawn."""

    number: np.ndarray  # [E] int64 of the draw
    distance: np.ndarray  # [E] of its states to the demonstration's, root of the mean square, in deviations of demonstrated states


def nearest_starts(env: Env | HostEnv, states: Mapping[str, np.ndarray], deviation: Mapping[str, np.ndarray], seed: int) -> Starts:
    """`states` {name: [E, D]} is what demonstrations saw first, `deviation` {name: [D]} how much demonstrated states vary.

    Environments cannot be put into a state that was only seen, but draw their starts from where demonstrations began too.
    """
    from scipy.spatial import KDTree

    drawn = _on_host(env) if isinstance(env, HostEnv) else _on_device(env, seed)
    scale = {name: np.maximum(deviation[name], 1e-6) for name in sorted(states)}
    one, other = (np.concatenate([table[name] / scale[name] for name in scale], 1) for table in (states, drawn))
    away, number = KDTree(other).query(one)
    return Starts(np.asarray(number, np.int64), np.asarray(away) / np.sqrt(one.shape[1]))


def _on_device(env: Env, seed: int) -> dict[str, np.ndarray]:
    _, seen = jax.jit(jax.vmap(env.reset))(_keys(seed), repeat(env.nominal, DRAWN))
    return {name: np.asarray(x) for name, x in seen.items()}


def _keys(seed: int) -> Key:
    return jax.random.split(jax.random.key(seed), DRAWN)


def _on_host(env: HostEnv) -> dict[str, np.ndarray]:
    worlds = env.open(1)
    try:
        seen = [worlds.reset(np.ones(1, bool), _FIRST + number) for number in range(DRAWN_ON_HOST)]
        return {name: np.concatenate([np.asarray(one[name]) for one in seen]) for name in seen[0]}
    finally:
        worlds.close()


def play_from(env: Env | HostEnv, policy: Policy, params: Params, starts: Starts, seed: int) -> Played:
    """An episode from each start, in the nominal world, as numpy arrays."""
    number = len(starts.number)
    if isinstance(env, HostEnv):
        return play_on_host(_host_from(env, starts.number), policy, params, number, 0)
    run = play(_from(env), policy, num_episodes=number)
    begun = _keys(seed)[starts.number]
    return jax.device_get(run(params, (begun, repeat(env.nominal, number)), jax.random.key(seed)))


def _from(env: Env) -> Env:
    """`env` whose physics params say how an episode begins: (key of its reset, physics params)."""

    def reset(key: Key, begun: tuple[Key, Params]) -> tuple[PyTree, Observation]:
        del key
        return env.reset(*begun)

    def step(state: PyTree, action: Array, begun: tuple[Key, Params], key: Key) -> tuple[PyTree, TimeStep]:
        return env.step(state, action, begun[1], key)

    return env._replace(reset=reset, step=step)


def _host_from(env: HostEnv, numbers: np.ndarray) -> HostEnv:
    """`env` whose episode i, of the seed i, begins as the draw of number `numbers[i]`."""

    def open_worlds(size: int) -> HostWorlds:
        worlds = env.open(size)

        def reset(which: Any, seed: int | None = None) -> dict[str, Any]:
            seen = worlds.reset(which, seed)
            if seed is None:
                return seen
            for world in np.flatnonzero(which).tolist():  # of one at a time, since seeds are counted up from world to world
                own = _FIRST + int(numbers[(seed + world) % len(numbers)])
                seen = worlds.reset(np.arange(size) == world, own - world)
            return seen

        return HostWorlds(reset, worlds.step, worlds.close)

    return env._replace(open=open_worlds)


def first_states(observations: list[dict[str, np.ndarray]]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Of episodes {name: [T, D]} what was seen first, [E, D], and the deviation [D] over all steps, of each state."""
    names = [
        name for name, x in observations[0].items() if name.startswith("state/") and x.ndim == 2 and np.issubdtype(x.dtype, np.floating)
    ]
    begun = {name: np.stack([one[name][0] for one in observations]) for name in names}
    return begun, {name: np.concatenate([one[name] for one in observations]).std(0) for name in names}
