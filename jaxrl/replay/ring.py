"""The steps of many worlds on the device, each observation stored once, so that n-step returns and sequences are gathers.

Rows are addressed by (slot, world). A row is a step, or holds an observation alone: the true last one of an episode, or the newest of the
world, at its head, which the next step fills. So what follows the step in slot i is always the observation in slot i + 1, and the steps of
an episode are a chain that ends where a row is no step. No slot is ever read across the head. Worlds have heads of their own, for each end
of an episode takes a slot.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.ops.packing import Rows, packing
from jaxrl.types import Array, Observation, Spec, Transition


class Ring(NamedTuple):
    """C slots of B worlds."""

    observation: Rows  # [C, B, width]
    taken: Rows  # [C, B, width], the action and the policy's extras
    outcome: Array  # [C, B, 2], reward and discount
    is_step: Array  # [C, B] bool
    head: Array  # [B] int32, the slot that the next step fills
    used: Array  # [B] int32, slots that hold something, the head among them


class Steps(NamedTuple):
    """Where steps are, [...] each."""

    slot: Array
    world: Array


class Followed(NamedTuple):
    """Steps [...] with what followed within n."""

    observation: Observation
    action: Array
    reward: Array  # [..., n], 0 after the last step
    steps: Array  # int32
    discount: Array
    next_observation: Observation
    extras: dict[str, Array]


class RingOf(NamedTuple):
    """The functions of a ring."""

    init: Callable[[int, int], Ring]  # (slots C, worlds B) -> empty
    write: Callable[[Ring, Transition], Ring]  # an unroll [T, B], for which there must be 2 T + 2 slots
    follow: Callable[[Ring, Steps, int], Followed]  # (ring, steps, n)
    sequence: Callable[[Ring, Steps, int], tuple[Transition, Array]]  # (ring, first steps [...], length) -> [..., length], mask
    begins: Callable[[Ring, Steps, int], Array]  # (ring, first steps [...], length) -> [..., length] 1 where a sequence begins its episode


def ring(observation: Spec, action: Spec, extras: Spec) -> RingOf:
    """For transitions whose arrays are those of the specs; `action` has the one name "action"."""
    seen = packing(observation)
    taken = packing({**action, **{f"extras/{name}": part for name, part in extras.items()}})

    def init(slots: int, worlds: int) -> Ring:
        def empty(widths: dict[str, int]) -> Rows:
            return {dtype: jnp.zeros((slots, worlds, width), dtype) for dtype, width in widths.items()}

        zeros = jnp.zeros(worlds, jnp.int32)
        used = jnp.ones(worlds, jnp.int32)
        nothing = jnp.zeros((slots, worlds), bool)
        return Ring(empty(seen.widths), empty(taken.widths), jnp.zeros((slots, worlds, 2)), nothing, zeros, used)

    def _continues(state: Ring, first: Rows) -> Array:
        """[B] whether an unroll begins with the newest observation that is stored.

        If not, as after a resume of worlds on the host, that one stays what followed the step before it.
        """
        world = jnp.arange(state.head.shape[0])
        same = [(state.observation[dtype][state.head, world] == row).all(-1) for dtype, row in first.items()]
        return jnp.stack(same).all(0)

    def write(state: Ring, batch: Transition) -> Ring:
        slots, worlds = state.is_step.shape
        length = batch.reward.shape[0]
        now, later = seen.pack(batch.observation), seen.pack(batch.next_observation)
        behind = (state.head - 1) % slots
        world = jnp.arange(worlds)
        cut = state.is_step[behind, world] & ~_continues(state, {dtype: rows[0] for dtype, rows in now.items()})
        head = state.head + cut
        ended = ((batch.discount == 0) | (batch.truncation > 0)).astype(jnp.int32)
        place = head[None] + jnp.arange(length, dtype=jnp.int32)[:, None] + jnp.cumsum(ended, 0) - ended  # [T, B]
        # The row behind a step gets an observation of its own where no step of this unroll follows.
        alone = (ended > 0).at[-1].set(True)
        rows = jnp.concatenate([place % slots, jnp.where(alone, (place + 1) % slots, slots)])
        new_head = head + length + ended.sum(0)
        every = jnp.broadcast_to(world[None], rows.shape)
        step_rows, step_worlds = rows[:length], every[:length]

        def store(old: Array, steps: Array, others: Array) -> Array:
            return old.at[rows, every].set(jnp.concatenate([steps, others]), mode="drop", unique_indices=True)

        packed = taken.pack({"action": batch.action} | {f"extras/{name}": x for name, x in batch.extras.items()})
        outcome = jnp.stack([batch.reward, batch.discount], -1)
        steps = jnp.ones((length, worlds), bool)
        is_step = store(state.is_step, steps, ~steps).at[new_head % slots, world].set(False)
        return Ring(
            observation={dtype: store(old, now[dtype], later[dtype]) for dtype, old in state.observation.items()},
            taken={dtype: old.at[step_rows, step_worlds].set(packed[dtype], unique_indices=True) for dtype, old in state.taken.items()},
            outcome=state.outcome.at[step_rows, step_worlds].set(outcome, unique_indices=True),
            is_step=is_step,
            head=new_head % slots,
            used=jnp.minimum(state.used + (new_head - state.head), slots),
        )

    def _taken(state: Ring, at: Steps) -> tuple[Array, dict[str, Array]]:
        parts = taken.unpack({dtype: rows[at.slot, at.world] for dtype, rows in state.taken.items()})
        return parts["action"], {name: parts[f"extras/{name}"] for name in extras}

    def _seen(state: Ring, at: Steps) -> Observation:
        return seen.unpack({dtype: rows[at.slot, at.world] for dtype, rows in state.observation.items()})

    def _chain(state: Ring, at: Steps, length: int) -> tuple[Steps, Array]:
        """The rows [..., length] from each step on, and which of them belong to its chain."""
        onwards = jnp.arange(length, dtype=jnp.int32).reshape(*(1,) * at.slot.ndim, length)
        slots = (at.slot[..., None] + onwards) % state.is_step.shape[0]
        rows = Steps(slots, jnp.broadcast_to(at.world[..., None], slots.shape))
        return rows, jnp.cumprod(state.is_step[rows].astype(jnp.int32), -1)

    def follow(state: Ring, at: Steps, n: int) -> Followed:
        rows, within = _chain(state, at, n)
        outcome = state.outcome[rows] * within[..., None].astype(jnp.float32)
        steps = within.sum(-1)
        after = Steps((at.slot + steps) % state.is_step.shape[0], at.world)
        discount = jnp.where(within > 0, outcome[..., 1], 1.0).prod(-1)
        action, more = _taken(state, at)
        return Followed(_seen(state, at), action, outcome[..., 0], steps, discount, _seen(state, after), more)

    def sequence(state: Ring, at: Steps, length: int) -> tuple[Transition, Array]:
        rows, within = _chain(state, at, length)
        mask = within.astype(jnp.float32)
        outcome = state.outcome[rows] * mask[..., None]
        after = Steps((rows.slot + 1) % state.is_step.shape[0], rows.world)
        discount = jnp.where(within > 0, outcome[..., 1], 1.0)
        # A step that is followed by no step, and is not the newest, was the last of its episode.
        newest = after.slot == state.head[rows.world]
        cut = mask * (~state.is_step[after] & ~newest & (discount > 0)).astype(jnp.float32)
        action, more = _taken(state, rows)
        return Transition(_seen(state, rows), action, outcome[..., 0], discount, cut, _seen(state, after), more), mask

    def begins(state: Ring, at: Steps, length: int) -> Array:
        # The oldest row of a full ring follows the head, which is no step: whether an episode began there is not known any more.
        slots = state.is_step.shape[0]
        behind = (at.slot - 1) % slots
        unknown = (behind == state.head[at.world]) & (state.used[at.world] == slots)
        first = ~state.is_step[behind, at.world] & ~unknown
        return jax.nn.one_hot(jnp.zeros(first.shape, jnp.int32), length) * first[..., None]

    return RingOf(init, write, follow, sequence, begins)
