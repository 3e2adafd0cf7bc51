"""The parts of a run that learns by acting in an environment."""

import typing
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax.numpy as jnp
from jax.sharding import Mesh

from jaxrl.cli import run as runs
from jaxrl.cli.settings import HOST_ROLLOUT, ROLLOUT, Parts, Settings, check_acts_in, environment, loaded_recording, refuse
from jaxrl.config import part
from jaxrl.ops.action_range import action_range
from jaxrl.ops.specs import num_choices
from jaxrl.policies.fixed import fixed
from jaxrl.policies.uniform import uniform
from jaxrl.replay.mirrored import mirrored
from jaxrl.replay.mixture import mixture
from jaxrl.replay.recording import Recording
from jaxrl.types import Algorithm, Env, HostEnv, Policy, Source

E = TypeVar("E", Env, HostEnv)


def acting_algorithm(settings: Settings, spec: Any) -> Algorithm:
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


def acted_in(settings: Settings, kind: type[E], source: str) -> E:
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
        refuse(settings, "demonstrations", "filler")
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
    loaded = loaded_recording(settings)
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


def rollout(settings: Settings, mesh: Mesh | None) -> Parts:
    refuse(settings, "objectives", "policies", *(() if settings.demonstrations else ("data",)))
    make_source, source = part(settings.source, "source", "config.source")
    env = acted_in(settings, Env, HOST_ROLLOUT)
    algorithm = acting_algorithm(settings, env.spec)
    make_curriculum, chosen = part(settings.curriculum or {"name": "static"}, "curriculum", "config.curriculum")
    curriculum = make_curriculum(chosen, env)

    def collect(policy: Policy) -> Source:
        return make_source(source, env, curriculum, policy, mesh)

    made = _remembered(settings, env, algorithm, source.num_worlds, collect, mesh)
    return Parts(env, algorithm, _mirrored(settings, env, made) if settings.mirror else made)


def host_rollout(settings: Settings, mesh: Mesh | None) -> Parts:
    if mesh is not None:
        raise ValueError("config.devices: simulators on the host are stepped for one device; set it to 1")
    refuse(settings, "objectives", "policies", "curriculum", "mirror", *(() if settings.demonstrations else ("data",)))
    make_source, source = part(settings.source, "source", "config.source")
    env = acted_in(settings, HostEnv, ROLLOUT)
    algorithm = acting_algorithm(settings, env.spec)

    def collect(policy: Policy) -> Source:
        return make_source(source, env, policy)

    return Parts(env, algorithm, _remembered(settings, env, algorithm, source.num_worlds, collect, None))
