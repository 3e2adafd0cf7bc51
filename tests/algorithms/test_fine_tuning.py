"""Factors of low rank and parts of batches in `supervised`."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import optimizers
from jaxrl.algorithms.supervised import Config, supervised
from jaxrl.ops.counting import flops
from jaxrl.ops.low_rank import LowRank
from jaxrl.ops.paths import flatten_names, merge
from jaxrl.training.checkpoint import open_checkpoints
from jaxrl.training.plan import multiplied
from tests.layered import KEY, NORMALISER, layered, make_batch

ADAM = optimizers.Config(learning_rate=1e-2)
SGD = optimizers.Config(name="sgd", learning_rate=0.1)
LORA = {"text/layers/(query|value|down)/kernel": LowRank(2, 4.0), "^output/kernel": LowRank(1)}
FROZEN = ("^input", "norm", "layers/(key|output|gate|up)/kernel")
CHOSEN = {"output/kernel", *(f"text/layers/{name}/kernel" for name in ("query", "value", "down"))}


def learner(config: Config):
    return supervised(config, {"own": layered()}, {"own": 1.0}, NORMALISER)


@functools.cache
def adapted(dtype: str = "float32"):
    return learner(Config(ADAM, frozen=FROZEN, lora=LORA, frozen_dtype=dtype, ema_decay=0.5))


@functools.cache
def begun(dtype: str = "float32"):
    return jax.jit(adapted(dtype).init)(KEY)


@functools.cache
def trained(dtype: str = "float32"):
    def body(state, key):
        state, metrics, _ = adapted(dtype).update(state, make_batch(key), key)
        return state, metrics["loss"]

    return jax.jit(lambda state: jax.lax.scan(body, state, jax.random.split(KEY, 40)))(begun(dtype))


def acted(algorithm, params):
    return jax.jit(algorithm.policy.act)(params, make_batch()["observation"], (), jax.random.split(KEY, 16))[0]


def test_begins_as_the_network_does():
    plain = learner(Config())
    given = plain.deployable(jax.jit(plain.init)(KEY))
    np.testing.assert_array_equal(acted(adapted(), adapted().deployable(begun())), acted(plain, given))
    np.testing.assert_array_equal(acted(adapted(), adapted().behaviour(begun())), acted(plain, given))


def test_only_factors_and_what_is_not_frozen_have_gradients_and_optimizer_state():
    before, (after, losses) = begun(), trained()
    expected = {f"{path}/{side}" for path in CHOSEN for side in "ab"} | {"output/bias"}
    assert set(flatten_names(before.params)) == expected
    assert before.params["text"]["layers"]["query"]["kernel"]["a"].shape == (2, 16, 2)
    jax.tree.map(np.testing.assert_array_equal, before.frozen, after.frozen)
    assert set(flatten_names(before.frozen)) >= CHOSEN
    moved = {path for path, leaf in flatten_names(after.params).items() if (leaf != flatten_names(before.params)[path]).any()}
    assert moved == expected
    number = sum(leaf.size for leaf in jax.tree.leaves(before.params))
    assert sum(leaf.size for leaf in jax.tree.leaves(before.opt_state)) < 2 * number + 10
    assert losses[-1] < 0.8 * losses[0]


def test_what_is_deployed_is_a_run_without_factors_and_acts_alike():
    state = trained()[0]
    plain = learner(Config(ADAM, frozen=FROZEN))
    deployed = adapted().deployable(state)
    shapes = jax.eval_shape(plain.init, KEY)
    expected = {path: leaf.shape for path, leaf in flatten_names((shapes.params, shapes.frozen)).items()}
    assert {path: leaf.shape for path, leaf in flatten_names((deployed.params, deployed.frozen)).items()} == expected
    average = state._replace(params=state.extra.ema)
    np.testing.assert_allclose(acted(plain, deployed), acted(adapted(), adapted().behaviour(average)), rtol=1e-5, atol=1e-6)
    assert not np.allclose(acted(plain, deployed), acted(adapted(), adapted().behaviour(state)))


def test_what_was_adapted_begins_another_run():
    deployed = adapted("bfloat16").deployable(trained("bfloat16")[0])
    plain = learner(Config())
    state = jax.jit(plain.init)(jax.random.key(5), merge(deployed.frozen, deployed.params))
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(state.params)} == {"float32"}
    np.testing.assert_allclose(acted(plain, plain.deployable(state)), acted(adapted("bfloat16"), deployed), rtol=1e-5, atol=1e-5)


def test_a_base_in_bfloat16_is_rounded_and_nothing_else():
    exact, short = begun(), begun("bfloat16")
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a.astype(jnp.bfloat16), b), exact.frozen, short.frozen)
    jax.tree.map(np.testing.assert_array_equal, exact.params, short.params)
    assert trained("bfloat16")[1][-1] < 0.8 * trained("bfloat16")[1][0]


def test_goes_on_exactly_from_a_checkpoint(tmp_path):
    state = trained("bfloat16")[0]
    checkpoints = open_checkpoints(tmp_path)
    checkpoints.save(1, {"train_state": state}, {})
    restored = checkpoints.restore({"train_state": jax.eval_shape(adapted("bfloat16").init, KEY)})[0]["train_state"]
    checkpoints.close()
    update = jax.jit(adapted("bfloat16").update)
    jax.tree.map(np.testing.assert_array_equal, *(update(one, make_batch(), KEY)[0] for one in (state, restored)))


def test_factors_apart_are_those_of_a_sum():
    table = {"(query|down)/kernel": LowRank(2, 4.0)}
    alone = {pattern: replace(one, apart=True) for pattern, one in table.items()}
    both = [learner(Config(SGD, lora=one, frozen=("^input",), frozen_dtype="bfloat16")) for one in (table, alone)]
    begun = jax.jit(both[0].init)(KEY)
    moved = begun._replace(params=jax.tree.map(lambda x: x + 0.1, begun.params))
    (summed, metrics, _), (apart, others, _) = (jax.jit(one.update)(moved, make_batch(), KEY) for one in both)
    np.testing.assert_allclose(others["loss"], metrics["loss"], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), summed.params, apart.params)
    np.testing.assert_allclose(acted(both[1], both[1].deployable(apart)), acted(both[1], both[1].behaviour(apart)), rtol=1e-4, atol=1e-5)


def test_factors_apart_are_less_work():
    table = {"layers/(query|key|value|output|gate|up|down)/kernel": LowRank(1)}
    alone = {pattern: replace(one, apart=True) for pattern, one in table.items()}
    batch = jax.eval_shape(make_batch)
    summed, apart = (learner(Config(SGD, lora=one, frozen=("norm",))) for one in (table, alone))
    assert flops(multiplied(apart, batch)) < 0.8 * flops(multiplied(summed, batch))


# Batches in parts


@functools.cache
def one_step(accumulate: int):
    config = Config(SGD, accumulate=accumulate, lora=LORA)
    algorithm = supervised(config, {"one": layered(), "two": _other(layered())}, {"one": 1.0, "two": 0.5}, NORMALISER)
    return jax.jit(algorithm.update)(jax.jit(algorithm.init)(KEY), make_batch(), KEY)[:2]


def _other(objective):
    """The same network, of which other elements count."""

    def loss(params, statistics, batch, key):
        elements, mask, statistics, metrics = objective.loss(params, statistics, batch, key)
        return jnp.abs(elements), 1.0 - mask, {"calls": jnp.asarray(statistics.get("calls", 0.0)) + 1.0}, metrics

    return objective._replace(loss=loss, init=lambda key: (objective.init(key)[0], {"calls": jnp.zeros(())}))


def test_parts_of_a_batch_are_the_whole_of_it():
    (whole, metrics), (parts, others) = one_step(1), one_step(4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), whole.params, parts.params)
    for name in ("loss", "loss/one", "loss/two", "gradient_norm"):
        np.testing.assert_allclose(others[name], metrics[name], rtol=1e-5)
    np.testing.assert_allclose(others["one/size"], metrics["one/size"], rtol=1e-5)  # whose parts are alike
    assert metrics.keys() == others.keys() and parts.statistics.objectives["calls"] == 4


def test_a_mean_of_means_would_be_another_one():
    mask = np.asarray(make_batch()["mask"])
    sums = [mask[i::2].sum() for i in range(2)]
    assert abs(sums[0] - sums[1]) > 0.05 * mask.sum()


def test_parts_that_do_not_divide():
    algorithm = learner(Config(accumulate=3))
    with pytest.raises(ValueError, match=r"accumulate is 3, which does not divide the rows of action \(16, 6, 2\) in a batch"):
        jax.eval_shape(algorithm.update, jax.eval_shape(algorithm.init, KEY), make_batch(), KEY)
    with pytest.raises(ValueError, match="accumulate is 0, but must be at least 1"):
        Config(accumulate=0)
