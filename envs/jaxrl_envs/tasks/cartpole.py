"""Cartpole: keep a pole upright on a cart, from upright (balance) or from below (swing-up), as in the DeepMind Control Suite.

Start, observation, reward and length are those of Tassa et al. 2018 (https://arxiv.org/abs/1801.00690), so returns compare with published
ones: an episode is 1000 control steps of 10 ms, each with a reward between 0 and 1. It never terminates.
"""

from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.ops.tolerance import tolerance
from jaxrl.types import Array, ArraySpec, Env, EnvSpec, Key, Observation, TimeStep
from jaxrl_envs import randomization
from jaxrl_envs.physics import PhysicsState, make
from jaxrl_envs.randomization import Parameters, Ranges

CONTROL_STEPS = 1000


@dataclass(frozen=True)
class Config:
    """`action_repeat` control steps take the same action, and their rewards are summed."""

    task: Literal["balance", "swingup"] = "swingup"
    backend: str = "auto"
    action_repeat: int = 1

    def __post_init__(self) -> None:
        if self.action_repeat < 1 or CONTROL_STEPS % self.action_repeat:
            raise ValueError(f"action_repeat is {self.action_repeat}, but must divide the {CONTROL_STEPS} control steps of an episode")


class State(NamedTuple):
    """One world of the task."""

    physics: PhysicsState


def model() -> mujoco.MjModel:
    """The compiled cart and pole; qpos is the cart's place in m and the pole's angle from upright in rad."""
    path = resources.files("jaxrl_envs") / "robots" / "cartpole.xml"
    return mujoco.MjModel.from_xml_string(path.read_text())


def reward_factors(qpos: Array, qvel: Array, control: Array) -> dict[str, Array]:
    """The factors of the smooth reward, each [], at the state after a control step with `control` [1]."""
    return {
        "upright": (1 + jnp.cos(qpos[1])) / 2,
        "centered": (1 + tolerance(qpos[0], margin=2)) / 2,
        "small_control": (4 + tolerance(control[0], margin=1, value_at_margin=0, sigmoid="quadratic")) / 5,
        "small_velocity": (1 + tolerance(qvel[1], margin=5)) / 2,
    }


def _start(task: str, key: Key) -> tuple[Array, Array]:
    """qpos and qvel of an episode's first state."""
    place, speed = jax.random.split(key)
    qvel = 0.01 * jax.random.normal(speed, (2,))
    if task == "swingup":
        return jnp.array([0.0, jnp.pi]) + 0.01 * jax.random.normal(place, (2,)), qvel
    return jnp.array([0.1, 0.034]) * jax.random.uniform(place, (2,), minval=-1.0, maxval=1.0), qvel


def _observe(state: State) -> Observation:
    qpos = state.physics.qpos
    return {
        "state/position": jnp.stack([qpos[0], jnp.cos(qpos[1]), jnp.sin(qpos[1])]),
        "state/velocity": state.physics.qvel,
    }


def cartpole(config: Config = Config()) -> Env:
    """The task as an `Env`; the action [1] is the force on the cart in units of 10 N, clipped to [-1, 1]."""
    compiled = model()
    physics = make(compiled, config.backend)

    def reset(key: Key, parameters: Parameters) -> tuple[State, Observation]:
        state = State(physics.forward(*_start(config.task, key), parameters.fields))
        return state, _observe(state)

    def restart(state: State, parameters: Parameters, key: Key) -> tuple[State, Observation]:
        del parameters, key  # nothing that is seen depends on them
        return state, _observe(state)

    def step(state: State, action: Array, parameters: Parameters, key: Key) -> tuple[State, TimeStep]:
        del key
        control = jnp.clip(action, -1.0, 1.0)

        def control_step(now: PhysicsState, _: None) -> tuple[PhysicsState, dict[str, Array]]:
            after = physics.step(now, control[None, :], parameters.fields)
            factors = reward_factors(after.qpos, after.qvel, control)
            return after, {"reward": jnp.stack(list(factors.values())).prod(), **factors}

        after, seen = jax.lax.scan(control_step, state.physics, None, config.action_repeat)
        sums = {name: values.sum() for name, values in seen.items()}
        metrics = {name: sums[name] / config.action_repeat for name in ("upright", "centered")}
        later = State(after)
        return later, TimeStep(_observe(later), sums["reward"], jnp.ones(()), jnp.zeros(()), metrics)

    def render(states: State, width: int, height: int) -> Any:
        from jaxrl_envs.rendering import frames

        return frames(compiled, np.asarray(states.physics.qpos), width=width, height=height, camera="side")

    dt = compiled.opt.timestep * config.action_repeat
    spec = EnvSpec(
        name=f"cartpole_{config.task}",
        observation={
            "state/position": ArraySpec((3,), names=("cart", "pole_cosine", "pole_sine"), unit="m,1,1"),
            "state/velocity": ArraySpec((2,), names=("cart", "pole"), unit="m/s,rad/s"),
        },
        action=ArraySpec((1,), names=("force",), unit="10 N", low=-1.0, high=1.0),
        episode_length=CONTROL_STEPS // config.action_repeat,
        dt=dt,
        metrics=("upright", "centered"),
    )
    return Env(
        spec,
        reset,
        step,
        restart,
        nominal=randomization.nominal(physics),
        sample=randomization.distribution(physics, Ranges()),
        render=render,
    )
