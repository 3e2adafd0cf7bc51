"""Layers whose attention is that of several sets of weights, or of one (as in pi0, https://arxiv.org/abs/2410.24164).

Layers are stacked, [depth, ...], and run by one loop, so that all depths compile alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.networks.transformer.interface import Cache, Experts
from jaxrl.networks.transformer.layer import Norm, Share, Size
from jaxrl.networks.transformer.rotary import rotary
from jaxrl.ops.placement import by_rows
from jaxrl.types import Array, Key, Params

_POLICIES = {"dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable, "full": jax.checkpoint_policies.nothing_saveable}
_SHARED = ("depth", "heads", "kv_heads", "head_dim", "longest")


@dataclass(frozen=True)
class Computing:
    """How layers are computed, which changes no parameter.

    `dtype` is that of activations and of what is multiplied; softmax, norms and positions are computed in float32. The backward pass
    computes layers again instead of keeping what they hold: nothing of them ("none"), all but products with weights ("dots"), or all
    ("full"). `unroll` layers make one turn of the loop.
    """

    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    remat: Literal["none", "dots", "full"] = "none"
    unroll: int = 1

    def __post_init__(self) -> None:
        if self.unroll < 1:
            raise ValueError(f"unroll is {self.unroll}, but must be at least 1")


def _checked(sizes: Mapping[str, Size]) -> Size:
    """One of them; they agree in what a joint attention needs."""
    if not sizes:
        raise ValueError("experts takes at least one set of weights")
    first, *others = sizes.items()
    for name, size in others:
        for field in _SHARED:
            if getattr(size, field) != getattr(first[1], field):
                told = f"{getattr(first[1], field)} of {first[0]} and {getattr(size, field)} of {name}"
                raise ValueError(f"{field}: attention over all tokens needs the same number in each set, not {told}")
    return first[1]


def _check_call(
    sizes: Mapping[str, Size], tokens: Mapping[str, Any], mask: Any, places: Any, conditions: Mapping[str, Any], slots: int
) -> None:
    """Raises ValueError where a call's arrays do not fit each other; `slots` are the keys beside the tokens' own."""
    unknown = sorted(set(tokens) - set(sizes))
    if unknown or not tokens:
        raise ValueError(f"tokens are of {', '.join(unknown) or 'no set'}, but the sets of weights are {', '.join(sizes)}")
    for name, x in tokens.items():
        if x.ndim != 3 or x.shape[-1] != sizes[name].width:
            raise ValueError(f"tokens of {name} have the shape {x.shape}, but must be [B, T, {sizes[name].width}]")
        condition = conditions.get(name)
        if (condition is not None) != bool(sizes[name].condition):
            wanted = f"takes a condition of {sizes[name].condition} numbers" if sizes[name].condition else "takes no condition"
            raise ValueError(f"{name} {wanted}, but was given {'none' if condition is None else 'one'}")
        if condition is not None and (condition.ndim != 3 or condition.shape[1] not in (1, x.shape[1])):
            raise ValueError(f"the condition of {name} has the shape {condition.shape}, but must be [B, 1 or {x.shape[1]}, condition]")
    batch, length = next(iter(tokens.values())).shape[0], sum(x.shape[1] for x in tokens.values())
    if mask.shape != (batch, length, keys := slots + length):
        raise ValueError(f"mask has the shape {mask.shape}, but {length} tokens and {keys} keys need {(batch, length, keys)}")
    if places.shape != (batch, length):
        raise ValueError(f"places have the shape {places.shape}, but {length} tokens need {(batch, length)}")


def _mixed(queries: Any, read: tuple[Any, Any], mask: Any) -> Any:
    keys, values = read
    return jax.nn.dot_product_attention(queries, keys, values, mask=mask[:, None])  # whose softmax is of float32


class _Sets(NamedTuple):
    """Sets of weights by name, in the order of their tokens."""

    sizes: Mapping[str, Size]
    shares: Mapping[str, Share]
    norms: Mapping[str, Norm]
    insulated: tuple[str, ...]
    dtype: Any

    def init(self, name: str, key: Key) -> Params:
        """Of one of them."""
        size = self.sizes[name]
        x, condition = jnp.zeros((1, 1, size.width), self.dtype), jnp.zeros((1, 1, size.condition)) if size.condition else None
        *of_layers, of_norm = jax.random.split(key, size.depth + 1)
        layers = jax.vmap(lambda key: self.shares[name].init(key, x, condition)["params"])(jnp.stack(of_layers))
        return {"layers": dict(layers), "norm": dict(self.norms[name].init(of_norm, x, condition)["params"])}

    def layer(self, xs: Any, weights: Any, conditions: Any, mask: Any, places: Any, remember: Any) -> Any:
        """One of all that there are; `remember` takes keys and values of these tokens, and gives all that they see."""

        def part(name: str, method: str, *arguments: Any) -> Any:
            return self.shares[name].apply({"params": weights[name]}, *arguments, conditions.get(name), method=method)

        names = [name for name in self.sizes if name in xs]  # a dict that went through jit is sorted
        made = {name: part(name, "before", xs[name]) for name in names}
        ends = np.cumsum([xs[name].shape[1] for name in names])[:-1]
        query, key, value = (jnp.concatenate([made[name][i] for name in names], 1) for i in range(3))
        query, key = (rotary(x, places, self.sizes[names[0]].longest) for x in (query, key))
        if self.insulated:
            rows = zip(names, jnp.split(query, ends, 1), jnp.split(mask, ends, 1), strict=True)
            mixed = [_mixed(y, remember(*self._read_by(name, names, ends, key, value)), seen) for name, y, seen in rows]
        else:
            mixed = jnp.split(_mixed(query, remember(key, value), mask), ends, 1)
        return {name: part(name, "after", xs[name], y, made[name][3]) for name, y in zip(names, mixed, strict=True)}

    def _read_by(self, name: str, names: Sequence[str], ends: Any, *arrays: Any) -> list[Any]:
        """The arrays [B, T, ...] as the tokens of one set see them: without a gradient where they are an insulated one's."""
        shut = [other in self.insulated and other != name for other in names]
        stopped = lambda x: [jax.lax.stop_gradient(y) if no else y for y, no in zip(jnp.split(x, ends, 1), shut, strict=True)]  # noqa: E731
        return [jnp.concatenate(stopped(x), 1) for x in arrays]

    def ended(self, params: Params, xs: Mapping[str, Array], conditions: Mapping[str, Array]) -> dict[str, Array]:
        """Behind the last norm."""
        return {name: self.norms[name].apply({"params": params[name]["norm"]}, x, conditions.get(name))[0] for name, x in xs.items()}


def experts(sizes: Mapping[str, Size], computing: Computing, insulated: Sequence[str] = ()) -> Experts:
    """Sets of weights of these sizes, whose widths and MLPs may differ; the order is that of their tokens.

    Those `insulated` are seen by the tokens of others, but learn nothing by it: no gradient goes through what others read of them
    (knowledge insulation, Driess et al. 2025, https://arxiv.org/abs/2505.23705).

    Raises:
        ValueError: they differ in what attention over the tokens of all of them needs, or there is no set of an insulated name.
    """
    if unknown := sorted(set(insulated) - set(sizes)):
        raise ValueError(f"insulated: there is no set {unknown[0]!r}; there are {', '.join(sizes)}")
    shared, dtype = _checked(sizes), jnp.dtype(computing.dtype)
    shares = {name: Share(size, dtype) for name, size in sizes.items()}
    sets = _Sets(dict(sizes), shares, {name: Norm(size) for name, size in sizes.items()}, tuple(insulated), dtype)

    def init(key: Key) -> Params:
        return {name: sets.init(name, key) for name, key in zip(sizes, jax.random.split(key, len(sizes)), strict=True)}

    def stacked(params: Params, tokens: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Params]]:
        """Tokens in the type that is computed in, and the layers that they go through."""
        return {name: x.astype(dtype) for name, x in tokens.items()}, {name: params[name]["layers"] for name in tokens}

    def through(
        params: Params,
        tokens: Mapping[str, Array],
        mask: Array,
        places: Array,
        conditions: Mapping[str, Array] | None,
        cache: Cache | None,
        keep: bool,
    ) -> tuple[dict[str, Array], Cache | None]:
        """Tokens behind the last norm, and where they are to be kept, their own keys and values."""
        given = dict(conditions or {})
        _check_call(sizes, tokens, mask, places, given, 0 if cache is None else cache.keys.shape[2])
        xs, weights = stacked(params, tokens)

        def layer(xs: Any, stored: Any) -> tuple[Any, Cache | None]:
            (weights, read), kept = stored, None
            xs = by_rows(xs)

            def remember(*own: Any) -> Any:
                nonlocal kept
                kept = Cache(*own) if keep else None
                return own if read is None else tuple(jnp.concatenate(pair, 1) for pair in zip(read, own, strict=True))

            return sets.layer(xs, weights, given, mask, places, remember), kept

        if computing.remat != "none":
            layer = jax.checkpoint(layer, prevent_cse=False, policy=_POLICIES[computing.remat])
        xs, kept = jax.lax.scan(layer, xs, (weights, cache), unroll=computing.unroll)
        return sets.ended(params, xs, given), kept

    def apply(
        params: Params,
        tokens: Mapping[str, Array],
        mask: Array,
        places: Array,
        conditions: Mapping[str, Array] | None = None,
        cache: Cache | None = None,
    ) -> dict[str, Array]:
        return through(params, tokens, mask, places, conditions, cache, keep=False)[0]

    def read(
        params: Params, tokens: Mapping[str, Array], mask: Array, places: Array, conditions: Mapping[str, Array] | None = None
    ) -> tuple[dict[str, Array], Cache]:
        found, kept = through(params, tokens, mask, places, conditions, None, keep=True)
        assert kept is not None
        return found, kept

    def blank(batch: int, slots: int) -> Cache:
        shape = (shared.depth, batch, slots, shared.kv_heads, shared.head_dim)
        return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    def extend(
        params: Params,
        tokens: Mapping[str, Array],
        mask: Array,
        places: Array,
        cache: Cache,
        place: Array | int,
        conditions: Mapping[str, Array] | None = None,
    ) -> tuple[dict[str, Array], Cache]:
        given, length = dict(conditions or {}), sum(x.shape[1] for x in tokens.values())
        slots = cache.keys.shape[2]
        if isinstance(place, int) and not 0 <= place <= slots - length:
            raise ValueError(f"{length} tokens at place {place} do not fit into the {slots} slots of the cache")
        _check_call(sizes, tokens, mask, places, given, slots - length)
        xs, weights = stacked(params, tokens)

        # The cache goes from layer to layer whole, so that the loop writes into it where it is.
        def layer(carry: Any, stored: Any) -> tuple[Any, None]:
            (xs, cache), (weights, number) = carry, stored
            kept = cache

            def remember(*own: Any) -> Any:
                nonlocal kept
                at = (number, 0, jnp.asarray(place, jnp.int32), 0, 0)
                kept = Cache(*(jax.lax.dynamic_update_slice(old, new[None], at) for old, new in zip(cache, own, strict=True)))
                return tuple(jax.lax.dynamic_index_in_dim(x, number, 0, False) for x in kept)

            xs = sets.layer(xs, weights, given, mask, places, remember)
            return (xs, kept), None

        numbers = jnp.arange(shared.depth, dtype=jnp.int32)
        (xs, cache), _ = jax.lax.scan(layer, (xs, cache), (weights, numbers), unroll=computing.unroll)
        return sets.ended(params, xs, given), cache

    return Experts(init, apply, read, blank, extend)
