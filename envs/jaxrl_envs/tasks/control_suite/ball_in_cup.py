"""A cup catches the ball that hangs from it (`dm_control.suite.ball_in_cup`)."""

import jax
import jax.numpy as jnp

from jaxrl.types import SUCCESS, Array, Key, Metrics, Observation
from jaxrl_envs.tasks._control_task import Seen, Start, Task
from jaxrl_envs.tasks.control_suite._models import compile_with, position, position_spec, read, velocity_spec

TASKS = ("catch",)


def _start(key: Key, attempt: Array) -> Start:
    place = jax.random.uniform(jax.random.fold_in(key, attempt), (2,), minval=jnp.array([-0.2, 0.2]), maxval=jnp.array([0.2, 0.5]))
    return Start(jnp.concatenate([jnp.zeros(2), place]), jnp.zeros(4))


def _observe(seen: Seen) -> Observation:
    return {"state/position": seen.qpos, "state/velocity": seen.qvel}


def reward(seen: Seen, room: Array) -> tuple[Array, Metrics]:
    """1 while the ball's centre is within `room` [2] m of the cup's middle, along x and z."""
    off = jnp.abs(seen.sensors["target/position"] - seen.sensors["ball/position"])[::2]
    caught = (off < room).all().astype(jnp.float32)
    return caught, {SUCCESS: caught}


def ball_in_cup(task: str) -> Task:
    """The task named `task`."""
    sensors = (position("target", "site"), position("ball"))
    model = compile_with(read("ball_in_cup"), add=sensors, count_contacts=True)
    room = jnp.asarray(model.site("target").size[::2] - model.geom("ball").size[0], jnp.float32)
    return Task(
        model,
        dt=0.02,
        observation={"state/position": position_spec(model), "state/velocity": velocity_spec(model)},
        start=_start,
        observe=_observe,
        reward=lambda seen, control: reward(seen, room),
        metrics=(SUCCESS,),
        contact_free=True,
        camera="cam0",
    )
