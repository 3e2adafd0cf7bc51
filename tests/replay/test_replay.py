"""What a replay tells of itself beforehand, and what it misses."""

from typing import Any

import jax
import pytest

from jaxrl.curricula.static import fixed
from jaxrl.ops.packing import nbytes
from jaxrl.ops.specs import policy_spec
from jaxrl.policies.uniform import uniform
from jaxrl.replay.replay import Config, replay
from jaxrl.rollout.rollout import Config as Rollout
from jaxrl.rollout.rollout import rollout
from jaxrl.types import Source
from tests.probes import PROBES, probe_env

ENV = probe_env(PROBES["truncation"].numbers)
WORLDS, UNROLL = 4, 2


def made(**changes: Any) -> Source:
    policy = uniform(policy_spec(ENV.spec))
    collector = rollout(Rollout(WORLDS, UNROLL, 8, stagger=False), ENV, fixed(ENV.sample), policy)
    return replay(
        Config(**{"capacity": 64, "batch_size": 8, "num_updates": 2, "initial_steps": 16} | changes), collector, WORLDS, collector
    )


def test_priorities_that_nobody_reports_are_missed():
    source = made(priority_exponent=1.0)
    with pytest.raises(ValueError, match=r"priority_exponent is 1.0, but the algorithm reports no priorities"):
        jax.eval_shape(lambda key: source.observe(source.init(key, ()), {}), jax.random.key(0))


def test_the_plan_says_what_is_allocated():
    source = made(priority_exponent=0.5)
    state = jax.eval_shape(source.init, jax.random.key(0), ())
    assert sum(source.allocation.values()) == nbytes((state.ring[:-2], state.priorities))
    assert source.allocation["replay/outcome"] == 8 * 17 * WORLDS


def test_a_checkpoint_is_put_into_a_memory_without_steps():
    source = made(priority_exponent=0.5, maximum_return=5.0)
    assert source.empty is not None
    state = source.empty(jax.random.key(0), ())
    assert not state.ring.is_step.any()
    like = jax.eval_shape(source.init, jax.random.key(0), ())
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == jax.tree.map(lambda x: (x.shape, x.dtype), like)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"capacity": 12, "initial_steps": 8},
            "capacity is 12 steps, 3 for each of 4 worlds, but an unroll of 2 steps needs room for 5; use at least 20",
        ),
        ({"initial_steps": 65}, "initial_steps is 65, more than the capacity of 64: the first would be lost"),
        ({"priority_exponent": -1.0}, "priority_exponent is -1.0, but must not be negative"),
    ],
)
def test_impossible_numbers_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        made(**changes)
