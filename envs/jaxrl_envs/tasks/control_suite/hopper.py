"""A planar hopper stands or hops on its one leg (`dm_control.suite.hopper`)."""

import jax.numpy as jnp

from jaxrl.ops.tolerance import tolerance
from jaxrl.types import Array, ArraySpec, Key, Metrics, Observation
from jaxrl_envs.tasks._control_task import Seen, Start, Task
from jaxrl_envs.tasks.control_suite._models import compile_with, position, position_spec, read, velocity_spec
from jaxrl_envs.tasks.control_suite._starts import random_joints

TASKS = ("stand", "hop")
STAND_HEIGHT = 0.6  # m, of the torso over the foot
SPEED = 2.0  # m/s, from which on there is nothing more to earn


def _observe(seen: Seen) -> Observation:
    touch = jnp.concatenate([seen.sensors["touch_toe"], seen.sensors["touch_heel"]])
    return {"state/position": seen.qpos[1:], "state/velocity": seen.qvel, "state/touch": jnp.log1p(touch)}


def reward(seen: Seen, control: Array, task: str) -> tuple[Array, Metrics]:
    """For standing: with little control; for hopping: with speed."""
    height = seen.sensors["torso/position"][2] - seen.sensors["foot/position"][2]
    standing = tolerance(height, (STAND_HEIGHT, 2.0))
    speed = seen.sensors["torso_subtreelinvel"][0]
    metrics = {"velocity": speed, "standing": standing}
    if task == "hop":
        return standing * tolerance(speed, (SPEED, jnp.inf), margin=SPEED / 2, value_at_margin=0.5, sigmoid="linear"), metrics
    small_control = tolerance(control, margin=1, value_at_margin=0, sigmoid="quadratic").mean()
    return standing * (small_control + 4) / 5, metrics


def hopper(task: str) -> Task:
    """The task named `task`."""
    sensors = [position(body, "centre of mass") for body in ("torso", "foot")]
    model = compile_with(read("hopper"), keep=("torso_subtreelinvel", "touch_toe", "touch_heel"), add=sensors)
    draw = random_joints(model)

    def start(key: Key, attempt: Array) -> Start:
        return Start(draw(key), jnp.zeros(model.nv))

    return Task(
        model,
        dt=0.02,
        observation={
            "state/position": position_spec(model, first=1),
            "state/velocity": velocity_spec(model),
            "state/touch": ArraySpec((2,), names=("toe", "heel"), unit="log(1 + N)"),
        },
        start=start,
        observe=_observe,
        reward=lambda seen, control: reward(seen, control, task),
        metrics=("velocity", "standing"),
        camera="cam0",
    )
