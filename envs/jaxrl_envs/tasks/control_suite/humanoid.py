"""A humanoid with 21 joints stands, walks or runs (`dm_control.suite.humanoid`)."""

import jax
import jax.numpy as jnp

from jaxrl.ops.tolerance import tolerance
from jaxrl.types import Array, ArraySpec, Key, Metrics, Observation
from jaxrl_envs.tasks._control_task import Seen, Start, Task
from jaxrl_envs.tasks.control_suite._models import axis, compile_with, position, position_spec, read, velocity_spec
from jaxrl_envs.tasks.control_suite._starts import random_joints

SPEEDS = {"stand": 0.0, "walk": 1.0, "run": 10.0}  # m/s, from which on there is nothing more to earn
TASKS = tuple(SPEEDS)
STAND_HEIGHT = 1.4  # m, of the head
EXTREMITIES = ("left_hand", "left_foot", "right_hand", "right_foot")
# The world's z axis in the torso's frame: how much each of the torso's axes points up.
VERTICAL = axis("world", "z", frame_of="torso")
SENSORS = (position("head"), VERTICAL, *(position(part, frame_of="torso") for part in EXTREMITIES))


def _observe(seen: Seen) -> Observation:
    return {
        "state/joint_angles": seen.qpos[7:],
        "state/head_height": seen.sensors["head/position"][2:],
        "state/extremities": jnp.concatenate([seen.sensors[f"{part}/position"] for part in EXTREMITIES]),
        "state/torso_vertical": seen.sensors[VERTICAL.name],
        "state/com_velocity": seen.sensors["torso_subtreelinvel"],
        "state/velocity": seen.qvel,
    }


def reward(seen: Seen, control: Array, speed: float) -> tuple[Array, Metrics]:
    """For an upright torso, a head at its height and little control, and for going at `speed` m/s at least; 0 asks for standing still."""
    height = tolerance(seen.sensors["head/position"][2], (STAND_HEIGHT, jnp.inf), margin=STAND_HEIGHT / 4)
    upright = tolerance(seen.sensors[VERTICAL.name][2], (0.9, jnp.inf), margin=1.9, value_at_margin=0, sigmoid="linear")
    standing = height * upright
    small_control = (4 + tolerance(control, margin=1, value_at_margin=0, sigmoid="quadratic").mean()) / 5
    velocity = seen.sensors["torso_subtreelinvel"][:2]
    metrics = {"velocity": jnp.linalg.norm(velocity), "standing": standing}
    if speed == 0:
        return small_control * standing * tolerance(velocity, margin=2).mean(), metrics
    move = tolerance(metrics["velocity"], (speed, jnp.inf), margin=speed, value_at_margin=0, sigmoid="linear")
    return small_control * standing * (5 * move + 1) / 6, metrics


def humanoid(task: str) -> Task:
    """The task named `task`."""
    model = compile_with(read("humanoid"), keep=("torso_subtreelinvel",), add=SENSORS, count_contacts=True)
    draw = random_joints(model)

    def start(key: Key, attempt: Array) -> Start:
        return Start(draw(jax.random.fold_in(key, attempt)), jnp.zeros(model.nv))

    ends = tuple(f"{part}_{name}" for part in EXTREMITIES for name in "xyz")
    return Task(
        model,
        dt=0.025,
        observation={
            "state/joint_angles": position_spec(model, first=1),
            "state/head_height": ArraySpec((1,), names=("head",), unit="m"),
            "state/extremities": ArraySpec((12,), names=ends, unit="m"),
            "state/torso_vertical": ArraySpec((3,), names=("x", "y", "z"), unit="1"),
            "state/com_velocity": ArraySpec((3,), names=("x", "y", "z"), unit="m/s"),
            "state/velocity": velocity_spec(model),
        },
        start=start,
        observe=_observe,
        reward=lambda seen, control: reward(seen, control, SPEEDS[task]),
        metrics=("velocity", "standing"),
        contact_free=True,
        camera="side",
    )
