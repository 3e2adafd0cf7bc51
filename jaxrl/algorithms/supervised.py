"""Supervised learning: a weighted table of objectives on stored data. Imitation methods and the heads of large models are its objectives.

Observations and actions are normalised here and nowhere else, by the statistics of the data set. They are fixed: a running mean of the
actions would move the regression targets under the loss, and fixed ones travel with the checkpoint and make a resumed run exact.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl import optimizers
from jaxrl.ops import low_rank, running_statistics
from jaxrl.ops.low_rank import LowRank
from jaxrl.ops.padding import TINY, masked_mean, masked_sum
from jaxrl.ops.paths import check_patterns, flatten_names, merge, overlay, split
from jaxrl.ops.running_statistics import RunningStatistics
from jaxrl.types import Algorithm, Array, Key, Metrics, Objective, Observation, Params, Policy, PyTree, Spec, TrainState


@dataclass(frozen=True)
class Config:
    """`frozen` holds regular expressions over the paths of parameters that are not trained.

    `lora` has others over those of kernels that are frozen, and learn by factors of low rank. All that is frozen is kept as `frozen_dtype`.
    With `accumulate` above 1 the gradient of a batch is that of so many parts of it, computed one after the other.

    `ema_decay` above 0 keeps an exponential moving average of the parameters, which is what is deployed. With `named_sources` each
    objective has a batch of its own, `batch[name]`, from a mixture of sources; otherwise all share one. `policy` names the objective
    whose sampler acts; empty is the first.
    """

    optimizer: optimizers.Config = field(default_factory=optimizers.Config)
    ema_decay: float = 0.0
    frozen: tuple[str, ...] = ()
    lora: Mapping[str, LowRank] = field(default_factory=dict)
    frozen_dtype: Literal["float32", "bfloat16"] = "float32"
    accumulate: int = 1
    named_sources: bool = False
    policy: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}, but must be in [0, 1); 0 keeps no average")
        if self.accumulate < 1:
            raise ValueError(f"accumulate is {self.accumulate}, but must be at least 1, which takes a batch as a whole")


class Extra(NamedTuple):
    ema: Params  # the average of params, or () without one


class Statistics(NamedTuple):
    """Of the data, and of the objectives themselves."""

    normaliser: RunningStatistics  # of observations and of `action`, fixed
    objectives: PyTree  # what the objectives keep, such as batch statistics


class Behaviour(NamedTuple):
    """What acting needs. What is deployed is that of a run without `lora`: its sums are among `params`."""

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


def _microbatches(batch: PyTree, number: int) -> PyTree:
    """[number, B / number, ...] of arrays [B, ...]: every so-manieth row, so that each device keeps rows of its own."""

    def part(path: Any, x: Array) -> Array:
        if x.ndim < 1 or len(x) % number:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(f"accumulate is {number}, which does not divide the rows of {name} {x.shape} in a batch")
        return x.reshape(len(x) // number, number, *x.shape[1:]).swapaxes(0, 1)

    return jax.tree_util.tree_map_with_path(part, batch)


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

    def elements_of(params: Params, state: TrainState, batch: dict[str, Any], key: Key) -> tuple[dict[str, Any], PyTree, Metrics]:
        """Of each objective the elements of its loss, their mask and its metrics; what objectives keep; and metrics of shared networks."""
        everything = low_rank.merged(config.lora, state.frozen, params, apart=True)
        statistics, found, metrics = state.statistics.objectives, dict[str, Any](), Metrics()
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
            found[name] = (elements, mask, more)
        return found, statistics, metrics

    def loss(
        params: Params, state: TrainState, batch: dict[str, Any], key: Key, counts: Metrics | None = None
    ) -> tuple[Array, tuple[PyTree, Metrics]]:
        """With `counts`, what a larger batch has of each mask, the share of this part of it in the means over all of it."""
        found, statistics, metrics = elements_of(params, state, batch, key)
        total = jnp.zeros(())
        for name, (elements, mask, more) in found.items():
            mean = masked_mean(elements, mask) if counts is None else masked_sum(elements, mask) / counts[name]
            total = total + weights[name] * mean
            metrics |= {f"loss/{name}": mean} | {f"{name}/{metric}": value for metric, value in more.items()}
        return total, (statistics, {"loss": total} | metrics)

    def accumulated(state: TrainState, batch: dict[str, Any], key: Key) -> tuple[PyTree, PyTree, Metrics]:
        """`gradients` over parts of the batch. The masks come first: of parts that hold more and less, a mean of means is another one."""
        parts = _microbatches(batch, config.accumulate), jax.random.split(key, config.accumulate)

        def counted(_: None, part: tuple[Any, Key]) -> tuple[None, Metrics]:
            found = elements_of(state.params, state, *part)[0]  # of which the compiler leaves out all but the masks
            return None, {name: mask.sum() for name, (_, mask, _) in found.items()}

        counts = {name: jnp.maximum(number.sum(), TINY) for name, number in jax.lax.scan(counted, None, parts)[1].items()}

        def add(carry: tuple[PyTree, PyTree], part: tuple[Any, Key]) -> tuple[tuple[PyTree, PyTree], Metrics]:
            gradient, kept = carry
            now = state._replace(statistics=state.statistics._replace(objectives=kept))
            (_, (kept, metrics)), more = jax.value_and_grad(loss, has_aux=True)(state.params, now, *part, counts)
            return (jax.tree.map(jnp.add, gradient, more), kept), metrics

        begun = jax.tree.map(jnp.zeros_like, state.params), state.statistics.objectives
        (gradient, statistics), metrics = jax.lax.scan(add, begun, parts)
        shares = {"loss", *(f"loss/{name}" for name in objectives)}  # which add up; what else there is are means
        return gradient, statistics, {name: x.sum(0) if name in shares else x.mean(0) for name, x in metrics.items()}

    def gradients(state: TrainState, batch: dict[str, Any], key: Key) -> tuple[PyTree, PyTree, Metrics]:
        """The gradient, what objectives keep, and metrics."""
        if config.accumulate > 1:
            return accumulated(state, batch, key)
        (_, (statistics, metrics)), gradient = jax.value_and_grad(loss, has_aux=True)(state.params, state, batch, key)
        return gradient, statistics, metrics

    def init(key: Key, pretrained: Params | None = None) -> TrainState:
        params: Params = {}
        kept: PyTree = {}
        for (name, objective), own_key in zip(objectives.items(), jax.random.split(key, len(objectives)), strict=True):
            own_params, own_statistics = objective.init(own_key)
            params, kept = _union(name, params, own_params), _union(name, kept, own_statistics)
        check_patterns(config.frozen, params, "frozen")
        given, beside = flatten_names(pretrained or {}), flatten_names(kept)
        kept = overlay(kept, {path: leaf for path, leaf in given.items() if path in beside})
        laid = overlay(params, {path: leaf for path, leaf in given.items() if path not in beside})
        params = jax.tree.map(lambda own, other: jnp.asarray(other, own.dtype), params, laid)  # what was kept as bfloat16 may be trained
        bases = low_rank.chosen(config.lora, params, config.frozen)
        based, params = split([f"^{re.escape(path)}$" for path in bases], params)
        frozen, params = split(config.frozen, params)
        params = merge(params, low_rank.factors(config.lora, key, based))
        frozen = jax.tree.map(lambda x: x.astype(config.frozen_dtype) if x.dtype == jnp.float32 else x, merge(frozen, based))
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            frozen=frozen,
            statistics=Statistics(jax.tree.map(jnp.asarray, normaliser), kept),
            opt_state=tx.init(params),
            extra=Extra(jax.tree.map(jnp.copy, params) if config.ema_decay else ()),  # a copy: both buffers may be donated
        )

    def update(state: TrainState, batch: PyTree, key: Key) -> tuple[TrainState, Metrics, PyTree]:
        gradient, statistics, metrics = gradients(state, batch, key)
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
        learnt = state.extra.ema if config.ema_decay else state.params
        if config.lora:
            frozen, learnt = split(config.frozen, low_rank.merged(config.lora, state.frozen, learnt))
            return Behaviour(learnt, frozen, state.statistics)
        return Behaviour(learnt, state.frozen, state.statistics)

    def act(params: Behaviour, observation: Observation, carry: PyTree, key: Key, context: Any = None) -> tuple[Array, PyTree, dict]:
        stored = params.statistics.normaliser
        observation = running_statistics.normalise(stored, observation)
        if context is not None:  # the chunk in flight, in the units of the data too
            context = context | {"prefix": running_statistics.normalise(stored, {"action": context["prefix"]}, clip=None)["action"]}
        everything = low_rank.merged(config.lora, params.frozen, params.params, apart=True)
        sampled = sample(everything, params.statistics.objectives, observation, key, context)
        chunk, extras = sampled if spec.extras else (sampled, {})
        return running_statistics.denormalise(stored, {"action": chunk})["action"], carry, extras

    policy = Policy(spec, lambda batch_size: (), act)
    return Algorithm(init, update, policy, policy, behaviour, deployable, _batch_spec(objectives, config.named_sources))
