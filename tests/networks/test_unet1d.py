"""The U-Net: its convolutions against loops in numpy, and LeRobot's own network with the same parameters."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks import _convolution_1d as convolutions
from jaxrl.networks import unet1d
from jaxrl.networks._denoising import mish
from jaxrl.networks.vision.cameras import Config as Cameras
from jaxrl.networks.vision.pooling import Vision
from jaxrl.ops.paths import flatten_names
from jaxrl.types import ArraySpec
from tests.golden.transplants import unet as transplanted

GOLDEN = Path(__file__).parents[1] / "golden/lerobot_diffusion.npz"
OBSERVATION = {"state/arm": ArraySpec((2, 3)), "state/environment": ArraySpec((2, 2))}
WINDOWS = [(16, 5, 1, 2), (4, 5, 1, 2), (1, 5, 1, 2), (6, 3, 2, 1), (2, 3, 2, 1), (8, 4, 2, 1), (2, 4, 2, 1)]


def golden() -> dict[str, jax.Array]:
    with np.load(GOLDEN) as file:
        return {name: jnp.asarray(file[name]) for name in file.files if name != "versions"}


def slides(length, size, stride, padding):
    """(tap, step read, step written), one after the other."""
    steps = (length + 2 * padding - size) // stride + 1
    places = [(tap, stride * t + tap - padding, t) for t in range(steps) for tap in range(size)]
    return steps, [place for place in places if 0 <= place[1] < length]


@pytest.mark.parametrize("numbers", WINDOWS)
@pytest.mark.parametrize("form", ["cpu", "whole"])
def test_convolutions_and_their_transposes_against_loops(numbers, form):
    window, draws = convolutions.Window(*numbers), np.random.default_rng(0)
    steps, places = slides(*numbers)
    x, y = (draws.normal(size=(n, 2, c)).astype(np.float32) for n, c in ((numbers[0], 3), (steps, 4)))
    kernel = draws.normal(size=(numbers[1], 3, 4)).astype(np.float32)
    down, up, products = np.zeros_like(y), np.zeros_like(x), np.zeros_like(kernel)
    for tap, read, written in places:
        down[written] += x[read] @ kernel[tap]
        up[read] += y[written] @ kernel[tap].T
        products[tap] += x[read].T @ y[written]
    forms = {"cpu": (convolutions._on_cpu, convolutions._on_cpu_transposed), "whole": (convolutions._whole, convolutions._whole_transposed)}

    @jax.jit
    def both(x, y, kernel):
        there, pull = jax.vjp(lambda x, k: forms[form][0](x, k, window), x, kernel)
        back, pull_back = jax.vjp(lambda y, k: forms[form][1](y, k, window), y, kernel)
        return there, pull(y), back, pull_back(x)

    found, (of_x, of_kernel), back, (of_y, of_kernel_back) = both(x, y, kernel)
    for ours, oracle in ((found, down), (of_x, up), (of_kernel, products), (back, up), (of_y, down), (of_kernel_back, products)):
        np.testing.assert_allclose(ours, oracle, rtol=1e-5, atol=1e-5)


def test_mish():
    x = np.array([-100.0, -20.0, -1.0, 0.0, 1e-3, 1.0, 19.9, 20.1, 100.0])
    np.testing.assert_allclose(mish(jnp.asarray(x, jnp.float32)), x * np.tanh(np.logaddexp(x, 0.0)), rtol=1e-5, atol=1e-30)
    slopes = jax.vmap(jax.grad(mish))(jnp.asarray(x, jnp.float32))
    step = 1e-4
    oracle = [((x + d) * np.tanh(np.logaddexp(x + d, 0.0))) / (2 * d) for d in (step, -step)]
    np.testing.assert_allclose(slopes, sum(oracle), rtol=1e-4, atol=1e-5)


def test_output_is_that_of_lerobot():
    known = golden()
    config = unet1d.Config((8, 16, 16), time_size=16)
    network = unet1d.unet1d(config, OBSERVATION, (16, 2))
    params = {"unet": transplanted(known, "parameter/")}
    shapes = {name: x.shape for name, x in flatten_names(jax.eval_shape(network.init, jax.random.key(0))[0]).items()}
    assert {name: x.shape for name, x in flatten_names(params).items()} == shapes

    @jax.jit
    def run(params, noisy, time):
        condition, _ = network.encode(params, {}, {"state/arm": known["state"], "state/environment": known["environment"]})
        return network.denoise(params, noisy, time, condition)

    output = run(params, known["forward/noisy"], known["forward/step"] / jnp.float32(100))
    np.testing.assert_allclose(output, known["forward/output"], atol=1e-5)


def test_default_sizes():
    network = unet1d.unet1d(unet1d.Config(), {"state/all": ArraySpec((2, 66))}, (16, 2))  # PushT's, whose images come to 64 numbers
    params, _ = jax.eval_shape(network.init, jax.random.key(0))
    assert abs(sum(leaf.size for leaf in jax.tree.leaves(params)) / 251.5e6 - 1) < 2e-3


def test_pictures_are_looked_at():
    observation = {"state/arm": ArraySpec((2, 3)), "image/side": ArraySpec((2, 16, 16, 3), "uint8")}
    vision = Vision(Cameras("resnet_debug"), keypoints=4, head=(6,))
    network = unet1d.unet1d(unet1d.Config((8,), time_size=4, vision=vision), observation, (2, 1))

    def run(key):
        params, statistics = network.init(key)
        seen = {"state/arm": jnp.ones((3, 2, 3)), "image/side": jnp.ones((3, 2, 16, 16, 3), jnp.uint8)}
        condition, _ = network.encode(params, statistics, seen, key, train=True)
        return condition, network.denoise(params, jnp.ones((3, 2, 1)), jnp.ones(3), condition)

    condition, output = jax.eval_shape(run, jax.random.key(0))
    assert condition.shape == (3, 2 * (3 + 6)) and output.shape == (3, 2, 1)


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({}, (10, 2), "needs a horizon that is a multiple of 4, got 10; take a horizon of 12 or fewer channels"),
        ({}, (16,), r"makes chunks \[horizon, action_dim\]"),
        ({"channels": ()}, (16, 2), "at least one"),
        ({"channels": (12,)}, (16, 2), "multiples of groups, 8"),
        ({"kernel_size": 4}, (16, 2), "kernel_size is 4, but must be odd"),
        ({"time_size": 5}, (16, 2), "time_size is 5, but must be even"),
    ],
)
def test_what_is_refused(fields, shape, message):
    with pytest.raises(ValueError, match=message):
        unet1d.unet1d(unet1d.Config(**fields), OBSERVATION, shape)
