"""Environments of gymnasium, or with its interface (pip install "jaxrl[adapters]"), as `HostEnv`: stepped on the host, many at once.

Use them with the source `jaxrl.rollout.host_rollout`. Gymnasium's own reset at an episode's end is switched off, so that the true final
observation is seen; `host_rollout` and the evaluation begin the next episode.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from jaxrl.ops.specs import choice
from jaxrl.ops.suggestion import suggestion
from jaxrl.types import ArraySpec, EnvSpec, HostEnv, HostWorlds, TimeStep
from jaxrl_envs.adapters._named import function_at


@dataclass(frozen=True)
class Config:
    """`id` is gymnasium's name ("HalfCheetah-v5", "my_package:My-v0"), or `make` the dotted path of a function that returns an environment.

    `options` are its arguments. `episode_length` None is the environment's own limit. `metrics` name numbers in the `info` of every step.
    With `unit_actions` what lies within [-1, 1] spans an action's box; without, actions are the environment's own.
    "sync" steps the worlds one after the other in this process, "async" each in a process of its own: for steps that take milliseconds.
    """

    id: str = ""
    make: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    episode_length: int | None = None  # steps
    metrics: tuple[str, ...] = ()
    unit_actions: bool = True
    vectorisation: Literal["sync", "async"] = "sync"

    def __post_init__(self) -> None:
        if bool(self.id) == bool(self.make):
            raise ValueError('name either id, such as "HalfCheetah-v5", or make, a function that returns a gymnasium environment')
        if self.episode_length is not None and self.episode_length < 1:
            raise ValueError(f"episode_length is {self.episode_length}, but must be at least 1")


def _maker(config: Config) -> Callable[[], gym.Env]:
    if config.make:
        return functools.partial(function_at(config.make, "env.make"), **config.options)
    return functools.partial(gym.make, config.id, **config.options)


def _probe(config: Config, make: Callable[[], gym.Env]) -> gym.Env:
    """One environment, for its spec."""
    try:
        return make()
    except (gym.error.DependencyNotInstalled, ImportError) as error:
        raise ImportError(f'{config.id or config.make} needs more: {error}; for example pip install "gymnasium[mujoco]"') from error
    except gym.error.UnregisteredEnv as error:
        raise ValueError(f"env.id: {error}; {suggestion(config.id, list(gym.registry))}") from error
    except gym.error.Error as error:
        raise ValueError(f"env.id: {error}") from error
    except TypeError as error:
        raise ValueError(f"env.options: {config.id or config.make} does not take {dict(config.options)}: {error}") from error


def _observed(space: gym.Space, name: str) -> dict[str, gym.spaces.Box]:
    """The boxes of a space by flat name. Raises ValueError for any other space."""
    if isinstance(space, gym.spaces.Dict):
        parts = [_observed(part, key if name == "observation" else f"{name}/{key}") for key, part in space.items()]
        return {key: box for part in parts for key, box in part.items()}
    if isinstance(space, gym.spaces.Box):
        return {name: space}
    raise ValueError(
        f"its {name} is a {type(space).__name__}, but policies here see boxes of numbers, and dicts of them; "
        "give `make` a function that wraps it, for example in gymnasium.wrappers.FlattenObservation"
    )


def _is_picture(box: gym.spaces.Box) -> bool:
    return box.dtype == np.uint8 and len(box.shape) == 3


def _group(name: str, box: gym.spaces.Box) -> tuple[str, ArraySpec]:
    """A picture stays what it is; everything else becomes a vector of float32."""
    if _is_picture(box):
        return f"image/{name}", ArraySpec(box.shape, "uint8")
    return f"state/{name}", ArraySpec((int(np.prod(box.shape)),))


def _flat(observation: Any, name: str) -> dict[str, Any]:
    """Arrays [B, ...] by the names of `_observed`."""
    if isinstance(observation, Mapping):
        parts = [_flat(part, key if name == "observation" else f"{name}/{key}") for key, part in observation.items()]
        return {key: array for part in parts for key, array in part.items()}
    return {name: observation}


class _Actions(NamedTuple):
    """`spec` is what policies here put out, [B, ...]; `to_theirs` makes their actions of it."""

    spec: ArraySpec
    to_theirs: Callable[[Any], Any]


def _actions(space: gym.Space, who: str, unit: bool) -> _Actions:
    """Of a box of floats or a number of choices. Raises ValueError for any other space."""
    if isinstance(space, gym.spaces.Discrete):
        first = space.start
        return _Actions(choice(int(space.n)), lambda action: action.astype(space.dtype) + first)
    if not isinstance(space, gym.spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise ValueError(f"{who} takes actions of {space}, but only boxes of floats, and Discrete, are supported")
    if len(space.shape) != 1:
        raise ValueError(f"{who} takes actions of the shape {space.shape}, but they must be vectors; wrap it in a function named by `make`")
    low, high, dtype = space.low, space.high, space.dtype
    if not unit:
        own = ArraySpec(space.shape, low=tuple(map(float, low)), high=tuple(map(float, high)))
        return _Actions(own, lambda action: np.clip(action, low, high).astype(dtype))
    bounded = np.isfinite(low) & np.isfinite(high)
    if not bounded.any():
        return _Actions(ArraySpec(space.shape), lambda action: action.astype(dtype))
    if not bounded.all():
        raise ValueError(f"{who} has actions of which only some have bounds, {space}; wrap it in gymnasium.wrappers.ClipAction or the like")

    def spread(action: Any) -> Any:
        return (low + (np.clip(action, -1.0, 1.0) + 1.0) * 0.5 * (high - low)).astype(dtype)

    return _Actions(ArraySpec(space.shape, low=-1.0, high=1.0), spread)


def _worlds(vector: VectorEnv, boxes: Mapping[str, gym.spaces.Box], actions: _Actions, metrics: tuple[str, ...]) -> HostWorlds:
    """`vector` with the names, types and actions of ours."""
    size = vector.num_envs

    def seen(observation: Any) -> dict[str, Any]:
        arrays = _flat(observation, "observation")
        pairs = {name: (_group(name, box), np.asarray(arrays[name])) for name, box in boxes.items()}
        return {group: np.array(array, part.dtype).reshape(size, *part.shape) for (group, part), array in pairs.values()}

    def reset(which: Any, seed: int | None = None) -> dict[str, Any]:
        seeds: Any = [None] * size if seed is None else [seed + i for i in range(size)]
        return seen(vector.reset(seed=seeds, options={"reset_mask": np.asarray(which, bool)})[0])

    def measured(told: Mapping[str, Any]) -> dict[str, Any]:
        for name in metrics:
            if name not in told or not told[f"_{name}"].all():
                names = [key for key in told if not key.startswith("_")]
                raise ValueError(f"env.metrics: {name!r} is not in the info of every step; {suggestion(name, names)}")
        return {name: np.asarray(told[name], np.float32) for name in metrics}

    def step(action: Any) -> TimeStep:
        observation, reward, terminated, truncated, told = vector.step(actions.to_theirs(np.asarray(action)))
        paid: Any = np.asarray(reward, np.float32)
        going_on: Any = 1.0 - np.asarray(terminated, np.float32)
        cut: Any = np.asarray(truncated, np.float32) * going_on
        return TimeStep(seen(observation), paid, going_on, cut, measured(told))

    return HostWorlds(reset, step, vector.close)


def gymnasium(config: Config) -> HostEnv:
    """The environment as a `HostEnv`. Actions within [-1, 1] span a bounded action box, unless they are to be its own; an unbounded one
    takes them as they are.

    Of a discrete space they are its choices, counted from 0.

    Observations: `state/observation`, or `state/<key>` of a dict, each a vector; a picture is `image/<key>`.

    Raises:
        ValueError: no such environment, or spaces, a length or metrics that do not fit.
        ImportError: the environment needs a package that is not installed.
    """
    make, name = _maker(config), config.id or config.make
    one = _probe(config, make)
    try:
        try:
            boxes = _observed(one.observation_space, "observation")
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        actions = _actions(one.action_space, name, config.unit_actions)
        limit = config.episode_length or (one.spec.max_episode_steps if one.spec is not None else None)
        dt = float(getattr(one.unwrapped, "dt", 0.0))
    finally:
        one.close()
    if limit is None:
        raise ValueError(f"{name} has no limit of its own on the length of an episode: set env.episode_length")
    spec = EnvSpec(
        name=name,
        observation=dict(_group(key, box) for key, box in boxes.items()),
        action=actions.spec,
        episode_length=limit,
        dt=dt,
        metrics=config.metrics,
    )

    def open_worlds(size: int) -> HostWorlds:
        if config.vectorisation == "sync":
            vector: VectorEnv = SyncVectorEnv([make] * size, autoreset_mode=AutoresetMode.DISABLED)
        else:  # "spawn": a fork of a process with JAX's threads may hang
            vector = AsyncVectorEnv([make] * size, autoreset_mode=AutoresetMode.DISABLED, context="spawn")
        return _worlds(vector, boxes, actions, config.metrics)

    return HostEnv(spec, open_worlds)
