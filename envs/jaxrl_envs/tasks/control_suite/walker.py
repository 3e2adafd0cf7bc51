"""A planar walker stands, walks or runs (`dm_control.suite.walker`)."""

import jax.numpy as jnp

from jaxrl.ops.tolerance import tolerance
from jaxrl.types import Array, ArraySpec, Key, Metrics, Observation
from jaxrl_envs.tasks._control_task import Seen, Start, Task
from jaxrl_envs.tasks.control_suite._models import axis, compile_with, position, read, velocity_spec
from jaxrl_envs.tasks.control_suite._starts import random_joints

SPEEDS = {"stand": 0.0, "walk": 1.0, "run": 8.0}  # m/s, from which on there is nothing more to earn
TASKS = tuple(SPEEDS)
STAND_HEIGHT = 1.2  # m
BODIES = ("torso", "right_thigh", "right_leg", "right_foot", "left_thigh", "left_leg", "left_foot")


def _observe(seen: Seen) -> Observation:
    # All turn about y alone, so that the z axis holds the cosine too.
    axes = jnp.stack([seen.sensors[f"{body}/z"] for body in BODIES])
    return {
        "state/orientations": axes[:, ::-2].reshape(-1),
        "state/height": seen.sensors["torso/position"][2:],
        "state/velocity": seen.qvel,
    }


def reward(seen: Seen, speed: float) -> tuple[Array, Metrics]:
    """For an upright torso at its height, and for going at `speed` m/s at least; 0 asks for standing alone."""
    standing = tolerance(seen.sensors["torso/position"][2], (STAND_HEIGHT, jnp.inf), margin=STAND_HEIGHT / 2)
    upright = (1 + seen.sensors["torso/z"][2]) / 2
    stand = (3 * standing + upright) / 4
    velocity = seen.sensors["torso_subtreelinvel"][0]
    metrics = {"velocity": velocity, "standing": stand}
    if speed == 0:
        return stand, metrics
    move = tolerance(velocity, (speed, jnp.inf), margin=speed / 2, value_at_margin=0.5, sigmoid="linear")
    return stand * (5 * move + 1) / 6, metrics


def walker(task: str) -> Task:
    """The task named `task`."""
    sensors = (position("torso"), *(axis(body, "z") for body in BODIES))
    model = compile_with(read("walker"), keep=("torso_subtreelinvel",), add=sensors)
    draw = random_joints(model)

    def start(key: Key, attempt: Array) -> Start:
        return Start(draw(key), jnp.zeros(model.nv))

    return Task(
        model,
        dt=0.025,
        observation={
            "state/orientations": ArraySpec((14,), names=tuple(f"{b}_{part}" for b in BODIES for part in ("cosine", "sine")), unit="1"),
            "state/height": ArraySpec((1,), names=("torso",), unit="m"),
            "state/velocity": velocity_spec(model),
        },
        start=start,
        observe=_observe,
        reward=lambda seen, control: reward(seen, SPEEDS[task]),
        metrics=("velocity", "standing"),
        camera="side",
    )
