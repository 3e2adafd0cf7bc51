"""Consistency distillation: its loss against numpy, padding, contexts, and a student that does as its teacher."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import ks_2samp

from jaxrl import optimizers
from jaxrl.algorithms import supervised
from jaxrl.generative import consistency as process
from jaxrl.generative import rows
from jaxrl.networks import transformer_denoiser
from jaxrl.networks.interface import Denoiser
from jaxrl.objectives import consistency, diffusion, flow
from jaxrl.ops import running_statistics
from jaxrl.ops.paths import flatten_names
from jaxrl.types import ArraySpec, PolicySpec
from tests.objectives.denoisers import LINES, small

KEY = jax.random.key(0)
SPEC = PolicySpec({"state/arm": ArraySpec((2, 3))}, ArraySpec((2,)), horizon=4)
BATCH = {
    "observation": {"state/arm": jnp.arange(30.0).reshape(5, 2, 3) / 10},
    "action": jax.random.normal(jax.random.key(1), (5, 4, 2)),
    "mask": (jnp.arange(4)[None, :, None] < jnp.array([4, 3, 1, 0, 4])[:, None, None]) * jnp.ones((1, 1, 2)),
}
BATCH["mask"] = BATCH["mask"].at[0, :, 1].set(0.0)  # a dimension that this row's robot has not


def affine(seen: list) -> Denoiser:
    """Says `scale * x + time + shift`; what it is asked is put into `seen`."""

    def denoise(params, noisy, time, condition, key=None, train=False):
        seen.append((np.asarray(noisy), np.asarray(time), float(params["scale"])))
        return params["scale"] * noisy + time.reshape(-1, 1, 1) + params["shift"]

    init = lambda key: ({"scale": jax.random.uniform(key), "shift": jax.random.uniform(jax.random.fold_in(key, 1))}, {})  # noqa: E731
    return Denoiser(init, lambda params, statistics, x, key=None, train=False: (x["state/arm"], statistics), denoise)


def cosine(steps):
    table = np.cos((np.arange(101) / 100 + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.append(np.cumprod(1 - np.minimum(1 - table[1:] / table[:-1], 0.999))[steps], 1.0)


@pytest.mark.parametrize(("teacher", "prediction"), [("flow", "v"), ("diffusion", "epsilon"), ("diffusion", "sample"), ("diffusion", "v")])
def test_loss_against_numpy(teacher, prediction):
    seen = []
    config = consistency.Config(teacher, points=9, prediction=prediction, clip_sample=0.9, target_decay=0.8)
    objective = consistency.consistency(config, SPEC, affine(seen))
    params, statistics = objective.init(KEY)
    statistics["consistency_target"] = {"params": {"scale": jnp.asarray(0.2), "shift": jnp.asarray(-0.1)}, "updates": jnp.asarray(3)}
    seen.clear()
    elements, mask, after, metrics = objective.loss(params, statistics, BATCH, jax.random.key(2))

    own, other = (jax.tree.map(float, tree) for tree in (params["consistency"], statistics[teacher]))
    average = {name: 0.8 * x + 0.2 * own[name] for name, x in (("scale", 0.2), ("shift", -0.1))}
    assert after["consistency_target"]["updates"] == 4
    for name, x in average.items():
        np.testing.assert_allclose(after["consistency_target"]["params"][name], x, rtol=1e-6)
    assert [round(scale, 5) for *_, scale in seen] == [round(x["scale"], 5) for x in (other, average, own)]
    x, time = seen[0][0].astype(np.float64), seen[0][1].astype(np.float64)
    np.testing.assert_array_equal(seen[2][0], seen[0][0])  # teacher and student are shown the same
    say = lambda who, x, time: who["scale"] * x + time.reshape(-1, 1, 1) + who["shift"]  # noqa: E731

    if teacher == "flow":
        levels = np.arange(9, -1, -1) / 9
        signal, noise, times, skip, out = 1 - levels, levels, levels, np.ones(10), -levels
    else:
        steps = np.linspace(0, 99, 10).round()[:0:-1].astype(int)
        signal, noise = np.sqrt(cosine(steps)), np.sqrt(1 - cosine(steps))
        times, skip, out = np.append(steps / 100, 0), signal, -noise
    i = np.abs(times[None] - time[:, None]).argmin(1)
    assert len(set(i)) > 2 and i.max() < 9
    of = lambda numbers, i: numbers[i].reshape(-1, 1, 1)  # noqa: E731
    chunk = np.where(BATCH["mask"] > 0, BATCH["action"], 0.0)
    drawn = (x - of(signal, i) * chunk) / of(noise, i)
    assert 0.6 < drawn.std() < 1.4  # at padding too
    said = say(other, x, time)
    if teacher == "flow":
        made_out, rest = x - of(noise, i) * said, x + of(signal, i) * said
    elif prediction == "epsilon":
        made_out, rest = (x - of(noise, i) * said) / of(signal, i), said
    elif prediction == "sample":
        made_out, rest = said, (x - of(signal, i) * said) / of(noise, i)
    else:
        made_out, rest = of(signal, i) * x - of(noise, i) * said, of(noise, i) * x + of(signal, i) * said
    if teacher == "diffusion":
        assert (np.abs(made_out) > 0.9).any()
        made_out = np.clip(made_out, -0.9, 0.9)
    later = of(signal, i + 1) * made_out + of(noise, i + 1) * rest
    np.testing.assert_allclose(seen[1][0], later, rtol=1e-4, atol=1e-4)
    goal = of(skip, i + 1) * later + of(out, i + 1) * say(average, later, times[i + 1])
    found = of(skip, i) * x + of(out, i) * say(own, x, time)
    weight = np.asarray(BATCH["mask"]) > 0
    square = np.where(weight, (found - goal) ** 2, 0).sum((1, 2)) / np.maximum(weight.sum((1, 2)), 1)
    distance = np.sqrt(square + 0.00054**2) - 0.00054
    np.testing.assert_allclose(elements, np.broadcast_to(distance[:, None, None], (5, 4, 2)), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(mask, BATCH["mask"])
    np.testing.assert_allclose(metrics["distance"], np.abs(found - chunk)[weight].mean(), rtol=1e-3)
    np.testing.assert_allclose(metrics["teacher"], np.abs(made_out - chunk)[weight].mean(), rtol=1e-3)


def test_the_average_begins_with_the_student():
    objective = consistency.consistency(consistency.Config(), SPEC, affine([]))
    params, statistics = objective.init(KEY)
    params = jax.tree.map(lambda x: x + 1.0, params)  # as if pretrained
    _, _, after, _ = objective.loss(params, statistics, BATCH, KEY)
    jax.tree.map(np.testing.assert_array_equal, after["consistency_target"]["params"], params["consistency"])


@functools.cache
def slopes():
    network = transformer_denoiser.transformer_denoiser(transformer_denoiser.Config(1, 2, 8), SPEC.observation, (4, 2))
    objective = consistency.consistency(consistency.Config(), SPEC, network)
    params, statistics = jax.jit(objective.init)(KEY)

    @jax.jit
    @jax.value_and_grad
    def mean(params, action):
        elements, mask, _, _ = objective.loss(params, statistics, BATCH | {"action": action}, jax.random.key(2))
        return jnp.where(mask > 0, elements, 0).sum()

    return params, mean


@pytest.mark.parametrize("garbage", [1e30, jnp.nan, jnp.inf])
def test_padding_reaches_neither_network_nor_loss_nor_gradient(garbage):
    params, mean = slopes()
    clean = mean(params, BATCH["action"])
    dirty = mean(params, jnp.where(BATCH["mask"] == 0, garbage, BATCH["action"]))
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(clean)) and float(clean[0]) > 0


@pytest.mark.parametrize("teacher", ["diffusion", "flow"])
def test_a_prefix_is_kept_and_needs_a_second_step(teacher):
    length = jnp.array([0, 1, 3, 4, 2])
    context = {"prefix": jnp.full((5, 4, 2), -3.0), "prefix_length": length, "inference_delay": length}
    keys = jax.random.split(KEY, 5)
    made = lambda number: consistency.consistency(consistency.Config(teacher, inference_steps=number), SPEC, affine([]))  # noqa: E731
    params, statistics = made(2).init(KEY)
    after = made(2).sample(params, statistics, BATCH["observation"], keys, context)
    free = made(2).sample(params, statistics, BATCH["observation"], keys)
    known = jnp.arange(4)[None, :, None] < length[:, None, None]
    np.testing.assert_allclose(after, jnp.where(known, -3.0, free), atol=1e-6)
    with pytest.raises(ValueError, match="a single step cannot fit a chunk to the one in flight; set inference_steps to 2 or more"):
        made(1).sample(params, statistics, BATCH["observation"], keys, context)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"points": 0}, "points is 0, but must be at least 1"),
        ({"points": 100}, "points is 100, but must be below num_steps, 100"),
        ({"inference_steps": 41}, "inference_steps is 41, but must be from 1 to points, 40"),
        ({"target_decay": 1.0}, "target_decay is 1.0"),
        ({"clip_sample": -1.0}, "clip_sample is -1.0"),
    ],
)
def test_impossible_numbers_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        consistency.Config(**fields)


def test_a_teacher_of_other_numbers_is_refused():
    config = consistency.Config(prediction="v")
    section = {"name": "jaxrl.objectives.diffusion", "num_steps": 100, "schedule": "squaredcos_cap_v2", "prediction": "v"}
    learnt = {"diffusion/unet/kernel": jnp.ones(2)}
    begun = consistency.taught(config, learnt, {"own": section})
    assert begun == learnt | {"consistency/unet/kernel": learnt["diffusion/unet/kernel"]}
    assert consistency.taught(config, begun, {}) == begun
    with pytest.raises(ValueError, match="prediction is 'v', but that of the teacher is 'epsilon'; make it the same"):
        consistency.taught(config, learnt, {"own": section | {"prediction": "epsilon"}})
    with pytest.raises(ValueError, match=r"learns from jaxrl.objectives.flow, but that run has jaxrl.objectives.diffusion"):
        consistency.taught(consistency.Config("flow"), learnt, {"own": section})


# A student of a teacher


def train(objective, batch, updates, pretrained=None):
    config = supervised.Config(optimizers.Config("adam", 2e-3, schedule="warmup_cosine", warmup_steps=20, decay_steps=updates))
    algorithm = supervised.supervised(config, {"own": objective}, {"own": 1.0}, running_statistics.init(LINES.observation))

    @jax.jit
    def run(key):
        step = lambda state, key: algorithm.update(state, batch, key)[:2]  # noqa: E731
        return jax.lax.scan(step, algorithm.init(key, pretrained), jax.random.split(key, updates))

    return run(KEY)


@pytest.mark.parametrize("teacher", ["diffusion", "flow"])
def test_a_student_makes_the_chunks_of_its_teacher_in_one_step(teacher):
    """Two ways of a chunk of one number, at places that are seen. A student of the same noise makes the same chunks, both ways as often."""
    size = 192
    seen = jax.random.uniform(jax.random.key(1), (size, 1), minval=-1.0, maxval=1.0)
    way = jnp.where(jnp.arange(size) % 3 == 0, -1.0, 0.8)[:, None, None]
    drawn = 0.1 * jax.random.normal(jax.random.key(2), (size, 4, 1))
    batch = {"observation": {"state/x": seen}, "action": way + 0.3 * seen[:, None] + drawn, "mask": jnp.ones((size, 4, 1))}
    if teacher == "flow":
        objective = flow.flow(flow.Config("uniform"), LINES, small())
    else:
        objective = diffusion.diffusion(diffusion.Config(prediction="v"), LINES, small())
    taught, _ = train(objective, batch, 1000)

    config = consistency.Config(teacher, points=20, prediction="v")
    section = {"name": f"jaxrl.objectives.{teacher}", "num_steps": 100, "schedule": "squaredcos_cap_v2", "prediction": "v"}
    begun = consistency.taught(config, flatten_names(taught.params), {"own": section})
    own = consistency.consistency(config, LINES, small())
    learnt, metrics = train(own, batch, 500, begun)
    kept = flatten_names(learnt.statistics.objectives[teacher])
    assert kept.keys() == flatten_names(taught.params[teacher]).keys()
    jax.tree.map(np.testing.assert_array_equal, learnt.statistics.objectives[teacher], taught.params[teacher])

    keys = jax.random.split(jax.random.key(5), size)

    def made(state):
        return jax.jit(own.sample)(state.params, state.statistics.objectives, batch["observation"], keys)

    @jax.jit
    def slowly(params):
        """The teacher, in as many steps as there are points, from the noise that the student begins with."""
        network, x = small(), rows.normal(rows.numbered(keys, 0), (4, 1))
        say = lambda x, time: network.denoise(params, x, time, batch["observation"]["state/x"])  # noqa: E731
        for i in range(20):
            i = jnp.full(size, i)
            x = process.level(config.way(), *consistency.ends(config, config.way(), say, x, i), i + 1)
        return x

    theirs, found = slowly(taught.params[teacher]), made(learnt)
    in_one = made(learnt._replace(params={"consistency": taught.params[teacher]}))  # the teacher itself
    assert jnp.abs(in_one - theirs).mean() > 0.5 and jnp.abs(found - theirs).mean() < 0.2
    left = lambda chunk: (chunk.mean((1, 2)) < 0).mean()  # noqa: E731
    assert 0.25 < left(theirs) < 0.45 and abs(left(found) - left(theirs)) < 0.06
    assert ks_2samp(np.ravel(found), np.ravel(theirs)).statistic < 0.14 < 0.4 < ks_2samp(np.ravel(in_one), np.ravel(theirs)).statistic
    assert metrics["own/distance"][-1] < 1.0 and (metrics["own/teacher"] < 1.0).all()
