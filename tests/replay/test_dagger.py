"""All that a student did under an expert's eyes, with what the expert would have done."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.curricula.static import fixed
from jaxrl.policies import overseen
from jaxrl.policies.constant import constant
from jaxrl.replay import dagger
from jaxrl.rollout import rollout
from jaxrl.types import PolicySpec
from tests.conformance import ENV, KEY, collector

SPEC = PolicySpec({"state/which": ENV.spec.observation["state/which"]}, ENV.spec.action)


def collect(config: overseen.Config, student: float = 1.0, expert: float = -1.0):
    policy = overseen.overseen(config, constant(SPEC, student), constant(SPEC, expert), ())
    return rollout.rollout(rollout.Config(4, 4, 4), ENV, fixed(ENV.sample), policy)


def drawn(source, number: int):
    state, step = source.init(KEY, ()), jax.jit(source.next)
    for i in range(number):
        state, batch = step(state, (), jax.random.fold_in(KEY, i))
        yield batch


def test_labels_are_the_experts_whoever_acted():
    config = dagger.Config(capacity=400, batch_size=16, horizon=2, initial_steps=16)
    source = dagger.dagger(config, collect(overseen.Config()), 4, collect(overseen.Config(beta=1.0)))
    for batch in drawn(source, 3):
        assert batch["action"].shape == batch["mask"].shape == (16, 2, 1)
        assert (jnp.where(batch["mask"] > 0, batch["action"], -1.0) == -1.0).all() and (batch["mask"][:, 0] == 1).all()
        assert (batch["mask"][:, 1] == 0).any(), "chunks end with their episodes"


def test_steps_that_do_not_count_are_masked():
    """The first are all the expert's; then, as both agree, the student's do not count."""
    agreeing = collect(overseen.Config("safe_dagger", threshold=0.5), student=-1.0)
    config = dagger.Config(capacity=4000, batch_size=64, horizon=1, initial_steps=32)
    source = dagger.dagger(config, agreeing, 4, collect(overseen.Config(beta=1.0)))
    shares = [float(batch["mask"].mean()) for batch in drawn(source, 12)]
    assert shares[0] > 0.4 > shares[-1] > 0.02
    np.testing.assert_allclose(shares[-1], 32 / (32 + 12 * 16), atol=0.12)


def test_refusals():
    with pytest.raises(ValueError, match="the collector's steps have no counts, expert; collect them with jaxrl.policies.overseen"):
        dagger.dagger(dagger.Config(400, 16, 1, 16), collector(), 4, collector())
    with pytest.raises(ValueError, match="initial_steps is 0, but the first steps are what there is to learn from"):
        dagger.Config(initial_steps=0)
