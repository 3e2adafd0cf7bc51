"""The parts of a run that learns from what others did."""

import sys
from collections.abc import Callable
from typing import Any

from jax.sharding import Mesh

from jaxrl.cli.settings import Parts, Settings, check_acts_in, environment, loaded_recording, objectives_of, refuse
from jaxrl.config import part
from jaxrl.ops.running_statistics import RunningStatistics
from jaxrl.replay import recording
from jaxrl.types import Algorithm, PolicySpec


def _output_shape(make_objective: Callable[..., Any], config: Any, spec: PolicySpec) -> tuple[Any, ...]:
    """Of what a network puts out for each row: a chunk, unless the objective's module has an `output_shape` that says else."""
    own = getattr(sys.modules[make_objective.__module__], "output_shape", None)
    return own(config, spec) if own else (spec.horizon, *spec.action.shape)


def supervised(settings: Settings, spec: PolicySpec, normaliser: RunningStatistics) -> Algorithm:
    """A weighted table of objectives, each with a network of its own."""
    make, config = part(settings.algorithm, "algorithm", "config.algorithm")
    objectives: dict[str, Any] = {}
    weights: dict[str, float] = {}
    for name, (own, of_network, weights[name]) in objectives_of(settings).items():
        where = f"config.objectives.{name}"
        make_network, network = part(of_network, "network", f"{where}.network")
        make_objective, objective = part(own, "objective", where)
        objectives[name] = make_objective(
            objective, spec, make_network(network, spec.observation, _output_shape(make_objective, objective, spec))
        )
    return make(config, objectives, weights, normaliser)


def with_policies(settings: Settings, algorithm: Algorithm) -> Algorithm:
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


def memory(settings: Settings, mesh: Mesh | None) -> Parts:
    refuse(settings, "networks", "bonus", "curriculum", "replay", "filler", "demonstrations", "mirror")
    make_source, source = part(settings.source, "source", "config.source")
    loaded = recording.public(loaded_recording(settings))
    env = environment(settings)
    if env is not None:
        check_acts_in(env, loaded.spec, f"the recording {settings.data.path if settings.data else None}")
    learnt = loaded.spec._replace(horizon=source.horizon)
    algorithm = with_policies(settings, supervised(settings, learnt, recording.statistics(loaded, source.scale)))
    return Parts(env, algorithm, make_source(source, loaded, mesh), learnt=learnt)


def dataset(settings: Settings, mesh: Mesh | None) -> Parts:
    """Data sets, prepared or as they lie, of which the source itself tells what a policy has to know."""
    refuse(settings, "networks", "bonus", "curriculum", "replay", "filler", "demonstrations", "mirror", "data")
    make_source, config = part(settings.source, "source", "config.source")
    loaded = make_source(config, mesh)
    env = environment(settings)
    algorithm = with_policies(settings, supervised(settings, loaded.spec, loaded.normaliser))
    if env is not None:
        check_acts_in(env, algorithm.policy.spec, "a policy of these data sets")
    return Parts(env, algorithm, loaded.source, loaded, loaded.spec)
