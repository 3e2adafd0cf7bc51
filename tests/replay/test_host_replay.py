"""A memory whose images stay on the host: the same steps as one on the device, and what goes when room runs out."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.curricula.static import fixed
from jaxrl.ops.specs import policy_spec, transition_spec
from jaxrl.policies.uniform import uniform
from jaxrl.replay.host_replay import Config, host_replay
from jaxrl.replay.replay import Config as DeviceConfig
from jaxrl.replay.replay import replay
from jaxrl.rollout.rollout import Config as Rollout
from jaxrl.rollout.rollout import rollout
from jaxrl.training.checkpoint import open_checkpoints
from jaxrl.types import ArraySpec, EnvSpec, Source, Transition
from tests.probes import PROBES, probe_env, with_pictures

WORLDS, UNROLL, SIDE = 3, 2, 16
SIZES = {"capacity": 60, "batch_size": 6, "num_updates": 2, "n_step": 2, "initial_steps": 12}
SPEC = EnvSpec("noise", {"image/a": ArraySpec((SIDE, SIDE, 1), "uint8"), "state/id": ArraySpec((1,))}, ArraySpec((1,)), 9, 0.1)


def seeing():
    env = with_pictures(probe_env(PROBES["truncation"].numbers))
    return rollout(Rollout(WORLDS, UNROLL, 8), env, fixed(env.sample), uniform(policy_spec(env.spec)))


def picture(number):
    """[..., SIDE, SIDE, 1] that nothing compresses, another one for each number [...]."""
    flat = [np.random.default_rng(int(n)).integers(0, 256, (SIDE, SIDE, 1), np.uint8) for n in np.ravel(number)]
    return np.stack(flat).reshape(*np.shape(number), SIDE, SIDE, 1)


def noisy(end_chance):
    """A source on the host: observation k of a world is number k * WORLDS + world, and the reward of a step that of what follows."""

    def init(key, behaviour):
        del key, behaviour
        return {"now": jnp.arange(WORLDS)}

    def advance(state, behaviour, key):
        random = np.random.default_rng(int(jax.random.randint(key, (), 0, 2**30)))
        now, rows = np.asarray(state["now"]), []
        for _ in range(UNROLL):
            later, ended = now + WORLDS, random.random(WORLDS) < end_chance
            rows.append((now, later, ended * random.integers(0, 2, WORLDS), ended))
            now = np.where(ended, later + WORLDS, later)
        before, after, died, ended = (np.stack(part) for part in zip(*rows, strict=True))
        shown = [{"image/a": picture(n), "state/id": n[..., None].astype(np.float32)} for n in (before, after)]
        batch = Transition(shown[0], np.zeros((UNROLL, WORLDS, 1), np.float32), after, 1 - died, ended * (1 - died), shown[1], {})
        batch = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32 if x.dtype != np.uint8 else None), batch)
        return {"now": jnp.asarray(now)}, batch

    return Source(transition_spec(SPEC, {}), init, advance, pure=False, steps_per_batch=UNROLL * WORLDS)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("priorities", [{}, {"priority_exponent": 0.5}])
def test_batches_are_those_of_a_memory_on_the_device(priorities):
    ours = host_replay(Config(**SIZES, **priorities, image_gib=0.01), seeing(), WORLDS, seeing())
    theirs = replay(DeviceConfig(**SIZES, **priorities), seeing(), WORLDS, seeing())
    assert ours.spec == theirs.spec and ours.initial_steps == theirs.initial_steps
    step = jax.jit(theirs.next)
    state, other = ours.init(jax.random.key(0), ()), theirs.init(jax.random.key(0), ())
    for i in range(30):
        key = jax.random.key(i)
        (state, batch), (other, expected) = ours.next(state, (), key), step(other, (), key)
        assert_equal(batch, expected)
        told = {"priority": jax.random.uniform(key, (2, 6))}
        state, other = ours.observe(state, told), theirs.observe(other, told)
    assert ours.metrics(state)["replay/steps"] == theirs.metrics(other)["replay/steps"]
    ours.close()


@pytest.mark.parametrize("end_chance", [0.0, 0.3])
def test_what_is_oldest_goes_when_there_is_no_more_room(end_chance):
    """Every image drawn is the one that was seen, in memory for 60 steps and images of some 40."""
    room = 40 * (SIDE * SIDE + 64) / 2**30
    source = host_replay(Config(**SIZES, image_gib=max(room, 4 * 12 * 330 / 2**30), compression=0), noisy(end_chance), WORLDS)
    state, drawn = source.init(jax.random.key(0), ()), []
    for i in range(60):
        state, batch = source.next(state, (), jax.random.key(i))
        for seen in (batch.observation, batch.next_observation):
            np.testing.assert_array_equal(seen["image/a"], picture(seen["state/id"][..., 0]))
        ids = batch.observation["state/id"][..., 0]
        np.testing.assert_array_equal(batch.next_observation["state/id"][..., 0], ids + batch.steps * WORLDS)
        np.testing.assert_array_equal(batch.reward[..., 0], ids + WORLDS)
        drawn.append(np.asarray(state.replay.collector["now"]).max() - np.asarray(ids))
        kept = int(source.metrics(state)["replay/steps"])
        assert 2 * UNROLL * WORLDS <= kept < 60
    assert kept >= 18 and np.max(drawn[-20:]) < 60 * WORLDS
    assert 0.5 < source.metrics(state)["replay/compression"] < 1.0
    source.close()


def test_first_steps_that_find_no_room_are_none():
    """So many of them that the oldest images go before anything is drawn."""
    source = host_replay(Config(**SIZES | {"capacity": 600, "initial_steps": 300}, image_gib=4 * 12 * 330 / 2**30), noisy(0.0), WORLDS)
    state = source.init(jax.random.key(0), ())
    assert 12 < source.metrics(state)["replay/steps"] < 100
    for i in range(5):
        state, batch = source.next(state, (), jax.random.key(i))
        np.testing.assert_array_equal(batch.observation["image/a"], picture(batch.observation["state/id"][..., 0]))
    source.close()
    again, _ = source.next(source.init(jax.random.key(0), ()), (), jax.random.key(0))  # a source may be used once more
    assert again.frames.end > 0 and source.empty(jax.random.key(0), ()).frames.end == 0


def test_a_restored_memory_goes_on_bit_by_bit(tmp_path):
    def made():
        return host_replay(Config(**SIZES, image_gib=1e-4), noisy(0.2), WORLDS)

    first, second = made(), made()
    state = first.init(jax.random.key(0), ())
    for i in range(25):
        state, _ = first.next(state, (), jax.random.key(i))
    with contextlib.closing(open_checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(1, {"source_state": state}, {})
        expected = [None] * 3
        for i in range(3):  # while it is written
            state, expected[i] = first.next(state, (), jax.random.key(100 + i))
        parts, _ = checkpoints.restore({"source_state": second.init(jax.random.key(1), ())})
    state = parts["source_state"]
    for i in range(3):
        state, batch = second.next(state, (), jax.random.key(100 + i))
        assert_equal(batch, expected[i])


def test_impossible_sizes_are_refused():
    for changes, message in (
        ({"image_gib": 1e-6}, "1,073 bytes for images hold less than four unrolls of 12 images"),
        ({"image_gib": 0.0}, "image_gib is 0.0, but must be above 0"),
        ({"compression": 10}, "compression is 10, but must lie between 0 and 9"),
    ):
        with pytest.raises(ValueError, match=message):
            host_replay(Config(**SIZES | changes), noisy(0.0), WORLDS)
    env = probe_env(PROBES["truncation"].numbers)
    blind = rollout(Rollout(WORLDS, UNROLL, 8), env, fixed(env.sample), uniform(policy_spec(env.spec)))
    with pytest.raises(ValueError, match="host_replay needs an image/<camera> observation; offered are"):
        host_replay(Config(**SIZES), blind, WORLDS)
