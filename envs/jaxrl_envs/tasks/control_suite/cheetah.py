"""A planar cheetah runs (`dm_control.suite.cheetah`)."""

import jax.numpy as jnp

from jaxrl.ops.tolerance import tolerance
from jaxrl.types import Array, Key, Metrics, Observation
from jaxrl_envs.tasks._control_task import Seen, Start, Task
from jaxrl_envs.tasks.control_suite._models import compile_with, position_spec, read, velocity_spec
from jaxrl_envs.tasks.control_suite._starts import random_joints

TASKS = ("run",)
SPEED = 10.0  # m/s, from which on there is nothing more to earn
SETTLING = 200  # physics steps in which it falls on its feet


def _observe(seen: Seen) -> Observation:
    return {"state/position": seen.qpos[1:], "state/velocity": seen.qvel}


def reward(seen: Seen, control: Array) -> tuple[Array, Metrics]:
    """In proportion to the speed."""
    speed = seen.sensors["torso_subtreelinvel"][0]
    return tolerance(speed, (SPEED, jnp.inf), margin=SPEED, value_at_margin=0, sigmoid="linear"), {"velocity": speed}


def cheetah(task: str) -> Task:
    """The task named `task`."""
    model = compile_with(read("cheetah"), keep=("torso_subtreelinvel",))
    draw = random_joints(model)

    def start(key: Key, attempt: Array) -> Start:
        qpos = draw(key)
        return Start(qpos.at[:3].set(0.0), jnp.zeros(model.nv))  # the root, which is not limited, starts level

    return Task(
        model,
        dt=0.01,
        observation={"state/position": position_spec(model, first=1), "state/velocity": velocity_spec(model)},
        start=start,
        observe=_observe,
        reward=reward,
        metrics=("velocity",),
        settling=SETTLING,
        camera="side",
    )
