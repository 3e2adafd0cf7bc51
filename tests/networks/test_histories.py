"""Networks that read a history step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks import state_rnn, state_transformer
from jaxrl.types import ArraySpec

SEEN = {"state/a": ArraySpec((4, 2)), "state/b": ArraySpec((4, 1))}
X = {name: jax.random.normal(jax.random.key(i), (3, *spec.shape)) for i, (name, spec) in enumerate(SEEN.items())}


def test_rnn_against_numpy():
    network = state_rnn.state_rnn(state_rnn.Config("gru", 5, 1), SEEN, (2, 2))
    params, statistics = network.init(jax.random.key(1))
    output, _ = network.apply(params, statistics, X)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    cell, h = p["cell_0"], np.zeros((3, 5))

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    for x in np.moveaxis(np.concatenate([X["state/a"], X["state/b"]], -1), 1, 0):  # Cho et al. 2014, as flax has it
        r = sigmoid(x @ cell["ir"]["kernel"] + cell["ir"]["bias"] + h @ cell["hr"]["kernel"])
        z = sigmoid(x @ cell["iz"]["kernel"] + cell["iz"]["bias"] + h @ cell["hz"]["kernel"])
        n = np.tanh(x @ cell["in"]["kernel"] + cell["in"]["bias"] + r * (h @ cell["hn"]["kernel"] + cell["hn"]["bias"]))
        h = (1 - z) * n + z * h
    expected = (h @ p["head"]["output"]["kernel"] + p["head"]["output"]["bias"]).reshape(3, 2, 2)
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "network",
    [
        state_rnn.state_rnn(state_rnn.Config(memory_size=8, layers=2), SEEN, (2,)),
        state_transformer.state_transformer(state_transformer.Config(8, 2, 2), SEEN, (2,)),
    ],
    ids=["rnn", "transformer"],
)
def test_every_step_of_the_history_counts(network):
    params, statistics = network.init(jax.random.key(1))
    gradient = jax.jit(jax.grad(lambda x: jnp.square(network.apply(params, statistics, x)[0]).sum()))(X)
    assert (jnp.abs(gradient["state/a"]).max((0, 2)) > 1e-6).all()
    turned = jax.tree.map(lambda x: x[:, ::-1], X)
    assert not np.allclose(network.apply(params, statistics, X)[0], network.apply(params, statistics, turned)[0], atol=1e-3)


def test_dropout_is_for_training_alone():
    network = state_transformer.state_transformer(state_transformer.Config(8, 1, 2, 0.5), SEEN, (2,))
    params, statistics = network.init(jax.random.key(1))
    quiet = network.apply(params, statistics, X)[0]
    np.testing.assert_array_equal(quiet, network.apply(params, statistics, X, jax.random.key(2))[0])
    assert (quiet != network.apply(params, statistics, X, jax.random.key(2), train=True)[0]).any()
