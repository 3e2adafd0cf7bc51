"""Tokens against numpy's digitize and against the formulas of OpenVLA, RT-1 and pi0.5."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops import bins as ops
from jaxrl.ops.bins import Bins

X = np.random.default_rng(0).uniform(-1.1, 1.1, (2000, 3))
CONVENTIONS = ("uniform", "openvla", "rt1")
UNEVEN = {"low": (-1.0, -2.0, 0.0), "high": (1.0, 3.0, 1e-3)}


def openvla(x):
    """ActionTokenizer: token ids and what they decode to."""
    edges = np.linspace(-1, 1, 256)
    ids = 32000 - np.digitize(np.clip(x, -1, 1), edges)
    centres = (edges[:-1] + edges[1:]) / 2
    return ids, centres[np.clip(32000 - ids - 1, 0, 254)]


def rt1(x, low, high, vocabulary):
    tokens = ((np.clip(x, low, high) - low) / (high - low) * (vocabulary - 1)).astype(np.int32)
    return tokens, tokens / (vocabulary - 1) * (high - low) + low


def test_openvla():
    bins = Bins(convention="openvla")
    x = np.concatenate([X.ravel(), [-1.0, 1.0]])[:, None]
    tokens, _ = ops.encode(bins, x)
    ids, values = openvla(x)
    np.testing.assert_array_equal(31999 - tokens, ids)
    assert tokens[-2] == 0 and tokens[-1] == 255
    np.testing.assert_allclose(ops.decode(bins, tokens), values, atol=1e-7)


def test_rt1():
    bins = Bins(-2.0, 2.0, 512, "rt1")
    tokens, _ = ops.encode(bins, 2 * X)
    expected, values = rt1(2 * X, -2.0, 2.0, 512)
    np.testing.assert_array_equal(tokens, expected)
    np.testing.assert_allclose(ops.decode(bins, tokens), values, atol=1e-6)


def test_states_of_pi05():
    tokens, clipped = ops.encode(Bins(), X)
    inside = ~clipped
    np.testing.assert_array_equal(tokens[inside], (np.digitize(X, np.linspace(-1, 1, 257)[:-1]) - 1)[inside])
    assert set(tokens[X < -1]) == {0}, "where theirs is -1"


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_errors_have_a_bound_and_what_is_outside_is_told(convention):
    bins = Bins(**UNEVEN, convention=convention)
    low, high = np.array(UNEVEN["low"]), np.array(UNEVEN["high"])
    x = low + (X + 1) / 2 * (high - low)
    tokens, clipped = ops.encode(bins, x)
    np.testing.assert_array_equal(clipped, (x < low) | (x > high))
    error = np.abs(ops.decode(bins, tokens) - np.clip(x, low, high))
    bound = ops.width(bins) * (1.0 if convention == "rt1" else 0.5)
    assert (error <= bound * (1 + 1e-4)).all() and (error.max(0) > 0.95 * bound).all()
    assert set(tokens.ravel()) <= set(range(256))


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_device_and_host_agree(convention):
    bins = Bins(**UNEVEN, convention=convention)
    low, high = np.array(UNEVEN["low"]), np.array(UNEVEN["high"])
    x = (low + (X + 1) / 2 * (high - low)).astype(np.float32)
    tokens, clipped = ops.encode(bins, x)
    on_device, told = jax.jit(lambda x: ops.encode(bins, x))(jnp.asarray(x))
    assert on_device.dtype == jnp.int32 and (np.abs(on_device - tokens) <= 1).all() and (on_device != tokens).mean() < 1e-3
    assert (np.asarray(told) != clipped).mean() < 1e-3
    np.testing.assert_allclose(jax.jit(lambda t: ops.decode(bins, t))(jnp.asarray(tokens)), ops.decode(bins, tokens), atol=1e-6)


@pytest.mark.parametrize("convention", ["uniform", "openvla"])
def test_a_token_comes_back_as_itself(convention):
    bins = Bins(**UNEVEN, convention=convention)
    tokens = np.repeat(np.arange(256)[:, None], 3, 1)
    again = np.minimum(tokens, 254) if convention == "openvla" else tokens  # its last bin has two
    np.testing.assert_array_equal(ops.encode(bins, ops.decode(bins, tokens))[0], again)
    np.testing.assert_array_equal(ops.encode(bins, jnp.asarray(ops.decode(bins, tokens)))[0], again)
    np.testing.assert_allclose(ops.values(bins).T, ops.decode(bins, tokens), rtol=1e-6)


def test_what_is_not_finite_is_clipped_and_told():
    for x in (np.array([np.nan, np.inf, -np.inf, 0.1]), jnp.array([np.nan, np.inf, -np.inf, 0.1])):
        tokens, clipped = ops.encode(Bins(), x)
        np.testing.assert_array_equal(tokens, [0, 255, 0, 140])
        np.testing.assert_array_equal(clipped, [True, True, True, False])


def test_tokens_that_are_none_are_nan():
    for tokens in (np.array([-1, 256, 255]), jnp.array([-1, 256, 255])):
        np.testing.assert_array_equal(np.isnan(ops.decode(Bins(), tokens)), [True, True, False])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"number": 1}, "number is 1, but there must be at least 2"),
        ({"low": 1.0}, "from 1.0 to 1.0, but must go upwards"),
        ({"high": np.inf}, "between finite numbers"),
        ({"low": (0.0, 0.0), "high": (1.0, 1.0, 1.0)}, "2 lower ends and 3 upper ones"),
    ],
)
def test_impossible_bins_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Bins(**fields)


def test_other_dimensions_are_refused():
    with pytest.raises(ValueError, match="3 dimensions in low, but the last axis of"):
        ops.encode(Bins(**UNEVEN), np.zeros((4, 2)))
