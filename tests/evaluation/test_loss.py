"""The loss on held out data is that of the objective, and nothing is learnt from it."""

import jax
import numpy as np
import pytest

from jaxrl.algorithms import supervised
from jaxrl.evaluation.loss import loss_on
from jaxrl.networks.state_mlp import Config as MLP
from jaxrl.networks.state_mlp import state_mlp
from jaxrl.objectives import bc
from jaxrl.replay.memory import Config, memory
from jaxrl.replay.recording import Recording, statistics
from jaxrl.types import ArraySpec, PolicySpec

SPEC = PolicySpec({"state/a": ArraySpec((2,))}, ArraySpec((2,)), horizon=2)


def test_it_is_the_objectives_own_on_other_data():
    draws = np.random.default_rng(0)
    seen, action = (draws.normal(size=(40, 2)).astype(np.float32) for _ in range(2))
    recording = Recording({"state/a": seen}, action, np.zeros(40, np.float32), np.arange(2, 41, 2), SPEC)
    objective = bc.bc(bc.Config(), SPEC, state_mlp(MLP(hidden=(4,)), SPEC.observation, (2, 2)))
    normaliser = statistics(recording)
    algorithm = supervised.supervised(supervised.Config(ema_decay=0.9), {"bc": objective}, {"bc": 2.0}, normaliser)
    learnt = algorithm.deployable(algorithm.init(jax.random.key(3)))
    source = memory(Config(batch_size=3000, horizon=2), recording)
    found = loss_on(algorithm, learnt, source, batches=2)
    assert found.keys() == {"loss", "loss/bc"} and found["loss"] == pytest.approx(2 * found["loss/bc"])
    keys = jax.random.split(jax.random.key(0), len(seen))
    chunk, _, _ = jax.jit(algorithm.policy.act)(learnt, {"state/a": seen}, (), keys, None)
    rows = np.arange(40)[:, None] + np.arange(2)
    inside = rows < (np.arange(40) // 2 * 2 + 2)[:, None]
    apart = (np.asarray(chunk) - action[np.minimum(rows, 39)]) / np.sqrt(np.asarray(normaliser.variance["action"]))
    expected = (apart[inside] ** 2).mean()
    assert found["loss/bc"] == pytest.approx(expected, rel=0.05)
    assert found == loss_on(algorithm, learnt, source, batches=2)
