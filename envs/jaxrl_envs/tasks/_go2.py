"""The Unitree Go2: its model, its numbers, and what a physics state says about it."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import jaxlie
import mujoco
import numpy as np

from jaxrl.types import Array
from jaxrl_envs import robots
from jaxrl_envs.physics import PhysicsState

LEGS = ("FL", "FR", "RL", "RR")
JOINTS = tuple(f"{leg}_{joint}" for leg in LEGS for joint in ("abduction", "thigh", "calf"))
BASE = "base"

Ground = Callable[[Array], Array]  # points [..., 2] m -> height of the ground there [...] m


def flat_ground(points: Array) -> Array:
    """Height 0 everywhere."""
    return jnp.zeros(points.shape[:-1])


def spec() -> mujoco.MjSpec:
    """The robot on its floor, before it is compiled."""
    return mujoco.MjSpec.from_string(robots.xml("go2"))


def model(physics_dt: float = 0.005) -> mujoco.MjModel:
    """The compiled robot on its floor."""
    return compiled(spec(), physics_dt)


def compiled(changed: mujoco.MjSpec, physics_dt: float) -> mujoco.MjModel:
    """A model of the robot, with time steps of `physics_dt` s."""
    changed.option.timestep = physics_dt
    return changed.compile()


class Robot(NamedTuple):
    """The compiled robot and its constants, float32."""

    model: mujoco.MjModel
    base: int  # body
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


def robot(model: mujoco.MjModel) -> Robot:
    """The constants of a compiled model."""

    def addresses(suffix: str) -> np.ndarray:
        """Of the sensors `<leg>_<suffix>` in sensordata, [4, dim]."""
        sensors = [model.sensor(f"{leg}_{suffix}") for leg in LEGS]
        return np.stack([np.arange(int(s.adr[0]), int(s.adr[0] + s.dim[0])) for s in sensors])

    start = model.key_qpos[0].astype(np.float32)
    return Robot(
        model=model,
        base=model.body(BASE).id,
        place=start[:3],
        home=start[7:],
        target_range=model.actuator_ctrlrange.astype(np.float32),
        joint_range=model.jnt_range[1:].astype(np.float32),
        gain=model.actuator_gainprm[:, 0].astype(np.float32),
        damping=-model.actuator_biasprm[:, 2].astype(np.float32),
        torque_limit=model.actuator_forcerange[:, 1].astype(np.float32),
        foot_radius=float(model.geom("FL_foot").size[0]),
        contact_at=addresses("contact")[:, 0],
        position_at=addresses("position"),
        velocity_at=addresses("velocity"),
    )


class Reading(NamedTuple):
    """What a physics state says: the motion of the base in its own frame, the rest in the world's."""

    velocity: Array  # [3] m/s
    rate: Array  # [3] rad/s
    gravity: Array  # [3] unit vector
    yaw: Array  # [] rad
    joints: Array  # [12] rad
    joint_rates: Array  # [12] rad/s
    contact: Array  # [4] 0 or 1
    foot_height: Array  # [4] m of the feet's centres above the ground below them
    foot_velocity: Array  # [4, 3] m/s
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
        contact=(sensors[robot.contact_at] > 0).astype(jnp.float32),
        foot_height=feet[:, 2] - below,
        foot_velocity=sensors[robot.velocity_at],
        height=state.qpos[2] - below.mean(),
    )


def moved(robot: Robot, state: PhysicsState, shift: Array) -> PhysicsState:
    """The robot elsewhere, by `shift` [3] m; what its sensors say of places moves along."""
    sensors = state.sensordata.at[robot.position_at].add(shift)
    return state._replace(qpos=state.qpos.at[:3].add(shift), sensordata=sensors)


def torque(robot: Robot, reading: Reading, held: Array, gain: Array, strength: Array) -> Array:
    """[12] N m of the motors that hold the joint targets `held` [12] rad, with factors on their gains and limits [12]."""
    wanted = gain * (robot.gain * (held - reading.joints) - robot.damping * reading.joint_rates)
    return jnp.clip(wanted, -robot.torque_limit * strength, robot.torque_limit * strength)
