import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from jaxrl.networks import energy_mlp
from jaxrl.networks.interface import Energy
from jaxrl.objectives import ibc
from jaxrl.ops.padding import masked_mean
from jaxrl.types import ArraySpec, PolicySpec

SPEC = PolicySpec({"state/a": ArraySpec((2,))}, ArraySpec((2,)), horizon=1)
KEY = jax.random.key(0)


def known(energy) -> Energy:
    """Whatever is seen and learnt, the energy of a chunk [..., H, A] is that function's."""
    return Energy(
        lambda key: ({"offset": jnp.zeros(())}, {}),
        lambda params, statistics, observation, key=None, train=False: (observation["state/a"], statistics),
        lambda params, chunks, condition, key=None, train=False: energy(chunks) + params["offset"],
    )


def made(energy, **fields):
    objective = ibc.ibc(ibc.Config(**fields), SPEC, known(energy))
    return objective, *objective.init(KEY)


def batch(action, mask=None):
    action = jnp.asarray(action, jnp.float32).reshape(-1, 1, 2)
    found = {"observation": {"state/a": jnp.zeros((len(action), 2))}, "action": action}
    return found if mask is None else found | {"mask": jnp.broadcast_to(jnp.asarray(mask, jnp.float32), action.shape)}


def sampled(objective, params, statistics, number, seed=1):
    keys = jax.random.split(jax.random.key(seed), number)
    return np.asarray(jax.jit(objective.sample)(params, statistics, {"state/a": jnp.zeros((number, 2))}, keys))[:, 0]


def quadratic(chunks, centre=0.3, width=0.2):
    """Of a normal distribution."""
    return (0.5 * jnp.square((chunks - centre) / width)).sum((-2, -1))


def test_loss_is_what_the_mean_over_the_range_asks():
    number, reach = 20_000, 1.1
    objective, params, statistics = made(quadratic, negatives=number, positive_noise=0.0)
    shown = np.array([[0.3, 0.3], [0.5, -0.1]])
    elements, mask, _, metrics = objective.loss(params, statistics, batch(shown), KEY)
    of_one = [stats.norm(0.3, 0.2).cdf(end) for end in (-reach, reach)]
    mean = ((of_one[1] - of_one[0]) * math.sqrt(2 * math.pi) * 0.2 / (2 * reach)) ** 2  # of exp(-energy) over the range
    energy = (0.5 * ((shown - 0.3) / 0.2) ** 2).sum(1)
    expected = energy + np.log(np.exp(-energy) + number * mean)
    np.testing.assert_allclose(elements, expected, atol=0.05)
    assert mask.tolist() == [1, 1] and metrics["outside"] == 0


@pytest.mark.parametrize("negative", ["uniform", "langevin"])
def test_padding_tells_nothing(negative):
    """An energy that looks at the second number alone cannot tell, where that is padding."""
    fields = {"negatives": 7, "negative": negative, "langevin": ibc.Langevin(iterations=2)}
    objective, params, statistics = made(lambda chunks: 50.0 * jnp.abs(chunks[..., 1]).sum(-1), **fields)
    mask = jnp.array([[[1.0, 0.0]], [[1.0, 1.0]], [[0.0, 0.0]]])
    elements, counts, _, _ = objective.loss(params, statistics, batch([[0.1, jnp.nan], [0.1, 0.0], [0.0, 0.0]], mask), KEY)
    np.testing.assert_allclose(elements[0], math.log(8), rtol=1e-6)
    assert elements[1] < 1.0 and counts.tolist() == [1, 1, 0]


def test_what_lies_out_of_the_range_is_counted():
    objective, params, statistics = made(quadratic, limit=0.5, buffer=0.0)
    _, _, _, metrics = objective.loss(params, statistics, batch([[0.6, 0.0], [-0.7, 3.0]], [[[1, 1]], [[1, 0]]]), KEY)
    np.testing.assert_allclose(metrics["outside"], 2 / 3, rtol=1e-6)


@pytest.mark.parametrize("negative", ["uniform", "langevin"])
def test_gradient_penalty_of_a_known_slope(negative):
    fields = {"negatives": 5, "negative": negative, "gradient_margin": 1.0, "langevin": ibc.Langevin(iterations=3)}
    without, with_it = (made(lambda x: 3.0 * x[..., 0, 0] - 2.0 * x[..., 0, 1], gradient_penalty=p, **fields) for p in (0.0, 0.5))
    mask = jnp.array([[[1.0, 1.0]], [[0.0, 1.0]]])
    elements = [
        objective.loss(params, statistics, batch([[0.1, 0.2]] * 2, mask), KEY)[0] for objective, params, statistics in (without, with_it)
    ]
    np.testing.assert_allclose(elements[1] - elements[0], [0.5 * (3 - 1) ** 2, 0.5 * (2 - 1) ** 2], rtol=1e-4)


def test_langevin_steps_against_numpy():
    own = ibc.Langevin(iterations=7, first_step=0.2, last_step=0.01, power=2.0, noise=0.0, gradient_clip=4.0, largest_step=0.15)
    config = ibc.Config(langevin=own, limit=0.5, buffer=0.1)
    reach = 0.5 * 1.2
    start = np.random.default_rng(0).uniform(-reach, reach, (2, 5, 1, 2)).astype(np.float32)
    x = start.astype(np.float64)
    for i in range(7):
        length = (0.2 - 0.01) * (1 - i / 6) ** 2 + 0.01
        move = length * 0.5 * np.clip((x - 0.3) / 0.2**2, -4, 4)
        x = np.clip(x - np.clip(move, -0.15 * reach, 0.15 * reach), -reach, reach)
    found = ibc._langevin(config, quadratic, jnp.asarray(start), jax.random.split(KEY, 2))
    np.testing.assert_allclose(found, x, atol=1e-6)
    assert np.abs(x - start).max() > 0.1


def test_one_draw_by_the_softmax_is_one_from_the_density():
    objective, params, statistics = made(quadratic, samples=2000, derivative_free=ibc.DerivativeFree(iterations=1, choice="drawn"))
    found = sampled(objective, params, statistics, 1000)
    np.testing.assert_allclose(found.mean(0), 0.3, atol=0.02)
    np.testing.assert_allclose(found.std(0), 0.2, rtol=0.08)


def two_wells(chunks):
    """Least at (0.5, 0.2) and (-0.5, 0.2)."""
    return 40.0 * (jnp.square(jnp.abs(chunks[..., 0]) - 0.5) + jnp.square(chunks[..., 1] - 0.2)).sum(-1)


@pytest.mark.parametrize(
    "fields",
    [
        {"derivative_free": ibc.DerivativeFree()},
        {"derivative_free": ibc.DerivativeFree(iterations=3, noise=0.33, shrink=0.5)},
        {"derivative_free": ibc.DerivativeFree(choice="drawn")},
        {"sampler": "langevin", "samples": 16},
    ],
)
def test_samplers_find_either_well(fields):
    objective, params, statistics = made(two_wells, **{"samples": 256, **fields})
    found = sampled(objective, params, statistics, 200)
    off = np.abs(np.stack([np.abs(found[:, 0]) - 0.5, found[:, 1] - 0.2]))
    spread = 0.35 if fields.get("derivative_free", ibc.DerivativeFree()).choice == "drawn" else 0.12  # three deviations of the density
    assert off.max() < spread
    assert 60 < (found[:, 0] > 0).sum() < 140


def test_the_best_stays_in_the_range():
    objective, params, statistics = made(lambda x: -100.0 * x.sum((-2, -1)), samples=128, limit=0.5, buffer=0.0)
    found = sampled(objective, params, statistics, 20)
    assert (found <= 0.5).all() and (found > 0.4).all()


def test_two_ways_are_learnt_as_two():
    network = energy_mlp.energy_mlp(energy_mlp.Config((64, 64), dropout=0.0), SPEC.observation, (1, 2))
    objective = ibc.ibc(ibc.Config(negatives=32, samples=128), SPEC, network)
    shown = jnp.stack([jnp.where(jnp.arange(32) % 2, 0.6, -0.6), jnp.zeros(32)], -1)
    data, tx = batch(shown), optax.adam(3e-3)

    def learn(carry, key):
        params, opt_state = carry

        def mean(params):
            elements, mask, _, metrics = objective.loss(params, {"ibc": {}}, data, key)
            return masked_mean(elements, mask), metrics

        (loss, metrics), gradient = jax.value_and_grad(mean, has_aux=True)(params)
        updates, opt_state = tx.update(gradient, opt_state)
        return (optax.apply_updates(params, updates), opt_state), (loss, metrics["first"])

    params, statistics = objective.init(KEY)
    (params, _), (losses, first) = jax.jit(lambda p: jax.lax.scan(learn, (p, tx.init(p)), jax.random.split(KEY, 250)))(params)
    assert losses[-20:].mean() < 0.5 < losses[0] and first[-20:].mean() > 0.8
    found = sampled(objective, params, statistics, 100)
    assert ((np.abs(np.abs(found[:, 0]) - 0.6) < 0.1) & (np.abs(found[:, 1]) < 0.1)).mean() >= 0.95
    assert 20 < (found[:, 0] > 0).sum() < 80


def test_dropout_needs_a_key_and_training():
    network = energy_mlp.energy_mlp(energy_mlp.Config((8,), dropout=0.5), SPEC.observation, (1, 2))
    params, statistics = network.init(KEY)
    condition, _ = network.encode(params, statistics, {"state/a": jnp.ones((2, 2))})
    chunks = jnp.ones((2, 3, 1, 2))
    plain = network.energy(params, chunks, condition)
    np.testing.assert_array_equal(plain, network.energy(params, chunks, condition, KEY))
    assert (plain != network.energy(params, chunks, condition, KEY, train=True)).any()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"negatives": 0}, "negatives is 0"),
        ({"limit": 0.0}, "limit is 0.0, but must be above 0"),
        ({"buffer": -0.1}, "buffer is -0.1"),
    ],
)
def test_impossible_numbers_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ibc.Config(**fields)


def test_impossible_searches_are_refused():
    for fields in ({"iterations": 0}, {"noise": -1.0}, {"shrink": 0.0}):
        with pytest.raises(ValueError, match=next(iter(fields))):
            ibc.DerivativeFree(**fields)
    for field in dataclasses.fields(ibc.Langevin):
        with pytest.raises(ValueError, match=field.name):
            ibc.Langevin(**{field.name: -1})
    with pytest.raises(ValueError, match="ibc needs continuous actions"):
        ibc.ibc(ibc.Config(), SPEC._replace(action=ArraySpec((), "int32", low=0, high=3)), known(quadratic))
    for fields, message in (({"hidden": ()}, "hidden"), ({"activation": "no"}, "activation 'no'"), ({"dropout": 1.0}, "dropout is 1.0")):
        with pytest.raises(ValueError, match=message):
            energy_mlp.Config(**fields)
