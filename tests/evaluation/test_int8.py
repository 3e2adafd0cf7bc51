"""Kernels of 8 bits: against rounding in numpy, in a policy that acts with them, and what refuses them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algorithms import supervised
from jaxrl.evaluation import int8 as held_against
from jaxrl.evaluation.open_loop import episodes_of
from jaxrl.networks.transformer.layer import Dense
from jaxrl.networks.vla import pi0
from jaxrl.objectives import flow
from jaxrl.ops import int8, running_statistics
from jaxrl.ops.paths import flatten_names
from jaxrl.replay.recording import Recording
from jaxrl.types import ArraySpec, PolicySpec
from tests.networks.vla.small import ACTION, KEY, OBSERVATION, SEEING, disturbed

SPEC = PolicySpec(OBSERVATION, ArraySpec((2,)), horizon=3, executed_steps=3)


def nearest(kernel: np.ndarray, most: int):
    scale = np.abs(kernel).max(-2, keepdims=True) / most
    whole = np.rint(kernel / np.where(scale > 0, scale, 1))
    return whole, whole * scale


@pytest.mark.parametrize(("bits", "most"), [(8, 127), (2, 1)])
def test_what_is_multiplied_by_is_the_nearest(bits, most):
    draws = np.random.default_rng(0)
    kernel, x = draws.normal(size=(3, 5, 4)).astype(np.float32), draws.normal(size=(2, 7, 5)).astype(np.float32)
    kernel[1, :, 2] = 0  # an output that nothing leads to
    found = jax.jit(functools.partial(int8.rounded, bits=bits))(kernel)
    whole, product = nearest(kernel, most)
    assert found["int8"].dtype == jnp.int8
    np.testing.assert_array_equal(found["int8"], whole)
    layer = jax.tree.map(lambda leaf: leaf[1], found)
    y = jax.jit(lambda layer, x: Dense(4, jnp.float32).apply({"params": {"kernel": layer}}, x))(layer, x)
    np.testing.assert_allclose(y, x @ product[1], atol=1e-5)


@functools.cache
def policy():
    """That of a small pi0, part of which was frozen, and episodes that it is shown."""
    network = pi0.pi0(pi0.Config(SEEING, ACTION, 4), OBSERVATION, (3, 2))
    objective = flow.flow(flow.Config(inference_steps=2), SPEC, network)
    normaliser = running_statistics.init(dict(OBSERVATION) | {"action": ArraySpec((2,))})
    algorithm = supervised.supervised(supervised.Config(frozen=("vision/", "text/.*gate")), {"flow": objective}, {"flow": 1.0}, normaliser)
    begun = disturbed(network.init)
    state = jax.jit(lambda params: algorithm.init(KEY, {"flow": params}))(begun)
    draws = np.random.default_rng(0)
    shown = {
        name: draws.integers(0, 200, (5, *one.shape)).astype(one.dtype)
        if one.dtype != "float32"
        else draws.normal(size=(5, *one.shape)).astype(np.float32)
        for name, one in OBSERVATION.items()
    }
    action = draws.normal(size=(5, 2)).astype(np.float32)
    recording = Recording(shown, action, np.zeros(5, np.float32), np.array([2, 5]), SPEC)
    return algorithm.policy, algorithm.deployable(state), episodes_of(recording, 3)


def test_a_policy_acts_with_them():
    acting, learnt, episodes = policy()
    found = held_against.rounded(acting, learnt, episodes)
    assert 0 < found.error < 0.01
    before, after = flatten_names(learnt.params) | flatten_names(learnt.frozen), flatten_names(found.learnt.params)
    kinds = {path.removesuffix("/int8") for path, x in after.items() if x.dtype == jnp.int8}
    parts = ("query", "key", "value", "output", "gate", "up", "down")
    assert kinds == {f"flow/{name}/layers/{part}/kernel" for name in ("text", "action") for part in parts}
    assert all(after[path] is x for path, x in before.items() if path not in kinds)
    saved = sum(3 * before[path].size - 4 * after[f"{path}/scale"].size for path in kinds)
    assert found.before - found.after == saved > 0


def test_too_large_a_difference_is_refused():
    with pytest.raises(ValueError, match=r"actions differ by \d+\.\d+% of their range on average, which is more than the limit of 1.00%"):
        held_against.rounded(*policy(), bits=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patterns": ("text/layers/gait",)}, "int8: the pattern 'text/layers/gait' matches no parameter"),
        ({"patterns": ("vision/layers/output/kernel$",)}, "vision/layers/output/kernel is no kernel of a layer of networks/transformer"),
        ({"bits": 9}, "bits is 9, but must be 2 to 8"),
    ],
)
def test_what_cannot_be_rounded_is_refused(arguments, message):
    _, learnt, _ = policy()
    with pytest.raises(ValueError, match=message):
        int8.quantised(learnt.params | learnt.frozen, **arguments)
    with pytest.raises(ValueError, match="there is no kernel of a layer of networks/transformer; there are a/kernel"):
        int8.quantised({"a": {"kernel": jnp.ones((2, 2))}})
