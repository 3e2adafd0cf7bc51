"""The replay as a source: what it stores, draws and weighs, on one device and on several."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from jaxrl.curricula.static import fixed
from jaxrl.ops.specs import policy_spec
from jaxrl.policies.uniform import uniform
from jaxrl.replay.replay import Config, replay
from jaxrl.rollout.rollout import Config as Rollout
from jaxrl.rollout.rollout import rollout
from jaxrl.types import Source
from tests.conformance import assert_equal
from tests.probes import PROBES, probe_env

ENV = probe_env(PROBES["truncation"].numbers)
SMALL: dict[str, Any] = {"capacity": 64, "batch_size": 8, "num_updates": 2, "initial_steps": 16}
WORLDS, UNROLL = 4, 2


def made(mesh: Mesh | None = None, **changes: Any) -> Source:
    policy = uniform(policy_spec(ENV.spec))
    collector = rollout(Rollout(WORLDS, UNROLL, 8, stagger=False), ENV, fixed(ENV.sample), policy, mesh)
    return replay(Config(**SMALL | changes), collector, WORLDS, collector, mesh)


def run(source: Source, steps: int, feedback: Any = None) -> tuple[Any, Any]:
    """The state and batch after so many steps."""

    @jax.jit
    def advance(state: Any, key: Any) -> Any:
        state, batch = source.next(state, (), key)
        return source.observe(state, {"priority": feedback(batch)} if feedback else ()), batch

    state = jax.jit(source.init)(jax.random.key(0), ())
    for i in range(steps):
        state, batch = advance(state, jax.random.key(i))
    return state, batch


def test_it_fills_wraps_around_and_counts():
    source = made()
    assert (source.initial_steps, source.steps_per_batch) == (16, 8)
    state, batch = run(source, 20)
    assert batch.reward.shape == (2, 8, 1) and (batch.weight == 1).all()
    assert 0 < source.metrics(state)["replay/steps"] <= 64
    # Two steps make an episode: the first pays -2 and goes on, the second pays 1 and is cut.
    first = batch.observation["state/which"][..., 0] == 1
    np.testing.assert_array_equal(batch.reward[..., 0], jnp.where(first, -2.0, 1.0))
    np.testing.assert_array_equal(batch.discount, 1.0)
    np.testing.assert_array_equal(batch.next_observation["state/which"][..., 1], 1.0)


def test_returns_of_several_steps_stop_at_the_end():
    _, batch = run(made(n_step=3), 3)
    first = batch.observation["state/which"][..., 0] == 1
    newest = batch.steps == 1
    np.testing.assert_array_equal(batch.steps[~first], 1)
    np.testing.assert_array_equal(batch.reward[first & ~newest], np.broadcast_to([-2.0, 1.0, 0.0], ((first & ~newest).sum(), 3)))


def test_a_batch_does_not_depend_on_the_number_of_devices():
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    alone, parted = run(made(), 3), run(made(mesh), 3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), alone[1], parted[1])
    assert len(parted[0].ring.outcome.sharding.device_set) == 2


def test_priorities_come_back_and_draw():
    wanted = made(priority_exponent=1.0, importance_exponent=1.0, batch_size=32)
    # Second steps of an episode are worth nothing more.
    state, batch = run(wanted, 12, lambda batch: jnp.where(batch.observation["state/which"][..., 0] == 1, 1.0, 0.0))
    share = float((batch.observation["state/which"][..., 0] == 1).mean())
    assert share > 0.7
    assert float(batch.weight.max()) == 1.0 and float(batch.weight.min()) < 1.0
    assert (np.asarray(state.priorities.value)[~np.asarray(state.ring.is_step)] == 0).all()


def test_priorities_that_nobody_reports_are_missed():
    source = made(priority_exponent=1.0)
    state, _ = run(made(priority_exponent=1.0), 1, lambda batch: jnp.ones(batch.weight.shape))
    with pytest.raises(ValueError, match=r"priority_exponent is 1.0, but the algorithm reports no priorities"):
        source.observe(state, {})


def test_resuming_goes_on_bit_by_bit():
    source = made(priority_exponent=0.5)
    feedback = lambda batch: jnp.abs(batch.reward[..., 0])  # noqa: E731
    step = jax.jit(lambda s, k: (lambda s, b: (source.observe(s, {"priority": feedback(b)}), b))(*source.next(s, (), k)))
    state, _ = run(source, 9, feedback)
    saved = jax.tree.map(np.asarray, state)
    for i in range(9, 12):
        state, batch = step(state, jax.random.key(i))
    again = jax.tree.map(jnp.asarray, saved)
    for i in range(9, 12):
        again, same = step(again, jax.random.key(i))
    assert_equal((state, batch), (again, same))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"capacity": 12}, "capacity is 12 steps, 3 for each of 4 worlds, but an unroll of 2 steps needs room for 5; use at least 20"),
        ({"batch_size": 0}, "batch_size is 0, but must be at least 1"),
        ({"priority_exponent": -1.0}, "priority_exponent is -1.0, but must not be negative"),
    ],
)
def test_impossible_numbers_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        made(**changes)


def test_a_batch_that_devices_do_not_divide_is_refused():
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    with pytest.raises(ValueError, match="batch_size is 7, which 2 devices on the mesh axis `data` do not divide"):
        made(mesh, batch_size=7)


def test_the_plan_says_what_is_allocated():
    source = made(priority_exponent=0.5)
    state = jax.eval_shape(source.init, jax.random.key(0), ())
    ring = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((state.ring[:-2], state.priorities.value)))
    assert sum(source.allocation.values()) == ring
