"""Each network with cameras learns one step: from what they show, and not from what a camera shows that is not there."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algorithms import supervised
from jaxrl.networks import act, energy_mlp, gpt, state_mlp, state_rnn, state_transformer, token_decoder, transformer_denoiser, unet1d
from jaxrl.networks._observation import encoder
from jaxrl.networks.vision.cameras import Config as Cameras
from jaxrl.networks.vision.pooling import Vision
from jaxrl.objectives import act as act_objective
from jaxrl.objectives import bc, diffusion, flow, ibc, tokens, vqbet
from jaxrl.ops import running_statistics
from jaxrl.types import ArraySpec, PolicySpec

KEY = jax.random.key(0)
CAMERAS = Cameras("resnet_debug", shared=True)
VISION = Vision(CAMERAS, pool="mean", head=(4,))
PICTURE = ArraySpec((16, 16, 3), "uint8")
SPEC = PolicySpec({"image/side": PICTURE, "image/wrist": PICTURE, "state/a": ArraySpec((3,))}, ArraySpec((2,)), horizon=4)
ROWS = 4
ABSENT = jnp.array([True, False, True, False])


class Case(NamedTuple):
    network: Any
    config: Any  # of the network
    objective: Any
    own: Any  # of the objective


CASES = {
    "gpt": Case(gpt, gpt.Config(8, 1, 2, 0.0, VISION), vqbet, vqbet.Config(chunk=2, hidden=(8,))),
    "token_decoder": Case(token_decoder, token_decoder.Config(8, 1, 2, vision=VISION), tokens, tokens.Config(bins=8)),
    "energy_mlp": Case(energy_mlp, energy_mlp.Config((8,), vision=VISION), ibc, ibc.Config(negatives=4, samples=4)),
    "state_mlp": Case(state_mlp, state_mlp.Config((8,), vision=VISION), bc, bc.Config()),
    "state_rnn": Case(state_rnn, state_rnn.Config(memory_size=8, layers=1, vision=VISION), bc, bc.Config()),
    "state_transformer": Case(state_transformer, state_transformer.Config(8, 1, 2, 0.0, VISION), bc, bc.Config()),
    "unet1d": Case(unet1d, unet1d.Config((4,), groups=2, time_size=4, vision=VISION), diffusion, diffusion.Config()),
    "transformer_denoiser": Case(transformer_denoiser, transformer_denoiser.Config(1, 2, 8, vision=VISION), flow, flow.Config()),
    "act": Case(
        act,
        act.Config(CAMERAS, size=8, heads=2, hidden=8, encoder_layers=1, posterior_layers=1, latent_size=2, dropout=0.0),
        act_objective,
        act_objective.Config(),
    ),
}


def pictures(seed: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).integers(0, 256, (ROWS, 16, 16, 3), np.uint8))


def of(module: Any) -> Any:
    return getattr(module, module.__name__.rpartition(".")[2])


def begun(algorithm: Any) -> Any:
    """What `init` makes, with parameters that are drawn here: that is not compiled."""
    drawn = np.random.default_rng(0)
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(algorithm.init, KEY))
    params = jax.tree.map(lambda x: jnp.asarray(drawn.normal(0.0, 0.3, x.shape), x.dtype), state.params)
    variance = {name: jnp.ones_like(x) for name, x in state.statistics.normaliser.variance.items()}
    normaliser = state.statistics.normaliser._replace(variance=variance)
    return state._replace(params=params, statistics=state.statistics._replace(normaliser=normaliser))


@pytest.mark.parametrize("name", CASES)
def test_a_step_is_learnt_from_what_is_there(name):
    case = CASES[name]
    shape = getattr(case.objective, "output_shape", lambda config, spec: (spec.horizon, *spec.action.shape))(case.own, SPEC)
    objective = of(case.objective)(case.own, SPEC, of(case.network)(case.config, SPEC.observation, shape))
    normaliser = running_statistics.init({"state/a": SPEC.observation["state/a"], "action": SPEC.action})
    algorithm = supervised.supervised(supervised.Config(), {"own": objective}, {"own": 1.0}, normaliser)
    state = begun(algorithm)
    seen = {"image/side": pictures(0), "image/wrist": pictures(1), "state/a": jnp.ones((ROWS, 3))}
    there = {"image/side": jnp.ones(ROWS), "image/wrist": 1.0 - ABSENT, "state/a": jnp.ones(ROWS)}
    batch = {"observation": seen, "present": there, "action": 0.5 * jax.random.normal(KEY, (ROWS, 4, 2))}
    update = jax.jit(algorithm.update)

    def after(rows):
        """The state after a step in which the wrist's pictures of these rows are others."""
        other = jnp.where(rows[:, None, None, None], pictures(2), seen["image/wrist"])
        return update(state, batch | {"observation": seen | {"image/wrist": other}}, KEY)

    learnt, metrics, _ = after(jnp.zeros(ROWS, bool))
    assert all(jnp.isfinite(value) for value in metrics.values()) and metrics["gradient_norm"] > 0
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.params, learnt.params)
    assert any(jax.tree.leaves(moved[next(iter(moved))]))
    jax.tree.map(np.testing.assert_array_equal, (learnt, metrics), after(ABSENT)[:2])
    assert after(~ABSENT)[1]["loss"] != metrics["loss"]  # but those that are there are looked at


@pytest.mark.parametrize("fields", [{}, {"pool": "none", "fusion": "attention", "head": (4,), "heads": 2}])
def test_a_camera_is_absent_where_the_present_step_says_so(fields):
    """Steps before an episode's first are flagged too, but show its first one again, as they do to a policy that acts."""
    spec = {"image/side": ArraySpec((2, 16, 16, 3), "uint8"), "image/wrist": ArraySpec((2, 16, 16, 3), "uint8")}
    look = encoder(spec, "the test", Vision(CAMERAS, **{"keypoints": 4, "head": (4,)} | fields))
    params, statistics = jax.jit(look.network.init)(KEY)
    seen = {name: jnp.stack([pictures(i), pictures(i + 2)], 1) for i, name in enumerate(spec)}
    flags = jnp.array([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    apply = jax.jit(lambda x: look.network.apply(params, statistics, x)[0])
    plain, found = apply(seen), apply(seen | {"present/image/wrist": flags})
    np.testing.assert_allclose(found[:2], plain[:2], atol=1e-6)
    assert (jnp.abs(found[2:] - plain[2:]).max((1, 2)) > 1e-4).all()
    others = seen | {"image/wrist": seen["image/wrist"][::-1], "present/image/wrist": flags}
    np.testing.assert_allclose(apply(others)[2:], found[2:], atol=1e-6)
    assert (jnp.abs(apply(others)[:2] - found[:2]).max((1, 2)) > 1e-4).all()
