"""Supervised learning: a weighted table of objectives on stored data. Imitation methods and the heads of large models are its objectives.

Observations and actions are normalised here and nowhere else, by the statistics of the data set. They are fixed: a running mean of the
actions would move the regression targets under the loss, and fixed ones travel with the checkpoint and make a resumed run exact.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl import optimizers
from jaxrl.ops import running_statistics
from jaxrl.ops.padding import masked_mean
from jaxrl.ops.paths import check_patterns, flatten_names, merge, overlay, split
from jaxrl.ops.running_statistics import RunningStatistics
from jaxrl.types import Algorithm, Array, Key, Metrics, Objective, Observation, Params, Policy, PyTree, Spec, TrainState


@dataclass(frozen=True)
class Config:
    """`frozen` holds regular expressions over the paths of parameters that are not trained.

    `ema_decay` above 0 keeps an exponential moving average of the parameters, which is what is deployed. With `named_sources` each
    objective has a batch of its own, `batch[name]`, from a mixture of sources; otherwise all share one. `policy` names the objective
    whose sampler acts; empty is the first.
    """

    optimizer: optimizers.Config = field(default_factory=optimizers.Config)
    ema_decay: float = 0.0
    frozen: tuple[str, ...] = ()
    named_sources: bool = False
    policy: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}, but must be in [0, 1); 0 keeps no average")


class Extra(NamedTuple):
    ema: Params  # the average of params, or () without one


class Statistics(NamedTuple):
    """Of the data, and of the objectives themselves."""

    normaliser: RunningStatistics  # of observations and of `action`, fixed
    objectives: PyTree  # what the objectives keep, such as batch statistics


class Behaviour(NamedTuple):
    """What acting needs."""

    params: Params
    frozen: Params
    statistics: Statistics


def _normalise(normaliser: RunningStatistics, batch: dict[str, Any]) -> dict[str, Any]:
    """A batch in the units of the data to zero mean and unit variance; an action is a target, so it is not clipped.

    Which cameras are there is shown to networks beside what they see.
    """
    there = {f"present/{name}": flag for name, flag in batch.get("present", {}).items() if name.startswith("image/")}
    observation = running_statistics.normalise(normaliser, batch["observation"]) | there
    acted = {"action": batch["action"]} if "action" in batch else {}
    return batch | {"observation": observation} | running_statistics.normalise(normaliser, acted, clip=None)


def _union(name: str, tree: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Objectives share the parameters, or statistics, that go by the same top-level name: then they must be alike."""
    for shared in tree.keys() & more.keys():
        shapes = [{path: leaf.shape for path, leaf in flatten_names(t[shared]).items()} for t in (tree, more)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"objective {name!r} shares {shared!r} with another one, but in other shapes; make the two alike, or give each a run"
            )
    return more | tree


def _batch_spec(objectives: Mapping[str, Objective], named_sources: bool) -> Spec:
    needed: dict[str, Any] = {}
    for name, objective in objectives.items():
        for path, spec in objective.batch_spec.items():
            if named_sources:
                path = f"{name}/{path}"
            if needed.setdefault(path, spec) != spec:
                raise ValueError(
                    f"objective {name!r} needs {path} as {spec}, another one as {needed[path]}; named_sources gives each its own batch"
                )
    return needed


def supervised(
    config: Config, objectives: Mapping[str, Objective], weights: Mapping[str, float], normaliser: RunningStatistics
) -> Algorithm:
    """Minimises the weighted sum of the objectives' masked means. What a shared network makes of a batch is worked out once, unless each
    objective has a batch of its own.

    A batch is `{"observation": {name: [B, ...]}, "action": [B, horizon, A], ...}` in the units of the data; of `present`, where there is
    one, the flags of `image/<camera>` reach the networks as observations of the name `present/image/<camera>`. `normaliser` holds the
    statistics of the data set's observations and of its `action`; names without any pass through unchanged. Policies sample
    normalised chunks and return them in the units of the data. `pretrained` of `init` is a tree of parameters, and of what objectives keep
    beside them, that may lack any part.

    Raises:
        ValueError: the tables do not agree, or the objectives do not fit together.
    """
    if not objectives or objectives.keys() != weights.keys():
        raise ValueError(f"every objective needs one weight: objectives are {sorted(objectives)}, weights {sorted(weights)}")
    if odd := [name for name, weight in weights.items() if not 0 <= weight < float("inf")]:
        raise ValueError(f"weights must be finite and not negative, but that of {odd[0]} is {weights[odd[0]]}")
    acting = config.policy or next(iter(objectives))
    if acting not in objectives:
        raise ValueError(f"policy is {acting!r}, but the objectives are {', '.join(objectives)}")
    sample = objectives[acting].sample
    if sample is None:
        raise ValueError(f"policy is {acting!r}, which only teaches and has no actions; name another one")
    shared = sorted({objective.shared.name for objective in objectives.values() if objective.shared})
    tx = optimizers.optimizer(config.optimizer)
    spec = objectives[acting].spec

    def loss(params: Params, state: TrainState, batch: dict[str, Any], key: Key) -> tuple[Array, tuple[PyTree, Metrics]]:
        everything = merge(state.frozen, params)
        statistics = state.statistics.objectives
        total, metrics = jnp.zeros(()), Metrics()
        keys, conditions = jax.random.split(key, len(objectives) + len(shared)), dict[str, Any]()
        for (name, objective), own_key in zip(objectives.items(), keys[: len(objectives)], strict=True):
            part = _normalise(state.statistics.normaliser, batch[name] if config.named_sources else batch)
            known: tuple[Any, ...] = ()
            if objective.shared is not None and not config.named_sources:
                if (whose := objective.shared.name) not in conditions:
                    of_encoder = keys[len(objectives) + shared.index(whose)]
                    conditions[whose], statistics, more = objective.shared.encode(everything, statistics, part, of_encoder)
                    metrics |= {f"{whose}/{metric}": value for metric, value in more.items()}
                known = (conditions[whose],)
            elements, mask, statistics, more = objective.loss(everything, statistics, part, own_key, *known)
            mean = masked_mean(elements, mask)
            total = total + weights[name] * mean
            metrics |= {f"loss/{name}": mean} | {f"{name}/{metric}": value for metric, value in more.items()}
        return total, (statistics, {"loss": total} | metrics)

    def init(key: Key, pretrained: Params | None = None) -> TrainState:
        params: Params = {}
        kept: PyTree = {}
        for (name, objective), own_key in zip(objectives.items(), jax.random.split(key, len(objectives)), strict=True):
            own_params, own_statistics = objective.init(own_key)
            params, kept = _union(name, params, own_params), _union(name, kept, own_statistics)
        check_patterns(config.frozen, params, "frozen")
        given, beside = flatten_names(pretrained or {}), flatten_names(kept)
        kept = overlay(kept, {path: leaf for path, leaf in given.items() if path in beside})
        frozen, params = split(config.frozen, overlay(params, {path: leaf for path, leaf in given.items() if path not in beside}))
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            frozen=frozen,
            statistics=Statistics(jax.tree.map(jnp.asarray, normaliser), kept),
            opt_state=tx.init(params),
            extra=Extra(jax.tree.map(jnp.copy, params) if config.ema_decay else ()),  # a copy: both buffers may be donated
        )

    def update(state: TrainState, batch: PyTree, key: Key) -> tuple[TrainState, Metrics, PyTree]:
        (_, (statistics, metrics)), gradient = jax.value_and_grad(loss, has_aux=True)(state.params, state, batch, key)
        updates, opt_state = tx.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        step = state.step + 1
        ema = state.extra.ema
        if config.ema_decay:
            # The warm-up of Chi et al. 2023, https://arxiv.org/abs/2303.04137, forgets the random start.
            decay = jnp.minimum(config.ema_decay, 1.0 - (1.0 + step.astype(jnp.float32)) ** -0.75)
            ema = optax.incremental_update(params, ema, 1.0 - decay)
        metrics |= {"gradient_norm": optax.tree.norm(gradient)}
        statistics = state.statistics._replace(objectives=statistics)
        return TrainState(step, params, state.frozen, statistics, opt_state, Extra(ema)), metrics, ()

    def behaviour(state: TrainState) -> Behaviour:
        return Behaviour(state.params, state.frozen, state.statistics)

    def deployable(state: TrainState) -> Behaviour:
        return behaviour(state)._replace(params=state.extra.ema) if config.ema_decay else behaviour(state)

    def act(params: Behaviour, observation: Observation, carry: PyTree, key: Key, context: Any = None) -> tuple[Array, PyTree, dict]:
        stored = params.statistics.normaliser
        observation = running_statistics.normalise(stored, observation)
        if context is not None:  # the chunk in flight, in the units of the data too
            context = context | {"prefix": running_statistics.normalise(stored, {"action": context["prefix"]}, clip=None)["action"]}
        everything = merge(params.frozen, params.params)
        sampled = sample(everything, params.statistics.objectives, observation, key, context)
        chunk, extras = sampled if spec.extras else (sampled, {})
        return running_statistics.denormalise(stored, {"action": chunk})["action"], carry, extras

    policy = Policy(spec, lambda batch_size: (), act)
    return Algorithm(init, update, policy, policy, behaviour, deployable, _batch_spec(objectives, config.named_sources))
