"""The parts of a run that learns from what others did."""

import inspect
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from jaxrl.algorithms.supervised import Behaviour
from jaxrl.cli import run as runs
from jaxrl.cli.acting import acted_in
from jaxrl.cli.settings import HOST_ROLLOUT, Parts, Settings, check_acts_in, environment, loaded_recording, objectives_of, refuse
from jaxrl.config import part
from jaxrl.evaluation.record import recorded
from jaxrl.ops.paths import flatten_names, merge
from jaxrl.ops.running_statistics import RunningStatistics
from jaxrl.ops.specs import policy_spec
from jaxrl.ops.suggestion import suggestion
from jaxrl.policies import history, overseen, relative_pose
from jaxrl.replay import dagger, recording
from jaxrl.types import Algorithm, Env, Params, Policy, PolicySpec, Source

_MEASURED = 20  # episodes of an expert that what a student sees is normalised by


def _own(make_objective: Callable[..., Any], name: str) -> Callable[..., Any] | None:
    """A function of the objective's module, where it has one of that name."""
    return getattr(sys.modules[make_objective.__module__], name, None)


def _output_shape(make_objective: Callable[..., Any], config: Any, spec: PolicySpec) -> tuple[Any, ...]:
    """Of what a network puts out for each row: a chunk, unless the objective's module has an `output_shape` that says else."""
    own = _own(make_objective, "output_shape")
    return own(config, spec) if own else (spec.horizon, *spec.action.shape)


def _taught(settings: Settings) -> dict[str, tuple[Any, Callable[..., dict[str, Any]]]]:
    """Of objectives that learn from what another has learnt: config, and `taught` of their module, which says what begins as what."""
    found = {}
    for name, (section, _, _) in objectives_of(settings).items():
        make, config = part(section, "objective", f"config.objectives.{name}")
        if taught := _own(make, "taught"):
            found[name] = config, taught
    return found


def check_taught(settings: Settings) -> None:
    """Raises ValueError where an objective learns from a run, and none is named."""
    if settings.pretrained is None:
        for name in _taught(settings):
            raise ValueError(f"config.pretrained: missing; config.objectives.{name} learns from a run that is there: name its folder")


def supervised(settings: Settings, spec: PolicySpec, normaliser: RunningStatistics) -> Algorithm:
    """A weighted table of objectives, each with a network of its own, or with that of another one."""
    make, config = part(settings.algorithm, "algorithm", "config.algorithm")
    table = objectives_of(settings)
    made = {name: part(own, "objective", f"config.objectives.{name}") for name, (own, _, _) in table.items()}
    whose = {name: of_network if isinstance(of_network, str) else name for name, (_, of_network, _) in table.items()}
    networks: dict[str, Any] = {}
    for name, (_, of_network, _) in table.items():
        if not isinstance(of_network, str):
            make_network, network = part(of_network, "network", f"config.objectives.{name}.network")
            networks[name] = make_network(network, spec.observation, _output_shape(*made[name], spec))
    objectives: dict[str, Any] = {}
    for name, (make_objective, objective) in made.items():
        owner, names = whose[name], {}
        if owner != name or sum(other == owner for other in whose.values()) > 1:
            _check_shares(name, owner, networks, make_objective)
            names = {"shared": made[owner][0].__name__}
        objectives[name] = make_objective(objective, spec, networks[owner], **names)
    return make(config, objectives, {name: weight for name, (_, _, weight) in table.items()}, normaliser)


def _check_shares(name: str, owner: str, networks: Mapping[str, Any], make_objective: Callable[..., Any]) -> None:
    """Raises ValueError where the objective `name` cannot have the network of the objective `owner`."""
    where = f"config.objectives.{name}.network"
    if owner not in networks:
        hint = suggestion(owner, list(networks))
        raise ValueError(f"{where}: is {owner!r}, but no objective of that name has a network of its own; {hint}")
    if "shared" not in inspect.signature(make_objective).parameters:
        raise ValueError(f"{where}: {make_objective.__name__} has no network together with others; give each a section of its own")


def with_policies(settings: Settings, algorithm: Algorithm) -> Algorithm:
    """`algorithm` whose policy, once deployed, acts through `config.policies`, and remembers what it reads of the past."""
    past = history.Config(settings.source.get("history", 1), settings.source.get("history_stride", 1))
    policy, remembers = algorithm.policy, past.steps == 1
    for place, section in enumerate(settings.policies):
        make, config = part(section, "policy wrapper", f"config.policies[{place}]")
        if not remembers and make is not relative_pose.relative_pose:  # which may tell the past from the present pose
            policy, remembers = history.history(past, policy), True
        try:
            policy = make(config, policy)
        except ValueError as error:
            raise ValueError(f"config.policies[{place}], {section['name']}: {error}") from error
    return algorithm._replace(policy=policy if remembers else history.history(past, policy))


def _learner(settings: Settings, spec: PolicySpec, normaliser: RunningStatistics) -> Algorithm:
    """One that is to be trained, from `config.pretrained` on where there is one."""
    if len(settings.objectives) > 1 and not settings.algorithm.get("policy"):  # a config sorts its sections, so none of them is the first
        raise ValueError(f"config.algorithm.policy: missing; name which of the objectives acts, {' or '.join(sorted(settings.objectives))}")
    return with_policies(settings, _begun(settings, supervised(settings, spec, normaliser), normaliser))


def _begun(settings: Settings, algorithm: Algorithm, normaliser: RunningStatistics) -> Algorithm:
    """`algorithm` that begins with what the run `config.pretrained` deploys."""
    if settings.pretrained is None:
        return algorithm
    learnt = runs.learnt(Path(settings.pretrained))
    if not isinstance(learnt, Behaviour):
        raise ValueError(f"config.pretrained: {settings.pretrained} is a run that learnt by acting; name one that learnt from data")
    before, now = (flatten_names({"mean": n.mean, "variance": n.variance}) for n in (learnt.statistics.normaliser, normaliser))
    if other := [name for name in sorted(before.keys() & now.keys()) if not np.allclose(before[name], now[name], rtol=1e-3, atol=1e-6)]:
        warnings.warn(
            f"config.pretrained: {settings.pretrained} learnt from numbers that are scaled otherwise than here: {', '.join(other)} differ; "
            "what it knows of them is shifted",
            stacklevel=2,
        )
    given = flatten_names(merge(learnt.frozen, learnt.params)) | flatten_names(learnt.statistics.objectives)
    for name, (config, taught) in _taught(settings).items():
        try:
            given = taught(config, given, runs.config_of(Path(settings.pretrained))["objectives"])
        except ValueError as error:
            raise ValueError(f"config.pretrained: {settings.pretrained}, for config.objectives.{name}: {error}") from error
    return algorithm._replace(init=lambda key, pretrained=None: algorithm.init(key, given | flatten_names(pretrained or {})))


def _check_moves(allowed: bool, constant: Mapping[str, Sequence[str]]) -> None:
    """Raises ValueError where dimensions of the action never change in data, by name of these, and that is not `allowed`."""
    for where, names in constant.items():
        if names and not allowed:
            raise ValueError(
                f"{where}: action never changes in {', '.join(names)}, so nothing can be learnt of it; take data in which it moves, or let "
                "the policy hold it there with config.source.constant_actions=True"
            )


def memory(settings: Settings, mesh: Mesh | None) -> Parts:
    refuse(settings, "networks", "bonus", "curriculum", "replay", "filler", "demonstrations", "mirror")
    make_source, source = part(settings.source, "source", "config.source")
    loaded = recording.public(loaded_recording(settings))
    env = environment(settings)
    if env is not None:
        check_acts_in(env, loaded.spec, f"the recording {settings.data.path if settings.data else None}")
    learnt = loaded.spec._replace(horizon=source.horizon)
    seen = recording.part_of(loaded, "train", source.validation)
    _check_moves(source.constant_actions, {f"the recording {settings.data.path if settings.data else None}": recording.constant(seen)})
    algorithm = _learner(settings, learnt, recording.statistics(seen, source.scale))
    return Parts(env, algorithm, make_source(source, loaded, mesh), learnt=learnt)


def dataset(settings: Settings, mesh: Mesh | None) -> Parts:
    """Data sets, prepared or as they lie, of which the source itself tells what a policy has to know."""
    refuse(settings, "networks", "bonus", "curriculum", "replay", "filler", "demonstrations", "mirror", "data")
    make_source, config = part(settings.source, "source", "config.source")
    loaded = make_source(config, mesh)
    told = {name: held.columns["action"].constant for name, held in loaded.statistics.items() if "action" in held.columns}
    own = {
        f"config.source.sets.{name}": constant for name, constant in told.items() if not config.sets[name].standard
    }  # which may make some
    _check_moves(config.constant_actions, own)
    env = environment(settings)
    algorithm = _learner(settings, loaded.spec, loaded.normaliser)
    if env is not None:
        check_acts_in(env, algorithm.policy.spec, "a policy of these data sets")
    return Parts(env, algorithm, loaded.source, loaded, loaded.spec)


def _expert(settings: Settings, env: Env) -> tuple[Policy, Params]:
    """That of `config.expert`, or of the run `config.filler`."""
    if bool(settings.expert) == bool(settings.filler):
        raise ValueError("config.expert: name either a scripted policy there, or the folder of a run in config.filler, and not both")
    if settings.filler:
        loaded = runs.load(Path(settings.filler))
        policy, params, who = loaded.algorithm.policy, loaded.params, f"the policy of config.filler, {settings.filler},"
    else:
        make, config = part(settings.expert, "policy", "config.expert")
        policy, params, who = make(config), (), f"the policy of config.expert, {settings.expert['name']},"
    check_acts_in(env, policy.spec, who)
    return policy, params


def overseen_rollout(settings: Settings, mesh: Mesh | None) -> Parts:
    """A student that learns from what an expert says of the states it comes to itself."""
    refuse(settings, "networks", "bonus", "demonstrations", "mirror", "data")
    make_source, source = part(settings.source, "source", "config.source")
    env = acted_in(settings, Env, HOST_ROLLOUT)
    if not settings.replay:
        raise ValueError("config.replay.name: missing; what acts and imitates learns from a memory, jaxrl.replay.dagger")
    make_replay, replay = part(settings.replay, "replay", "config.replay")
    if not isinstance(replay, dagger.Config):
        raise ValueError(f"config.replay.name: is {settings.replay['name']}, but what acts and imitates learns from jaxrl.replay.dagger")
    expert, params = _expert(settings, env)
    shown = recording.public(recorded(env, expert, params, _MEASURED, settings.training.seed))
    learnt = policy_spec(env.spec)._replace(horizon=replay.horizon)
    algorithm = _learner(settings, learnt, recording.statistics(shown))
    make_curriculum, chosen = part(settings.curriculum or {"name": "static"}, "curriculum", "config.curriculum")
    curriculum = make_curriculum(chosen, env)

    def collect(oversight: overseen.Config) -> Source:
        return make_source(source, env, curriculum, overseen.overseen(oversight, algorithm.explore, expert, params), mesh)

    own = overseen.Config(beta=1.0)  # the expert's
    made = make_replay(replay, collect(settings.oversight), source.num_worlds, collect(own), mesh)
    return Parts(env, algorithm, made, learnt=learnt)
