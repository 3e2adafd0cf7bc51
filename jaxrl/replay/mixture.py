"""Batches that come from several sources at once: what a policy does, beside what somebody has shown."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.ops.specs import check_spec
from jaxrl.types import ArraySpec, Key, Metrics, Params, PyTree, Source, Spec


def _joined_spec(sources: Mapping[str, Source]) -> tuple[dict[str, ArraySpec], list[int]]:
    """That of all batches one behind the other, and how many entries of a batch each source makes."""
    (first, like), *others = sources.items()
    for name, source in others:
        without_batch = [{n: replace(s, shape=(s.shape[0], *s.shape[2:])) for n, s in x.spec.items()} for x in (like, source)]
        check_spec(without_batch[0], without_batch[1], needs=f"the source {first}", offers=f"the source {name}")
        if unknown := sorted(source.spec.keys() - like.spec.keys()):
            raise ValueError(f"the source {name} makes {', '.join(unknown)}, which the source {first} does not")
    sizes = [next(iter(source.spec.values())).shape[1] for source in sources.values()]
    numbers = [size for size in sizes if isinstance(size, int)]
    if len(numbers) < len(sizes):
        raise ValueError(f"the sources {', '.join(sources)} cannot be joined: their specs do not say how large their batches are")
    whole = sum(numbers)
    return {n: replace(s, shape=(s.shape[0], whole, *s.shape[2:])) for n, s in like.spec.items()}, numbers


def mixture(sources: Mapping[str, Source], named: bool = False) -> Source:
    """All of `sources` at once: batches `{name: batch}`, or without names one behind the other as one batch `[updates, sum of all]`.

    Joined batches are `Replayed` alike, so the shares are those of the batch sizes: two equal ones are RLPD's symmetric sampling (Ball et
    al. 2023, https://arxiv.org/abs/2302.02948, section 4.1). Feedback goes to all; priorities of a joined batch go to whom they belong.

    Raises:
        ValueError: batches that are to be joined differ in more than their size; the message names what.
    """
    spec: Spec
    sizes: list[int] = []
    if named:
        spec = {f"{name}/{part}": s for name, source in sources.items() for part, s in source.spec.items()}
    else:
        spec, sizes = _joined_spec(sources)

    def init(key: Key, behaviour: Params) -> dict[str, PyTree]:
        keys = jax.random.split(key, len(sources))
        return {name: source.init(k, behaviour) for (name, source), k in zip(sources.items(), keys, strict=True)}

    def empty(key: Key, behaviour: Params) -> dict[str, PyTree]:
        return {name: (source.empty or source.init)(key, behaviour) for name, source in sources.items()}

    def advance(state: dict[str, PyTree], behaviour: Params, key: Key) -> tuple[dict[str, PyTree], PyTree]:
        keys = jax.random.split(key, len(sources))
        later: dict[str, PyTree] = {}
        batches: dict[str, PyTree] = {}
        for (name, source), k in zip(sources.items(), keys, strict=True):
            later[name], batches[name] = source.next(state[name], behaviour, k)
        if named:
            return later, batches
        return later, jax.tree.map(lambda *parts: jnp.concatenate(parts, 1), *batches.values())

    def observe(state: dict[str, PyTree], feedback: Any) -> dict[str, PyTree]:
        later, first = {}, 0
        for number, (name, source) in enumerate(sources.items()):
            own = feedback
            if not named and "priority" in feedback:
                own = feedback | {"priority": feedback["priority"][:, first : first + sizes[number]]}
                first += sizes[number]
            later[name] = source.observe(state[name], own.get(name, own) if named and isinstance(own, dict) else own)
        return later

    def metrics(state: dict[str, PyTree]) -> Metrics:
        found: Metrics = {}
        for name, source in sources.items():
            found |= source.metrics(state[name])
        return found

    def close() -> None:
        for source in sources.values():
            source.close()

    allocation: dict[str, int] = {}
    for source in sources.values():
        allocation |= source.allocation
    return Source(
        spec=spec,
        init=init,
        next=advance,
        observe=observe,
        pure=all(source.pure for source in sources.values()),
        steps_per_batch=sum(source.steps_per_batch for source in sources.values()),
        initial_steps=sum(source.initial_steps for source in sources.values()),
        allocation=allocation,
        metrics=metrics,
        close=close,
        empty=empty,
    )
