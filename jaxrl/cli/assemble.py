"""From a config to the parts of a run. Every section is checked before anything is compiled."""

import dataclasses
from collections.abc import Callable

from jax.sharding import Mesh

from jaxrl.cli.acting import acting_algorithm, host_rollout, rollout
from jaxrl.cli.imitation import dataset, memory, overseen_rollout, supervised, with_policies
from jaxrl.cli.settings import HOST_ROLLOUT, ROLLOUT, Parts, Settings
from jaxrl.ops import running_statistics
from jaxrl.types import Algorithm, ArraySpec, Env, HostEnv, PolicySpec

# What each source is fed with decides how the rest is put together.
SOURCES: dict[str, Callable[[Settings, Mesh | None], Parts]] = {
    ROLLOUT: lambda settings, mesh: (overseen_rollout if settings.objectives else rollout)(settings, mesh),
    HOST_ROLLOUT: host_rollout,
    "jaxrl.replay.memory": memory,
    "jaxrl_data.dataset_source": dataset,
    "jaxrl_data.stream_source": dataset,
}
ON_DATA = tuple(name for name, made in SOURCES.items() if made in (memory, dataset))


def assemble(settings: Settings, mesh: Mesh | None = None) -> Parts:
    """All parts of a training run.

    Raises:
        ValueError: a section is missing, or holds an unknown key, a wrong type or numbers that do not fit.
    """
    if settings.pretrained and not settings.objectives:
        raise ValueError("config.pretrained: is for what learns from data, and has no effect on what learns by acting; leave it out")
    name = settings.source.get("name")
    if name not in SOURCES:
        raise ValueError(f"config.source.name: expected one of {', '.join(SOURCES)}, got {name!r}")
    return SOURCES[name](settings, mesh)


def deployed(settings: Settings) -> Settings:
    """Of the algorithm that a run is evaluated with, and that acts with what the run deploys: without `lora`, whose sums that has."""
    return dataclasses.replace(settings, algorithm={name: value for name, value in settings.algorithm.items() if name != "lora"})


def for_evaluation(settings: Settings, spec: PolicySpec, env: Env | HostEnv | None) -> Algorithm:
    """The algorithm of a checkpoint, without its data: what they taught is in the checkpoint.

    Raises:
        ValueError: it learns by acting, and has no environment.
    """
    if not settings.objectives:
        if env is None:
            raise ValueError("config.objectives: missing; what learns from data needs one, such as jaxrl.objectives.bc")
        return acting_algorithm(settings, env.spec)
    shapes = dict(spec.observation) | {"action": ArraySpec(spec.action.shape, spec.action.dtype)}
    return with_policies(settings, supervised(settings, spec, running_statistics.init(shapes)))
