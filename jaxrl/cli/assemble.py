"""From a config to the parts of a run. Every section is checked before anything is compiled."""

import sys
import typing
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import jax.numpy as jnp
from jax.sharding import Mesh

from jaxrl.cli import run as runs
from jaxrl.config import build, part, plain
from jaxrl.ops import running_statistics
from jaxrl.ops.action_range import action_range
from jaxrl.ops.running_statistics import RunningStatistics
from jaxrl.ops.specs import check_spec, num_choices
from jaxrl.policies.fixed import fixed
from jaxrl.policies.uniform import uniform
from jaxrl.replay import recording
from jaxrl.replay.mirrored import mirrored
from jaxrl.replay.mixture import mixture
from jaxrl.replay.recording import Recording
from jaxrl.rollout import environment as experiment
from jaxrl.training import fit
from jaxrl.types import Algorithm, ArraySpec, Env, HostEnv, Policy, PolicySpec, Source

Section = dict[str, Any]
E = TypeVar("E", Env, HostEnv)
ROLLOUT, HOST_ROLLOUT = "jaxrl.rollout.rollout", "jaxrl.rollout.host_rollout"


@dataclass(frozen=True)
class Evaluation:
    """`num_episodes` for each condition.

    `score` is the metric by which the best checkpoint is kept, by default the return of a policy that acts while it learns.
    """

    num_episodes: int = 200
    seed: int = 1000
    score: str | None = None
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
class Recorded:
    """`path` of a recording, as `jaxrl eval --record` writes it."""

    path: str


@dataclass(frozen=True)
class Settings:
    """The sections of a config. Those typed `Section` name a module and hold the fields of its Config.

    `hidden` are state groups of the environment that only a privileged critic is to see. With `mirror` every other step that is learnt from
    is seen in a mirror.
    """

    algorithm: Section
    source: Section
    replay: Section = field(default_factory=dict)  # between a rollout and an algorithm that learns from memory
    filler: str | None = None  # folder of the run whose policy makes the first steps in the memory; by default actions are random
    env: Section | None = None
    wrapper: Section = field(default_factory=dict)  # around env, such as jaxrl_envs.wrappers.pixels
    hidden: tuple[str, ...] = ()
    mirror: bool = False
    networks: Section = field(default_factory=dict)
    bonus: Section = field(default_factory=dict)  # paid for what is new, such as jaxrl.bonuses.rnd
    curriculum: Section = field(default_factory=dict)  # by default jaxrl.curricula.static
    objectives: dict[str, Section] = field(default_factory=dict)
    policies: tuple[Section, ...] = ()  # around what was learnt from data, such as jaxrl.policies.receding_horizon; the innermost first
    data: Recorded | None = None
    demonstrations: Section = field(default_factory=dict)  # of data, in each batch beside what is replayed
    training: fit.Config = field(default_factory=fit.Config)
    evaluation: Evaluation = field(default_factory=Evaluation)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    devices: int = 1


_KINDS = {
    "env": "task",
    "wrapper": "wrapper",
    "networks": "network",
    "algorithm": "algorithm",
    "source": "source",
    "replay": "replay",
    "demonstrations": "replay",
    "curriculum": "curriculum",
    "bonus": "bonus",
}


def _whole(section: Section, kind: str, where: str) -> dict[str, Any]:
    _, config = part(section, kind, where)
    return {"name": section["name"], **plain(config)}


def resolved(settings: Settings) -> dict[str, Any]:
    """The whole config, with every default that it relies on: a later change of a default in the code does not change a run."""
    whole = {name: value for name, value in plain(settings).items() if value}
    for name, kind in _KINDS.items():
        if name in whole:
            whole[name] = _whole(whole[name], kind, f"config.{name}")
    for name, (own, network, weight) in _objectives(settings).items():
        where = f"config.objectives.{name}"
        whole["objectives"][name] = _whole(own, "objective", where) | {
            "weight": weight,
            "network": _whole(network, "network", f"{where}.network"),
        }
    if settings.policies:
        whole["policies"] = [_whole(one, "policy wrapper", f"config.policies[{i}]") for i, one in enumerate(settings.policies)]
    return whole


class Data(Protocol):
    """Data sets. What they are, and the statistics that they are normalised by, travels with each checkpoint."""

    def kept(self) -> dict[str, Any]: ...  # plain JSON
    def check(self, kept: Mapping[str, Any]) -> None: ...  # raises ValueError that names what is not as it was kept


class Parts(NamedTuple):
    env: Env | HostEnv | None
    algorithm: Algorithm
    source: Source
    data: Data | None = None
    learnt: PolicySpec | None = None  # of what is learnt, inside of `config.policies`; None: that of the algorithm's policy


def environment(settings: Settings) -> Env | HostEnv | None:
    """That of `config.env`, `config.wrapper` and `config.hidden`; None where the config has none."""
    if settings.env is not None:
        return experiment.environment(settings.env, settings.wrapper, settings.hidden)
    for name in ("wrapper", "hidden"):
        if getattr(settings, name):
            raise ValueError(f"config.{name}: has no effect without config.env; leave it out")
    return None


def _acting(settings: Settings, spec: Any) -> Algorithm:
    """An algorithm that learns by acting: made of the environment's spec and networks."""
    make_networks, networks = part(settings.networks, "network", "config.networks")
    make, config = part(settings.algorithm, "algorithm", "config.algorithm")
    built = make_networks(networks, spec)
    taken = typing.get_type_hints(make).get("networks", Any)
    if taken is not Any and not isinstance(built, taken):
        names = " or ".join(kind.__name__ for kind in typing.get_args(taken) or (taken,))
        raise ValueError(
            f"config.networks.name: {settings.algorithm['name']} takes {names}, which {settings.networks['name']} does not make"
        )
    algorithm: Algorithm = make(config, spec, built)
    if not settings.bonus:
        return algorithm
    make_bonus, bonus = part(settings.bonus, "bonus", "config.bonus")
    with_bonus: Algorithm = make_bonus(bonus, spec, algorithm)
    return with_bonus


def _objectives(settings: Settings) -> dict[str, tuple[Section, Section, float]]:
    """Of each objective its own section, that of its network, and its weight."""
    table = {}
    for name, section in settings.objectives.items():
        own = {key: value for key, value in section.items() if key not in ("weight", "network")}
        weight = build(float, section.get("weight", 1.0), f"config.objectives.{name}.weight")
        table[name] = (own, dict(section.get("network", {})), weight)
    return table


def _output_shape(make_objective: Callable[..., Any], config: Any, spec: PolicySpec) -> tuple[Any, ...]:
    """Of what a network puts out for each row: a chunk, unless the objective's module has an `output_shape` that says else."""
    own = getattr(sys.modules[make_objective.__module__], "output_shape", None)
    return own(config, spec) if own else (spec.horizon, *spec.action.shape)


def _supervised(settings: Settings, spec: PolicySpec, normaliser: RunningStatistics) -> Algorithm:
    """A weighted table of objectives, each with a network of its own."""
    make, config = part(settings.algorithm, "algorithm", "config.algorithm")
    objectives: dict[str, Any] = {}
    weights: dict[str, float] = {}
    for name, (own, of_network, weights[name]) in _objectives(settings).items():
        where = f"config.objectives.{name}"
        make_network, network = part(of_network, "network", f"{where}.network")
        make_objective, objective = part(own, "objective", where)
        objectives[name] = make_objective(
            objective, spec, make_network(network, spec.observation, _output_shape(make_objective, objective, spec))
        )
    return make(config, objectives, weights, normaliser)


def _with_policies(settings: Settings, algorithm: Algorithm) -> Algorithm:
    """`algorithm` whose policy, once deployed, acts through `config.policies`, and remembers what it reads of the past."""
    around = list(settings.policies)
    past = {"steps": settings.source.get("history", 1), "stride": settings.source.get("history_stride", 1)}
    if past["steps"] > 1:
        around.insert(0, {"name": "history", **past})
    policy = algorithm.policy
    for place, section in enumerate(around, len(settings.policies) - len(around)):
        make, config = part(section, "policy wrapper", f"config.policies[{place}]")
        try:
            policy = make(config, policy)
        except ValueError as error:
            raise ValueError(f"config.policies[{place}], {section['name']}: {error}") from error
    return algorithm._replace(policy=policy)


def _refuse(settings: Settings, *sections: str) -> None:
    for name in sections:
        if getattr(settings, name):
            raise ValueError(f"config.{name}: has no effect with config.source.name={settings.source['name']}; leave it out")


def check_acts_in(env: Env | HostEnv, spec: PolicySpec, who: str) -> None:
    """Raises ValueError where a policy of `spec` reads or moves other things than `env` has, or at another rate."""
    needed, offered = ({**s.observation, "action": s.action} for s in (spec, env.spec))
    check_spec(needed, offered, needs=who, offers=f"the environment {env.spec.name}")
    if spec.rate and env.spec.dt and abs(spec.rate * env.spec.dt - 1.0) > 1e-3:
        raise ValueError(
            f"{who} acts {spec.rate:g} times per second, but the environment {env.spec.name} takes {1.0 / env.spec.dt:g} actions in that "
            "time; give it the rate of the data, such as by its action_repeat"
        )


def _acted_in(settings: Settings, kind: type[E], source: str) -> E:
    """The environment that a rollout acts in. Raises ValueError where there is none, or only the rollout named `source` can step it."""
    env = environment(settings)
    if env is None:
        raise ValueError("config.env: missing; a rollout acts in an environment, such as jaxrl_envs.tasks.go2_flat")
    if not isinstance(env, kind):
        where = "on the host" if isinstance(env, HostEnv) else "inside the compiled program"
        raise ValueError(f"config.source.name: {env.spec.name} is stepped {where}, which needs {source}, not {settings.source['name']}")
    return env


def _filler(settings: Settings, env: Env | HostEnv, algorithm: Algorithm) -> Policy:
    """Makes the first steps: the policy of another run, or one that acts at random."""
    if settings.filler is None:
        return uniform(algorithm.explore.spec, settings.algorithm.get("action_bound", 1.0))
    loaded = runs.load(Path(settings.filler))
    check_acts_in(env, loaded.algorithm.policy.spec, f"the policy of config.filler, {settings.filler},")
    return fixed(loaded.algorithm.policy, loaded.params)


def _remembered(
    settings: Settings,
    env: Env | HostEnv,
    algorithm: Algorithm,
    num_worlds: int,
    collect: Callable[[Policy], Source],
    mesh: Mesh | None,
) -> Source:
    """What `collect` makes with the exploring policy, behind the memory of `config.replay` where the algorithm learns from one.

    The memory is filled by worlds of its own.
    """
    remembers = "steps" in algorithm.batch_spec
    if remembers and not settings.replay:
        raise ValueError(f"config.replay.name: missing; {settings.algorithm['name']} learns from a memory, such as jaxrl.replay.replay")
    if settings.replay and not remembers:
        raise ValueError(
            f"config.replay: has no effect on {settings.algorithm['name']}, which learns from what it has just done; leave it out"
        )
    source = collect(algorithm.explore)
    if not settings.replay:
        _refuse(settings, "demonstrations", "filler")
        return source
    make_replay, replay = part(settings.replay, "replay", "config.replay")
    _, chosen = part(settings.algorithm, "algorithm", "config.algorithm")
    if getattr(replay, "maximum_return", 0.0) and replay.gamma != chosen.gamma:
        raise ValueError(f"config.replay.gamma is {replay.gamma}, but config.algorithm.gamma {chosen.gamma}; they have to be the same")
    filler = collect(_filler(settings, env, algorithm))
    made: Source = make_replay(replay, source, num_worlds, filler, mesh)
    return _with_demonstrations(settings, made, replay, mesh) if settings.demonstrations else made


def _with_demonstrations(settings: Settings, replayed: Source, replay: Any, mesh: Mesh | None) -> Source:
    """Batches of which one part is `replayed` by `replay`, and one recorded."""
    if getattr(replay, "maximum_return", 0.0):
        raise ValueError("config.replay.maximum_return: scales what is replayed and not what was recorded; leave it at 0")
    make, config = part(settings.demonstrations, "replay", "config.demonstrations")
    loaded = _loaded(settings)
    _warn_of_clipped(loaded, settings.algorithm.get("action_bound", 1.0))
    shown = make(config, loaded, replay.num_updates, replay.n_step, mesh)
    return mixture({"environment": replayed, "demonstrations": shown})


def _warn_of_clipped(loaded: Recording, bound: float) -> None:
    """Where the actions of demonstrations lie outside of the range that a squashed policy fills."""
    if num_choices(loaded.spec.action):
        return
    between = action_range(loaded.spec.action, bound)
    moved = jnp.abs(between.to_action(between.to_unit(jnp.asarray(loaded.action))) - loaded.action) > 1e-4 * bound
    if number := int(moved.any(-1).sum()):
        warnings.warn(
            f"config.demonstrations: {number:,} of {len(moved):,} recorded actions lie outside of the range that the policy fills, and are "
            f"learnt as clipped to it; where the action has no bounds of its own, that range is config.algorithm.action_bound, {bound}",
            stacklevel=2,
        )


def _mirrored(settings: Settings, env: Env, source: Source) -> Source:
    if not settings.replay:
        raise ValueError(
            f"config.mirror: has no effect on {settings.algorithm['name']}, which learns from the actions as they were drawn; leave it out"
        )
    if env.mirror is None:
        raise ValueError(f"config.mirror: {env.spec.name} has no mirror image; leave it out")
    return mirrored(source, env.mirror)


def _loaded(settings: Settings) -> Recording:
    """The recording of config.data."""
    if settings.data is None:
        raise ValueError("config.data.path: missing; name the recording to learn from")
    return recording.load(settings.data.path)


def _rollout(settings: Settings, mesh: Mesh | None) -> Parts:
    _refuse(settings, "objectives", "policies", *(() if settings.demonstrations else ("data",)))
    make_source, source = part(settings.source, "source", "config.source")
    env = _acted_in(settings, Env, HOST_ROLLOUT)
    algorithm = _acting(settings, env.spec)
    make_curriculum, chosen = part(settings.curriculum or {"name": "static"}, "curriculum", "config.curriculum")
    curriculum = make_curriculum(chosen, env)

    def collect(policy: Policy) -> Source:
        return make_source(source, env, curriculum, policy, mesh)

    made = _remembered(settings, env, algorithm, source.num_worlds, collect, mesh)
    return Parts(env, algorithm, _mirrored(settings, env, made) if settings.mirror else made)


def _host_rollout(settings: Settings, mesh: Mesh | None) -> Parts:
    if mesh is not None:
        raise ValueError("config.devices: simulators on the host are stepped for one device; set it to 1")
    _refuse(settings, "objectives", "policies", "curriculum", "mirror", *(() if settings.demonstrations else ("data",)))
    make_source, source = part(settings.source, "source", "config.source")
    env = _acted_in(settings, HostEnv, ROLLOUT)
    algorithm = _acting(settings, env.spec)

    def collect(policy: Policy) -> Source:
        return make_source(source, env, policy)

    return Parts(env, algorithm, _remembered(settings, env, algorithm, source.num_worlds, collect, None))


def _memory(settings: Settings, mesh: Mesh | None) -> Parts:
    _refuse(settings, "networks", "bonus", "curriculum", "replay", "filler", "demonstrations", "mirror")
    make_source, source = part(settings.source, "source", "config.source")
    loaded = recording.public(_loaded(settings))
    env = environment(settings)
    if env is not None:
        check_acts_in(env, loaded.spec, f"the recording {settings.data.path if settings.data else None}")
    learnt = loaded.spec._replace(horizon=source.horizon)
    algorithm = _with_policies(settings, _supervised(settings, learnt, recording.statistics(loaded)))
    return Parts(env, algorithm, make_source(source, loaded, mesh), learnt=learnt)


def _dataset(settings: Settings, mesh: Mesh | None) -> Parts:
    """Data sets, prepared or as they lie, of which the source itself tells what a policy has to know."""
    _refuse(settings, "networks", "bonus", "curriculum", "replay", "filler", "demonstrations", "mirror", "data")
    make_source, config = part(settings.source, "source", "config.source")
    loaded = make_source(config, mesh)
    env = environment(settings)
    algorithm = _with_policies(settings, _supervised(settings, loaded.spec, loaded.normaliser))
    if env is not None:
        check_acts_in(env, algorithm.policy.spec, "a policy of these data sets")
    return Parts(env, algorithm, loaded.source, loaded, loaded.spec)


# What each source is fed with decides how the rest is put together.
SOURCES: dict[str, Callable[[Settings, Mesh | None], Parts]] = {
    ROLLOUT: _rollout,
    HOST_ROLLOUT: _host_rollout,
    "jaxrl.replay.memory": _memory,
    "jaxrl_data.dataset_source": _dataset,
    "jaxrl_data.stream_source": _dataset,
}


def assemble(settings: Settings, mesh: Mesh | None = None) -> Parts:
    """All parts of a training run.

    Raises:
        ValueError: a section is missing, or holds an unknown key, a wrong type or numbers that do not fit.
    """
    name = settings.source.get("name")
    if name not in SOURCES:
        raise ValueError(f"config.source.name: expected one of {', '.join(SOURCES)}, got {name!r}")
    return SOURCES[name](settings, mesh)


def for_evaluation(settings: Settings, spec: PolicySpec, env: Env | HostEnv | None) -> Algorithm:
    """The algorithm of a checkpoint, without its data: what they taught is in the checkpoint.

    Raises:
        ValueError: it learns by acting, and has no environment.
    """
    if not settings.objectives:
        if env is None:
            raise ValueError("config.objectives: missing; what learns from data needs one, such as jaxrl.objectives.bc")
        return _acting(settings, env.spec)
    shapes = dict(spec.observation) | {"action": ArraySpec(spec.action.shape, spec.action.dtype)}
    return _with_policies(settings, _supervised(settings, spec, running_statistics.init(shapes)))
