"""The transformer denoiser: torch's numbers with the same parameters, what sees what, dropout."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks import transformer_denoiser
from jaxrl.networks.transformer_denoiser import Config
from jaxrl.ops.paths import flatten_names
from jaxrl.types import ArraySpec
from tests.golden.transplants import transformer as transplanted

OBSERVATION = {"state/arm": ArraySpec((2, 3))}
KEY = jax.random.key(0)


def make(**fields):
    return transformer_denoiser.transformer_denoiser(Config(**{"layers": 2, "heads": 2, "size": 16} | fields), OBSERVATION, (5, 2))


@pytest.mark.parametrize("condition_layers", [0, 1])
def test_outputs_and_gradients_are_those_of_torch(condition_layers):
    with np.load(Path(__file__).parents[1] / "golden/lerobot_transformer_denoiser.npz") as file:
        known = {name: jnp.asarray(file[name]) for name in file.files if name != "versions"}
    network, name = make(condition_layers=condition_layers), f"cond_layers_{condition_layers}"
    params = {"transformer": jax.tree.map(jnp.asarray, transplanted(known, f"{name}/parameter/"))}
    own = jax.eval_shape(network.init, KEY)[0]
    assert {path: x.shape for path, x in flatten_names(params).items()} == {path: x.shape for path, x in flatten_names(own).items()}

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        condition, _ = network.encode(params, {}, {"state/arm": known["observation"]})
        output = network.denoise(params, known["noisy"], known["step"] / 100, condition)
        return jnp.square(output - known["target"]).mean()

    condition, _ = network.encode(params, {}, {"state/arm": known["observation"]})
    output = jax.jit(network.denoise)(params, known["noisy"], known["step"] / jnp.float32(100), condition)
    np.testing.assert_allclose(output, known[f"{name}/output"], atol=1e-5)
    value, gradient = loss(params)
    np.testing.assert_allclose(value, known[f"{name}/loss"], rtol=1e-5)
    theirs, ours = (
        {path.rpartition("/")[2]: x for path, x in known.items() if path.startswith(f"{name}/gradient/")},
        gradient["transformer"],
    )
    attention = ours["layer_0"]["self_attention"]
    pairs = {
        "decoder.layers.0.self_attn.in_proj_weight": jnp.concatenate([attention[part]["kernel"].T for part in ("query", "key", "value")]),
        "decoder.layers.1.multihead_attn.out_proj.weight": ours["layer_1"]["cross_attention"]["output"]["kernel"].T,
        "cond_obs_emb.weight": ours["observation"]["kernel"].T,
        "pos_emb": ours["action_positions"][None],
    }
    assert pairs.keys() == theirs.keys()
    for path, x in pairs.items():
        np.testing.assert_allclose(x, theirs[path], atol=1e-4 * float(jnp.abs(theirs[path]).max()), err_msg=path)


def test_a_step_sees_its_past_and_observations_up_to_its_own():
    network = make(layers=1)
    params, _ = jax.jit(network.init)(KEY)
    params = jax.tree.map(lambda x: x + 0.2 * jax.random.normal(KEY, x.shape), params)

    @jax.jit
    def slopes(noisy, observation):
        def run(noisy, observation):
            condition, _ = network.encode(params, {}, {"state/arm": observation})
            return network.denoise(params, noisy, jnp.full(1, 0.5), condition)[0]

        return jax.jacobian(run, (0, 1))(noisy, observation)

    of_noisy, of_observation = slopes(jnp.ones((1, 5, 2)), jnp.ones((1, 2, 3)))  # [step, action, 0, step, number]
    joined = lambda x: np.asarray(jnp.abs(x).sum((1, 2, 4))) > 0  # noqa: E731
    np.testing.assert_array_equal(joined(of_noisy), np.arange(5)[:, None] >= np.arange(5)[None])
    np.testing.assert_array_equal(joined(of_observation), np.arange(5)[:, None] >= np.arange(2)[None])


def test_a_key_drops_out():
    network = make(layers=1, dropout=0.5)
    params, _ = jax.jit(network.init)(KEY)
    denoise = jax.jit(network.denoise, static_argnames="train")
    inputs = jnp.ones((2, 5, 2)), jnp.full(2, 0.5), jnp.ones((2, 2, 3))
    keys = jax.random.split(KEY)
    assert (denoise(params, *inputs, keys[0], train=True) != denoise(params, *inputs, keys[1], train=True)).any()
    np.testing.assert_array_equal(denoise(params, *inputs), denoise(params, *inputs, train=True))
    assert (denoise(params, *inputs) != denoise(params, *inputs, keys[0])).any()


def test_parameters_begin_as_published():
    params = jax.jit(make(layers=1, heads=4, size=64).init)(KEY)[0]["transformer"]
    for name, x in flatten_names(params).items():
        if name.endswith(("kernel", "positions")) and x.size > 500:
            assert abs(float(x.std()) / 0.02 - 1) < 0.15, name
        if name.endswith("bias"):
            assert (x == 0).all(), name
        if name.endswith("scale"):
            assert (x == 1).all(), name


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"heads": 3}, "size is 16, but must be a multiple of heads, 3"),
        ({"size": 15, "heads": 1}, "size is 15, but must be even"),
        ({"layers": 0}, "layers is 0, but must be at least 1"),
        ({"dropout": 1.0}, r"dropout is 1.0, but must be in \[0, 1\)"),
    ],
)
def test_configs_that_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        make(**fields)
