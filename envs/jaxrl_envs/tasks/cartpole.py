"""Cartpole: keep a pole upright on a cart, from upright (balance) or from below (swing-up), as in the DeepMind Control Suite.

Start, observation, reward and length are those of Tassa et al. 2018 (https://arxiv.org/abs/1801.00690), so returns compare with published
ones. The model is our own, so that this task needs nothing but MuJoCo; `control_suite` has the same task on the suite's model.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import mujoco

from jaxrl.ops.tolerance import tolerance
from jaxrl.types import SUCCESS, Array, ArraySpec, Env, Key, Metrics, Observation
from jaxrl_envs import robots
from jaxrl_envs.randomization import Ranges
from jaxrl_envs.tasks._control_task import Seen, Start, Task, check, control_task

TASKS = ("balance", "balance_sparse", "swingup", "swingup_sparse")
METRICS = ("upright", "centered", SUCCESS)  # factors of the smooth reward, and the sparse reward


@dataclass(frozen=True)
class Config:
    """`action_repeat` control steps take the same action, and their rewards are summed."""

    task: Literal["balance", "balance_sparse", "swingup", "swingup_sparse"] = "swingup"
    backend: str = "auto"
    action_repeat: int = 1
    randomization: Ranges = Ranges()

    def __post_init__(self) -> None:
        check(self.action_repeat)


def model() -> mujoco.MjModel:
    """The compiled cart and pole; qpos is the cart's place in m and the pole's angle from upright in rad."""
    return mujoco.MjModel.from_xml_string(robots.xml("cartpole"))


def reward_factors(qpos: Array, qvel: Array, control: Array) -> dict[str, Array]:
    """The factors of the smooth reward, each [], at the state after a control step with `control` [1]."""
    return {
        "upright": (1 + jnp.cos(qpos[1])) / 2,
        "centered": (1 + tolerance(qpos[0], margin=2)) / 2,
        "small_control": (4 + tolerance(control[0], margin=1, value_at_margin=0, sigmoid="quadratic")) / 5,
        "small_velocity": (1 + tolerance(qvel[1], margin=5)) / 2,
    }


def _swinging_start(key: Key, attempt: Array) -> Start:
    place, speed = jax.random.split(key)
    return Start(jnp.array([0.0, jnp.pi]) + 0.01 * jax.random.normal(place, (2,)), 0.01 * jax.random.normal(speed, (2,)))


def _balanced_start(key: Key, attempt: Array) -> Start:
    place, speed = jax.random.split(key)
    qpos = jnp.array([0.1, 0.034]) * jax.random.uniform(place, (2,), minval=-1.0, maxval=1.0)
    return Start(qpos, 0.01 * jax.random.normal(speed, (2,)))


def _observe(seen: Seen) -> Observation:
    cart, pole = seen.qpos
    return {"state/position": jnp.stack([cart, jnp.cos(pole), jnp.sin(pole)]), "state/velocity": seen.qvel}


def _reward(seen: Seen, control: Array, sparse: bool) -> tuple[Array, Metrics]:
    factors = reward_factors(seen.qpos, seen.qvel, control)
    smooth = jnp.stack(list(factors.values())).prod()
    balanced = tolerance(seen.qpos[0], (-0.25, 0.25)) * tolerance(jnp.cos(seen.qpos[1]), (0.995, 1.0))
    return balanced if sparse else smooth, {"upright": factors["upright"], "centered": factors["centered"], SUCCESS: balanced}


def on(compiled: mujoco.MjModel, task: str, camera: str) -> Task:
    """The task on a model whose coordinates are those of `model`."""
    observation = {
        "state/position": ArraySpec((3,), names=("cart", "pole_cosine", "pole_sine"), unit="m,1,1"),
        "state/velocity": ArraySpec((2,), names=("cart", "pole"), unit="m/s,rad/s"),
    }
    start = _swinging_start if task.startswith("swingup") else _balanced_start
    sparse = task.endswith("sparse")

    def reward(seen: Seen, control: Array) -> tuple[Array, Metrics]:
        return _reward(seen, control, sparse)

    return Task(compiled, compiled.opt.timestep, observation, start, _observe, reward, METRICS, camera=camera)


def cartpole(config: Config = Config()) -> Env:
    """The task as an `Env`; the action [1] is the force on the cart in units of 10 N, clipped to [-1, 1]."""
    task = on(model(), config.task, camera="side")
    return control_task(f"cartpole_{config.task}", task, config.backend, config.action_repeat, config.randomization)
