"""Joystick velocity tracking on flat ground by a Unitree Go2, a quadruped with twelve joints.

The policy sets joint position targets at 50 Hz and sees what the robot's own sensors measure (gyroscope, direction of gravity, joint
positions and velocities), its last action, the command, and the clock of its gait, a trot that stops where the command is to stand. The
critic also sees what only the simulator knows.
"""

from dataclasses import dataclass, field
from importlib import resources
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxlie
import mujoco
import numpy as np

from jaxrl.types import Array, ArraySpec, Env, EnvSpec, Key, Observation, TimeStep
from jaxrl_envs import randomization
from jaxrl_envs.physics import PhysicsState, make
from jaxrl_envs.randomization import Parameters, Ranges

LEGS = ("FL", "FR", "RL", "RR")
JOINTS = tuple(f"{leg}_{joint}" for leg in LEGS for joint in ("abduction", "thigh", "calf"))
_AXES = ("x", "y", "z")
_LEG_PHASE = np.array([0.0, 0.5, 0.5, 0.0], np.float32)  # a trot: diagonal legs swing together


@dataclass(frozen=True)
class Rewards:
    """Weights of the reward terms, per second. Terms that measure a fault have negative weights."""

    track_velocity: float = 2.0
    track_yaw: float = 1.0
    vertical_velocity: float = -1.0
    roll_pitch_rate: float = -0.05
    tilt: float = -4.0
    torque: float = -1e-4
    action_rate: float = -0.01
    pose: float = -0.1
    gait: float = 1.0
    clearance: float = -10.0
    slip: float = -0.05
    stand_still: float = -0.3
    joint_limit: float = -1.0
    alive: float = 1.0  # staying up must pay more than the faults of early training cost
    fall: float = -150.0  # for one step of 20 ms: a fall costs 3


@dataclass(frozen=True)
class Noise:
    """Standard uniform half-widths of the observation noise at factor 1."""

    gyroscope: float = 0.2  # rad/s
    gravity: float = 0.05
    joint_position: float = 0.02  # rad
    joint_velocity: float = 1.0  # rad/s


@dataclass(frozen=True)
class Config:
    """The task's numbers; commands are uniform within their ranges."""

    backend: str = "auto"
    randomization: Ranges = field(default_factory=Ranges)
    rewards: Rewards = field(default_factory=Rewards)
    noise: Noise = field(default_factory=Noise)
    episode_seconds: float = 20.0
    physics_dt: float = 0.005  # s
    substeps: int = 4
    action_scale: float = 0.3  # rad of target per unit of action
    forward: tuple[float, float] = (-0.6, 1.0)  # m/s
    lateral: tuple[float, float] = (-0.4, 0.4)  # m/s
    yaw: tuple[float, float] = (-1.0, 1.0)  # rad/s
    standing: float = 0.1  # share of commands that are zero
    command_seconds: float = 5.0  # mean time between commands
    push_seconds: float = 8.0  # mean time between pushes
    gait_period: float = 0.5  # s between two steps of one foot
    swing_height: float = 0.08  # m of the feet above the ground at half of their swing
    tracking_width: float = 0.5  # m/s or rad/s at which a tracking reward falls to 1/e
    fall_tilt: float = 60.0  # degrees
    fall_height: float = 0.15  # m

    def __post_init__(self) -> None:
        delay = self.randomization.action_delay
        if delay is not None and delay[1] > self.physics_dt * self.substeps + 1e-9:
            raise ValueError(
                f"randomization.action_delay goes up to {delay[1]} s, longer than one control step of "
                f"{self.physics_dt * self.substeps} s (physics_dt * substeps)"
            )


class State(NamedTuple):
    """One world of the task."""

    physics: PhysicsState
    command: Array  # [3] forward m/s, lateral m/s, yaw rad/s
    action: Array  # [12] the last one
    target: Array  # [12] rad, the joint targets in force before the next action
    phase: Array  # [] of the gait, 0 to 1


class _Reading(NamedTuple):
    """What a physics state says, in the frame of the base."""

    velocity: Array  # [3] m/s
    rate: Array  # [3] rad/s
    gravity: Array  # [3] unit vector
    joints: Array  # [12] rad
    joint_rates: Array  # [12] rad/s
    contact: Array  # [4] 0 or 1
    feet: Array  # [4, 3] m, world
    foot_velocity: Array  # [4, 3] m/s, world
    height: Array  # [] m


def model(physics_dt: float = 0.005) -> mujoco.MjModel:
    """The compiled robot on its floor."""
    path = resources.files("jaxrl_envs") / "robots" / "go2.xml"
    compiled = mujoco.MjModel.from_xml_string(path.read_text())
    compiled.opt.timestep = physics_dt
    return compiled


def _sensor_slices(compiled: mujoco.MjModel, suffix: str) -> np.ndarray:
    """Addresses in sensordata of the sensors `<leg>_<suffix>`, [4, dim]."""
    sensors = [compiled.sensor(f"{leg}_{suffix}") for leg in LEGS]
    return np.stack([np.arange(int(s.adr[0]), int(s.adr[0] + s.dim[0])) for s in sensors])


def observation_spec() -> dict[str, ArraySpec]:
    """What the policy sees (`state/`) and what only the critic sees (`privileged/`)."""

    def per_joint(unit: str) -> ArraySpec:
        return ArraySpec((12,), names=JOINTS, unit=unit)

    parameter_names = ("friction", "base_mass", "base_com_x", "base_com_y", "base_com_z", "action_delay")
    return {
        "state/gyroscope": ArraySpec((3,), names=_AXES, unit="rad/s"),
        "state/gravity": ArraySpec((3,), names=_AXES, unit="1"),
        "state/command": ArraySpec((3,), names=("forward", "lateral", "yaw"), unit="m/s,m/s,rad/s"),
        "state/joint_position": per_joint("rad"),
        "state/joint_velocity": per_joint("rad/s"),
        "state/last_action": per_joint("1"),
        "state/gait": ArraySpec((2,), names=("sine", "cosine"), unit="1"),
        "privileged/velocity": ArraySpec((3,), names=_AXES, unit="m/s"),
        "privileged/rate": ArraySpec((3,), names=_AXES, unit="rad/s"),
        "privileged/height": ArraySpec((1,), names=("base",), unit="m"),
        "privileged/contact": ArraySpec((4,), names=LEGS, unit="1"),
        "privileged/foot_height": ArraySpec((4,), names=LEGS, unit="m"),
        "privileged/joint_position": per_joint("rad"),
        "privileged/parameters": ArraySpec((6,), names=parameter_names, unit="1,kg,m,m,m,s"),
        "privileged/motor_strength": per_joint("1"),
    }


def go2_flat(config: Config = Config()) -> Env:
    """The task as an `Env`; actions are joint targets relative to the standing pose, [12], scaled by `action_scale`."""
    compiled = model(config.physics_dt)
    physics = make(compiled, config.backend)
    dt = config.physics_dt * config.substeps
    home_qpos = np.asarray(compiled.key_qpos[0], np.float32)
    home = home_qpos[7:]
    control_range = np.asarray(compiled.actuator_ctrlrange, np.float32)
    joint_range = np.asarray(compiled.jnt_range[1:], np.float32)
    gain = jnp.asarray(compiled.actuator_gainprm[:, 0], jnp.float32)
    damping = np.asarray(-compiled.actuator_biasprm[:, 2], np.float32)
    torque_limit = jnp.asarray(compiled.actuator_forcerange[:, 1], jnp.float32)
    contact_at = _sensor_slices(compiled, "contact")[:, 0]
    position_at, velocity_at = _sensor_slices(compiled, "position"), _sensor_slices(compiled, "velocity")
    command_low = np.array([config.forward[0], config.lateral[0], config.yaw[0]], np.float32)
    command_high = np.array([config.forward[1], config.lateral[1], config.yaw[1]], np.float32)
    levels = (config.noise.gyroscope, config.noise.gravity, config.noise.joint_position, config.noise.joint_velocity)
    noise_widths = np.repeat(np.array(levels, np.float32), (3, 3, 12, 12))
    foot_radius = float(compiled.geom("FL_foot").size[0])
    cosine_of_fall = float(np.cos(np.deg2rad(config.fall_tilt)))

    def read(state: PhysicsState) -> _Reading:
        into_base = jaxlie.SO3(state.qpos[3:7]).inverse()
        sensors = state.sensordata
        return _Reading(
            velocity=into_base @ state.qvel[:3],
            rate=state.qvel[3:6],
            gravity=into_base @ jnp.array([0.0, 0.0, -1.0]),
            joints=state.qpos[7:],
            joint_rates=state.qvel[6:],
            contact=(sensors[contact_at] > 0).astype(jnp.float32),
            feet=sensors[position_at],
            foot_velocity=sensors[velocity_at],
            height=state.qpos[2],
        )

    def moving(command: Array) -> Array:
        """1 where the robot is told to move, 0 where it is to stand."""
        return (jnp.abs(command).max() > 0.05).astype(jnp.float32)

    def command_from(draws: Array) -> Array:
        """A command from four uniform draws."""
        return jnp.where(draws[3] < config.standing, 0.0, command_low + (command_high - command_low) * draws[:3])

    def observe(state: State, reading: _Reading, parameters: Parameters, draws: Array) -> Observation:
        """With noise from 30 uniform draws."""
        noise = (2.0 * draws - 1.0) * parameters.observation_noise * noise_widths
        gyroscope, gravity, position, velocity = jnp.split(noise, (3, 6, 18))
        encoder = reading.joints - home + parameters.joint_offset
        angle = 2 * jnp.pi * state.phase
        scalars = (parameters.friction, parameters.base_mass, *parameters.base_com, parameters.action_delay)
        return {
            "state/gyroscope": reading.rate + gyroscope,
            "state/gravity": reading.gravity + gravity,
            "state/command": state.command,
            "state/joint_position": encoder + position,
            "state/joint_velocity": reading.joint_rates + velocity,
            "state/last_action": state.action,
            "state/gait": moving(state.command) * jnp.stack([jnp.sin(angle), jnp.cos(angle)]),
            "privileged/velocity": reading.velocity,
            "privileged/rate": reading.rate,
            "privileged/height": reading.height[None],
            "privileged/contact": reading.contact,
            "privileged/foot_height": reading.feet[:, 2],
            "privileged/joint_position": reading.joints - home,
            "privileged/parameters": jnp.stack(scalars),
            "privileged/motor_strength": parameters.motor_strength,
        }

    def reset(key: Key, parameters: Parameters) -> tuple[State, Observation]:
        pose, turn, phase, speed, command, noise = jnp.split(jax.random.uniform(key, (54,)), (12, 13, 14, 20, 24))
        angle = 2 * jnp.pi * turn[0]
        heading = jnp.stack([jnp.cos(angle / 2), jnp.zeros(()), jnp.zeros(()), jnp.sin(angle / 2)])
        joints = home * (0.8 + 0.4 * pose)
        qpos = jnp.concatenate([home_qpos[:3], heading, joints])
        qvel = jnp.concatenate([0.6 * speed - 0.3, jnp.zeros(12)])
        start = physics.forward(qpos, qvel, parameters.fields)
        state = State(start, command_from(command), jnp.zeros(12), jnp.asarray(home), phase[0])
        return state, observe(state, read(start), parameters, noise)

    def restart(state: State, parameters: Parameters, key: Key) -> tuple[State, Observation]:
        draws = jax.random.uniform(key, (34,))
        state = state._replace(command=command_from(draws[:4]))
        return state, observe(state, read(state.physics), parameters, draws[4:])

    def rewards(state: State, reading: _Reading, action: Array, torque: Array, fell: Array) -> dict[str, Array]:
        """Every term unweighted, by its name in `Rewards`; `state` is the one before the step."""
        wanted = state.command
        moves = moving(wanted)
        lift = moves * jnp.maximum(jnp.sin(2 * jnp.pi * (state.phase + _LEG_PHASE)), 0.0)  # 0 where a foot should stand
        width = config.tracking_width**2
        velocity_error = jnp.square(wanted[:2] - reading.velocity[:2]).sum()
        yaw_error = jnp.square(wanted[2] - reading.rate[2])
        slide = jnp.square(reading.foot_velocity[:, :2]).sum(-1)
        beyond = jnp.maximum(joint_range[:, 0] + 0.05 - reading.joints, 0) + jnp.maximum(reading.joints - joint_range[:, 1] + 0.05, 0)
        return {
            "track_velocity": jnp.exp(-velocity_error / width),
            "track_yaw": jnp.exp(-yaw_error / width),
            "vertical_velocity": jnp.square(reading.velocity[2]),
            "roll_pitch_rate": jnp.square(reading.rate[:2]).sum(),
            "tilt": jnp.square(reading.gravity[:2]).sum(),
            "torque": jnp.square(torque).sum(),
            "action_rate": jnp.square(action - state.action).sum(),
            "pose": jnp.square(reading.joints - home).sum(),
            "gait": (reading.contact == (lift == 0)).mean(),
            "clearance": jnp.square(reading.feet[:, 2] - foot_radius - config.swing_height * lift).sum(),
            "slip": (slide * reading.contact).sum(),
            "stand_still": (1.0 - moves) * jnp.abs(reading.joints - home).sum(),
            "joint_limit": beyond.sum(),
            "alive": jnp.ones(()),
            "fall": fell,
        }

    def step(state: State, action: Array, parameters: Parameters, key: Key) -> tuple[State, TimeStep]:
        # One draw serves the whole step: each call of the generator costs compile time.
        event, push, command, noise = jnp.split(jax.random.uniform(key, (38,)), (2, 4, 8))
        pushed, redrawn = event[0] < dt / config.push_seconds, event[1] < dt / config.command_seconds
        heading = 2 * jnp.pi * push[0]
        kick = jnp.where(pushed, parameters.push_velocity * push[1], 0.0) * jnp.stack([jnp.cos(heading), jnp.sin(heading)])
        before = state.physics._replace(qvel=state.physics.qvel.at[:2].add(kick))

        wanted = home + config.action_scale * action
        target = jnp.clip(wanted, control_range[:, 0], control_range[:, 1])
        late = jnp.arange(config.substeps) * config.physics_dt < parameters.action_delay
        seen = jnp.where(late[:, None], state.target[None, :], target[None, :])
        held = seen - parameters.joint_offset[None, :]
        after = physics.step(before, held, parameters.fields)

        reading = read(after)
        torque = parameters.motor_gain * (gain * (held[-1] - reading.joints) - damping * reading.joint_rates)
        torque = jnp.clip(torque, -torque_limit * parameters.motor_strength, torque_limit * parameters.motor_strength)
        upright = -reading.gravity[2]
        fell = ((upright < cosine_of_fall) | (reading.height < config.fall_height)).astype(jnp.float32)
        terms = rewards(state, reading, action, torque, fell)
        weighted = {name: getattr(config.rewards, name) * dt * term for name, term in terms.items()}
        metrics = {f"reward/{name}": term for name, term in weighted.items()} | {
            "velocity_error": jnp.linalg.norm(state.command[:2] - reading.velocity[:2]),
            "yaw_error": jnp.abs(state.command[2] - reading.rate[2]),
            "command/forward": state.command[0],
            "command/lateral": state.command[1],
            "command/yaw": state.command[2],
        }
        later = State(
            physics=after,
            command=jnp.where(redrawn, command_from(command), state.command),
            action=action,
            target=target,
            phase=(state.phase + dt / config.gait_period) % 1.0,
        )
        observation = observe(later, reading, parameters, noise)
        return later, TimeStep(observation, jnp.stack(list(weighted.values())).sum(), 1.0 - fell, jnp.zeros(()), metrics)

    def render(states: State, width: int, height: int) -> Any:
        from jaxrl_envs.rendering import frames

        return frames(compiled, np.asarray(states.physics.qpos), width=width, height=height, camera="track")

    names = tuple(f"reward/{name}" for name in Rewards.__dataclass_fields__)
    spec = EnvSpec(
        name="go2_flat",
        observation=observation_spec(),
        action=ArraySpec((12,), names=JOINTS, unit="1"),
        episode_length=round(config.episode_seconds / dt),
        dt=dt,
        metrics=(*names, "velocity_error", "yaw_error", "command/forward", "command/lateral", "command/yaw"),
    )
    return Env(
        spec,
        reset,
        step,
        restart,
        nominal=randomization.nominal(physics, config.randomization),
        sample=randomization.distribution(physics, config.randomization),
        render=render,
    )
