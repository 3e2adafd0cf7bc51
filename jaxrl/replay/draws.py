"""Which of the stored steps are drawn: all alike, or by priority."""

import math

import jax
import jax.numpy as jnp

from jaxrl.replay.ring import Ring, Steps
from jaxrl.types import Array, Key

_FAN = 16  # entries that are summed up to one of the next level


def _own(draws: Array, first: Array, count: int) -> Array:
    """The columns [updates, count, ...] from `first` on."""
    return jax.lax.dynamic_slice_in_dim(draws, first, count, axis=1)


def uniform(ring: Ring, key: Key, updates: int, batch: int, first: Array, share: int, most_used: Array) -> Steps:
    """Steps [updates, batch / share]: each entry is any of the steps that its share of the worlds has stored, all as likely.

    Entry j of the whole batch is drawn from its own share of all worlds, those from j B / batch to (j + 1) B / batch. So each of `share`
    devices draws from its own worlds, and a batch does not depend on their number. `first` is the device's first entry, `most_used` the
    largest number of slots in use anywhere. What hits no step is drawn again.
    """
    slots, worlds = ring.is_step.shape
    count, whole = batch // share, worlds * share
    number = first + jnp.arange(count)

    def attempt(again: Array) -> Steps:
        which, when = jax.random.split(jax.random.fold_in(key, again))
        place = (number.astype(jnp.float32)[None] + _own(jax.random.uniform(which, (updates, batch)), first, count)) * (whole / batch)
        world = jnp.clip(place.astype(jnp.int32) - (first * whole) // batch, 0, worlds - 1)
        back = _own(jax.random.randint(when, (updates, batch), 0, most_used), first, count)  # a float would miss some of ten million
        return Steps((ring.head[world] - back) % slots, world)

    def hits(at: Steps) -> Array:
        return ring.is_step[at.slot, at.world]

    def redraw(carry: tuple[Steps, Array, Array]) -> tuple[Steps, Array, Array]:
        at, found, again = carry
        other = attempt(again)
        at = jax.tree.map(lambda old, new: jnp.where(found, old, new), at, other)
        return at, found | hits(other), again + 1

    at = attempt(jnp.int32(0))
    at, _, _ = jax.lax.while_loop(lambda carry: ~carry[1].all(), redraw, (at, hits(at), jnp.int32(1)))
    return at


def _levels(priority: Array) -> list[Array]:
    """Sums of sums, from a few numbers down to `priority` [N] itself, each level [n, _FAN] of which one row sums up to one entry above."""
    levels = []
    entries = priority
    while True:
        rows = math.ceil(entries.shape[0] / _FAN)
        table = jnp.pad(entries, (0, rows * _FAN - entries.shape[0])).reshape(rows, _FAN)
        levels.append(table)
        if rows == 1:
            return levels[::-1]
        entries = table.sum(1)


def by_priority(priority: Array, draws: Array) -> tuple[Array, Array]:
    """Indices into `priority` [N], as likely as its entries are large, for `draws` [...] in [0, 1); and their probabilities [...]."""
    levels = _levels(priority)
    total = levels[0].sum()
    row, rest = jnp.zeros(draws.shape, jnp.int32), draws * total
    for table in levels:
        entries = table[row]
        before = jnp.cumsum(entries, -1) - entries
        # The last entry that begins at or before the rest, and is not empty.
        begun = (before <= rest[..., None]) & (entries > 0)
        column = _FAN - 1 - jnp.argmax(begun[..., ::-1], -1).astype(jnp.int32)
        rest = rest - jnp.take_along_axis(before, column[..., None], -1)[..., 0]
        row = row * _FAN + column
    index = jnp.minimum(row, priority.shape[0] - 1)
    return index, priority[index] / total


def prioritised(ring: Ring, priority: Array, key: Key, updates: int, batch: int, first: Array, share: int) -> tuple[Steps, Array]:
    """Steps [updates, batch / share] as likely as their `priority` [slots, worlds], 0 where there is no step, and their probabilities.

    Entry j of a device's part comes from the j-th of its equal shares of the priorities of that device's worlds.
    """
    worlds = ring.is_step.shape[1]
    count = batch // share
    draws = _own(jax.random.uniform(key, (updates, batch)), first, count)
    index, probability = by_priority(priority.reshape(-1), (jnp.arange(count, dtype=jnp.float32)[None] + draws) / count)
    return Steps(index // worlds, index % worlds), probability
