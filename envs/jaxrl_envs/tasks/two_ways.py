"""Two ways: a pusher goes to a target behind a post, past it on either side. Who takes the mean of both ways runs into the post.

The smallest task that tells policies which keep apart what was demonstrated from those that average it (Florence et al. 2021,
https://arxiv.org/abs/2109.00137, figure 1; Chi et al. 2023, https://arxiv.org/abs/2303.04137, figure 3).
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco

from jaxrl.types import SUCCESS, Array, ArraySpec, Env, EnvSpec, TimeStep
from jaxrl_envs import robots
from jaxrl_envs.physics import PhysicsState, make
from jaxrl_envs.randomization import Ranges, randomised
from jaxrl_envs.rendering import Scene

TARGET = (1.0, 0.0)  # m
REACHED = 0.05  # m from the target
SUBSTEPS = 10
DT = 0.1  # s


@dataclass(frozen=True)
class Config:
    """`spread` [m] is half the side of the square that starts are drawn from."""

    spread: float = 0.02
    backend: str = "auto"
    randomization: Ranges = Ranges()

    def __post_init__(self) -> None:
        if not 0 <= self.spread <= 0.2:
            raise ValueError(f"spread is {self.spread} m, but must lie between 0 and 0.2, so that no start is at the post")


class State(NamedTuple):
    physics: PhysicsState
    side: Array  # [] the mean of sign(y) over the steps beside the post, so far: 1 left of it, -1 right of it
    beside: Array  # [] number of these steps


def two_ways(config: Config = Config()) -> Env:
    """The action [2] is where the pusher is to go, in m. An episode ends with success at the target, and terminates at the post.

    Metrics: `distance` to the target [m], and `left`, 1 where the pusher passed the post at positive y.
    """
    physics = make(mujoco.MjModel.from_xml_string(robots.xml("two_ways")), config.backend)
    drawn = randomised(physics, config.randomization)
    target = jnp.asarray(TARGET)

    def observe(state: State) -> dict[str, Array]:
        return {"state/position": state.physics.qpos, "state/velocity": state.physics.qvel}

    def reset(key, parameters):  # type: ignore[no-untyped-def]
        start = config.spread * jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
        state = State(physics.forward(start, jnp.zeros(2), parameters.fields), jnp.zeros(()), jnp.zeros(()))
        return state, observe(state)

    def restart(state, parameters, key):  # type: ignore[no-untyped-def]
        del parameters, key
        return state, observe(state)

    def step(state, action, parameters, key):  # type: ignore[no-untyped-def]
        del key
        control = jnp.broadcast_to(jnp.clip(action, jnp.array([-0.5, -1.0]), jnp.array([1.5, 1.0])), (SUBSTEPS, 2))
        after = physics.step(state.physics, control, parameters.fields)
        near = (jnp.abs(after.qpos[0] - 0.5) < 0.15).astype(jnp.float32)
        state = State(after, state.side + near * jnp.sign(after.qpos[1]), state.beside + near)
        distance = jnp.linalg.norm(after.qpos - target)
        touched, reached = after.sensordata[0] > 0, distance < REACHED
        success = (reached & ~touched).astype(jnp.float32)
        metrics = {"distance": distance, "left": (state.side > 0).astype(jnp.float32), SUCCESS: success}
        return state, TimeStep(observe(state), success, 1.0 - touched.astype(jnp.float32), success, metrics)

    observation = {
        "state/position": ArraySpec((2,), names=("x", "y"), unit="m"),
        "state/velocity": ArraySpec((2,), names=("x", "y"), unit="m/s"),
    }
    action = ArraySpec((2,), names=("x", "y"), unit="m", low=(-0.5, -1.0), high=(1.5, 1.0))
    spec = EnvSpec("two_ways", observation, action, episode_length=60, dt=DT, metrics=("distance", "left", SUCCESS))
    scene = Scene(physics.model, lambda state: {"qpos": state.physics.qpos}, "top")
    return Env(spec, reset, step, restart, **drawn._asdict(), render=scene)
