"""Networks of objectives that see pictures: what they are made of, and what a frozen backbone is spared. Nothing is computed here."""

import jax
import jax.numpy as jnp
import pytest

from jaxrl.algorithms import supervised
from jaxrl.networks import act, state_mlp, state_rnn, state_transformer, transformer_denoiser, unet1d
from jaxrl.networks.vision.cameras import Config as Cameras
from jaxrl.networks.vision.pooling import Vision
from jaxrl.objectives import act as act_objective
from jaxrl.ops import running_statistics
from jaxrl.ops.paths import flatten_names
from jaxrl.types import ArraySpec, PolicySpec

KEY = jax.random.key(0)
VISION = Vision(Cameras("resnet_debug", crop=(16, 16), shift=1), keypoints=4, head=(6,))
SPEC = {"image/side": ArraySpec((2, 20, 24, 3), "uint8"), "state/a": ArraySpec((2, 3))}


def seen(spec, batch=5):
    return {name: jax.ShapeDtypeStruct((batch, *part.shape), part.dtype) for name, part in spec.items()}


@pytest.mark.parametrize("module", [state_mlp, state_rnn, state_transformer])
def test_networks_of_behaviour_cloning(module):
    factory = getattr(module, module.__name__.rpartition(".")[2])
    for vision in (VISION, None):
        network = factory(module.Config(vision=vision), SPEC, (4, 2))
        params, statistics = jax.eval_shape(network.init, KEY)
        assert ("encoder" in params) == (vision is not None)
        output, _ = jax.eval_shape(lambda *x, apply=network.apply: apply(*x, train=True), params, statistics, seen(SPEC), KEY)
        assert output.shape == (5, 4, 2)


@pytest.mark.parametrize(
    ("factory", "config", "shape"),
    [
        (unet1d.unet1d, unet1d.Config((8, 16), vision=VISION), (5, 2 * (3 + 6))),
        (transformer_denoiser.transformer_denoiser, transformer_denoiser.Config(1, 2, 8, vision=VISION), (5, 2, 3 + 6)),
    ],
)
def test_denoisers(factory, config, shape):
    network = factory(config, SPEC, (4, 2))
    params, statistics = jax.eval_shape(network.init, KEY)
    condition, _ = jax.eval_shape(lambda *x: network.encode(*x, train=True), params, statistics, seen(SPEC), KEY)
    assert condition.shape == shape
    chunk = jax.ShapeDtypeStruct((5, 4, 2), jnp.float32)
    assert jax.eval_shape(network.denoise, params, chunk, jax.ShapeDtypeStruct((5,), jnp.float32), condition).shape == (5, 4, 2)


def test_a_frozen_backbone_has_no_optimizer_state():
    spec = {"image/side": ArraySpec((20, 24, 3), "uint8"), "state/a": ArraySpec((3,))}
    cameras = Cameras("resnet_debug", "batch", frozen=True, weights="theirs", rotation=5.0, brightness=0.2)
    network = act.act(act.Config(cameras, size=8, heads=2, hidden=8, encoder_layers=1, posterior_layers=1), spec, (4, 2))
    objective = act_objective.act(act_objective.Config(), PolicySpec(spec, ArraySpec((2,)), horizon=4), network)
    normaliser = running_statistics.init(spec | {"action": ArraySpec((2,))})
    algorithm = supervised.supervised(supervised.Config(frozen=("/backbone/",)), {"act": objective}, {"act": 1.0}, normaliser)
    state = jax.eval_shape(algorithm.init, KEY)
    assert all(name.startswith("act/backbone/side/") for name in flatten_names(state.frozen))
    assert not any("backbone" in name for part in (state.params, state.opt_state) for name in flatten_names(part))
    kept = flatten_names(state.statistics.objectives)
    assert "act/backbone/side/stem_norm/mean" in kept and "act/backbone/side/stem_norm/scale" in kept
    batch = {"observation": seen(spec), "action": jax.ShapeDtypeStruct((5, 4, 2), jnp.float32)}
    after, metrics, _ = jax.eval_shape(algorithm.update, state, batch, KEY)
    assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(lambda x: x.shape, state)
    assert {"act/l1", "act/kl", "loss/act"} <= set(metrics)
