"""The ring against a plain list of steps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrl.replay.ring import Steps, ring
from jaxrl.types import ArraySpec, Transition

OBSERVED = {"state/time": ArraySpec((2,)), "image/eye": ArraySpec((1, 2, 1), "uint8")}
RING = ring(OBSERVED, {"action": ArraySpec((1,))}, {"noise": ArraySpec(())})
WRITE = jax.jit(RING.write)
GAMMA = 0.5


class Step(NamedTuple):
    """What the list holds: numbers that tell where it comes from."""

    now: float
    reward: float
    discount: float
    truncation: float
    later: float  # the observation after it, of the same episode


def seen(number: np.ndarray) -> dict[str, jax.Array]:
    time = jnp.asarray(number, jnp.float32)
    return {
        "state/time": jnp.stack([time, -time], -1),
        "image/eye": jnp.stack([time % 251, time % 7], -1)[..., None, :, None].astype("uint8"),
    }


class Worlds:
    """Episodes that end at random: every observation is a number that never comes again."""

    def __init__(self, worlds: int, seed: int, ending: float):
        self.random = np.random.default_rng(seed)
        self.ending = ending
        self.count = 0.0
        self.now = [self.next() for _ in range(worlds)]
        self.lists: list[list[Step]] = [[] for _ in range(worlds)]

    def next(self) -> float:
        self.count += 1.0
        return self.count

    def forget_episodes(self) -> None:
        self.now = [self.next() for _ in self.now]

    def unroll(self, length: int) -> Transition:
        rows = []
        for _ in range(length):
            row = []
            for world, now in enumerate(self.now):
                later = self.next()
                kind = self.random.choice(["go on", "terminate", "cut"], p=[1 - self.ending, self.ending / 2, self.ending / 2])
                step = Step(now, self.random.integers(100), 0.0 if kind == "terminate" else 1.0, float(kind == "cut"), later)
                self.lists[world].append(step)
                row.append(step)
                self.now[world] = later if kind == "go on" else self.next()
            rows.append(Step(*(np.array(x) for x in zip(*row, strict=True))))
        whole = Step(*(np.stack(x) for x in zip(*rows, strict=True)))
        floats = [jnp.asarray(x, jnp.float32) for x in (whole.reward, whole.discount, whole.truncation)]
        action = jnp.asarray(whole.now[..., None] / 2, jnp.float32)
        return Transition(seen(whole.now), action, *floats, seen(whole.later), {"noise": action[..., 0] + 1})


def expected(steps: list[Step], index: int, n: int) -> dict[str, Any]:
    """What follows the step within n, told from the list: while each observation is the one that the step before ended with."""
    rewards, discount, count = [], 1.0, 0
    for step in steps[index : index + n]:
        if count and step.now != steps[index + count - 1].later:
            break
        rewards.append(step.reward)
        discount *= step.discount
        count += 1
    return {"reward": rewards + [0.0] * (n - count), "steps": count, "discount": discount, "later": steps[index + count - 1].later}


@settings(max_examples=12, deadline=None)
@given(
    worlds=st.sampled_from([1, 3]),
    length=st.sampled_from([1, 4]),
    slots=st.sampled_from([10, 13]),
    unrolls=st.integers(1, 7),
    ending=st.sampled_from([0.0, 0.3, 1.0]),
    jump=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_every_stored_step_is_followed_by_what_followed_it(worlds, length, slots, unrolls, ending, jump, seed):
    source, state = Worlds(worlds, seed, ending), RING.init(slots, worlds)
    for number in range(unrolls):
        if jump and number == unrolls // 2:
            source.forget_episodes()  # without a cut, as when a simulator is replaced
        state = WRITE(state, source.unroll(length))
    is_step, used = np.asarray(state.is_step), np.asarray(state.used)
    for world in range(worlds):
        back = [(int(state.head[world]) - i) % slots for i in range(int(used[world]))]
        stored = [slot for slot in back[::-1] if is_step[slot, world]]
        assert is_step[:, world].sum() == len(stored)
        steps = source.lists[world]
        ends = sum(a.later != b.now for a, b in zip(steps, steps[1:], strict=False))
        if len(steps) + ends + 2 < slots:
            assert len(stored) == len(steps)
        steps = steps[len(steps) - len(stored) :] if stored else []
        for n in (1, 3):
            found = RING.follow(state, Steps(jnp.array(stored, jnp.int32), jnp.full(len(stored), world, jnp.int32)), n)
            for i, step in enumerate(steps):
                want = expected(steps, i, n)
                got = jax.tree.map(lambda x, i=i: np.asarray(x[i]), found)
                assert got.observation["state/time"][0] == step.now and got.action[0] == step.now / 2
                assert got.extras["noise"] == step.now / 2 + 1
                np.testing.assert_array_equal(got.observation["image/eye"], seen(np.float64(step.now))["image/eye"])
                np.testing.assert_array_equal(got.reward, want["reward"])
                assert (got.steps, got.discount) == (want["steps"], want["discount"])
                np.testing.assert_array_equal(got.next_observation["state/time"], [want["later"], -want["later"]])


def test_a_sequence_ends_where_its_episode_does():
    source, state = Worlds(1, 3, 0.3), RING.init(40, 1)
    for _ in range(5):
        state = WRITE(state, source.unroll(4))
    steps = source.lists[0]
    slots = jnp.flatnonzero(state.is_step[:, 0]).astype(jnp.int32)
    taken, mask = RING.sequence(state, Steps(slots, jnp.zeros_like(slots)), 6)
    assert len(slots) == len(steps)
    begins = RING.begins(state, Steps(slots, jnp.zeros_like(slots)), 6)
    assert (begins[:, 1:] == 0).all()
    for i in range(len(steps)):
        assert begins[i, 0] == (i == 0 or steps[i - 1].later != steps[i].now)
        count = expected(steps, i, 6)["steps"]
        np.testing.assert_array_equal(mask[i], [1.0] * count + [0.0] * (6 - count))
        for k in range(count):
            step = steps[i + k]
            assert taken.observation["state/time"][i, k, 0] == step.now and taken.next_observation["state/time"][i, k, 0] == step.later
            assert (taken.reward[i, k], taken.discount[i, k], taken.truncation[i, k]) == (step.reward, step.discount, step.truncation)


@pytest.mark.parametrize("length", [1, 4])
def test_writing_keeps_the_rows_of_other_worlds(length):
    source, state = Worlds(3, 0, 0.2), RING.init(16, 3)
    for _ in range(6):
        before, batch = state, source.unroll(length)
        state = WRITE(state, batch)
        alone = WRITE(before, batch._replace(reward=batch.reward.at[:, 1].add(5.0)))
        np.testing.assert_array_equal(state.outcome[:, [0, 2]], alone.outcome[:, [0, 2]])


def test_whether_the_oldest_step_began_an_episode_is_not_known():
    source, state = Worlds(1, 0, 0.0), RING.init(10, 1)
    for number in range(4):
        state = WRITE(state, source.unroll(4))
        oldest = (state.head - state.used + 1) % 10
        began = RING.begins(state, Steps(oldest, jnp.zeros_like(oldest)), 1)
        assert began[0, 0] == (number < 2)
