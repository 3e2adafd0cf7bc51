"""Diffusion Policy as an objective: its loss against numpy, padding, contexts, and LeRobot's losses, gradients and chunks."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algorithms import supervised
from jaxrl.generative import diffusion as process
from jaxrl.generative import schedules
from jaxrl.networks import unet1d
from jaxrl.objectives import diffusion
from jaxrl.ops import running_statistics
from jaxrl.ops.paths import flatten_names
from jaxrl.types import ArraySpec, PolicySpec
from tests.golden.transplants import unet as transplanted
from tests.objectives.denoisers import LINES, learns, small, telling

KEY = jax.random.key(0)
SPEC = PolicySpec({"state/arm": ArraySpec((2, 3)), "state/environment": ArraySpec((2, 2))}, ArraySpec((2,)), horizon=16)
BATCH = {
    "observation": {"state/arm": jnp.ones((4, 2, 3)), "state/environment": jnp.arange(16.0).reshape(4, 2, 2) / 10},
    "action": jax.random.normal(jax.random.key(1), (4, 16, 2)),
    "mask": (jnp.arange(16)[None, :, None] < jnp.array([16, 9, 4, 0])[:, None, None]) * jnp.ones((1, 1, 2)),
}
BATCH["mask"] = BATCH["mask"].at[0, :, 1].set(0.0)  # a dimension that this row's robot has not


def made(**fields):
    config = unet1d.Config((4, 8), groups=2, time_size=4)
    return diffusion.diffusion(diffusion.Config(**fields), SPEC, unet1d.unet1d(config, SPEC.observation, (16, 2)))


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v"])
def test_loss_against_numpy(prediction):
    seen = []

    def answer(noisy, time):
        seen.append((np.asarray(noisy), np.asarray(time)))
        return jnp.zeros_like(noisy)

    objective = diffusion.diffusion(diffusion.Config(prediction=prediction), SPEC, telling(answer))
    elements, mask, _, _ = objective.loss(*objective.init(KEY), BATCH, jax.random.key(2))
    (noisy, time), chunk = seen[0], np.where(BATCH["mask"] > 0, BATCH["action"], 0.0)
    table = np.cos((np.arange(101) / 100 + 0.008) / 1.008 * np.pi / 2) ** 2
    alpha_bar = np.cumprod(1 - np.minimum(1 - table[1:] / table[:-1], 0.999))[np.round(time * 100).astype(int)][:, None, None]
    assert ((time >= 0) & (time < 1)).all() and len(np.unique(time)) > 1
    noise = (noisy - np.sqrt(alpha_bar) * chunk) / np.sqrt(1 - alpha_bar)
    assert abs(noise.mean()) < 0.3 and 0.8 < noise.std() < 1.2  # at padding too
    target = {"epsilon": noise, "sample": chunk, "v": np.sqrt(alpha_bar) * noise - np.sqrt(1 - alpha_bar) * chunk}[prediction]
    np.testing.assert_allclose(elements, target**2, atol=2e-4)
    np.testing.assert_array_equal(mask, BATCH["mask"])


@functools.cache
def slopes():
    objective = made()

    @jax.jit
    @jax.value_and_grad
    def mean(params, action):
        elements, mask, _, _ = objective.loss(params, {"diffusion": {}}, BATCH | {"action": action}, jax.random.key(2))
        return jnp.where(mask > 0, elements, 0).sum()

    return jax.jit(objective.init)(KEY)[0], mean


@pytest.mark.parametrize("garbage", [1e30, jnp.nan, jnp.inf])
def test_padding_reaches_neither_network_nor_loss_nor_gradient(garbage):
    params, mean = slopes()
    clean = mean(params, BATCH["action"])
    dirty = mean(params, jnp.where(BATCH["mask"] == 0, garbage, BATCH["action"]))
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(clean))


def test_without_a_mask_everything_counts():
    objective = diffusion.diffusion(diffusion.Config(), SPEC, telling(lambda noisy, time: noisy))
    elements, mask, _, _ = objective.loss(*objective.init(KEY), {k: v for k, v in BATCH.items() if k != "mask"}, KEY)
    assert (mask == 1).all() and mask.shape == elements.shape == (4, 16, 2)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm_solver"])
def test_a_known_chunk_is_found_and_a_prefix_kept(sampler):
    """Of a network that always says the same chunk."""
    steps = jnp.sin(jnp.arange(16.0)).reshape(1, 16, 1)
    config = diffusion.Config(prediction="sample", sampler=sampler, inference_steps=7, clip_sample=2.0)
    objective = diffusion.diffusion(config, SPEC, telling(lambda noisy, time: jnp.broadcast_to(steps, noisy.shape)))
    params, statistics = objective.init(KEY)
    sample, keys = jax.jit(objective.sample), jax.random.split(KEY, 4)
    chunk = sample(params, statistics, BATCH["observation"], keys)
    np.testing.assert_allclose(chunk, jnp.broadcast_to(steps, chunk.shape), atol=2e-5)
    length = jnp.array([0, 1, 5, 16])
    context = {"prefix": jnp.full((4, 16, 2), -3.0), "prefix_length": length, "inference_delay": length}
    after = sample(params, statistics, BATCH["observation"], keys, context)
    known = jnp.arange(16)[None, :, None] < length[:, None, None]
    np.testing.assert_allclose(after, jnp.where(known, -3.0, chunk), atol=2e-5)


def test_clipping():
    objective = diffusion.diffusion(
        diffusion.Config(prediction="sample", num_steps=5, clip_sample=1.5), SPEC, telling(lambda noisy, time: jnp.full_like(noisy, 9.0))
    )
    chunk = objective.sample(*objective.init(KEY), BATCH["observation"], jax.random.split(KEY, 4))
    np.testing.assert_allclose(chunk, 1.5, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"inference_steps": 101}, "inference_steps is 101, but must be from 1 to 100"),
        ({"sampler": "dpm_solver"}, "inference_steps is 100, but must be from 1 to 99"),
        ({"num_steps": 0}, "num_steps is 0"),
        ({"clip_sample": -1.0}, "clip_sample is -1.0"),
    ],
)
def test_configs_that_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        diffusion.Config(**fields)


def test_discrete_actions_are_refused():
    with pytest.raises(ValueError, match="diffusion needs continuous actions"):
        diffusion.diffusion(diffusion.Config(), SPEC._replace(action=ArraySpec((), "int32", low=0, high=3)), telling(lambda x, time: x))


@pytest.mark.parametrize(("prediction", "sampler", "number"), [("epsilon", "ddpm", 0), ("v", "ddim", 10), ("sample", "dpm_solver", 8)])
def test_learns_under_supervised(prediction, sampler, number):
    config = diffusion.Config(30, prediction=prediction, sampler=sampler, inference_steps=number)
    losses, error = learns(diffusion.diffusion(config, LINES, small()), 1500)
    assert losses[-50:].mean() < 0.3 * losses[:5].mean()
    assert error < 1.0


def test_parameters_of_the_network_survive_being_split_and_merged():
    objective = made()
    algorithm = supervised.supervised(
        supervised.Config(frozen=("time_hidden",)), {"own": objective}, {"own": 1.0}, running_statistics.init(SPEC.observation)
    )
    update = lambda key: algorithm.update(algorithm.init(key), BATCH, key)[0]  # noqa: E731
    after = jax.eval_shape(update, KEY)
    assert set(flatten_names(after.frozen)) == {"diffusion/unet/time_hidden/kernel", "diffusion/unet/time_hidden/bias"}


# LeRobot's own numbers


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parents[1] / "golden/lerobot_diffusion.npz") as file:
        return {name: jnp.asarray(file[name]) for name in file.files if name != "versions"}


@pytest.fixture(scope="module")
def theirs(golden):
    """Their network, and theirs with its condition."""
    network = unet1d.unet1d(unet1d.Config((8, 16, 16), time_size=16), SPEC.observation, (16, 2))
    params = {"unet": jax.tree.map(jnp.asarray, transplanted(golden, "parameter/"))}
    condition, _ = network.encode(params, {}, {"state/arm": golden["state"], "state/environment": golden["environment"]})
    return network, params, condition


def test_loss_and_gradients_are_those_of_lerobot(golden, theirs):
    network, params, condition = theirs

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        denoise = lambda noisy, time: network.denoise(params, noisy, time, condition)  # noqa: E731
        return diffusion.errors(diffusion.Config(), denoise, golden["action"], golden["loss/step"], golden["loss/noise"]).mean()

    value, gradient = loss(params)
    np.testing.assert_allclose(value, golden["loss/value"], rtol=1e-5)
    ours = flatten_names(gradient["unet"])
    for name, x in golden.items():
        if name.startswith("gradient/"):
            place, value = PLACES[name.removeprefix("gradient/")]
            np.testing.assert_allclose(ours[place], value(x), atol=1e-4 * float(jnp.abs(x).max()), err_msg=name)
    assert len(PLACES) == sum(name.startswith("gradient/") for name in golden)


PLACES = {
    "down_modules.0.0.conv1.block.0.weight": ("down_0_0/convolution_0/kernel", lambda x: x.T),
    "down_modules.1.2.weight": ("shrink_1/kernel", lambda x: x.T),
    "mid_modules.0.cond_encoder.1.weight": ("middle_0/film/kernel", lambda x: x.T),
    "mid_modules.1.conv2.block.1.weight": ("middle_1/norm_1/scale", lambda x: x),
    "up_modules.0.0.residual_conv.weight": ("up_2_0/residual/kernel", lambda x: x[..., 0].T),
    "up_modules.1.2.weight": ("grow_1/kernel", lambda x: x.T),
    "diffusion_step_encoder.1.bias": ("time_hidden/bias", lambda x: x),
    "final_conv.1.weight": ("output/kernel", lambda x: x[..., 0].T),
}


@pytest.mark.parametrize(("sampler", "number", "clip"), [("ddpm", 100, 1.0), ("ddim", 25, 1.0), ("dpm_solver", 20, 0.0)])
def test_chunks_are_those_of_lerobot(golden, theirs, sampler, number, clip):
    network, params, condition = theirs
    steps = process.SAMPLERS[sampler](schedules.schedule("squaredcos_cap_v2", 100), number)

    @jax.jit
    def sample(params, start, added):
        denoise = lambda noisy, time: network.denoise(params, noisy, time, condition)  # noqa: E731
        return process.sample(steps, denoise, start, lambda i: added[jnp.minimum(i, 98)], clip=clip)

    found, known = sample(params, golden["sample/start"], golden["sample/added"]), golden[f"sample/{sampler}_{number}"]
    np.testing.assert_allclose(found, known, atol=1e-4 * max(1.0, float(jnp.abs(known).max())))
