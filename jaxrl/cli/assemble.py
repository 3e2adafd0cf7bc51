"""From a config to the parts of a run. Every section is checked before anything is compiled."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jax.sharding import Mesh

from jaxrl.config import build, part
from jaxrl.ops import running_statistics
from jaxrl.ops.running_statistics import RunningStatistics
from jaxrl.replay import recording
from jaxrl.training import fit
from jaxrl.types import Algorithm, ArraySpec, Env, PolicySpec, Source

Section = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """`num_episodes` for each condition; `score` is the metric by which the best checkpoint is kept."""

    num_episodes: int = 200
    seed: int = 1000
    score: str = "episode/return"
    video_seconds: float = 12.0

    def __post_init__(self) -> None:
        if self.num_episodes < 1:
            raise ValueError(f"num_episodes is {self.num_episodes}, but must be at least 1")


@dataclass(frozen=True)
class Checkpoint:
    """How many checkpoints stay."""

    keep_last: int = 2
    keep_best: int = 1


@dataclass(frozen=True)
class Data:
    """`path` of a recording, as `jaxrl eval --record` writes it."""

    path: str


@dataclass(frozen=True)
class Settings:
    """The sections of a config. Those typed `Section` name a module and hold the fields of its Config."""

    algorithm: Section
    source: Section
    env: Section | None = None
    networks: Section = field(default_factory=dict)
    objectives: dict[str, Section] = field(default_factory=dict)
    data: Data | None = None
    training: fit.Config = field(default_factory=fit.Config)
    evaluation: Evaluation = field(default_factory=Evaluation)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    devices: int = 1


class Parts(NamedTuple):
    env: Env | None
    algorithm: Algorithm
    source: Source


def environment(settings: Settings) -> Env | None:
    """The environment of `config.env`; None where the config has none."""
    if settings.env is None:
        return None
    make, config = part(settings.env, "task", "config.env")
    return make(config)


def _acting(settings: Settings, spec: Any) -> Algorithm:
    """An algorithm that learns by acting: made of the environment's spec and networks."""
    make_networks, networks = part(settings.networks, "network", "config.networks")
    make, config = part(settings.algorithm, "algorithm", "config.algorithm")
    return make(config, spec, make_networks(networks, spec))


def _supervised(settings: Settings, spec: PolicySpec, normaliser: RunningStatistics) -> Algorithm:
    """A weighted table of objectives, each with a network of its own."""
    make, config = part(settings.algorithm, "algorithm", "config.algorithm")
    objectives, weights = {}, {}
    for name, section in settings.objectives.items():
        where = f"config.objectives.{name}"
        make_network, network = part(section.get("network", {}), "network", f"{where}.network")
        own = {key: value for key, value in section.items() if key not in ("weight", "network")}
        make_objective, objective = part(own, "objective", where)
        output = (spec.horizon, *spec.action.shape)
        objectives[name] = make_objective(objective, spec, make_network(network, spec.observation, output))
        weights[name] = build(float, section.get("weight", 1.0), f"{where}.weight")
    return make(config, objectives, weights, normaliser)


def _rollout(settings: Settings, mesh: Mesh | None) -> Parts:
    make_source, source = part(settings.source, "source", "config.source")
    env = environment(settings)
    if env is None:
        raise ValueError("config.env: missing; a rollout acts in an environment, such as jaxrl_envs.tasks.go2_flat")
    algorithm = _acting(settings, env.spec)
    return Parts(env, algorithm, make_source(source, env, env.sample, algorithm.explore, mesh))


def _memory(settings: Settings, mesh: Mesh | None) -> Parts:
    make_source, source = part(settings.source, "source", "config.source")
    if settings.data is None:
        raise ValueError("config.data.path: missing; name the recording to learn from")
    loaded = recording.load(settings.data.path)
    algorithm = _supervised(settings, loaded.spec._replace(horizon=source.horizon), recording.statistics(loaded))
    return Parts(environment(settings), algorithm, make_source(source, loaded, mesh))


# What each source is fed with decides how the rest is put together.
_BY_SOURCE: dict[str, Callable[[Settings, Mesh | None], Parts]] = {"jaxrl.rollout.rollout": _rollout, "jaxrl.replay.memory": _memory}


def assemble(settings: Settings, mesh: Mesh | None = None) -> Parts:
    """All parts of a training run.

    Raises:
        ValueError: a section is missing, or holds an unknown key, a wrong type or numbers that do not fit.
    """
    name = settings.source.get("name")
    if name not in _BY_SOURCE:
        raise ValueError(f"config.source.name: expected one of {', '.join(_BY_SOURCE)}, got {name!r}")
    return _BY_SOURCE[name](settings, mesh)


def for_evaluation(settings: Settings, spec: PolicySpec, env: Env) -> Algorithm:
    """The algorithm of a checkpoint, without its data: what they taught is in the checkpoint."""
    if not settings.objectives:
        return _acting(settings, env.spec)
    shapes = dict(spec.observation) | {"action": ArraySpec(spec.action.shape, spec.action.dtype)}
    return _supervised(settings, spec, running_statistics.init(shapes))
