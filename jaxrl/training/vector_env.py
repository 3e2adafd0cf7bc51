"""Our environments for other people's trainers: any `Env` as a `gymnasium.vector.VectorEnv` (pip install "jaxrl[adapters]").

Physics parameters are drawn anew in each episode and starts come from a pool, exactly as in `rollout`. The true final observation is kept:
in `infos["final_obs"]` where worlds restart within the step in which their episode ends (`AutoresetMode.SAME_STEP`), as the observation of
that step where they take another step to restart (`NEXT_STEP`).
"""

from pathlib import Path
from typing import Any, Literal, final

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from jaxrl.config import load
from jaxrl.curricula.static import fixed
from jaxrl.ops.specs import num_choices
from jaxrl.ops.worlds import where_rows
from jaxrl.rollout.auto_reset import Draws, Worlds, auto_reset
from jaxrl.rollout.environment import environment
from jaxrl.types import Array, ArraySpec, Env, Key, Observation, PyTree

Shown = Literal["array", "dict"]
Autoreset = Literal["same_step", "next_step"]
_MODES = {"same_step": AutoresetMode.SAME_STEP, "next_step": AutoresetMode.NEXT_STEP}


def _box(part: ArraySpec) -> gym.Space:
    shape: Any = part.shape
    dtype: Any = np.dtype(part.dtype)
    unbounded = (np.iinfo(dtype).min, np.iinfo(dtype).max) if np.issubdtype(dtype, np.integer) else (-np.inf, np.inf)
    given = zip((part.low, part.high), unbounded, strict=True)
    low, high = (np.broadcast_to(np.asarray(other if end is None else end, dtype), shape) for end, other in given)
    return gym.spaces.Box(low, high, dtype=dtype)


def _joined(boxes: list[Any]) -> gym.Space:
    """Of vectors, one after the other."""
    low, high = (np.concatenate([getattr(box, end) for box in boxes]) for end in ("low", "high"))
    return gym.spaces.Box(low, high, dtype=np.float32)


@final
class JaxVectorEnv(VectorEnv):
    """Made by `vector_env`. Observations, rewards and flags are numpy arrays; one compiled call per step."""

    def __init__(self, env: Env, num_envs: int, observation: Shown, autoreset: Autoreset, pool_size: int, stagger: bool) -> None:
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": _MODES[autoreset]}
        state = sorted(name for name in env.spec.observation if name.startswith("state/"))
        as_array = observation == "array"
        if as_array and (not state or any(len(env.spec.observation[name].shape) != 1 for name in state)):
            raise ValueError(f'{env.spec.name} has no vectors state/<group> to join into one array; choose observation="dict"')
        parts: dict[str, Any] = {name: _box(given) for name, given in env.spec.observation.items()}
        self.single_observation_space = _joined([parts[name] for name in state]) if as_array else gym.spaces.Dict(parts)
        choices = num_choices(env.spec.action)
        self.single_action_space = gym.spaces.Discrete(choices) if choices else _box(env.spec.action)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._env = env
        self._same_step = autoreset == "same_step"
        same_step, worlds_of = self._same_step, auto_reset(env, fixed(env.sample), pool_size, stagger)
        number, static = jnp.arange(num_envs, dtype=jnp.int32), Draws((), ())

        def shown(observation: Observation) -> Any:
            return jnp.concatenate([observation[name] for name in state], -1) if as_array else observation

        @jax.jit
        def begin(key: Key) -> tuple[Worlds, PyTree, Any]:
            make, start = jax.random.split(key)
            pool = worlds_of.pool(make, static)
            worlds = worlds_of.init(start, number, pool, static)
            return worlds, pool, shown(worlds.observation)

        @jax.jit
        def advance(worlds: Worlds, waiting: Array, pool: PyTree, action: Array, key: Key, count: Array) -> tuple[Worlds, dict[str, Any]]:
            """`waiting` [num_envs]: worlds that have restarted, and show it in a step of their own."""
            later, _, result, _ = worlds_of.step(worlds, action, pool, static, jax.random.fold_in(key, count))
            later = where_rows(waiting, worlds, later)
            final = shown(result.observation)
            told = {
                "observation": shown(later.observation) if same_step else where_rows(waiting, shown(worlds.observation), final),
                "final": final,
                "reward": jnp.where(waiting, 0.0, result.reward),
                "terminated": ~waiting & (result.discount == 0),
                "truncated": ~waiting & (result.truncation > 0),
                "metrics": {name: jnp.where(waiting, 0.0, value) for name, value in result.metrics.items()},
            }
            return later, told

        self._begin, self._advance = begin, advance
        self._worlds: Worlds | None = None
        self._count = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins new episodes in all worlds; without a seed it goes on drawing from the last one. Takes no options."""
        super().reset(seed=seed)
        if options:
            raise ValueError(f"reset takes no options here, got {', '.join(options)}: worlds reset themselves, and all of them here")
        self._key = jax.random.key(int(self.np_random.integers(2**31)))
        self._worlds, self._pool, observation = self._begin(self._key)
        self._count, self._waiting = 0, np.zeros(self.num_envs, bool)
        return jax.tree.map(np.array, observation), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One step [num_envs]. `infos` holds its metrics and, where an episode ended in SAME_STEP mode, `final_obs` and `final_info`."""
        if self._worlds is None:
            raise RuntimeError("call reset before step")
        action = np.asarray(actions, self._env.spec.action.dtype)
        if action.shape != self.action_space.shape:
            raise ValueError(f"expected actions of the shape {self.action_space.shape}, got {action.shape}")
        self._count += 1
        self._worlds, on_device = self._advance(self._worlds, self._waiting, self._pool, action, self._key, self._count)
        told = jax.tree.map(np.array, on_device)
        ended = told["terminated"] | told["truncated"]
        infos: dict[str, Any] = {name: values for name, values in told["metrics"].items()}
        infos |= {f"_{name}": ~self._waiting for name in told["metrics"]}
        if not self._same_step:
            self._waiting = ended
        elif ended.any():
            final = np.full(self.num_envs, None, object)
            for i in np.flatnonzero(ended):
                final[i] = jax.tree.map(lambda x, i=i: x[i], told["final"])
            metrics = {key: value for name, values in told["metrics"].items() for key, value in ((name, values), (f"_{name}", ended))}
            infos |= {"final_obs": final, "_final_obs": ended, "final_info": metrics, "_final_info": ended}
        return told["observation"], told["reward"].astype(np.float64), told["terminated"], told["truncated"], infos


def vector_env(
    env: Env | str | Path,
    num_envs: int,
    observation: Shown = "array",
    autoreset: Autoreset = "same_step",
    pool_size: int = 512,
    stagger: bool = False,
) -> JaxVectorEnv:
    """`num_envs` worlds of an environment, or of that of an experiment file, wrapped and hidden as there, as gymnasium takes them.

    "array" joins the groups `state/<group>` in the order of their names and leaves out what only a privileged critic sees; "dict" keeps
    every group under its own name. Some of gymnasium's wrappers take "next_step" only. `stagger` spreads the first truncations over an
    episode's length.

    Raises:
        ValueError: no such file, a faulty section, or observations that are no vectors.
    """
    if isinstance(env, str | Path):
        config = load(env)
        made = environment(config.get("env"), config.get("wrapper"), config.get("hidden", ()))
        if not isinstance(made, Env):
            raise ValueError(f"{made.spec.name} is stepped on the host already: give gymnasium.make_vec its own name")
        env = made
    return JaxVectorEnv(env, num_envs, observation, autoreset, pool_size, stagger)
