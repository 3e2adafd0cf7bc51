"""The joystick task of any robot on legs, on any ground: commands, observations, rewards, starts, pushes.

The policy sets joint position targets at 50 Hz and sees what the robot's own sensors measure (gyroscope, direction of gravity, joint
positions and velocities), its last action, the command, and the clock of its gait, which stops where the command is to stand. The critic
also sees what only the simulator knows. What is one robot's own is in a `Walker`, what is one ground's in a `Place`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrl.ops.draws import uniforms
from jaxrl.types import Array, ArraySpec, Env, EnvSpec, Key, Observation, Steering, TimeStep
from jaxrl_envs.physics import PhysicsState, make
from jaxrl_envs.randomization import Parameters, Ranges, actuation, randomised, sensing
from jaxrl_envs.randomization.actuation import Commands
from jaxrl_envs.randomization.sensing import Sensor
from jaxrl_envs.rendering import Scene
from jaxrl_envs.tasks import _legged
from jaxrl_envs.tasks._legged import Ground, Reading, Robot, Sensors, flat_ground, read
from jaxrl_envs.tasks._mirror import mirror

READS = actuation.READS | sensing.READS | {"push_velocity"}
START_DRAWS = {"turn": 1, "phase": 1, "speed": 6, "command": 4, "origin": 2}  # uniform draws, by name; those of the pose come first
STEP_DRAWS = {"event": 2, "push": 2, "next_command": 4} | actuation.DRAWS
COMMAND = ("forward", "lateral", "yaw")
_AXES = ("x", "y", "z")
_TRACKED = 0.7  # share of the commanded way that must have been made for a success


@dataclass(frozen=True)
class Joystick:
    """The numbers of a joystick task, of which the first belong to the robot; commands are uniform within their ranges."""

    rewards: Any  # a dataclass: weights, per second, of those terms of `rewards` that count, by name
    forward: tuple[float, float]  # m/s
    lateral: tuple[float, float]  # m/s
    yaw: tuple[float, float]  # rad/s
    gait_period: float  # s between two steps of one foot
    swing_share: float  # of the period in which a foot is in the air
    fall_tilt: float  # degrees
    fall_height: float  # m
    backend: str = "auto"
    randomization: Ranges = field(default_factory=Ranges)
    sensors: Sensors = field(default_factory=Sensors)
    episode_seconds: float = 20.0
    physics_dt: float = 0.005  # s
    substeps: int = 4
    delay_steps: int = 1  # control steps for which a command or a measurement may be under way
    standing: float = 0.1  # share of commands that are zero
    command_seconds: float = 5.0  # mean time between commands
    push_seconds: float = 8.0  # mean time between pushes
    swing_height: float = 0.08  # m of the soles above the ground at half of their swing
    tracking_width: float = 0.5  # m/s or rad/s at which a tracking reward falls to 1/e

    def __post_init__(self) -> None:
        for name in ("physics_dt", "substeps", "delay_steps", "episode_seconds", "command_seconds", "push_seconds", "gait_period"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be positive")
        for name in COMMAND:
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: the lower bound {low} is above the upper bound {high}")
        if not 0 < self.swing_share < 1:
            raise ValueError(f"swing_share is {self.swing_share}, but must lie between 0 and 1")

    @property
    def dt(self) -> float:
        """Seconds per control step."""
        return self.physics_dt * self.substeps


class Walker(NamedTuple):
    """What is the robot's own, with J joints and F feet."""

    robot: Robot
    action_scale: np.ndarray  # [J] rad of target per unit of action
    leg_phase: np.ndarray  # [F] how far ahead of the clock each foot is, 0 to 1
    pose_weights: np.ndarray  # [J] of the joints' squared distances from the standing pose
    start_joints: Callable[[Array], Array]  # uniform draws [J] -> rad, near the standing pose
    start_speed: float  # m/s and rad/s of the base, at most, along and about each axis


class Place(NamedTuple):
    """Where the robot walks."""

    ground: Ground
    origin: Callable[[Parameters, Array], Array]  # (parameters, draws [2]) -> [3] m, where an episode starts
    look: Callable[[Array, Array], Observation]  # (position of the base [3], yaw []) -> what is seen of the ground
    seen: dict[str, ArraySpec]  # of that
    sensors: dict[str, Sensor]  # of that
    drop: float  # m from which the robot falls at the start
    left: Callable[[Array], Array]  # position of the base [3] -> 1 where it leaves the place, which cuts the episode, else 0


FLOOR = Place(flat_ground, lambda parameters, draws: jnp.zeros(3), lambda position, yaw: {}, {}, {}, 0.0, lambda position: jnp.zeros(()))


class State(NamedTuple):
    """One world of the task."""

    physics: PhysicsState
    command: Array  # [3] forward m/s, lateral m/s, yaw rad/s
    action: Array  # [J] the last one
    commands: Commands  # joint targets on their way
    phase: Array  # [] of the gait, 0 to 1
    way: Array  # [2] m, of this episode: commanded, and made in the commanded direction
    origin: Array  # [3] m, where the episode began


def moving(command: Array) -> Array:
    """1 where the robot is told to move, 0 where it is to stand."""
    return (jnp.abs(command).max() > 0.05).astype(jnp.float32)


def observation_spec(robot: Robot) -> dict[str, ArraySpec]:
    """What the policy sees (`state/`) and what only the critic sees (`privileged/`)."""

    def named(names: tuple[str, ...], unit: str) -> ArraySpec:
        return ArraySpec((len(names),), names=names, unit=unit)

    parameter_names = ("friction", "payload", *(f"{robot.trunk}_com_{axis}" for axis in _AXES), "action_delay")
    return {
        "state/gyroscope": named(_AXES, "rad/s"),
        "state/gravity": named(_AXES, "1"),
        "state/command": named(COMMAND, "m/s,m/s,rad/s"),
        "state/joint_position": named(robot.joints, "rad"),
        "state/joint_velocity": named(robot.joints, "rad/s"),
        "state/last_action": named(robot.joints, "1"),
        "state/gait": named(("sine", "cosine"), "1"),
        "privileged/velocity": named(_AXES, "m/s"),
        "privileged/rate": named(_AXES, "rad/s"),
        "privileged/height": named((robot.base,), "m"),
        "privileged/contact": named(robot.feet, "1"),
        "privileged/foot_height": named(robot.feet, "m"),
        "privileged/joint_position": named(robot.joints, "rad"),
        "privileged/parameters": named(parameter_names, "1,kg,m,m,m,s"),
        "privileged/motor_strength": named(robot.joints, "1"),
    }


def observe(robot: Robot, state: State, reading: Reading, parameters: Parameters) -> Observation:
    """What there is to be seen, before the sensors' faults."""
    angle = 2 * jnp.pi * state.phase
    trunk = robot.model.body(robot.trunk).id
    scalars = (parameters.friction, parameters.payload[trunk], *parameters.center_of_mass[trunk], parameters.action_delay)
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


def fell(config: Joystick, reading: Reading) -> Array:
    """1 where the base is tilted too far or too low, else 0."""
    upright = -reading.gravity[2]
    return ((upright < float(np.cos(np.deg2rad(config.fall_tilt)))) | (reading.height < config.fall_height)).astype(jnp.float32)


def lift(config: Joystick, leg_phase: np.ndarray, phase: Array) -> Array:
    """[F] how high each foot should be while the robot walks, as a share of `swing_height`: 0 where it should stand."""
    least = float(np.cos(np.pi * config.swing_share))  # the sine above which a foot swings
    return jnp.maximum((jnp.sin(2 * jnp.pi * (phase + leg_phase)) - least) / (1.0 - least), 0.0)


def rewards(config: Joystick, walker: Walker, state: State, reading: Reading, action: Array, torque: Array) -> dict[str, Array]:
    """The terms that have a weight, weighted, in the order of `config.rewards`; `state` is the one before the step."""
    robot, wanted = walker.robot, state.command
    moves = moving(wanted)
    lifted = moves * lift(config, walker.leg_phase, state.phase)
    width = config.tracking_width**2
    velocity_error = jnp.square(wanted[:2] - reading.velocity[:2]).sum()
    yaw_error = jnp.square(wanted[2] - reading.rate[2])
    slide = jnp.square(reading.foot_velocity[:, :2]).sum(-1)
    terms = {
        "track_velocity": jnp.exp(-velocity_error / width),
        "track_yaw": jnp.exp(-yaw_error / width),
        "vertical_velocity": jnp.square(reading.velocity[2]),
        "roll_pitch_rate": jnp.square(reading.rate[:2]).sum(),
        "tilt": jnp.square(reading.gravity[:2]).sum(),
        "torque": jnp.square(torque).sum(),
        "action_rate": jnp.square(action - state.action).sum(),
        "pose": (walker.pose_weights * jnp.square(reading.joints - robot.home)).sum(),
        "gait": (reading.contact == (lifted == 0)).mean(),
        "clearance": jnp.square(reading.foot_height - robot.foot_radius - config.swing_height * lifted).sum(),
        "slip": (slide * reading.contact).sum(),
        "sole": reading.foot_tilt.sum(),
        "stand_still": (1.0 - moves) * jnp.abs(reading.joints - robot.home).sum(),
        "joint_limit": _legged.beyond(robot, reading),
        "alive": jnp.ones(()),
        "fall": fell(config, reading),
    }
    return {weight.name: getattr(config.rewards, weight.name) * config.dt * terms[weight.name] for weight in fields(config.rewards)}


def way(config: Joystick, state: State, reading: Reading) -> Array:
    """`State.way` after a step: how far the command has been to go, and how far the robot has gone so."""
    wanted = jnp.linalg.norm(state.command[:2])
    along = (state.command[:2] * reading.velocity[:2]).sum() / jnp.where(wanted > 0, wanted, 1.0)
    return state.way + config.dt * jnp.stack([wanted, jnp.clip(along, -wanted, wanted)])


def metrics(state: State, reading: Reading, rewards: dict[str, Array], way: Array, fell: Array) -> dict[str, Array]:
    """Of a step. Success, so far: not fallen, and most of the commanded way was made."""
    return {
        **{f"reward/{name}": value for name, value in rewards.items()},
        "velocity_error": jnp.linalg.norm(state.command[:2] - reading.velocity[:2]),
        "yaw_error": jnp.abs(state.command[2] - reading.rate[2]),
        **{f"command/{name}": state.command[i] for i, name in enumerate(COMMAND)},
        "success": (1.0 - fell) * (way[1] >= _TRACKED * way[0]),
    }


def command(config: Joystick, draws: Array) -> Array:
    """A command [3] from four uniform draws."""
    low, high = np.array([getattr(config, name) for name in COMMAND], np.float32).T
    return jnp.where(draws[3] < config.standing, 0.0, low + (high - low) * draws[:3])


def start(walker: Walker, draws: dict[str, Array]) -> tuple[Array, Array]:
    """qpos and qvel of an episode's first state: any heading, near the standing pose, slowly moving."""
    angle = 2 * jnp.pi * draws["turn"][0]
    heading = jnp.stack([jnp.cos(angle / 2), jnp.zeros(()), jnp.zeros(()), jnp.sin(angle / 2)])
    speed = 2 * walker.start_speed * draws["speed"] - walker.start_speed
    qpos = jnp.concatenate([walker.robot.place, heading, walker.start_joints(draws["pose"])])
    return qpos, jnp.concatenate([speed, jnp.zeros(len(walker.robot.joints))])


def pushed(config: Joystick, state: PhysicsState, parameters: Parameters, now: Array, draws: Array) -> PhysicsState:
    """`state` after the push, if there is one: its draw is `now`, its direction and size are two `draws`."""
    heading = 2 * jnp.pi * draws[0]
    size = jnp.where(now < config.dt / config.push_seconds, parameters.push_velocity * draws[1], 0.0)
    return state._replace(qvel=state.qvel.at[:2].add(size * jnp.stack([jnp.cos(heading), jnp.sin(heading)])))


def env_spec(name: str, config: Joystick, robot: Robot, place: Place) -> EnvSpec:
    """What the task shows and takes."""
    paid = (f"reward/{weight.name}" for weight in fields(config.rewards))
    return EnvSpec(
        name=name,
        observation=observation_spec(robot) | place.seen,
        action=ArraySpec((len(robot.joints),), names=robot.joints, unit="1"),
        episode_length=round(config.episode_seconds / config.dt),
        dt=config.dt,
        metrics=(*paid, "velocity_error", "yaw_error", *(f"command/{axis}" for axis in COMMAND), "success"),
    )


def steering(config: Joystick) -> Steering:
    """The joystick in a person's hand."""
    low, high = zip(*(getattr(config, name) for name in COMMAND), strict=True)
    return Steering(COMMAND, low, high, lambda state, command: state._replace(command=command))


def joystick(name: str, config: Joystick, walker: Walker, place: Place, reads: frozenset[str] = READS) -> Env:
    """The task as an `Env`; actions are joint targets relative to the standing pose, [J], scaled by `walker.action_scale`."""
    robot = walker.robot
    physics = make(robot.model, config.backend)
    worlds = randomised(physics, config.randomization, reads)
    motors = actuation.actuation(physics, config.randomization, config.substeps, config.delay_steps)
    start_draws = {"pose": len(robot.joints)} | START_DRAWS

    def seen(state: State, reading: Reading, parameters: Parameters) -> Observation:
        return observe(robot, state, reading, parameters) | place.look(state.physics.qpos[:3], reading.yaw)

    def begun(state: PhysicsState, origin: Array, draws: dict[str, Array], parameters: Parameters) -> tuple[State, Observation]:
        still, at_rest = motors.init(jnp.asarray(robot.home)), jnp.zeros(len(robot.joints))
        begun = State(state, command(config, draws["command"]), at_rest, still, draws["phase"][0], jnp.zeros(2), origin)
        return begun, seen(begun, read(robot, state, place.ground), parameters)

    def reset(key: Key, parameters: Parameters) -> tuple[State, Observation]:
        draws = uniforms(key, **start_draws)
        origin = place.origin(parameters, draws["origin"])
        qpos, qvel = start(walker, draws)
        qpos = qpos.at[:3].add(origin).at[2].add(place.drop)
        return begun(physics.forward(qpos, qvel, parameters.fields), origin, draws, parameters)

    def restart(state: State, parameters: Parameters, key: Key) -> tuple[State, Observation]:
        draws = uniforms(key, command=4, phase=1, origin=2)
        origin = place.origin(parameters, draws["origin"])
        return begun(_legged.moved(robot, state.physics, origin - state.origin), origin, draws, parameters)

    def step(state: State, action: Array, parameters: Parameters, key: Key) -> tuple[State, TimeStep]:
        draws = uniforms(key, **STEP_DRAWS)
        before = pushed(config, state.physics, parameters, draws["event"][0], draws["push"])
        wanted = _legged.target(robot, action, walker.action_scale)
        after, commands, held = motors.step(before, state.commands, wanted, parameters, draws["command"])

        reading = read(robot, after, place.ground)
        down = fell(config, reading)
        torque = _legged.torque(robot, reading, held, parameters.motor_gain, parameters.motor_strength)
        paid = rewards(config, walker, state, reading, action, torque)
        redrawn = draws["event"][1] < config.dt / config.command_seconds
        later = State(
            physics=after,
            command=jnp.where(redrawn, command(config, draws["next_command"]), state.command),
            action=action,
            commands=commands,
            phase=(state.phase + config.dt / config.gait_period) % 1.0,
            way=way(config, state, reading),
            origin=state.origin,
        )
        shown = metrics(state, reading, paid, later.way, down)
        reward = jnp.stack(list(paid.values())).sum()
        return later, TimeStep(seen(later, reading, parameters), reward, 1.0 - down, place.left(after.qpos[:3]), shown)

    spec = env_spec(name, config, robot, place)
    scene = Scene(robot.model, lambda state: {"qpos": state.physics.qpos}, "track")
    # What is seen of a place has no mirror image that would be known here.
    image = None if place.seen else mirror(robot)
    env = Env(spec, reset, step, restart, render=scene, steering=steering(config), mirror=image, **worlds._asdict())
    return sensing.sensed(env, _legged.by_observation(config.sensors) | place.sensors, config.randomization, config.delay_steps)
