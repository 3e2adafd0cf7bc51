"""A planar arm with two links brings its finger to a target (`dm_control.suite.reacher`)."""

import jax
import jax.numpy as jnp

from jaxrl.ops.tolerance import tolerance
from jaxrl.types import SUCCESS, Array, ArraySpec, Key, Metrics, Observation
from jaxrl_envs.tasks._control_task import Seen, Start, Task
from jaxrl_envs.tasks.control_suite._models import compile_with, moving_target, position, position_spec, read, velocity_spec
from jaxrl_envs.tasks.control_suite._starts import random_joints

RADII = {"easy": 0.05, "hard": 0.015}  # m, of the target
TASKS = tuple(RADII)
NEAREST, FARTHEST = 0.05, 0.20  # m, of the target from the shoulder


def _to_target(seen: Seen) -> Array:
    return (seen.target - seen.sensors["finger/position"])[:2]


def _observe(seen: Seen) -> Observation:
    return {"state/position": seen.qpos, "state/to_target": _to_target(seen), "state/velocity": seen.qvel}


def reward(seen: Seen, reach: float) -> tuple[Array, Metrics]:
    """1 where finger and target overlap: their centres are within `reach` m."""
    distance = jnp.linalg.norm(_to_target(seen))
    reached = tolerance(distance, (0.0, reach))
    return reached, {"distance": distance, SUCCESS: reached}


def reacher(task: str) -> Task:
    """The task named `task`."""
    spec = read("reacher")
    model = compile_with(spec, add=[position("finger", "geom")])
    height = model.geom("target").pos[2]
    draw = random_joints(model)

    def start(key: Key, attempt: Array) -> Start:
        pose, direction, distance = jax.random.split(key, 3)
        angle = jax.random.uniform(direction, maxval=2 * jnp.pi)
        radius = jax.random.uniform(distance, minval=NEAREST, maxval=FARTHEST)
        target = jnp.stack([radius * jnp.sin(angle), radius * jnp.cos(angle), jnp.asarray(height, jnp.float32)])
        return Start(draw(pose), jnp.zeros(model.nv), target)

    return Task(
        model,
        dt=0.02,
        observation={
            "state/position": position_spec(model),
            "state/to_target": ArraySpec((2,), names=("x", "y"), unit="m"),
            "state/velocity": velocity_spec(model),
        },
        start=start,
        observe=_observe,
        reward=lambda seen, control: reward(seen, RADII[task] + float(model.geom("finger").size[0])),
        metrics=("distance", SUCCESS),
        camera="fixed",
        drawn=moving_target(spec, RADII[task]),
    )
