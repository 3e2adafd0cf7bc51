"""Environments of brax, or with its interface (pip install "jaxrl[adapters]"), as `Env`.

They are used without brax's wrappers, so final observations are the true ones and truncations are told from terminations. brax's `System`
is not ours: `jaxrl_envs.randomization` cannot vary it, and physics parameters are empty unless `randomization` names a function of brax's
form, which is then called anew in each episode. `info["time_out"]` is not read: brax's own environments set it at falls too.
"""

from dataclasses import dataclass, field
from typing import Any

from jaxrl_envs.physics import _engine  # noqa: F401  before brax: it imports MJX without the lines that MJX prints

# isort: split
from brax import envs

from jaxrl.ops.suggestion import suggestion
from jaxrl.types import Env
from jaxrl_envs import xla_flags
from jaxrl_envs.adapters._brax_like import brax_like, randomisation
from jaxrl_envs.adapters._named import function_at
from jaxrl_envs.rendering import Scene

BACKENDS = ("generalized", "mjx", "positional", "spring")


@dataclass(frozen=True)
class Config:
    """`task` is brax's name for it, or `make` the dotted path of a function that returns an environment; `options` are its arguments.

    `randomization` is the dotted path of a function of brax's form, `(sys, keys [N]) -> sys, in_axes`.
    """

    task: str = ""
    make: str = ""
    backend: str = "generalized"
    episode_length: int = 1000  # steps
    options: dict[str, Any] = field(default_factory=dict)
    randomization: str | None = None

    def __post_init__(self) -> None:
        if bool(self.task) == bool(self.make):
            raise ValueError('name either task, such as "ant", or make, a function that returns a brax environment')
        if self.backend not in BACKENDS:
            raise ValueError(f"backend is {self.backend!r}, but brax has {', '.join(BACKENDS)}")
        if self.episode_length < 1:
            raise ValueError(f"episode_length is {self.episode_length}, but must be at least 1")


def _made(config: Config) -> Any:
    if config.make:
        return function_at(config.make, "env.make")(**config.options)
    known = envs._envs
    if config.task not in known:
        raise ValueError(f"env.task: brax has no environment {config.task!r}; {suggestion(config.task, sorted(known))}")
    return envs.get_environment(config.task, backend=config.backend, **config.options)


def brax(config: Config) -> Env:
    """The environment as an `Env`; observations are `state/observation`, or the dict's own names.

    Raises:
        ValueError: no such environment or function, or its state changes its structure; on a CPU with MJX, XLA_FLAGS lacks what keeps
            it from hanging (see `jaxrl_envs.xla_flags`).
    """
    env = _made(config).unwrapped
    system = getattr(env, "sys", None)
    if system is not None and env.backend == "mjx":
        xla_flags.check(f"brax's {config.task or config.make} with the backend mjx")
    name = config.task or config.make
    varied = None
    if config.randomization is not None:
        if system is None:
            raise ValueError(f"env.randomization: {name} has no brax System to randomise")
        varied = randomisation(env, "sys", function_at(config.randomization, "env.randomization"), name)
    model = getattr(system, "mj_model", None)
    dt = 0.0 if system is None else round(float(env.dt), 7)  # a float32 of theirs
    return brax_like(
        env,
        f"brax_{name}",
        config.episode_length,
        dt,
        varied,
        None if model is None else Scene(model, lambda state: {"qpos": state.pipeline_state.q}),
    )
