"""Getting up from any pose by a Unitree Go2 on flat ground.

An episode begins where the robot came to rest after a fall from any attitude, its joints anywhere. The policy sets joint position targets
at 50 Hz and sees what the robot's own sensors measure; the critic also sees what only the simulator knows. Unlike in walking, base
and thighs collide with the ground too.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax.numpy as jnp
import mujoco

from jaxrl.ops.draws import uniforms
from jaxrl.types import Array, ArraySpec, Env, EnvSpec, Key, Observation, TimeStep
from jaxrl_envs.physics import PhysicsState, make
from jaxrl_envs.randomization import Parameters, Ranges, actuation, randomised, sensing
from jaxrl_envs.randomization.actuation import Commands
from jaxrl_envs.rendering import Scene
from jaxrl_envs.tasks import _go2, _legged
from jaxrl_envs.tasks._go2 import JOINTS
from jaxrl_envs.tasks._legged import Reading, Robot, Sensors, read

_SETTLE_SECONDS = 1.0
_DROP_HEIGHT = 0.45  # m of the base at the start of the fall
_STANDING = 0.22  # m, lowest height of a base that stands
_AXES = ("x", "y", "z")


@dataclass(frozen=True)
class Rewards:
    """Weights of the reward terms, per second."""

    upright: float = 1.0
    height: float = 1.0
    pose: float = 1.0  # once upright
    still: float = 0.5  # once standing
    torque: float = -2e-5
    action_rate: float = -0.01
    joint_limit: float = -0.5


METRICS = (*(f"reward/{name}" for name in Rewards.__dataclass_fields__), "height", "tilt", "success")


@dataclass(frozen=True)
class Config:
    """The task's numbers."""

    backend: str = "auto"
    randomization: Ranges = field(default_factory=Ranges)
    rewards: Rewards = field(default_factory=Rewards)
    sensors: Sensors = field(default_factory=Sensors)
    episode_seconds: float = 6.0
    physics_dt: float = 0.005  # s
    substeps: int = 4
    delay_steps: int = 1  # control steps for which a command or a measurement may be under way
    action_scale: float = 0.7  # rad of target per unit of action

    def __post_init__(self) -> None:
        for name in ("physics_dt", "substeps", "delay_steps", "episode_seconds", "action_scale"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be positive")

    @property
    def dt(self) -> float:
        """Seconds per control step."""
        return self.physics_dt * self.substeps


class State(NamedTuple):
    """One world of the task."""

    physics: PhysicsState
    action: Array  # [12] the last one
    commands: Commands  # joint targets on their way


def model(physics_dt: float = 0.005) -> mujoco.MjModel:
    """The compiled robot whose base and thighs collide with the floor too."""
    spec = _go2.spec()
    for body in spec.bodies:
        if body.name == _go2.BASE or body.name.endswith("_thigh"):
            for geom in body.geoms:
                if geom.type in (mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_SPHERE):
                    geom.conaffinity = 1
    spec.option.iterations, spec.option.ls_iterations = 4, 8  # many contacts at once
    return _go2.compiled(spec, physics_dt)


def observation_spec() -> dict[str, ArraySpec]:
    """What the policy sees (`state/`) and what only the critic sees (`privileged/`)."""
    joints = {name: ArraySpec((12,), names=JOINTS, unit=unit) for name, unit in (("position", "rad"), ("velocity", "rad/s"))}
    return {
        "state/gyroscope": ArraySpec((3,), names=_AXES, unit="rad/s"),
        "state/gravity": ArraySpec((3,), names=_AXES, unit="1"),
        "state/joint_position": joints["position"],
        "state/joint_velocity": joints["velocity"],
        "state/last_action": ArraySpec((12,), names=JOINTS, unit="1"),
        "privileged/velocity": ArraySpec((3,), names=_AXES, unit="m/s"),
        "privileged/height": ArraySpec((1,), names=("base",), unit="m"),
        "privileged/contact": ArraySpec((4,), names=_go2.LEGS, unit="1"),
        "privileged/motor_strength": ArraySpec((12,), names=JOINTS, unit="1"),
    }


def _observe(robot: Robot, state: State, reading: Reading, parameters: Parameters) -> Observation:
    return {
        "state/gyroscope": reading.rate,
        "state/gravity": reading.gravity,
        "state/joint_position": reading.joints - robot.home + parameters.joint_offset,
        "state/joint_velocity": reading.joint_rates,
        "state/last_action": state.action,
        "privileged/velocity": reading.velocity,
        "privileged/height": state.physics.qpos[2:3],
        "privileged/contact": reading.contact,
        "privileged/motor_strength": parameters.motor_strength,
    }


def _rewards(config: Config, robot: Robot, state: State, reading: Reading, height: Array, action: Array, torque: Array) -> dict[str, Array]:
    """Every term, weighted, by its name in `Rewards` and in that order; `state` is the one before the step."""
    upright = (1.0 - reading.gravity[2]) / 2.0  # 1 on its feet, 0 on its back
    on_feet = (reading.gravity[2] < -0.95).astype(jnp.float32)
    standing = on_feet * (height > _STANDING)
    terms = {
        "upright": jnp.square(upright),
        "height": jnp.clip(height / float(robot.place[2]), 0.0, 1.0),
        "pose": on_feet * jnp.exp(-0.5 * jnp.square(reading.joints - robot.home).sum()),
        "still": standing * jnp.exp(-2.0 * (jnp.square(reading.velocity).sum() + 0.1 * jnp.square(reading.rate).sum())),
        "torque": jnp.square(torque).sum(),
        "action_rate": jnp.square(action - state.action).sum(),
        "joint_limit": _legged.beyond(robot, reading),
    }
    return {name: getattr(config.rewards, name) * config.dt * terms[name] for name in Rewards.__dataclass_fields__}


def _start(robot: Robot, draws: dict[str, Array]) -> tuple[Array, Array]:
    """qpos and qvel before the fall: any attitude (Shoemake 1992: uniform over all rotations), joints anywhere in their ranges."""
    share, first, second = draws["attitude"]
    a, b = jnp.sqrt(1.0 - share), jnp.sqrt(share)
    angles = 2 * jnp.pi * jnp.stack([first, second])
    (sin_a, sin_b), (cos_a, cos_b) = jnp.sin(angles), jnp.cos(angles)
    attitude = jnp.stack([a * sin_a, a * cos_a, b * sin_b, b * cos_b])
    lowest, highest = robot.target_range[:, 0], robot.target_range[:, 1]
    place = jnp.array([0.0, 0.0, _DROP_HEIGHT])
    return jnp.concatenate([place, attitude, lowest + (highest - lowest) * draws["joints"]]), jnp.zeros(18)


def go2_recovery(config: Config = Config()) -> Env:
    """The task as an `Env`; actions are joint targets relative to the standing pose, [12], scaled by `action_scale`."""
    robot = _go2.robot(model(config.physics_dt))
    physics = make(robot.model, config.backend)
    worlds = randomised(physics, config.randomization, actuation.READS | sensing.READS)
    motors = actuation.actuation(physics, config.randomization, config.substeps, config.delay_steps)
    settle = round(_SETTLE_SECONDS / config.physics_dt)

    def begun(state: PhysicsState, parameters: Parameters) -> tuple[State, Observation]:
        begun = State(state, jnp.zeros(12), motors.init(state.qpos[7:] + parameters.joint_offset))
        return begun, _observe(robot, begun, read(robot, state), parameters)

    def reset(key: Key, parameters: Parameters) -> tuple[State, Observation]:
        draws = uniforms(key, attitude=3, joints=12)
        qpos, qvel = _start(robot, draws)
        falling = physics.forward(qpos, qvel, parameters.fields)
        rested = physics.step(falling, jnp.tile(qpos[None, 7:], (settle, 1)), parameters.fields)
        return begun(rested, parameters)

    def restart(state: State, parameters: Parameters, key: Key) -> tuple[State, Observation]:
        del key
        return begun(state.physics, parameters)

    def step(state: State, action: Array, parameters: Parameters, key: Key) -> tuple[State, TimeStep]:
        draws = uniforms(key, **actuation.DRAWS)
        target = _legged.target(robot, action, config.action_scale)
        after, commands, held = motors.step(state.physics, state.commands, target, parameters, draws["command"])
        reading, height = read(robot, after), after.qpos[2]
        torque = _legged.torque(robot, reading, held, parameters.motor_gain, parameters.motor_strength)
        rewards = _rewards(config, robot, state, reading, height, action, torque)
        later = State(after, action, commands)
        stands = (reading.gravity[2] < -0.95) & (height > _STANDING)
        tilt = jnp.arccos(jnp.clip(-reading.gravity[2], -1.0, 1.0))
        metrics = dict(zip(METRICS, (*rewards.values(), height, tilt, stands.astype(jnp.float32)), strict=True))
        ones, zeros = jnp.ones(()), jnp.zeros(())
        return later, TimeStep(_observe(robot, later, reading, parameters), sum(rewards.values(), zeros), ones, zeros, metrics)

    spec = EnvSpec(
        name="go2_recovery",
        observation=observation_spec(),
        action=ArraySpec((12,), names=JOINTS, unit="1"),
        episode_length=round(config.episode_seconds / config.dt),
        dt=config.dt,
        metrics=METRICS,
    )
    scene = Scene(robot.model, lambda state: {"qpos": state.physics.qpos}, "track")
    env = Env(spec, reset, step, restart, render=scene, **worlds._asdict())
    return sensing.sensed(env, _legged.by_observation(config.sensors), config.randomization, config.delay_steps)
