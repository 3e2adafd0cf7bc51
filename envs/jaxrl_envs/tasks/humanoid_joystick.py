"""Standing and walking on flat ground as a joystick commands, by a humanoid with 29 joints, a Unitree G1 of primitive shapes.

The policy sets joint position targets at 50 Hz and sees what the robot's own sensors measure (gyroscope, direction of gravity, joint
positions and velocities), its last action, the command, and the clock of its gait, which stops where the command is to stand. The critic
also sees what only the simulator knows. The ankles' gains are too low to stand on: a robot that does nothing falls within a second.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrl.ops.draws import uniforms
from jaxrl.types import Array, ArraySpec, Env, EnvSpec, Key, Observation, TimeStep
from jaxrl_envs.physics import PhysicsState, make
from jaxrl_envs.randomization import Parameters, Ranges, actuation, randomised, sensing
from jaxrl_envs.randomization.actuation import Commands
from jaxrl_envs.randomization.sensing import Sensor
from jaxrl_envs.rendering import Scene
from jaxrl_envs.tasks import _humanoid
from jaxrl_envs.tasks._humanoid import JOINTS, SIDES, Reading, Robot, read

READS = actuation.READS | sensing.READS | {"push_velocity"}
START_DRAWS = {"pose": 29, "turn": 1, "phase": 1, "speed": 6, "command": 4}  # uniform draws, by name
STEP_DRAWS = {"event": 2, "push": 2, "next_command": 4} | actuation.DRAWS
_AXES = ("x", "y", "z")
_LEG_PHASE = np.array([0.0, 0.5], np.float32)
_TRACKED = 0.7  # share of the commanded way that must have been made for a success

# How much a joint may leave its place in the standing pose, by the end of its name: walking needs the first, the others follow.
_POSE_WEIGHTS = {"hip_pitch": 0.02, "knee": 0.02, "ankle_pitch": 0.02, "ankle_roll": 0.1, "hip_roll": 1.0, "hip_yaw": 1.0}
_OTHERS = 0.5


@dataclass(frozen=True)
class Rewards:
    """Weights of the reward terms, per second. Terms that measure a fault have negative weights."""

    track_velocity: float = 2.0
    track_yaw: float = 1.0
    vertical_velocity: float = -0.5
    roll_pitch_rate: float = -0.05
    tilt: float = -5.0
    torque: float = -1e-5
    action_rate: float = -0.01
    pose: float = -0.5
    gait: float = 1.0
    clearance: float = -20.0
    slip: float = -0.1
    sole: float = -1.0
    stand_still: float = -0.2
    joint_limit: float = -1.0
    alive: float = 1.0  # staying up must pay more than the faults of early training cost
    fall: float = -100.0  # once: it lasts one step


METRICS = (
    *(f"reward/{name}" for name in Rewards.__dataclass_fields__),
    *("velocity_error", "yaw_error", "command/forward", "command/lateral", "command/yaw", "success"),
)


@dataclass(frozen=True)
class Sensors:
    """The robot's sensors where the factors on noise, drift and resolution are 1."""

    gyroscope: Sensor = Sensor(noise=0.2, drift=0.02, resolution=0.001)  # rad/s
    gravity: Sensor = Sensor(noise=0.05, drift=0.01, resolution=0.001)
    joint_position: Sensor = Sensor(noise=0.02, drift=0.005, resolution=0.0004)  # rad
    joint_velocity: Sensor = Sensor(noise=1.0, resolution=0.01)  # rad/s


@dataclass(frozen=True)
class Config:
    """The task's numbers; commands are uniform within their ranges."""

    backend: str = "auto"
    randomization: Ranges = field(default_factory=Ranges)
    rewards: Rewards = field(default_factory=Rewards)
    sensors: Sensors = field(default_factory=Sensors)
    episode_seconds: float = 20.0
    physics_dt: float = 0.005  # s
    substeps: int = 4
    delay_steps: int = 1  # control steps for which a command or a measurement may be under way
    action_scale: float = 0.25  # of a joint's torque limit, which one unit of action asks for where the joint does not give way
    largest_scale: float = 0.5  # rad of target per unit of action
    forward: tuple[float, float] = (-0.5, 0.8)  # m/s
    lateral: tuple[float, float] = (-0.3, 0.3)  # m/s
    yaw: tuple[float, float] = (-0.8, 0.8)  # rad/s
    standing: float = 0.1  # share of commands that are zero
    command_seconds: float = 5.0  # mean time between commands
    push_seconds: float = 8.0  # mean time between pushes
    gait_period: float = 0.7  # s between two steps of one foot
    swing_share: float = 0.4  # of the period in which a foot is in the air
    swing_height: float = 0.08  # m of the soles above the ground at half of their swing
    tracking_width: float = 0.5  # m/s or rad/s at which a tracking reward falls to 1/e
    fall_tilt: float = 50.0  # degrees
    fall_height: float = 0.5  # m

    def __post_init__(self) -> None:
        for name in ("physics_dt", "substeps", "delay_steps", "episode_seconds", "command_seconds", "push_seconds", "gait_period"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be positive")
        for name in ("forward", "lateral", "yaw"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: the lower bound {low} is above the upper bound {high}")
        if not 0 < self.swing_share < 1:
            raise ValueError(f"swing_share is {self.swing_share}, but must lie between 0 and 1")

    @property
    def dt(self) -> float:
        """Seconds per control step."""
        return self.physics_dt * self.substeps


class State(NamedTuple):
    """One world of the task."""

    physics: PhysicsState
    command: Array  # [3] forward m/s, lateral m/s, yaw rad/s
    action: Array  # [29] the last one
    commands: Commands  # joint targets on their way
    phase: Array  # [] of the gait, 0 to 1
    way: Array  # [2] m, of this episode: commanded, and made in the commanded direction


def moving(command: Array) -> Array:
    """1 where the robot is told to move, 0 where it is to stand."""
    return (jnp.abs(command).max() > 0.05).astype(jnp.float32)


def sensors(config: Config) -> dict[str, Sensor]:
    """By the name of the observation that each measures."""
    return {f"state/{name}": getattr(config.sensors, name) for name in Sensors.__dataclass_fields__}


def observation_spec() -> dict[str, ArraySpec]:
    """What the policy sees (`state/`) and what only the critic sees (`privileged/`)."""

    def per_joint(unit: str) -> ArraySpec:
        return ArraySpec((29,), names=JOINTS, unit=unit)

    parameter_names = ("friction", "payload", "torso_com_x", "torso_com_y", "torso_com_z", "action_delay")
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
        "privileged/height": ArraySpec((1,), names=("pelvis",), unit="m"),
        "privileged/contact": ArraySpec((2,), names=SIDES, unit="1"),
        "privileged/foot_height": ArraySpec((2,), names=SIDES, unit="m"),
        "privileged/joint_position": per_joint("rad"),
        "privileged/parameters": ArraySpec((6,), names=parameter_names, unit="1,kg,m,m,m,s"),
        "privileged/motor_strength": per_joint("1"),
    }


def observe(robot: Robot, state: State, reading: Reading, parameters: Parameters) -> Observation:
    """What there is to be seen, before the sensors' faults."""
    angle = 2 * jnp.pi * state.phase
    scalars = (parameters.friction, parameters.payload[robot.torso], *parameters.center_of_mass[robot.torso], parameters.action_delay)
    return {
        "state/gyroscope": reading.rate,
        "state/gravity": reading.gravity,
        "state/command": state.command,
        "state/joint_position": reading.joints - robot.home + parameters.joint_offset,
        "state/joint_velocity": reading.joint_rates,
        "state/last_action": state.action,
        "state/gait": moving(state.command) * jnp.stack([jnp.sin(angle), jnp.cos(angle)]),
        "privileged/velocity": reading.velocity,
        "privileged/rate": reading.rate,
        "privileged/height": reading.height[None],
        "privileged/contact": reading.contact,
        "privileged/foot_height": reading.foot_height,
        "privileged/joint_position": reading.joints - robot.home,
        "privileged/parameters": jnp.stack(scalars),
        "privileged/motor_strength": parameters.motor_strength,
    }


def fell(config: Config, reading: Reading) -> Array:
    """1 where the pelvis is tilted too far or too low, else 0."""
    upright = -reading.gravity[2]
    return ((upright < float(np.cos(np.deg2rad(config.fall_tilt)))) | (reading.height < config.fall_height)).astype(jnp.float32)


def pose_weights() -> np.ndarray:
    """[29] of the joints' squared distances from the standing pose."""
    named = [name.removeprefix("left_").removeprefix("right_") for name in JOINTS]
    return np.array([_POSE_WEIGHTS.get(name, _OTHERS) for name in named], np.float32)


def lift(config: Config, phase: Array, moves: Array) -> Array:
    """[2] how high each foot should be, as a share of `swing_height`: 0 where it should stand."""
    least = float(np.cos(np.pi * config.swing_share))  # the sine above which a foot swings
    height = (jnp.sin(2 * jnp.pi * (phase + _LEG_PHASE)) - least) / (1.0 - least)
    return moves * jnp.maximum(height, 0.0)


def rewards(config: Config, robot: Robot, state: State, reading: Reading, action: Array, torque: Array, fell: Array) -> dict[str, Array]:
    """Every term, weighted, by its name in `Rewards` and in that order; `state` is the one before the step."""
    wanted = state.command
    moves = moving(wanted)
    lifted = lift(config, state.phase, moves)
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
        "pose": (pose_weights() * jnp.square(reading.joints - robot.home)).sum(),
        "gait": (reading.contact == (lifted == 0)).mean(),
        "clearance": jnp.square(reading.foot_height - config.swing_height * lifted).sum(),
        "slip": (slide * reading.contact).sum(),
        "sole": reading.foot_tilt.sum(),
        "stand_still": (1.0 - moves) * jnp.abs(reading.joints - robot.home).sum(),
        "joint_limit": beyond.sum(),
        "alive": jnp.ones(()),
        "fall": fell,
    }
    return {name: getattr(config.rewards, name) * config.dt * terms[name] for name in Rewards.__dataclass_fields__}


def way(config: Config, state: State, reading: Reading) -> Array:
    """`State.way` after a step: how far the command has been to go, and how far the robot has gone so."""
    wanted = jnp.linalg.norm(state.command[:2])
    along = (state.command[:2] * reading.velocity[:2]).sum() / jnp.where(wanted > 0, wanted, 1.0)
    return state.way + config.dt * jnp.stack([wanted, jnp.clip(along, -wanted, wanted)])


def metrics(state: State, reading: Reading, rewards: dict[str, Array], way: Array, fell: Array) -> dict[str, Array]:
    """By the names in `METRICS`. Success, so far: not fallen, and most of the commanded way was made."""
    velocity_error = jnp.linalg.norm(state.command[:2] - reading.velocity[:2])
    yaw_error = jnp.abs(state.command[2] - reading.rate[2])
    success = (1.0 - fell) * (way[1] >= _TRACKED * way[0])
    return dict(zip(METRICS, (*rewards.values(), velocity_error, yaw_error, *state.command, success), strict=True))


def command(config: Config, draws: Array) -> Array:
    """A command [3] from four uniform draws."""
    low, high = np.array([config.forward, config.lateral, config.yaw], np.float32).T
    return jnp.where(draws[3] < config.standing, 0.0, low + (high - low) * draws[:3])


def start(robot: Robot, draws: dict[str, Array]) -> tuple[Array, Array]:
    """qpos and qvel of an episode's first state: any heading, near the standing pose, slowly moving."""
    angle = 2 * jnp.pi * draws["turn"][0]
    heading = jnp.stack([jnp.cos(angle / 2), jnp.zeros(()), jnp.zeros(()), jnp.sin(angle / 2)])
    joints = robot.home + 0.1 * draws["pose"] - 0.05
    return jnp.concatenate([robot.place, heading, joints]), jnp.concatenate([0.4 * draws["speed"] - 0.2, jnp.zeros(29)])


def pushed(config: Config, state: PhysicsState, parameters: Parameters, now: Array, draws: Array) -> PhysicsState:
    """`state` after the push, if there is one: its draw is `now`, its direction and size are two `draws`."""
    heading = 2 * jnp.pi * draws[0]
    size = jnp.where(now < config.dt / config.push_seconds, parameters.push_velocity * draws[1], 0.0)
    return state._replace(qvel=state.qvel.at[:2].add(size * jnp.stack([jnp.cos(heading), jnp.sin(heading)])))


def target(config: Config, robot: Robot, action: Array) -> Array:
    """[29] rad, the joint targets that an action [29] means."""
    scale = np.minimum(config.action_scale * robot.torque_limit / robot.gain, config.largest_scale)
    return jnp.clip(robot.home + scale * action, robot.target_range[:, 0], robot.target_range[:, 1])


def humanoid_joystick(config: Config = Config()) -> Env:
    """The task as an `Env`; actions are joint targets relative to the standing pose, [29], each in a unit of its own (see `target`)."""
    robot = _humanoid.robot(_humanoid.model(config.physics_dt))
    physics = make(robot.model, config.backend)
    worlds = randomised(physics, config.randomization, READS)
    motors = actuation.actuation(physics, config.randomization, config.substeps, config.delay_steps)

    def begun(state: PhysicsState, draws: dict[str, Array], parameters: Parameters) -> tuple[State, Observation]:
        still = motors.init(jnp.asarray(robot.home))
        begun = State(state, command(config, draws["command"]), jnp.zeros(29), still, draws["phase"][0], jnp.zeros(2))
        return begun, observe(robot, begun, read(robot, state), parameters)

    def reset(key: Key, parameters: Parameters) -> tuple[State, Observation]:
        draws = uniforms(key, **START_DRAWS)
        return begun(physics.forward(*start(robot, draws), parameters.fields), draws, parameters)

    def restart(state: State, parameters: Parameters, key: Key) -> tuple[State, Observation]:
        return begun(state.physics, uniforms(key, command=4, phase=1), parameters)

    def step(state: State, action: Array, parameters: Parameters, key: Key) -> tuple[State, TimeStep]:
        draws = uniforms(key, **STEP_DRAWS)
        before = pushed(config, state.physics, parameters, draws["event"][0], draws["push"])
        after, commands, held = motors.step(before, state.commands, target(config, robot, action), parameters, draws["command"])

        reading = read(robot, after)
        down = fell(config, reading)
        torque = _humanoid.torque(robot, reading, held, parameters.motor_gain, parameters.motor_strength)
        paid = rewards(config, robot, state, reading, action, torque, down)
        redrawn = draws["event"][1] < config.dt / config.command_seconds
        later = State(
            physics=after,
            command=jnp.where(redrawn, command(config, draws["next_command"]), state.command),
            action=action,
            commands=commands,
            phase=(state.phase + config.dt / config.gait_period) % 1.0,
            way=way(config, state, reading),
        )
        shown = metrics(state, reading, paid, later.way, down)
        seen = observe(robot, later, reading, parameters)
        return later, TimeStep(seen, jnp.stack(list(paid.values())).sum(), 1.0 - down, jnp.zeros(()), shown)

    spec = EnvSpec(
        name="humanoid_joystick",
        observation=observation_spec(),
        action=ArraySpec((29,), names=JOINTS, unit="1"),
        episode_length=round(config.episode_seconds / config.dt),
        dt=config.dt,
        metrics=METRICS,
    )
    scene = Scene(robot.model, lambda state: {"qpos": state.physics.qpos}, "track")
    env = Env(spec, reset, step, restart, render=scene, **worlds._asdict())
    return sensing.sensed(env, sensors(config), config.randomization, config.delay_steps)
