"""Environments of mujoco_playground (pip install "jaxrl[adapters]") as `Env`.

They are used without playground's wrappers, so final observations are the true ones and every episode starts elsewhere. Physics parameters
are empty unless `randomization` asks for playground's own function, or names one; it is then called anew in each episode.
"""

import subprocess
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Literal

import jax

from jaxrl_envs.physics import _engine  # noqa: F401  before playground: it imports MJX without the lines that MJX prints

# isort: split
from mujoco_playground import registry
from mujoco_playground._src.mjx_env import MENAGERIE_COMMIT_SHA, MENAGERIE_PATH

from jaxrl.ops.suggestion import suggestion
from jaxrl.types import Env
from jaxrl_envs import xla_flags
from jaxrl_envs.adapters._brax_like import Randomisation, brax_like, randomisation
from jaxrl_envs.adapters._named import function_at
from jaxrl_envs.rendering import Scene

OWN = "own"


@dataclass(frozen=True)
class Config:
    """`task` is playground's name for it; `overrides` are of its config, such as {"ctrl_dt": 0.02} or {"noise_config.level": 0.0}.

    `backend` "auto" is "warp" on a GPU where warp is installed, else "mjx": playground's own default is warp everywhere.
    `randomization` is "own" for the function that playground has for the task, or the dotted path of one of that form.
    """

    task: str
    backend: Literal["auto", "mjx", "warp"] = "auto"
    episode_length: int | None = None  # steps; None is the task's own
    overrides: dict[str, Any] = field(default_factory=dict)
    randomization: str | None = None

    def __post_init__(self) -> None:
        if self.episode_length is not None and self.episode_length < 1:
            raise ValueError(f"episode_length is {self.episode_length}, but must be at least 1")
        if "impl" in self.overrides:
            raise ValueError('overrides.impl: has a field of its own, backend ("mjx" is impl "jax")')


def _implementation(backend: str) -> str:
    """Playground's word for it."""
    if backend == "auto":
        backend = "warp" if jax.default_backend() == "gpu" and find_spec("warp") else "mjx"
    return {"mjx": "jax", "warp": "warp"}[backend]


def _loaded(config: Config, implementation: str) -> Any:
    if config.task not in registry.ALL_ENVS:
        raise ValueError(f"env.task: playground has no environment {config.task!r}; {suggestion(config.task, registry.ALL_ENVS)}")
    try:
        return registry.load(config.task, config_overrides={"impl": implementation, **config.overrides})
    except subprocess.CalledProcessError as error:
        raise OSError(
            f"playground's {config.task} needs the meshes of mujoco_menagerie, which it clones with git at first use, and that failed "
            f"({error}). Go online once, or put a checkout of commit {MENAGERIE_COMMIT_SHA[:12]} at {MENAGERIE_PATH}. "
            "The tasks of the control suite, such as CartpoleBalance, need no meshes"
        ) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # overrides that it does not know, or names that MuJoCo has dropped
        versions = ", ".join(f"{name} {version(name)}" for name in ("playground", "mujoco", "mujoco-mjx"))
        raise ValueError(f"playground cannot make {config.task} with these overrides and {versions}: {error}") from error


def _randomisation(config: Config, env: Any) -> Randomisation | None:
    if config.randomization is None:
        return None
    if config.randomization != OWN:
        function = function_at(config.randomization, "env.randomization")
    else:
        function = registry.get_domain_randomizer(config.task)
        if function is None:
            raise ValueError(f"env.randomization: playground has no randomisation of its own for {config.task}; name a function")
    return randomisation(env, "_mjx_model", function, config.task)


def playground(config: Config) -> Env:
    """The environment as an `Env`; observations are `state/observation`, or the dict's names with `privileged_state` as `privileged/state`.

    Raises:
        ValueError: no such task or function, or its state changes its structure; on a CPU, XLA_FLAGS lacks what keeps MJX from
            hanging (see `jaxrl_envs.xla_flags`).
        OSError: the task needs meshes that could not be fetched.
    """
    xla_flags.check(f"playground's {config.task}")
    env = _loaded(config, _implementation(config.backend)).unwrapped
    scene = Scene(env.mj_model, lambda state: {"qpos": state.data.qpos})
    length = config.episode_length or int(env._config.episode_length)
    return brax_like(env, f"playground_{config.task}", length, float(env.dt), _randomisation(config, env), scene)
