"""A quadruped walks or runs (`dm_control.suite.quadruped`)."""

import jax.numpy as jnp

from jaxrl.ops.tolerance import tolerance
from jaxrl.types import Array, ArraySpec, Key, Metrics, Observation
from jaxrl_envs.tasks._control_task import Seen, Start, Task
from jaxrl_envs.tasks.control_suite._models import axis, compile_with, position_spec, read, velocity_spec
from jaxrl_envs.tasks.control_suite._starts import unit_quaternion

SPEEDS = {"walk": 0.5, "run": 5.0}  # m/s, from which on there is nothing more to earn
TASKS = tuple(SPEEDS)
EPISODE = 20.0  # s
RISE = 0.01  # m, by which a start is lifted while something touches
FEET = ("front_left", "front_right", "back_right", "back_left")
IMU = ("imu_accel", "imu_gyro")
LOADS = tuple(f"{kind}_toe_{foot}" for kind in ("force", "torque") for foot in FEET)
ELSEWHERE = ("wall_px", "wall_py", "wall_nx", "wall_ny", "terrain")  # geoms of other tasks


def _gather(seen: Seen, *names: str) -> Array:
    return jnp.concatenate([seen.sensors[name] for name in names])


def _observe(seen: Seen) -> Observation:
    return {
        "state/egocentric_state": jnp.concatenate([seen.qpos[7:], seen.qvel[6:], seen.act]),
        "state/torso_velocity": seen.sensors["velocimeter"],
        "state/torso_upright": seen.sensors["torso/z"][2:],
        "state/imu": _gather(seen, *IMU),
        "state/force_torque": jnp.arcsinh(_gather(seen, *LOADS)),
    }


def reward(seen: Seen, speed: float) -> tuple[Array, Metrics]:
    """For an upright torso that goes forward at `speed` m/s at least."""
    upright = tolerance(seen.sensors["torso/z"][2], (1.0, jnp.inf), margin=2, value_at_margin=0, sigmoid="linear")
    velocity = seen.sensors["velocimeter"][0]
    move = tolerance(velocity, (speed, jnp.inf), margin=speed, value_at_margin=0.5, sigmoid="linear")
    return upright * move, {"velocity": velocity, "upright": upright}


def quadruped(task: str) -> Task:
    """The task named `task`."""
    spec = read("quadruped")
    for name in ELSEWHERE:
        spec.delete(spec.geom(name))
    spec.delete(spec.body("ball"))
    spec.delete(spec.site("target"))
    spec.geom("floor").size = [EPISODE * SPEEDS[task], EPISODE * SPEEDS[task], 0.5]
    model = compile_with(spec, keep=("velocimeter", *IMU, *LOADS), add=[axis("torso", "z")], count_contacts=True)
    joints = jnp.zeros(model.nq - 7)

    def start(key: Key, attempt: Array) -> Start:
        place = jnp.stack([jnp.zeros(()), jnp.zeros(()), RISE * attempt])
        return Start(jnp.concatenate([place, unit_quaternion(key), joints]), jnp.zeros(model.nv))

    angles, velocities = position_spec(model, first=1), velocity_spec(model, first=1)
    activations = tuple(f"{model.actuator(i).name}_set_point" for i in range(model.nu))
    names = (*angles.names, *(f"{name}_velocity" for name in velocities.names), *activations)
    units = ",".join(["rad"] * len(angles.names) + ["rad/s"] * len(velocities.names) + ["rad"] * model.na)
    loads = tuple(f"{name}_{part}" for name in LOADS for part in "xyz")
    return Task(
        model,
        dt=0.02,
        observation={
            "state/egocentric_state": ArraySpec((len(names),), names=names, unit=units),
            "state/torso_velocity": ArraySpec((3,), names=("x", "y", "z"), unit="m/s"),
            "state/torso_upright": ArraySpec((1,), names=("torso",), unit="1"),
            "state/imu": ArraySpec(
                (6,), names=tuple(f"{name}_{part}" for name in IMU for part in "xyz"), unit=",".join(["m/s^2"] * 3 + ["rad/s"] * 3)
            ),
            "state/force_torque": ArraySpec((24,), names=loads, unit=",".join(["arcsinh(N)"] * 12 + ["arcsinh(N m)"] * 12)),
        },
        start=start,
        observe=_observe,
        reward=lambda seen, control: reward(seen, SPEEDS[task]),
        metrics=("velocity", "upright"),
        contact_free=True,
        camera="x",
    )
