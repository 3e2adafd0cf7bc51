import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl.optimizers import Config, optimizer, schedule

PARAMS = {"layer": {"kernel": jnp.full((2, 3), 2.0), "bias": jnp.full(3, 2.0)}, "norm": {"scale": jnp.full(3, 2.0)}}


def step(config: Config, gradient: float, updates: int = 1):
    tx = optimizer(config)
    state, params = tx.init(PARAMS), PARAMS
    for _ in range(updates):
        change, state = tx.update(jax.tree.map(lambda p: jnp.full_like(p, gradient), params), state, params)
        params = optax.apply_updates(params, change)
    return jax.tree.map(lambda new, old: np.asarray(new - old), params, PARAMS)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_named_optimizer_is_that_of_optax(name):
    tx = getattr(optax, name)(1e-2)
    expected, _ = tx.update(jax.tree.map(jnp.ones_like, PARAMS), tx.init(PARAMS), PARAMS)
    change = step(Config(name=name, learning_rate=1e-2, undecayed=()), 1.0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), change, expected)


def test_warmup_cosine_against_its_formula():
    config = Config(learning_rate=0.4, schedule="warmup_cosine", warmup_steps=4, decay_steps=12, end_fraction=0.1)

    def oracle(step: int) -> float:
        if step < 4:
            return 0.4 * step / 4
        phase = min((step - 4) / 8, 1.0)
        return 0.04 + (0.4 - 0.04) * 0.5 * (1 + np.cos(np.pi * phase))

    rates = [float(schedule(config)(step)) for step in range(16)]
    np.testing.assert_allclose(rates, [oracle(step) for step in range(16)], atol=1e-6)


def test_clip_is_by_the_global_norm():
    change = step(Config(name="sgd", learning_rate=1.0, max_gradient_norm=0.5), 10.0)
    assert np.isclose(np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(change))), 0.5)


def test_decay_spares_biases_and_scales():
    change = step(Config(name="adamw", learning_rate=0.1, options={"weight_decay": 0.5}), 0.0)
    np.testing.assert_allclose(change["layer"]["kernel"], -0.1 * 0.5 * 2.0, rtol=1e-5)
    assert not change["layer"]["bias"].any() and not change["norm"]["scale"].any()


def test_rates_of_groups_first_match_counts():
    change = step(Config(name="sgd", learning_rate=1.0, rates={"layer/bias": 0.0, "layer": 0.5}), 1.0)
    assert (change["layer"]["bias"] == 0).all() and (change["layer"]["kernel"] == -0.5).all() and (change["norm"]["scale"] == -1).all()


def test_momentum_comes_through_options():
    plain, heavy = (step(Config(name="sgd", learning_rate=1.0, options=o), 1.0, updates=2) for o in ({}, {"momentum": 0.5}))
    assert (plain["layer"]["bias"] == -2).all() and (heavy["layer"]["bias"] == -2.5).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "adm"}, "optax has no optimizer 'adm'; did you mean adam"),
        ({"name": "chain"}, "optax has no optimizer 'chain'"),
        ({"options": {"weight_decai": 0.1}, "name": "adamw"}, "no option 'weight_decai'; did you mean weight_decay"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0, but must be above 0"),
        ({"max_gradient_norm": -1.0}, "max_gradient_norm is -1.0"),
        ({"schedule": "warmup_cosine", "warmup_steps": 5}, "needs 0 <= warmup_steps < decay_steps, got 5 and 0"),
    ],
)
def test_impossible_configs_say_what_to_do(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)


def test_rate_pattern_that_matches_nothing():
    with pytest.raises(ValueError, match="rates: the pattern 'backbone' matches no parameter; there are layer/bias"):
        optimizer(Config(rates={"backbone": 0.1})).init(PARAMS)
