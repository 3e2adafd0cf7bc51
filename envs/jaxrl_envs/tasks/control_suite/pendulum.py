"""A pendulum swings up with less torque than it takes to lift it (`dm_control.suite.pendulum`)."""

import math

import jax
import jax.numpy as jnp

from jaxrl.ops.tolerance import tolerance
from jaxrl.types import SUCCESS, Array, ArraySpec, Key, Metrics, Observation
from jaxrl_envs.tasks._control_task import Seen, Start, Task
from jaxrl_envs.tasks.control_suite._models import axis, compile_with, read, velocity_spec

TASKS = ("swingup",)
UPRIGHT_COSINE = math.cos(math.radians(8))


def _start(key: Key, attempt: Array) -> Start:
    return Start(jax.random.uniform(key, (1,), minval=-jnp.pi, maxval=jnp.pi), jnp.zeros(1))


def _observe(seen: Seen) -> Observation:
    return {"state/orientation": seen.sensors["pole/z"][::-2], "state/velocity": seen.qvel}


def reward(seen: Seen, control: Array) -> tuple[Array, Metrics]:
    """1 within 8 degrees of upright."""
    upright = tolerance(seen.sensors["pole/z"][2], (UPRIGHT_COSINE, 1.0))
    return upright, {SUCCESS: upright}


def pendulum(task: str) -> Task:
    """The task named `task`."""
    model = compile_with(read("pendulum"), add=[axis("pole", "z")])
    observation = {
        "state/orientation": ArraySpec((2,), names=("cosine", "sine"), unit="1"),
        "state/velocity": velocity_spec(model),
    }
    return Task(model, 0.02, observation, _start, _observe, reward, (SUCCESS,), camera="fixed")
