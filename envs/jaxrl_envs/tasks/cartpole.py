"""Cartpole: keep a pole upright on a cart, from upright (balance) or from below (swing-up), as in the DeepMind Control Suite.

Start, observation, reward and length are those of Tassa et al. 2018 (https://arxiv.org/abs/1801.00690), so returns compare with published
ones: an episode is 1000 control steps of 10 ms, each with a reward between 0 and 1. It never terminates.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import mujoco

from jaxrl.ops.tolerance import tolerance
from jaxrl.types import Array, ArraySpec, Env, EnvSpec, Key, Observation, TimeStep
from jaxrl_envs import randomization, robots
from jaxrl_envs.physics import PhysicsState, make
from jaxrl_envs.randomization import Parameters
from jaxrl_envs.rendering import Scene
from jaxrl_envs.tasks import _action_repeat

CONTROL_STEPS = 1000
METRICS = ("upright", "centered")  # factors of the reward


@dataclass(frozen=True)
class Config:
    """`action_repeat` control steps take the same action, and their rewards are summed."""

    task: Literal["balance", "swingup"] = "swingup"
    backend: str = "auto"
    action_repeat: int = 1

    def __post_init__(self) -> None:
        _action_repeat.check(self.action_repeat, CONTROL_STEPS)


def model() -> mujoco.MjModel:
    """The compiled cart and pole; qpos is the cart's place in m and the pole's angle from upright in rad."""
    return mujoco.MjModel.from_xml_string(robots.xml("cartpole"))


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


def _observe(state: PhysicsState) -> Observation:
    cart, pole = state.qpos
    return {
        "state/position": jnp.stack([cart, jnp.cos(pole), jnp.sin(pole)]),
        "state/velocity": state.qvel,
    }


def cartpole(config: Config = Config()) -> Env:
    """The task as an `Env`; the action [1] is the force on the cart in units of 10 N, clipped to [-1, 1]."""
    compiled = model()
    physics = make(compiled, config.backend)

    def reset(key: Key, parameters: Parameters) -> tuple[PhysicsState, Observation]:
        state = physics.forward(*_start(config.task, key), parameters.fields)
        return state, _observe(state)

    def restart(state: PhysicsState, parameters: Parameters, key: Key) -> tuple[PhysicsState, Observation]:
        del parameters, key  # nothing that is seen depends on them
        return state, _observe(state)

    def step(state: PhysicsState, action: Array, parameters: Parameters, key: Key) -> tuple[PhysicsState, TimeStep]:
        del key
        control = jnp.clip(action, -1.0, 1.0)
        later = physics.step(state, control[None, :], parameters.fields)
        factors = reward_factors(later.qpos, later.qvel, control)
        reward = jnp.stack(list(factors.values())).prod()
        metrics = {name: factors[name] for name in METRICS}
        return later, TimeStep(_observe(later), reward, jnp.ones(()), jnp.zeros(()), metrics)

    spec = EnvSpec(
        name=f"cartpole_{config.task}",
        observation={
            "state/position": ArraySpec((3,), names=("cart", "pole_cosine", "pole_sine"), unit="m,1,1"),
            "state/velocity": ArraySpec((2,), names=("cart", "pole"), unit="m/s,rad/s"),
        },
        action=ArraySpec((1,), names=("force",), unit="10 N", low=-1.0, high=1.0),
        episode_length=CONTROL_STEPS,
        dt=compiled.opt.timestep,
        metrics=METRICS,
    )
    env = Env(
        spec,
        reset,
        step,
        restart,
        nominal=randomization.nominal(physics),
        sample=randomization.distribution(physics),
        render=Scene(compiled, lambda state: {"qpos": state.qpos}, "side"),
    )
    return _action_repeat.repeat_action(env, config.action_repeat)
