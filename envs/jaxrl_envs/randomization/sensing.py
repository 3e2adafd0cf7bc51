"""What happens to a measurement between sensor and policy: noise, bias that drifts, finite resolution, delay, lost packets."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.ops.suggestion import suggestion
from jaxrl.types import Array, Env, Key, Observation, PyTree, TimeStep
from jaxrl_envs.randomization.parameters import Parameters, Ranges, tables
from jaxrl_envs.rendering import scene

READS = frozenset("observation_noise observation_drift observation_resolution observation_delay observation_drop".split())


@dataclass(frozen=True)
class Sensor:
    """One group of measurements, in its own unit, where the factors in `Parameters` are 1."""

    noise: float = 0.0  # half-width of uniform noise
    drift: float = 0.0  # standard deviation of the bias after one second: it walks at random
    resolution: float = 0.0  # the step in which it counts; 0 is continuous

    def __post_init__(self) -> None:
        for name in ("noise", "drift", "resolution"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must not be negative")


class Measurements(NamedTuple):
    """Of one world, all sensors in one vector."""

    bias: Array  # [D]
    taken: Array  # [slots + 1, D] newest first
    seen: Array  # [D] what the policy was shown last


class State(NamedTuple):
    """One world of a task with sensors."""

    env: PyTree
    measurements: Measurements


def sensed(env: Env, sensors: Mapping[str, Sensor], ranges: Ranges, slots: int = 1) -> Env:
    """`env` seen through sensors, by the name of the observation each measures ("state/gyroscope"); all others are seen as they are.

    The latest `slots` measurements may still be under way. `env` must have `Parameters`; what no range touches costs nothing.

    Raises:
        ValueError: a sensor measures nothing that the task shows, there is none for a range, or a measurement may be later than
            the buffer is long.
    """
    drawn = tables(ranges)
    for name in sensors:
        if name not in env.spec.observation:
            raise ValueError(f"sensor {name}: {env.spec.name} has no such observation; {suggestion(name, list(env.spec.observation))}")
    if not (read := sorted(drawn.keys() & READS)):
        return env
    if not sensors:
        raise ValueError(f"{read[0]}: {env.spec.name} has no sensors, so a range has no effect; name the observations that are measured")
    _check_delay(drawn, env.spec.dt, slots)
    sizes = [math.prod(int(n) for n in env.spec.observation[name].shape) for name in sensors]
    ends = np.cumsum(sizes)
    noise, drift, resolution = (
        np.repeat([getattr(s, part) for s in sensors.values()], sizes).astype(np.float32) for part in ("noise", "drift", "resolution")
    )
    step_drift = drift * np.float32(math.sqrt(3 * env.spec.dt))  # a uniform step in [-1, 1] has a variance of 1/3

    def vector(observation: Observation) -> Array:
        return jnp.concatenate([jnp.ravel(observation[name]) for name in sensors])

    def shown(observation: Observation, values: Array) -> Observation:
        parts = jnp.split(values, ends[:-1])
        new = {name: jnp.reshape(part, observation[name].shape) for name, part in zip(sensors, parts, strict=True)}
        return {name: new.get(name, value) for name, value in observation.items()}

    def chances(key: Key) -> tuple[Array, Array, Array]:
        """Of one step, 16 bits each: noise and steps of the drift [D], in [-1, 1], and what decides on a loss [], in [0, 1]."""
        if not drawn.keys() & {"observation_noise", "observation_drift", "observation_drop"}:
            return jnp.zeros(int(ends[-1])), jnp.zeros(int(ends[-1])), jnp.zeros(())
        bits = jax.random.bits(key, (int(ends[-1]) + 1,))
        high, low = (bits >> 16).astype(jnp.float32) / 0xFFFF, (bits & 0xFFFF).astype(jnp.float32) / 0xFFFF
        return 2 * high[:-1] - 1, 2 * low[:-1] - 1, high[-1]

    def measured(true: Array, bias: Array, parameters: Parameters, chance: Array) -> Array:
        reading = true + bias
        if "observation_noise" in drawn:
            reading += parameters.observation_noise * noise * chance
        if "observation_resolution" in drawn:
            width = parameters.observation_resolution * resolution
            reading = jnp.where(width > 0, jnp.round(reading / jnp.where(width > 0, width, 1.0)) * width, reading)
        return reading

    def begin(state: PyTree, observation: Observation, parameters: Parameters, key: Key) -> tuple[State, Observation]:
        bias = jnp.zeros(int(ends[-1]))
        first = measured(vector(observation), bias, parameters, chances(key)[0])
        return State(state, Measurements(bias, jnp.tile(first[None, :], (slots + 1, 1)), first)), shown(observation, first)

    def reset(key: Key, parameters: Parameters) -> tuple[State, Observation]:
        own, look = jax.random.split(key)
        return begin(*env.reset(own, parameters), parameters, look)

    def restart(state: State, parameters: Parameters, key: Key) -> tuple[State, Observation]:
        own, look = jax.random.split(key)
        return begin(*env.restart(state.env, parameters, own), parameters, look)

    def arriving(taken: Array, parameters: Parameters) -> Array:
        """Those as old as the delay; between two control steps, those in between."""
        age = jnp.clip(parameters.observation_delay / env.spec.dt, 0.0, slots)
        share = jnp.maximum(1.0 - jnp.abs(age - jnp.arange(slots + 1, dtype=age.dtype)), 0.0)
        return (share[:, None] * taken).sum(0)

    def step(state: State, action: Array, parameters: Parameters, key: Key) -> tuple[State, TimeStep]:
        own, look = jax.random.split(key)
        noises, drifts, loss = chances(look)
        after, result = env.step(state.env, action, parameters, own)
        old = state.measurements
        bias = old.bias
        if "observation_drift" in drawn:
            bias += parameters.observation_drift * step_drift * drifts  # uniform steps: their sum is normal all the same
        now = measured(vector(result.observation), bias, parameters, noises)
        taken = jnp.concatenate([now[None, :], old.taken[:-1]])
        seen = arriving(taken, parameters) if "observation_delay" in drawn else now
        if "observation_drop" in drawn:
            seen = jnp.where(loss < parameters.observation_drop, old.seen, seen)
        return State(after, Measurements(bias, taken, seen)), result._replace(observation=shown(result.observation, seen))

    def steer(state: State, command: Array) -> State:
        assert env.steering is not None
        return state._replace(env=env.steering.set(state.env, command))

    steering = env.steering and env.steering._replace(set=steer)
    return env._replace(
        reset=reset,
        restart=restart,
        step=step,
        render=scene.within(env.render, lambda state: state.env),
        steering=steering,
        vital=lambda state: state._replace(env=env.vital(state.env)),
    )


def _check_delay(drawn: dict, dt: float, slots: int) -> None:
    latest = max((one.bounds[1] for one in drawn.get("observation_delay", {}).values()), default=0.0)
    if latest > slots * dt + 1e-9:
        needed = math.ceil(latest / dt - 1e-9)
        raise ValueError(
            f"observation_delay: up to {latest} s, but the buffer holds {slots} control steps of {dt} s; it needs {needed} "
            f"(delay_steps={needed})"
        )
