"""A robot on legs with position motors: its numbers, what a physics state says about it, what its motors do, what its sensors can tell."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import jaxlie
import mujoco
import numpy as np

from jaxrl.types import Array
from jaxrl_envs.physics import PhysicsState
from jaxrl_envs.randomization.sensing import Sensor

Ground = Callable[[Array], Array]  # points [..., 2] m -> height of the ground there [...] m


def flat_ground(points: Array) -> Array:
    """Height 0 everywhere."""
    return jnp.zeros(points.shape[:-1])


class Robot(NamedTuple):
    """A compiled robot with J joints and F feet, and its constants, float32."""

    model: mujoco.MjModel
    joints: tuple[str, ...]  # [J] names
    feet: tuple[str, ...]  # [F] names
    base: str  # the body that floats
    trunk: str  # the body whose mass the critic sees changed
    place: np.ndarray  # [3] m of the base at the start
    home: np.ndarray  # [J] rad, standing
    target_range: np.ndarray  # [J, 2] rad
    joint_range: np.ndarray  # [J, 2] rad
    gain: np.ndarray  # [J] N m/rad
    damping: np.ndarray  # [J] N m s/rad
    torque_limit: np.ndarray  # [J] N m
    foot_radius: float  # m, 0 where a foot's position is that of its sole
    contact_at: np.ndarray  # [F, ...] addresses in sensordata of the contacts of each foot, and the next three of each foot
    position_at: np.ndarray  # [F, 3]
    velocity_at: np.ndarray  # [F, 3]
    normal_at: np.ndarray  # [F, 3], or [0, 3] where feet have no soles


def robot(
    model: mujoco.MjModel,
    start: str,
    trunk: str,
    joints: tuple[str, ...],
    feet: tuple[str, ...],
    pads: tuple[str, ...] = (),
    foot_radius: float = 0.0,
) -> Robot:
    """The constants of a compiled model that stands in its keyframe `start`; feet without `pads` are balls, others have flat soles.

    Sensors are called `<foot>_position`, `<foot>_velocity` and `<foot>_contact`, or `<foot>_<pad>_contact` and `<foot>_normal`.
    """

    def address(name: str) -> np.ndarray:
        """Of one sensor in sensordata, [dim]."""
        sensor = model.sensor(name)
        return np.arange(int(sensor.adr[0]), int(sensor.adr[0] + sensor.dim[0]))

    contacts = [[f"{foot}_{pad}_contact" for pad in pads] or [f"{foot}_contact"] for foot in feet]
    standing = model.key(start).qpos.astype(np.float32)
    return Robot(
        model=model,
        joints=joints,
        feet=feet,
        base=model.body(1).name,
        trunk=trunk,
        place=standing[:3],
        home=standing[7:],
        target_range=model.actuator_ctrlrange.astype(np.float32),
        joint_range=model.jnt_range[1:].astype(np.float32),
        gain=model.actuator_gainprm[:, 0].astype(np.float32),
        damping=-model.actuator_biasprm[:, 2].astype(np.float32),
        torque_limit=model.actuator_forcerange[:, 1].astype(np.float32),
        foot_radius=foot_radius,
        contact_at=np.stack([np.concatenate([address(name) for name in names]) for names in contacts]),
        position_at=np.stack([address(f"{foot}_position") for foot in feet]),
        velocity_at=np.stack([address(f"{foot}_velocity") for foot in feet]),
        normal_at=np.stack([address(f"{foot}_normal") for foot in feet]) if pads else np.zeros((0, 3), int),
    )


class Reading(NamedTuple):
    """What a physics state says: the motion of the base in its own frame, the rest in the world's."""

    velocity: Array  # [3] m/s
    rate: Array  # [3] rad/s
    gravity: Array  # [3] unit vector
    yaw: Array  # [] rad
    joints: Array  # [J] rad
    joint_rates: Array  # [J] rad/s
    contact: Array  # [F] 0 or 1
    foot_height: Array  # [F] m of the feet's soles, or of their centres where they are balls, above the ground below them
    foot_velocity: Array  # [F, 3] m/s
    foot_tilt: Array  # [F] sine of the angle between sole and level ground, squared; [0] where feet have no soles
    height: Array  # [] m of the base above the mean ground below the feet


def read(robot: Robot, state: PhysicsState, ground: Ground = flat_ground) -> Reading:
    """The reading of one state."""
    attitude = jaxlie.SO3(state.qpos[3:7])
    into_base = attitude.inverse()
    sensors = state.sensordata
    feet = sensors[robot.position_at]
    below = ground(feet[:, :2])
    return Reading(
        velocity=into_base @ state.qvel[:3],
        rate=state.qvel[3:6],
        gravity=into_base @ jnp.array([0.0, 0.0, -1.0]),
        yaw=attitude.compute_yaw_radians(),
        joints=state.qpos[7:],
        joint_rates=state.qvel[6:],
        contact=(sensors[robot.contact_at] > 0).any(-1).astype(jnp.float32),
        foot_height=feet[:, 2] - below,
        foot_velocity=sensors[robot.velocity_at],
        foot_tilt=jnp.square(sensors[robot.normal_at][:, :2]).sum(-1),
        height=state.qpos[2] - below.mean(),
    )


def moved(robot: Robot, state: PhysicsState, shift: Array) -> PhysicsState:
    """The robot elsewhere, by `shift` [3] m; what its sensors say of places moves along."""
    sensors = state.sensordata.at[robot.position_at].add(shift)
    return state._replace(qpos=state.qpos.at[:3].add(shift), sensordata=sensors)


def target(robot: Robot, action: Array, scale: float | np.ndarray) -> Array:
    """[J] rad, the joint targets that an action [J] means, which moves them from the standing pose by `scale` rad per unit."""
    return jnp.clip(robot.home + scale * action, robot.target_range[:, 0], robot.target_range[:, 1])


def torque(robot: Robot, reading: Reading, held: Array, gain: Array, strength: Array) -> Array:
    """[J] N m of the motors that hold the joint targets `held` [J] rad, with factors on their gains and limits [J]."""
    wanted = gain * (robot.gain * (held - reading.joints) - robot.damping * reading.joint_rates)
    return jnp.clip(wanted, -robot.torque_limit * strength, robot.torque_limit * strength)


def beyond(robot: Robot, reading: Reading, margin: float = 0.05) -> Array:
    """Rad by which joints are closer to the ends of their ranges than `margin`, summed."""
    lowest, highest = robot.joint_range[:, 0], robot.joint_range[:, 1]
    return (jnp.maximum(lowest + margin - reading.joints, 0) + jnp.maximum(reading.joints - highest + margin, 0)).sum()


@dataclass(frozen=True)
class Sensors:
    """The robot's sensors where the factors on noise, drift and resolution are 1."""

    gyroscope: Sensor = Sensor(noise=0.2, drift=0.02, resolution=0.001)  # rad/s
    gravity: Sensor = Sensor(noise=0.05, drift=0.01, resolution=0.001)
    joint_position: Sensor = Sensor(noise=0.02, drift=0.005, resolution=0.0004)  # rad
    joint_velocity: Sensor = Sensor(noise=1.0, resolution=0.01)  # rad/s


def by_observation(sensors: Sensors) -> dict[str, Sensor]:
    """By the name of the observation that each measures."""
    return {f"state/{name}": getattr(sensors, name) for name in Sensors.__dataclass_fields__}
