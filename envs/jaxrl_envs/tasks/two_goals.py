"""Two goals: a pusher goes to the disc that it is told to, red or blue, wherever they lie. Who does not listen is right half of the time.

The smallest task for policies that are told what to do: what is seen does not give away which disc is meant.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.types import INSTRUCTION, SUCCESS, Array, ArraySpec, Env, EnvSpec, TimeStep
from jaxrl_envs import robots
from jaxrl_envs.physics import PhysicsState, make
from jaxrl_envs.randomization import Ranges, randomised
from jaxrl_envs.rendering import Scene

INSTRUCTIONS = ("go to the red disc", "go to the blue disc")
LENGTH = 24  # tokens of an instruction, padding included
REACHED = 0.06  # m from the middle of the disc
APART = 0.3  # m between the middles of the discs, at least in y
SUBSTEPS = 10
DT = 0.1  # s


@dataclass(frozen=True)
class Config:
    """`spread` [m] is half the side of the square that the pusher's starts are drawn from."""

    spread: float = 0.2
    backend: str = "auto"
    randomization: Ranges = Ranges()

    def __post_init__(self) -> None:
        if not 0 <= self.spread <= 0.6:
            raise ValueError(f"spread is {self.spread} m, but must lie between 0 and 0.6, the table")


class State(NamedTuple):
    physics: PhysicsState
    goal: Array  # [] int32, of INSTRUCTIONS


def tokens(text: str) -> np.ndarray:
    """int32 [LENGTH]: the UTF-8 bytes, each plus 1, then -1."""
    found = np.full(LENGTH, -1, np.int32)
    coded = np.frombuffer(text.encode(), np.uint8)
    found[: len(coded)] = coded.astype(np.int32) + 1
    return found


def _places(key: Array) -> Array:
    """[4] x and y of the red disc, then of the blue one: one on each side, either one on either."""
    of_x, of_y, of_side = jax.random.split(key, 3)
    x = jax.random.uniform(of_x, (2,), minval=-0.5, maxval=0.5)
    y = jax.random.uniform(of_y, (2,), minval=APART / 2, maxval=0.5) * jnp.array([1.0, -1.0])
    y = jnp.where(jax.random.bernoulli(of_side), y, y[::-1])
    return jnp.stack([x, y], 1).reshape(-1)


def two_goals(config: Config = Config()) -> Env:
    """The action [2] is where the pusher is to go, in m. An episode ends with success at the disc that `task/instruction` tells.

    `privileged/discs` [4] is where they lie, red first; without it they are to be seen in pictures (`jaxrl_envs.wrappers.pixels`). Metrics:
    `distance` [m] to the disc that is meant.
    """
    physics = make(mujoco.MjModel.from_xml_string(robots.xml("two_goals")), config.backend)
    drawn = randomised(physics, config.randomization)
    told = jnp.asarray(np.stack([tokens(text) for text in INSTRUCTIONS]))

    def observe(state: State) -> dict[str, Array]:
        place, speed = state.physics.qpos, state.physics.qvel
        own = {"state/position": place[:2], "state/velocity": speed[:2], INSTRUCTION: told[state.goal]}
        return own | {"privileged/discs": place[2:]}

    def reset(key, parameters):  # type: ignore[no-untyped-def]
        of_start, of_discs, of_goal = jax.random.split(key, 3)
        start = config.spread * jax.random.uniform(of_start, (2,), minval=-1.0, maxval=1.0)
        place = jnp.concatenate([start, _places(of_discs)])
        goal = jax.random.randint(of_goal, (), 0, len(INSTRUCTIONS))
        state = State(physics.forward(place, jnp.zeros(6), parameters.fields), goal)
        return state, observe(state)

    def restart(state, parameters, key):  # type: ignore[no-untyped-def]
        del parameters, key
        return state, observe(state)

    def step(state, action, parameters, key):  # type: ignore[no-untyped-def]
        del key
        control = jnp.broadcast_to(jnp.clip(action, -0.7, 0.7), (SUBSTEPS, 2))
        state = state._replace(physics=physics.step(state.physics, control, parameters.fields))
        place = state.physics.qpos
        distance = jnp.linalg.norm(place[:2] - place[2:].reshape(2, 2)[state.goal])
        success = (distance < REACHED).astype(jnp.float32)
        return state, TimeStep(observe(state), success, jnp.ones(()), success, {"distance": distance, SUCCESS: success})

    observation = {
        "state/position": ArraySpec((2,), names=("x", "y"), unit="m"),
        "state/velocity": ArraySpec((2,), names=("x", "y"), unit="m/s"),
        INSTRUCTION: ArraySpec((LENGTH,), "int32"),
        "privileged/discs": ArraySpec((4,), names=("red_x", "red_y", "blue_x", "blue_y"), unit="m"),
    }
    action = ArraySpec((2,), names=("x", "y"), unit="m", low=(-0.7, -0.7), high=(0.7, 0.7))
    spec = EnvSpec("two_goals", observation, action, episode_length=40, dt=DT, metrics=("distance", SUCCESS))
    scene = Scene(physics.model, lambda state: {"qpos": state.physics.qpos}, "top")
    return Env(spec, reset, step, restart, **drawn._asdict(), render=scene)
