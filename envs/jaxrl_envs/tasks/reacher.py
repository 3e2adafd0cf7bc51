"""Reacher: bring the finger of a planar arm with two links to a target and keep it there, as in the DeepMind Control Suite.

Start, observation, reward and length are those of Tassa et al. 2018 (https://arxiv.org/abs/1801.00690), task reacher-easy, so returns
compare with published ones: an episode is 1000 control steps of 20 ms, each with reward 1 where finger and target overlap, else 0.
It never terminates.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco

from jaxrl.ops.tolerance import tolerance
from jaxrl.types import Array, ArraySpec, Env, EnvSpec, Key, Observation, TimeStep
from jaxrl_envs import randomization, robots
from jaxrl_envs.physics import PhysicsState, make
from jaxrl_envs.randomization import Parameters
from jaxrl_envs.rendering import Pose, Scene
from jaxrl_envs.tasks import _action_repeat

CONTROL_STEPS = 1000
LINK_LENGTHS = (0.12, 0.12)  # m
FINGER_RADIUS = 0.01  # m
NEAREST, FARTHEST = 0.05, 0.20  # m, of the target from the shoulder


@dataclass(frozen=True)
class Config:
    """`action_repeat` control steps take the same action, and their rewards are summed. Target radii: easy 0.05 m, hard 0.015 m."""

    target_radius: float = 0.05  # m
    backend: str = "auto"
    action_repeat: int = 1

    def __post_init__(self) -> None:
        if self.target_radius <= 0:
            raise ValueError(f"target_radius is {self.target_radius} m, but must be positive")
        _action_repeat.check(self.action_repeat, CONTROL_STEPS)


class State(NamedTuple):
    """One world of the task."""

    physics: PhysicsState
    target: Array  # [2] m


def model() -> mujoco.MjModel:
    """The compiled arm; qpos is the angles of shoulder and wrist in rad."""
    return mujoco.MjModel.from_xml_string(robots.xml("reacher"))


def drawn_model(target_radius: float) -> mujoco.MjModel:
    """The arm with a target that moves, for pictures: qpos is the angles and the target's place."""
    spec = mujoco.MjSpec.from_string(robots.xml("reacher"))
    target = spec.body("target")
    target.geoms[0].size[0] = target_radius
    for axis in ([1, 0, 0], [0, 1, 0]):
        target.add_joint(type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis)
    return spec.compile()


def finger(qpos: Array) -> Array:
    """The place of the finger [2] in m at the angles `qpos` [2]."""
    angles = jnp.stack([qpos[0], qpos[0] + qpos[1]])
    lengths = jnp.array(LINK_LENGTHS)
    return jnp.stack([(lengths * jnp.cos(angles)).sum(), (lengths * jnp.sin(angles)).sum()])


def _observe(state: State) -> Observation:
    return {
        "state/position": state.physics.qpos,
        "state/to_target": state.target - finger(state.physics.qpos),
        "state/velocity": state.physics.qvel,
    }


def _pose(state: State) -> Pose:
    return {"qpos": jnp.concatenate([state.physics.qpos, state.target], axis=-1)}


def reacher(config: Config = Config()) -> Env:
    """The task as an `Env`; the action [2] is the torques in units of 0.05 N m, clipped to [-1, 1]."""
    compiled = model()
    physics = make(compiled, config.backend)
    wrist_range = compiled.joint("wrist").range
    lowest = jnp.array([-jnp.pi, wrist_range[0]], jnp.float32)
    highest = jnp.array([jnp.pi, wrist_range[1]], jnp.float32)
    reach = config.target_radius + FINGER_RADIUS

    def reset(key: Key, parameters: Parameters) -> tuple[State, Observation]:
        pose, direction, distance = jax.random.split(key, 3)
        qpos = jax.random.uniform(pose, (2,), minval=lowest, maxval=highest)
        angle = jax.random.uniform(direction, maxval=2 * jnp.pi)
        radius = jax.random.uniform(distance, minval=NEAREST, maxval=FARTHEST)
        target = radius * jnp.stack([jnp.sin(angle), jnp.cos(angle)])
        state = State(physics.forward(qpos, jnp.zeros(2), parameters.fields), target)
        return state, _observe(state)

    def restart(state: State, parameters: Parameters, key: Key) -> tuple[State, Observation]:
        del parameters, key  # nothing that is seen depends on them
        return state, _observe(state)

    def step(state: State, action: Array, parameters: Parameters, key: Key) -> tuple[State, TimeStep]:
        del key
        control = jnp.clip(action, -1.0, 1.0)
        later = state._replace(physics=physics.step(state.physics, control[None, :], parameters.fields))
        distance = jnp.linalg.norm(state.target - finger(later.physics.qpos))
        reward = tolerance(distance, (0.0, reach))
        return later, TimeStep(_observe(later), reward, jnp.ones(()), jnp.zeros(()), {"distance": distance})

    spec = EnvSpec(
        name="reacher",
        observation={
            "state/position": ArraySpec((2,), names=("shoulder", "wrist"), unit="rad"),
            "state/to_target": ArraySpec((2,), names=("x", "y"), unit="m"),
            "state/velocity": ArraySpec((2,), names=("shoulder", "wrist"), unit="rad/s"),
        },
        action=ArraySpec((2,), names=("shoulder", "wrist"), unit="0.05 N m", low=-1.0, high=1.0),
        episode_length=CONTROL_STEPS,
        dt=compiled.opt.timestep,
        metrics=("distance",),
    )
    env = Env(
        spec,
        reset,
        step,
        restart,
        nominal=randomization.nominal(physics),
        sample=randomization.distribution(physics),
        render=Scene(drawn_model(config.target_radius), _pose, "top"),
    )
    return _action_repeat.repeat_action(env, config.action_repeat)
