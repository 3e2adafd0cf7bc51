"""VQ-BeT with the parameters of LeRobot's own, and the codes that it drew."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks import gpt
from jaxrl.objectives import vqbet
from jaxrl.ops.padding import masked_mean
from jaxrl.ops.paths import flatten_names
from jaxrl.tokenizers import residual_vq
from jaxrl.types import ArraySpec, PolicySpec
from tests.golden import transplants

GOLDEN = Path(__file__).parents[1] / "golden/lerobot_vqbet.npz"
CHUNK, DIMS, CODES = 3, 2, 5
CONFIG = vqbet.Config(chunk=CHUNK, codebooks=residual_vq.Config(codes=CODES, size=6), hidden=(8, 8))
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def known():
    with np.load(GOLDEN) as file:
        return {name: jnp.asarray(file[name]) for name in file.files if name != "versions"}


def spec(steps: int, queries: int) -> PolicySpec:
    seen = {"state/a_features": ArraySpec((steps, 3)), "state/b_state": ArraySpec((steps, 2))}
    return PolicySpec(seen, ArraySpec((DIMS,)), horizon=CHUNK + queries - 1)


def made(known, steps: int, queries: int, config: vqbet.Config = CONFIG):
    """The objective of the second stage, its parameters and statistics."""
    own = spec(steps, queries)
    network = gpt.gpt(gpt.Config(16, 2, 2, dropout=0.0), own.observation, vqbet.output_shape(CONFIG, own))
    objective = vqbet.vqbet(config, own, network)
    params = {"vqbet": {"transformer": transplants.vqbet(known, 3 * steps + queries - 1, CODES, "parameter/")}}
    layers, books = transplants.vqbet_codes(known, "parameter/action_head.vqvae_model.")
    statistics = {"codes": layers | {"codebooks": residual_vq.Codebooks(**jax.tree.map(jnp.asarray, books))}, "vqbet": {}}
    begun = jax.eval_shape(objective.init, KEY)
    shapes = lambda tree: {name: x.shape for name, x in flatten_names(tree).items()}  # noqa: E731
    assert shapes((params, statistics)) == shapes(begun)
    return network, objective, jax.tree.map(jnp.asarray, params), statistics


def seen(known, name: str) -> dict[str, jax.Array]:
    return {"state/a_features": known[f"{name}/features"], "state/b_state": known[f"{name}/state"]}


def drawing(monkeypatch, codes) -> None:
    """Has the objective draw what LeRobot drew."""
    monkeypatch.setattr(vqbet.jax.random, "categorical", lambda key, logits: jnp.broadcast_to(codes, logits.shape[:-1]))


def test_the_transformer_puts_out_what_lerobots_does(known):
    network, _, params, _ = made(known, 3, 2)
    output, _ = jax.jit(network.apply)(params["vqbet"], {}, seen(known, "rollout"))
    np.testing.assert_allclose(output[..., 0], known["rollout/logits"][:, -2:], rtol=1e-5, atol=1e-5)


def test_the_chunk_of_the_present_step(known, monkeypatch):
    _, objective, params, statistics = made(known, 3, 2)
    row = 1
    drawing(monkeypatch, known["rollout/codes"][row, 2])
    observation = jax.tree.map(lambda x: x[row : row + 1], seen(known, "rollout"))
    chunk = objective.sample(params, statistics, observation, jax.random.split(KEY, 1))
    np.testing.assert_allclose(chunk[0], known["rollout/chunk"][row, 2], rtol=1e-5, atol=1e-5)


def test_loss_and_gradient(known, monkeypatch):
    _, objective, params, statistics = made(known, 1, 3)
    drawing(monkeypatch, known["loss/codes"])
    batch = {"observation": seen(known, "loss"), "action": known["loss/action"]}

    def mean(params):
        elements, mask, _, metrics = objective.loss(params, statistics, batch, KEY)
        return masked_mean(elements, mask), metrics

    (loss, metrics), gradient = jax.jit(jax.value_and_grad(mean, has_aux=True))(params)
    np.testing.assert_allclose(loss, known["loss/value"], rtol=1e-5)
    _, codes_alone, _, _ = made(known, 1, 3, dataclasses.replace(CONFIG, offset_weight=0.0))
    elements, mask, _, _ = jax.jit(codes_alone.loss)(params, statistics, batch, KEY)
    np.testing.assert_allclose(masked_mean(elements, mask), known["loss/classification_loss"], rtol=1e-5)
    for ours, theirs in {"distance": "offset_loss", "decoded": "vq_action_error", "code_0": "equal_primary_code_rate"}.items():
        np.testing.assert_allclose(metrics[ours], known[f"loss/{theirs}"], rtol=1e-5)
    own = gradient["vqbet"]["transformer"]
    parts = {
        "bin": own["output"]["kernel"].reshape(16, 2, CODES, -1)[..., 0],
        "offset": own["output"]["kernel"].reshape(16, 2, CODES, -1)[..., 1:],
    }
    found = {
        "action_token": own["query"][None, None],
        "state_projector.0.weight": own["group_1"]["kernel"].T,
        "policy.transformer.h.0.attn.c_attn.weight": jnp.concatenate([own["block_0"][n]["kernel"].T for n in ("query", "key", "value")]),
        "policy.transformer.h.1.mlp.2.weight": own["block_1"]["output"]["kernel"].T,
        "policy.lm_head.weight": own["features"]["kernel"].T,
        **{f"action_head.map_to_cbet_preds_{name}.0.weight": part.reshape(16, -1).T for name, part in parts.items()},
    }
    places = known["gradient/policy.transformer.wpe.weight"]
    assert not places[5:].any()
    found["policy.transformer.wpe.weight"] = jnp.concatenate([own["positions"], places[5:]])
    assert set(found) == {name.removeprefix("gradient/") for name in known if name.startswith("gradient/")}
    for name, ours in found.items():
        theirs = known[f"gradient/{name}"]
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * float(jnp.abs(theirs).max()), err_msg=name)


def test_a_step_of_the_first_stage(known):
    config = dataclasses.replace(CONFIG, stage="codes")
    own = spec(1, 1)
    objective = vqbet.vqbet(config, own, gpt.gpt(gpt.Config(16, 1, 2), own.observation, vqbet.output_shape(config, own)))
    layers, books = transplants.vqbet_codes(known, "codes/before/")
    params = jax.tree.map(jnp.asarray, {"codes": layers})
    statistics = {"codes": {"codebooks": residual_vq.Codebooks(**jax.tree.map(jnp.asarray, books))}}
    action = known["codes/action"]
    batch = {"observation": {name: jnp.zeros((len(action), *s.shape)) for name, s in own.observation.items()}, "action": action}

    def mean(params):
        elements, mask, after, metrics = objective.loss(params, statistics, batch, KEY)
        return masked_mean(elements, mask), (after, metrics)

    (loss, (after, metrics)), gradient = jax.jit(jax.value_and_grad(mean, has_aux=True))(params)
    np.testing.assert_allclose(loss, known["codes/loss"], rtol=1e-5)
    np.testing.assert_allclose(metrics["distance"], known["codes/distance"], rtol=1e-5)
    ours, theirs = gradient["codes"], lambda name: known[f"codes/gradient/{name}"]
    pairs = (
        (ours["encoder"]["hidden_0"]["kernel"].T, theirs("encoder.0.weight")),
        (ours["encoder"]["output"]["bias"], theirs("encoder.4.bias")),
        (ours["decoder"]["hidden_1"]["kernel"].T, theirs("decoder.2.weight")),
    )
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * float(jnp.abs(b).max()))
    _, books = transplants.vqbet_codes(known, "codes/after/")
    for name, value in books.items():
        np.testing.assert_allclose(getattr(after["codes"]["codebooks"], name), value, rtol=1e-5, atol=1e-6)
