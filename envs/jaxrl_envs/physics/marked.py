"""Fields that carry a mark of their contents, so that nobody has to compare hundreds of numbers to see that they are still the same."""

from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_envs.physics.interface import Fields

_SEEDS = np.array([0x3C6EF372, 0xBB67AE85], np.uint32)
_STRIDE = np.uint32(0x9E3779B9)


@jax.tree_util.register_pytree_with_keys_class
class Marked(Fields):
    """`Fields` with `mark`, uint32 [2]: with equal marks go equal numbers, but for one pair in 2^64. As a tree it may hold anything.

    They cannot be changed in place, and what is made of them by `|`, `copy` or a comprehension are plain fields without a mark.
    """

    def __init__(self, fields: dict[str, Any], mark: Any):
        super().__init__(fields)
        self.mark = mark

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("marked fields cannot be changed; make others: fields | {name: value}")

    __setitem__ = __delitem__ = update = pop = popitem = setdefault = clear = _refuse

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc]
        return dict(self) | other

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], tuple[str, ...]]:
        names = tuple(sorted(self))
        leaves = [(jax.tree_util.DictKey(name), self[name]) for name in names]
        return [(jax.tree_util.GetAttrKey("mark"), self.mark), *leaves], names

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], leaves: Any) -> "Marked":
        mark, *values = leaves
        return cls(dict(zip(names, values, strict=True)), mark)


def marked(fields: Fields) -> Fields:
    """The fields of one world with their mark; without any, as they are."""
    if not fields:
        return fields
    words = jnp.concatenate([jax.lax.bitcast_convert_type(jnp.asarray(fields[name]), jnp.uint32).reshape(-1) for name in sorted(fields)])
    x = words[None, :] + _SEEDS[:, None] + (jnp.arange(words.size, dtype=jnp.uint32) * _STRIDE)[None, :]
    # The finaliser of a good integer hash (Wellons 2018, "lowbias32"), so that the few bits in which numbers differ reach all others.
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return Marked(fields, (x ^ (x >> 16)).sum(1, dtype=jnp.uint32))
