"""Schedules and samplers: numbers of diffusers, and exact denoisers, whose samples must have the distribution they are of."""

import math
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest

from jaxrl.generative import diffusion, flow, rows, schedules
from jaxrl.losses.denoising import converted
from tests.generative import mixtures

KEY = jax.random.key(0)
KEYS = jax.random.split(KEY, 500)  # of rows, with chunks [4, 1]
GOLDEN = np.load(Path(__file__).parents[1] / "golden/lerobot_diffusion.npz")
COSINE = schedules.schedule("squaredcos_cap_v2", 100)


@pytest.mark.parametrize("name", ["squaredcos_cap_v2", "linear"])
def test_schedules_are_those_of_diffusers(name):
    found = schedules.schedule(name, 100)
    np.testing.assert_allclose(found.betas, GOLDEN[f"schedule/{name}/betas"], rtol=1e-6)
    np.testing.assert_allclose(found.alpha_bar, GOLDEN[f"schedule/{name}/alpha_bar"], rtol=2e-5)  # theirs are products in float32


def test_published_numbers_of_the_cosine():
    np.testing.assert_allclose(COSINE.betas[:3], [0.0006, 0.0011, 0.0016], atol=5e-5)
    np.testing.assert_allclose(COSINE.alpha_bar[[0, 50, 99]], [0.99937, 0.47826, 2.43e-7], rtol=1e-3)


def test_spacings():
    assert diffusion.leading(100, 12).tolist() == [*range(88, -1, -8)]
    assert diffusion.leading(4, 4).tolist() == [3, 2, 1, 0]
    assert diffusion.linspace(100, 5).tolist() == [99, 79, 59, 40, 20]
    for number in (0, 101):
        with pytest.raises(ValueError, match=f"inference_steps is {number}, but must be from 1 to 100"):
            diffusion.leading(100, number)
    with pytest.raises(ValueError, match="from 1 to 99"):
        diffusion.linspace(100, 100)
    with pytest.raises(ValueError, match="num_steps is 0"):
        schedules.schedule("linear", 0)


@pytest.mark.parametrize("number", [4, 7])
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v"])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm_solver"])
def test_steps_of_diffusers_whatever_is_predicted(sampler, prediction, number):
    steps = diffusion.SAMPLERS[sampler](schedules.schedule("squaredcos_cap_v2", 10), number)
    clip = 0.0 if sampler == "dpm_solver" else 1.0  # the defaults of diffusers
    output, start, added = (jnp.asarray(GOLDEN[f"step/{name}"]) for name in ("output", "noisy", "added"))
    found = diffusion.sample(steps, lambda x, time: output, start, lambda i: added[i], prediction, clip)
    theirs = GOLDEN[f"step/{sampler}/{prediction}/{number}"]
    np.testing.assert_allclose(found, theirs, atol=1e-5 * max(1.0, np.abs(theirs).max()))


def diffuse(sampler, number, prediction="sample", start=None, total=100, **options):
    schedule = schedules.schedule("squaredcos_cap_v2", total)
    table = jnp.asarray(schedule.alpha_bar, jnp.float32)

    def denoise(noisy, time):
        alpha_bar = table[jnp.round(time * total).astype(int)]
        level = alpha_bar.reshape(-1, 1, 1)
        chunk = mixtures.expected(noisy, jnp.sqrt(level), jnp.sqrt(1.0 - level))
        return converted(chunk, noisy, alpha_bar, "sample", prediction)

    def run(keys):
        begin = rows.normal(rows.numbered(keys, 0), (4, 1)) if start is None else start
        noise = lambda i: rows.normal(rows.numbered(keys, i + 1), (4, 1))  # noqa: E731
        return diffusion.sample(diffusion.SAMPLERS[sampler](schedule, number), denoise, begin, noise, prediction, **options)

    return jax.jit(run)


def field(noisy, time):
    level = time.reshape(-1, 1, 1)
    chunk = mixtures.expected(noisy, 1.0 - level, level)
    return (noisy - chunk) / level


def flowed(sampler, number, **options):
    return jax.jit(lambda keys: flow.sample(sampler, number, field, rows.normal(keys, (4, 1)), **options))


SAMPLED = {
    "ddpm": diffuse("ddpm", 100),
    "ddpm, noise predicted, clipped": diffuse("ddpm", 100, "epsilon", clip=2.0),
    "ddim": diffuse("ddim", 100),
    "ddim, v predicted": diffuse("ddim", 50, "v"),
    "dpm_solver": diffuse("dpm_solver", 100, total=1000),
    "euler": flowed("euler", 200),
    "midpoint": flowed("midpoint", 50),
}


@pytest.mark.parametrize("name", SAMPLED)
def test_samples_of_the_exact_denoiser_have_its_distribution(name):
    chunks = np.asarray(SAMPLED[name](KEYS))
    assert abs(chunks.mean() - mixtures.MEAN) < 4 * math.sqrt(mixtures.VARIANCE / chunks.size)
    assert abs(chunks.var() / mixtures.VARIANCE - 1) < 0.07
    assert kstest(chunks.ravel(), mixtures.distribution).pvalue > 1e-3
    left = (chunks < -0.3).mean()
    assert abs(left - mixtures.WEIGHTS[0]) < 4 * math.sqrt(0.21 / chunks.size)


@pytest.mark.parametrize("name", ["ddpm", "euler"])
def test_a_row_follows_its_own_key(name):
    run, others = SAMPLED[name], jnp.concatenate([KEYS[:1], jax.random.split(jax.random.key(1), 499)])
    found = run(KEYS)
    np.testing.assert_array_equal(found[0], run(others)[0])
    assert (found[1:] != run(others)[1:]).all()
    assert len(np.unique(found)) > 0.99 * found.size


def test_order_of_convergence():
    """The error against many steps falls as the step, or as its square."""
    start = rows.normal(KEYS[:50], (4, 1))

    def errors(run, numbers, exact):
        return [float(jnp.abs(run(n) - exact).mean()) for n in numbers]

    run = lambda sampler, n: jax.jit(partial(flow.sample, sampler, n, field))(start)  # noqa: E731
    exact = run("midpoint", 800)
    for sampler, order in (("euler", 1), ("midpoint", 2)):
        coarse, fine = errors(partial(run, sampler), (50, 100), exact)
        assert abs(math.log2(coarse / fine) - order) < 0.35, (sampler, coarse, fine)


def test_times_of_the_beta_distribution():
    from scipy.stats import beta

    drawn = np.asarray(flow.beta(KEY, (4000,)))
    assert kstest((drawn - 0.001) / 0.999, beta(1.5, 1).cdf).pvalue > 1e-3 and drawn.min() >= 0.001 and drawn.max() <= 1
    assert kstest(np.asarray(flow.uniform(KEY, (4000,))), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("number", [1, 3, 10, 70])
def test_number_of_steps_of_a_flow_is_exact(number):
    """Of a field that is 1 everywhere, and of one that tells at which times it was asked."""
    start = jnp.zeros((2, 3, 1))
    asked = flow.sample("euler", number, lambda x, time: -jnp.broadcast_to(time.reshape(-1, 1, 1), x.shape), start)
    np.testing.assert_allclose(asked, np.arange(1, number + 1).mean() / number, rtol=1e-5)
    np.testing.assert_allclose(flow.sample("midpoint", number, lambda x, time: jnp.ones_like(x), start), -1.0, rtol=1e-5)


KNOWN = {
    "ddpm": lambda known: diffuse("ddpm", 50, known=known),
    "ddim": lambda known: diffuse("ddim", 20, known=known),
    "dpm_solver": lambda known: diffuse("dpm_solver", 10, known=known),
    "euler": lambda known: flowed("euler", 50, known=known),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_steps_come_out_as_they_are(name):
    chunk = jnp.where(jnp.arange(4)[None, :, None] < 2, 0.6, jnp.nan) * jnp.ones((500, 1, 1))
    length = jnp.where(jnp.arange(500) < 250, 2, 0)
    context = {"prefix": chunk, "prefix_length": length, "inference_delay": length}
    found = np.asarray(KNOWN[name](rows.prefix(context, 4))(KEYS))
    np.testing.assert_array_equal(found[:250, :2], np.float32(0.6))
    free = KNOWN[name](None)(KEYS)
    np.testing.assert_allclose(found[250:], free[250:], atol=1e-4)
    np.testing.assert_allclose(found[:250, 2:], free[:250, 2:], atol=1e-4)  # numbers of this mixture do not depend on each other
