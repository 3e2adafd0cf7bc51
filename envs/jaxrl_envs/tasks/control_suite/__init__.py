"""The DeepMind Control Suite (Tassa et al. 2018, https://arxiv.org/abs/1801.00690): the models of the installed dm_control package.

Observations and rewards are those of dm_control to float32's rounding; the observation's groups bear dm_control's names behind `state/`.
What dm_control writes into its model at an episode's start, the target's place, is state here. Where dm_control draws starts until nothing
touches, so does `reset`, in a loop on the backend.
"""

from collections.abc import Callable
from dataclasses import dataclass

from jaxrl.ops.suggestion import suggestion
from jaxrl.types import Env
from jaxrl_envs.randomization import Ranges
from jaxrl_envs.tasks import cartpole
from jaxrl_envs.tasks._control_task import Task, check, control_task
from jaxrl_envs.tasks.control_suite import (
    acrobot,
    ball_in_cup,
    cheetah,
    finger,
    fish,
    hopper,
    humanoid,
    pendulum,
    quadruped,
    reacher,
    walker,
)
from jaxrl_envs.tasks.control_suite._models import compile_with, read


def _cartpole(task: str) -> Task:
    return cartpole.on(compile_with(read("cartpole")), task, camera="fixed")


_DOMAINS: dict[str, tuple[tuple[str, ...], Callable[[str], Task]]] = {  # by domain its tasks, and what makes one of them
    "acrobot": (acrobot.TASKS, acrobot.acrobot),
    "ball_in_cup": (ball_in_cup.TASKS, ball_in_cup.ball_in_cup),
    "cartpole": (cartpole.TASKS, _cartpole),
    "cheetah": (cheetah.TASKS, cheetah.cheetah),
    "finger": (finger.TASKS, finger.finger),
    "fish": (fish.TASKS, fish.fish),
    "hopper": (hopper.TASKS, hopper.hopper),
    "humanoid": (humanoid.TASKS, humanoid.humanoid),
    "pendulum": (pendulum.TASKS, pendulum.pendulum),
    "quadruped": (quadruped.TASKS, quadruped.quadruped),
    "reacher": (reacher.TASKS, reacher.reacher),
    "walker": (walker.TASKS, walker.walker),
}
_MAKERS = {f"{domain}_{task}": (make, task) for domain, (tasks, make) in _DOMAINS.items() for task in tasks}
TASKS = tuple(_MAKERS)


@dataclass(frozen=True)
class Config:
    """`task` is one of `TASKS`, such as "walker_walk"; `action_repeat` control steps take the same action, and their rewards are summed."""

    task: str = "walker_walk"
    backend: str = "auto"
    action_repeat: int = 1
    randomization: Ranges = Ranges()

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"task {self.task!r} is unknown; {suggestion(self.task, TASKS)}")
        check(self.action_repeat)


def task_of(name: str) -> Task:
    """The task of that name, without its physics."""
    make, task = _MAKERS[name]
    return make(task)


def control_suite(config: Config = Config()) -> Env:
    """The task as an `Env`; actions are the actuators' controls, clipped to their ranges.

    Raises:
        ValueError: there is no such backend, it cannot simulate this model, or a range has no effect on it.
    """
    return control_task(config.task, task_of(config.task), config.backend, config.action_repeat, config.randomization)
