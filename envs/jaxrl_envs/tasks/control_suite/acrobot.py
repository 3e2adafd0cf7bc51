"""An acrobot swings its tip up to a target with a motor at its elbow alone (`dm_control.suite.acrobot`)."""

import jax
import jax.numpy as jnp

from jaxrl.ops.tolerance import tolerance
from jaxrl.types import SUCCESS, Array, ArraySpec, Key, Metrics, Observation
from jaxrl_envs.tasks._control_task import Seen, Start, Task
from jaxrl_envs.tasks.control_suite._models import axis, compile_with, position, read, velocity_spec

MARGINS = {"swingup": 1.0, "swingup_sparse": 0.0}  # m
TASKS = tuple(MARGINS)
ARMS = ("upper_arm", "lower_arm")


def _start(key: Key, attempt: Array) -> Start:
    return Start(jax.random.uniform(key, (2,), minval=-jnp.pi, maxval=jnp.pi), jnp.zeros(2))


def _observe(seen: Seen) -> Observation:
    axes = jnp.stack([seen.sensors[f"{arm}/z"] for arm in ARMS])
    return {"state/orientations": jnp.concatenate([axes[:, 0], axes[:, 2]]), "state/velocity": seen.qvel}


def reward(seen: Seen, radius: float, margin: float) -> tuple[Array, Metrics]:
    """1 while the tip is within `radius` m of the target; less up to a distance of `margin` m from there."""
    distance = jnp.linalg.norm(seen.sensors["target/position"] - seen.sensors["tip/position"])
    return tolerance(distance, (0.0, radius), margin=margin), {"distance": distance, SUCCESS: tolerance(distance, (0.0, radius))}


def acrobot(task: str) -> Task:
    """The task named `task`."""
    sensors = (*(axis(arm, "z") for arm in ARMS), position("tip", "site"), position("target", "site"))
    model = compile_with(read("acrobot"), add=sensors)
    radius = float(model.site("target").size[0])
    names = (*(f"{arm}_sine" for arm in ARMS), *(f"{arm}_cosine" for arm in ARMS))
    return Task(
        model,
        dt=0.01,
        observation={"state/orientations": ArraySpec((4,), names=names, unit="1"), "state/velocity": velocity_spec(model)},
        start=_start,
        observe=_observe,
        reward=lambda seen, control: reward(seen, radius, MARGINS[task]),
        metrics=("distance", SUCCESS),
        camera="fixed",
    )
