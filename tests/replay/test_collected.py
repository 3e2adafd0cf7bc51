"""The memory as a source: what goes in comes out, wherever worlds live and however often the run is cut."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.distributed.mesh import data_mesh
from jaxrl.replay.replay import Config, replay
from jaxrl.replay.reward_scale import reward_scale
from jaxrl.training.checkpoint import open_checkpoints
from jaxrl.types import ArraySpec, Source, Transition

WORLDS, LENGTH = 8, 3
CONFIG = Config(capacity=WORLDS * 12, batch_size=16, num_updates=2, n_step=2, initial_steps=40)


def counting(worlds: int = 2, length: int = 2, episode: int = 10**6) -> Source:
    """A collector whose observations are the numbers of the steps, as are its rewards; episodes end in turns by a cut and by themselves.

    What follows an episode's last step is half a step further.
    """

    def advance(state: Any, behaviour: Any, key: Any) -> Any:
        number = state[None] + jnp.arange(length, dtype=jnp.float32)[:, None]
        last = ((number % 1000) % episode == episode - 1).astype(jnp.float32)
        cut = last * (((number % 1000) // episode) % 2)
        later = {"state/number": (number + 1.0 - 0.5 * last)[..., None]}
        action = number[..., None] + jax.random.uniform(key, (length, worlds, 1))
        return state + length, Transition({"state/number": number[..., None]}, action, number, 1.0 - last + cut, cut, later, {})

    axes = ("time", "world")
    spec = {name: ArraySpec((*axes, 1)) for name in ("observation/state/number", "next_observation/state/number", "action")}
    spec |= {name: ArraySpec(axes) for name in ("reward", "discount", "truncation")}
    return Source(spec, lambda key, behaviour: 1000.0 * jnp.arange(worlds), advance, steps_per_batch=worlds * length)


def episodic(config: Config = CONFIG, mesh: Any = None) -> Source:
    made = counting(WORLDS, LENGTH, 4)
    return replay(config, made, WORLDS, made, mesh)


def run(source: Source, state: Any, first: int, count: int, feedback: Any = None) -> tuple[Any, Any]:
    """`count` batches from the `first` on, in one program."""

    def body(state: Any, number: Any) -> tuple[Any, Any]:
        state, batch = source.next(state, (), jax.random.fold_in(jax.random.key(1), number))
        return (state if feedback is None else source.observe(state, feedback(batch))), batch

    return jax.jit(lambda state: jax.lax.scan(body, state, first + jnp.arange(count)))(state)


def same(a: Any, b: Any) -> None:
    plain = [
        jax.tree.map(lambda x: jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x, t) for t in (a, b)
    ]
    jax.tree.map(np.testing.assert_array_equal, *plain)


def surprise(batch: Any) -> dict[str, Any]:
    return {"priority": jnp.abs(batch.reward[..., 0] % 1000) + batch.action[..., 0] % 1.0}


@pytest.mark.parametrize("exponent", [0.0, 0.7])
def test_a_run_that_was_cut_draws_what_it_would_have_drawn(tmp_path, exponent):
    source = episodic(dataclasses.replace(CONFIG, priority_exponent=exponent, maximum_return=5.0))
    state = source.init(jax.random.key(0), ())
    assert source.initial_steps == 48 and state.ring.is_step.sum() <= 48
    through, batches = run(source, state, 0, 9, surprise)
    assert (through.ring.used == 13).all(), "the ring has not gone round"
    half, _ = run(source, state, 0, 5, surprise)
    checkpoints = open_checkpoints(tmp_path / "checkpoints")
    checkpoints.save(5, {"source_state": half}, {}, None)
    checkpoints.wait()
    restored = checkpoints.restore({"source_state": half})[0]["source_state"]
    resumed, rest = run(source, restored, 5, 4, surprise)
    same(resumed, through)
    same(rest, jax.tree.map(lambda x: x[5:], batches))


def test_steps_say_what_followed_them():
    _, batches = run(episodic(), episodic().init(jax.random.key(0), ()), 0, 4)
    numbers = np.asarray(batches.observation["state/number"])[..., 0]
    place = numbers % 1000 % 4
    steps = np.where(place == 3, 1, 2)
    now = np.asarray(batches.steps)
    whole = now == steps  # but for the newest steps, that nothing has followed yet
    assert whole.mean() > 0.8 and ((now == 1) | whole).all()
    np.testing.assert_array_equal(batches.reward[..., 0], numbers)
    np.testing.assert_array_equal(batches.reward[..., 1], np.where(now == 2, numbers + 1, 0.0))
    ended = place + now == 4
    np.testing.assert_array_equal(batches.next_observation["state/number"][..., 0], numbers + now - 0.5 * ended)
    np.testing.assert_array_equal(batches.discount == 0.0, ended & (numbers % 1000 // 4 % 2 == 0))


def test_the_newest_steps_are_there_at_once_and_the_oldest_gone():
    source = replay(Config(capacity=10, batch_size=64, initial_steps=0), counting(), 2)
    state, batches = run(source, source.init(jax.random.key(0), ()), 0, 6)
    numbers = np.asarray(batches.observation["state/number"])[..., 0]
    for i, drawn in enumerate(numbers[:, 0]):
        newest = 2 * i + 1
        assert set(drawn % 1000) == set(range(max(0, newest - 4), newest + 1))
    np.testing.assert_array_equal(batches.next_observation["state/number"][..., 0], numbers + 1)
    assert source.metrics(state)["replay/steps"] == 10


@pytest.mark.parametrize("exponent", [0.0, 0.5])
def test_another_mesh_gives_the_same_batches(exponent):
    config = dataclasses.replace(CONFIG, priority_exponent=exponent, maximum_return=5.0)
    results = []
    for devices in (1, 2):
        source = episodic(config, data_mesh(devices))
        state = source.init(jax.random.key(0), ())
        results.append(run(source, state, 0, 5, surprise))
    if exponent:  # what is drawn follows from the shares of the devices
        _, batch = results[1]
        np.testing.assert_allclose(batch.weight.max(-1), 1.0, rtol=1e-6)
        assert batch.weight.min() < 0.9
        return
    for one, two in zip(jax.tree.leaves(results[0][1]), jax.tree.leaves(results[1][1]), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6)


def test_several_seeds_are_rows_of_one_program():
    source = episodic(dataclasses.replace(CONFIG, priority_exponent=0.5))

    def whole(key: Any) -> Any:
        return run(source, source.init(key, ()), 0, 3, surprise)[1]

    keys = jax.random.split(jax.random.key(3), 2)
    several, one = jax.jit(jax.vmap(whole))(keys), jax.jit(whole)(keys[1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-6), several, one)


def test_a_collector_on_the_host_is_remembered_alike():
    config = dataclasses.replace(CONFIG, priority_exponent=0.5, maximum_return=5.0)
    made = counting(WORLDS, LENGTH, 4)
    source, pure = replay(config, made._replace(pure=False), WORLDS), replay(config, made, WORLDS)
    assert not source.pure and source.initial_steps == pure.initial_steps == 48
    states = [each.init(jax.random.key(0), ()) for each in (source, pure)]
    for number in range(4):
        key = jax.random.key(number)
        (states[0], found), (states[1], wanted) = (each.next(state, (), key) for each, state in zip((source, pure), states, strict=True))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, wanted)
        states = [each.observe(state, surprise(wanted)) for each, state in zip((source, pure), states, strict=True)]


def test_priorities_bring_back_what_was_surprising():
    config = Config(capacity=100, batch_size=64, num_updates=4, initial_steps=80, priority_exponent=1.0, importance_exponent=1.0)
    source = replay(config, counting(), 2)

    def interest(batch: Any) -> dict[str, Any]:
        return {"priority": jnp.where(batch.reward[..., 0] % 1000 == 20.0, 50.0, 1e-3)}

    state, batches = run(source, source.init(jax.random.key(0), ()), 0, 8, interest)
    number = np.asarray(batches.reward[..., 0]) % 1000
    known = number < 40 + 2 * np.arange(8)[:, None, None]  # what is new is drawn as the most surprising
    assert (number[0][known[0]] == 20.0).mean() < 0.1 and (number[-1][known[-1]] == 20.0).mean() > 0.8
    # New steps are drawn as the most surprising so far.
    assert state.priorities.largest == 50.0
    later, _ = source.next(state, (), jax.random.key(99))
    newest = later.priorities.value[(later.ring.head - 1) % later.ring.is_step.shape[0], jnp.arange(2)]
    np.testing.assert_allclose(newest, 50.0)


def test_what_was_drawn_twice_gets_its_larger_priority():
    source = replay(Config(capacity=10, batch_size=64, initial_steps=0, priority_exponent=1.0), counting(), 2)
    state, _ = source.next(source.init(jax.random.key(0), ()), (), jax.random.key(1))
    priority = jnp.arange(64.0)[None]
    after = source.observe(state, {"priority": priority})
    expected = np.zeros(state.ring.is_step.shape, np.float32)
    np.maximum.at(expected, (np.asarray(state.drawn.slot)[0], np.asarray(state.drawn.world)[0]), np.arange(64, dtype=np.float32))
    drawn = expected > 0
    np.testing.assert_allclose(np.asarray(after.priorities.value)[drawn], expected[drawn], rtol=1e-5)
    # Weights make up for how often a step is drawn.
    later, batch = source.next(after, (), jax.random.key(2))
    chance = np.asarray(later.priorities.value[later.drawn.slot, later.drawn.world])
    assert chance.min() < chance.max()
    np.testing.assert_allclose(batch.weight, (chance.min() / chance) ** 0.4, rtol=1e-4)
    with pytest.raises(ValueError, match="priority_exponent is 1.0, but the algorithm reports no priorities"):
        source.observe(state, {})


def test_reward_scale_against_numpy():
    random = np.random.default_rng(0)
    scaling = reward_scale(0.9, 4.0)
    state, paid, sums = scaling.init(3), np.zeros(3), []
    for _ in range(4):
        reward = random.normal(2.0, 1.0, (5, 3)).astype(np.float32)
        discount, truncation = (random.random((5, 3)) < 0.8).astype(np.float32), (random.random((5, 3)) < 0.2).astype(np.float32)
        x = jnp.zeros((5, 3, 1))
        state = scaling.update(
            state, Transition({"x": x}, x, jnp.asarray(reward), jnp.asarray(discount), jnp.asarray(truncation), {"x": x}, {})
        )
        for t in range(5):
            paid = 0.9 * paid + reward[t]
            sums.append(paid)
            paid = paid * discount[t] * (1 - truncation[t])
    whole = np.concatenate(sums)
    np.testing.assert_allclose(scaling.divisor(state), max(whole.std(), np.abs(whole).max() / 4.0), rtol=1e-5)
    np.testing.assert_allclose(reward_scale(0.9, 1e6).divisor(state), whole.std(), rtol=1e-4)


def test_rewards_come_out_scaled():
    plain, scaled = episodic(), episodic(dataclasses.replace(CONFIG, maximum_return=1.0))
    batches = [run(source, source.init(jax.random.key(0), ()), 0, 2) for source in (plain, scaled)]
    divisor = scaled.metrics(batches[1][0])["replay/reward_divisor"]
    assert divisor > 5.0
    np.testing.assert_allclose(batches[0][1].reward[-1] / divisor, batches[1][1].reward[-1], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"capacity": 40}, "capacity is 40 steps, 5 for each of 8 worlds, but an unroll of 3 steps needs room for 7; use at least 56"),
        ({"batch_size": 15}, "batch_size is 15, which 2 devices on the mesh axis `data` do not divide"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        episodic(dataclasses.replace(CONFIG, **changes), data_mesh(2))


@pytest.mark.parametrize("changes", [{"n_step": 0}, {"initial_steps": -1}, {"gamma": 1.5}, {"maximum_return": -1.0}])
def test_impossible_numbers_are_refused(changes):
    (name, value), *_ = changes.items()
    with pytest.raises(ValueError, match=f"{name} is {value}, but must"):
        Config(**changes)
