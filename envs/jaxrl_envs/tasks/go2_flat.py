"""Joystick velocity tracking on flat ground by a Unitree Go2, a quadruped with twelve joints.

The policy sets joint position targets at 50 Hz and sees what the robot's own sensors measure (gyroscope, direction of gravity, joint
positions and velocities), its last action, the command, and the clock of its gait, a trot that stops where the command is to stand. The
critic also sees what only the simulator knows.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax.numpy as jnp
import jaxlie
import mujoco
import numpy as np

from jaxrl.ops.draws import uniforms
from jaxrl.types import Array, ArraySpec, Env, EnvSpec, Key, Observation, TimeStep
from jaxrl_envs import randomization, robots
from jaxrl_envs.physics import PhysicsState, make
from jaxrl_envs.randomization import Parameters, Ranges
from jaxrl_envs.rendering import Scene

LEGS = ("FL", "FR", "RL", "RR")
JOINTS = tuple(f"{leg}_{joint}" for leg in LEGS for joint in ("abduction", "thigh", "calf"))
_AXES = ("x", "y", "z")
_NOISE = {"gyroscope": 3, "gravity": 3, "joint_position": 12, "joint_velocity": 12}  # draws, by the name in `Noise`
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


# What is paid for, weighted, and what is only looked at.
METRICS = (
    *(f"reward/{name}" for name in Rewards.__dataclass_fields__),
    "velocity_error",
    "yaw_error",
    "command/forward",
    "command/lateral",
    "command/yaw",
)


@dataclass(frozen=True)
class Noise:
    """Half-widths of the uniform observation noise at factor 1."""

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
        if delay is not None and delay[1] > self.dt + 1e-9:
            raise ValueError(
                f"randomization.action_delay goes up to {delay[1]} s, longer than one control step of {self.dt} s (physics_dt * substeps)"
            )

    @property
    def dt(self) -> float:
        """Seconds per control step."""
        return self.physics_dt * self.substeps


class State(NamedTuple):
    """One world of the task."""

    physics: PhysicsState
    command: Array  # [3] forward m/s, lateral m/s, yaw rad/s
    action: Array  # [12] the last one
    target: Array  # [12] rad, the joint targets in force before the next action
    phase: Array  # [] of the gait, 0 to 1


def model(physics_dt: float = 0.005) -> mujoco.MjModel:
    """The compiled robot on its floor."""
    compiled = mujoco.MjModel.from_xml_string(robots.xml("go2"))
    compiled.opt.timestep = physics_dt
    return compiled


class _Robot(NamedTuple):
    """The compiled robot and its constants, float32."""

    model: mujoco.MjModel
    place: np.ndarray  # [3] m of the base at the start
    home: np.ndarray  # [12] rad, standing
    target_range: np.ndarray  # [12, 2] rad
    joint_range: np.ndarray  # [12, 2] rad
    gain: np.ndarray  # [12] N m/rad
    damping: np.ndarray  # [12] N m s/rad
    torque_limit: np.ndarray  # [12] N m
    foot_radius: float  # m
    contact_at: np.ndarray  # [4] addresses in sensordata, and the next two
    position_at: np.ndarray  # [4, 3]
    velocity_at: np.ndarray  # [4, 3]


def _robot(config: Config) -> _Robot:
    compiled = model(config.physics_dt)

    def addresses(suffix: str) -> np.ndarray:
        """Of the sensors `<leg>_<suffix>` in sensordata, [4, dim]."""
        sensors = [compiled.sensor(f"{leg}_{suffix}") for leg in LEGS]
        return np.stack([np.arange(int(s.adr[0]), int(s.adr[0] + s.dim[0])) for s in sensors])

    start = compiled.key_qpos[0].astype(np.float32)
    return _Robot(
        model=compiled,
        place=start[:3],
        home=start[7:],
        target_range=compiled.actuator_ctrlrange.astype(np.float32),
        joint_range=compiled.jnt_range[1:].astype(np.float32),
        gain=compiled.actuator_gainprm[:, 0].astype(np.float32),
        damping=-compiled.actuator_biasprm[:, 2].astype(np.float32),
        torque_limit=compiled.actuator_forcerange[:, 1].astype(np.float32),
        foot_radius=float(compiled.geom("FL_foot").size[0]),
        contact_at=addresses("contact")[:, 0],
        position_at=addresses("position"),
        velocity_at=addresses("velocity"),
    )


class _Reading(NamedTuple):
    """What a physics state says: the motion of the base in its own frame, feet and height in the world's."""

    velocity: Array  # [3] m/s
    rate: Array  # [3] rad/s
    gravity: Array  # [3] unit vector
    joints: Array  # [12] rad
    joint_rates: Array  # [12] rad/s
    contact: Array  # [4] 0 or 1
    feet: Array  # [4, 3] m, world
    foot_velocity: Array  # [4, 3] m/s, world
    height: Array  # [] m, world


def _read(robot: _Robot, state: PhysicsState) -> _Reading:
    into_base = jaxlie.SO3(state.qpos[3:7]).inverse()
    sensors = state.sensordata
    return _Reading(
        velocity=into_base @ state.qvel[:3],
        rate=state.qvel[3:6],
        gravity=into_base @ jnp.array([0.0, 0.0, -1.0]),
        joints=state.qpos[7:],
        joint_rates=state.qvel[6:],
        contact=(sensors[robot.contact_at] > 0).astype(jnp.float32),
        feet=sensors[robot.position_at],
        foot_velocity=sensors[robot.velocity_at],
        height=state.qpos[2],
    )


def _moving(command: Array) -> Array:
    """1 where the robot is told to move, 0 where it is to stand."""
    return (jnp.abs(command).max() > 0.05).astype(jnp.float32)


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


def _observe(
    config: Config, robot: _Robot, state: State, reading: _Reading, parameters: Parameters, draws: dict[str, Array]
) -> Observation:
    """`draws` are uniform ones, by the names and sizes in `_NOISE`."""
    noise = {name: (2.0 * draws[name] - 1.0) * parameters.observation_noise * getattr(config.noise, name) for name in _NOISE}
    encoder = reading.joints - robot.home + parameters.joint_offset
    angle = 2 * jnp.pi * state.phase
    scalars = (parameters.friction, parameters.base_mass, *parameters.base_com, parameters.action_delay)
    return {
        "state/gyroscope": reading.rate + noise["gyroscope"],
        "state/gravity": reading.gravity + noise["gravity"],
        "state/command": state.command,
        "state/joint_position": encoder + noise["joint_position"],
        "state/joint_velocity": reading.joint_rates + noise["joint_velocity"],
        "state/last_action": state.action,
        "state/gait": _moving(state.command) * jnp.stack([jnp.sin(angle), jnp.cos(angle)]),
        "privileged/velocity": reading.velocity,
        "privileged/rate": reading.rate,
        "privileged/height": reading.height[None],
        "privileged/contact": reading.contact,
        "privileged/foot_height": reading.feet[:, 2],
        "privileged/joint_position": reading.joints - robot.home,
        "privileged/parameters": jnp.stack(scalars),
        "privileged/motor_strength": parameters.motor_strength,
    }


def _fell(config: Config, reading: _Reading) -> Array:
    """1 where the base is tilted too far or too low, else 0."""
    upright = -reading.gravity[2]
    return ((upright < float(np.cos(np.deg2rad(config.fall_tilt)))) | (reading.height < config.fall_height)).astype(jnp.float32)


def _torque(robot: _Robot, reading: _Reading, held: Array, parameters: Parameters) -> Array:
    """[12] N m of the motors that hold the joint targets `held`."""
    torque = parameters.motor_gain * (robot.gain * (held - reading.joints) - robot.damping * reading.joint_rates)
    return jnp.clip(torque, -robot.torque_limit * parameters.motor_strength, robot.torque_limit * parameters.motor_strength)


def _rewards(config: Config, robot: _Robot, state: State, reading: _Reading, action: Array, torque: Array, fell: Array) -> dict[str, Array]:
    """Every term, weighted, by its name in `Rewards` and in that order; `state` is the one before the step."""
    wanted = state.command
    moves = _moving(wanted)
    lift = moves * jnp.maximum(jnp.sin(2 * jnp.pi * (state.phase + _LEG_PHASE)), 0.0)  # 0 where a foot should stand
    width = config.tracking_width**2
    velocity_error = jnp.square(wanted[:2] - reading.velocity[:2]).sum()
    yaw_error = jnp.square(wanted[2] - reading.rate[2])
    slide = jnp.square(reading.foot_velocity[:, :2]).sum(-1)
    lowest, highest = robot.joint_range[:, 0], robot.joint_range[:, 1]
    beyond = jnp.maximum(lowest + 0.05 - reading.joints, 0) + jnp.maximum(reading.joints - highest + 0.05, 0)
    terms = {
        "track_velocity": jnp.exp(-velocity_error / width),
        "track_yaw": jnp.exp(-yaw_error / width),
        "vertical_velocity": jnp.square(reading.velocity[2]),
        "roll_pitch_rate": jnp.square(reading.rate[:2]).sum(),
        "tilt": jnp.square(reading.gravity[:2]).sum(),
        "torque": jnp.square(torque).sum(),
        "action_rate": jnp.square(action - state.action).sum(),
        "pose": jnp.square(reading.joints - robot.home).sum(),
        "gait": (reading.contact == (lift == 0)).mean(),
        "clearance": jnp.square(reading.feet[:, 2] - robot.foot_radius - config.swing_height * lift).sum(),
        "slip": (slide * reading.contact).sum(),
        "stand_still": (1.0 - moves) * jnp.abs(reading.joints - robot.home).sum(),
        "joint_limit": beyond.sum(),
        "alive": jnp.ones(()),
        "fall": fell,
    }
    return {name: getattr(config.rewards, name) * config.dt * terms[name] for name in Rewards.__dataclass_fields__}


def _metrics(state: State, reading: _Reading, rewards: dict[str, Array]) -> dict[str, Array]:
    velocity_error = jnp.linalg.norm(state.command[:2] - reading.velocity[:2])
    yaw_error = jnp.abs(state.command[2] - reading.rate[2])
    return dict(zip(METRICS, (*rewards.values(), velocity_error, yaw_error, *state.command), strict=True))


def _command(config: Config, draws: Array) -> Array:
    """A command from four uniform draws."""
    low, high = np.array([config.forward, config.lateral, config.yaw], np.float32).T
    return jnp.where(draws[3] < config.standing, 0.0, low + (high - low) * draws[:3])


def _start(robot: _Robot, draws: dict[str, Array]) -> tuple[Array, Array]:
    """qpos and qvel of an episode's first state: any heading, near the standing pose, slowly moving."""
    angle = 2 * jnp.pi * draws["turn"][0]
    heading = jnp.stack([jnp.cos(angle / 2), jnp.zeros(()), jnp.zeros(()), jnp.sin(angle / 2)])
    joints = robot.home * (0.8 + 0.4 * draws["pose"])
    return jnp.concatenate([robot.place, heading, joints]), jnp.concatenate([0.6 * draws["speed"] - 0.3, jnp.zeros(12)])


def _pushed(config: Config, state: PhysicsState, parameters: Parameters, now: Array, draws: Array) -> PhysicsState:
    """`state` after the push, if there is one: its draw is `now`, its direction and size are two `draws`."""
    heading = 2 * jnp.pi * draws[0]
    size = jnp.where(now < config.dt / config.push_seconds, parameters.push_velocity * draws[1], 0.0)
    return state._replace(qvel=state.qvel.at[:2].add(size * jnp.stack([jnp.cos(heading), jnp.sin(heading)])))


def _held(config: Config, state: State, target: Array, parameters: Parameters) -> Array:
    """[substeps, 12] rad, what the motors hold: the old target until the delay is over, and less by what their encoders are off."""
    late = jnp.arange(config.substeps) * config.physics_dt < parameters.action_delay
    seen = jnp.where(late[:, None], state.target[None, :], target[None, :])
    return seen - parameters.joint_offset[None, :]


def go2_flat(config: Config = Config()) -> Env:
    """The task as an `Env`; actions are joint targets relative to the standing pose, [12], scaled by `action_scale`."""
    robot = _robot(config)
    physics = make(robot.model, config.backend)

    def reset(key: Key, parameters: Parameters) -> tuple[State, Observation]:
        draws = uniforms(key, pose=12, turn=1, phase=1, speed=6, command=4, **_NOISE)
        start = physics.forward(*_start(robot, draws), parameters.fields)
        state = State(start, _command(config, draws["command"]), jnp.zeros(12), jnp.asarray(robot.home), draws["phase"][0])
        return state, _observe(config, robot, state, _read(robot, start), parameters, draws)

    def restart(state: State, parameters: Parameters, key: Key) -> tuple[State, Observation]:
        draws = uniforms(key, command=4, **_NOISE)
        state = state._replace(command=_command(config, draws["command"]))
        return state, _observe(config, robot, state, _read(robot, state.physics), parameters, draws)

    def step(state: State, action: Array, parameters: Parameters, key: Key) -> tuple[State, TimeStep]:
        draws = uniforms(key, event=2, push=2, command=4, **_NOISE)
        before = _pushed(config, state.physics, parameters, draws["event"][0], draws["push"])
        wanted = robot.home + config.action_scale * action
        target = jnp.clip(wanted, robot.target_range[:, 0], robot.target_range[:, 1])
        held = _held(config, state, target, parameters)
        after = physics.step(before, held, parameters.fields)

        reading = _read(robot, after)
        fell = _fell(config, reading)
        rewards = _rewards(config, robot, state, reading, action, _torque(robot, reading, held[-1], parameters), fell)
        redrawn = draws["event"][1] < config.dt / config.command_seconds
        later = State(
            physics=after,
            command=jnp.where(redrawn, _command(config, draws["command"]), state.command),
            action=action,
            target=target,
            phase=(state.phase + config.dt / config.gait_period) % 1.0,
        )
        observation = _observe(config, robot, later, reading, parameters, draws)
        reward = jnp.stack(list(rewards.values())).sum()
        return later, TimeStep(observation, reward, 1.0 - fell, jnp.zeros(()), _metrics(state, reading, rewards))

    spec = EnvSpec(
        name="go2_flat",
        observation=observation_spec(),
        action=ArraySpec((12,), names=JOINTS, unit="1"),
        episode_length=round(config.episode_seconds / config.dt),
        dt=config.dt,
        metrics=METRICS,
    )
    return Env(
        spec,
        reset,
        step,
        restart,
        nominal=randomization.nominal(physics, config.randomization),
        sample=randomization.distribution(physics, config.randomization),
        render=Scene(robot.model, lambda state: {"qpos": state.physics.qpos}, "track"),
    )
