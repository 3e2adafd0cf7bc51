import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.distributions import mixture, normal
from jaxrl.networks import state_mlp
from jaxrl.objectives import bc
from jaxrl.ops import bins
from jaxrl.types import ArraySpec, PolicySpec

SPEC = PolicySpec({"state/a": ArraySpec((3,)), "state/b": ArraySpec((2,))}, ArraySpec((2,)), horizon=4)
STEPS = jnp.array([[1.0, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
BATCH = {
    "observation": {"state/a": jnp.ones((5, 3)), "state/b": jnp.arange(10.0).reshape(5, 2)},
    "action": jax.random.normal(jax.random.key(1), (5, 4, 2)),
    "mask": STEPS[..., None] * jnp.array([[[1.0, 1.0]], [[1.0, 1.0]], [[1.0, 0.0]], [[1.0, 1.0]], [[1.0, 1.0]]]),  # of steps and dimensions
}


def make(head: str = "mse", **fields):
    config = bc.Config(head, **fields)
    network = state_mlp.state_mlp(state_mlp.Config(hidden=(8,)), SPEC.observation, bc.output_shape(config, SPEC))
    return network, bc.bc(config, SPEC, network)


@pytest.mark.parametrize(("loss", "oracle"), [("mse", np.square), ("l1", np.abs)])
def test_loss_against_numpy(loss, oracle):
    network, objective = make(loss)
    params, statistics = objective.init(jax.random.key(0))
    elements, mask, _, _ = objective.loss(params, statistics, BATCH, jax.random.key(2))
    x = np.concatenate([BATCH["observation"]["state/a"], BATCH["observation"]["state/b"]], 1)
    hidden = x @ np.asarray(params["bc"]["hidden_0"]["kernel"]) + np.asarray(params["bc"]["hidden_0"]["bias"])
    hidden = np.where(hidden > 0, hidden, np.expm1(np.minimum(hidden, 0)))  # elu
    prediction = (hidden @ np.asarray(params["bc"]["output"]["kernel"])).reshape(5, 4, 2)
    np.testing.assert_array_equal(mask, BATCH["mask"])
    valid = np.asarray(mask) > 0
    np.testing.assert_allclose(np.asarray(elements)[valid], oracle(prediction - np.asarray(BATCH["action"]))[valid], rtol=1e-4, atol=1e-5)


def test_without_a_mask_everything_counts():
    _, objective = make()
    params, statistics = objective.init(jax.random.key(0))
    elements, mask, _, _ = objective.loss(params, statistics, {k: v for k, v in BATCH.items() if k != "mask"}, jax.random.key(2))
    assert (mask == 1).all() and mask.shape == elements.shape == (5, 4, 2)


@pytest.mark.parametrize("head", list(bc.HEADS))
@pytest.mark.parametrize("garbage", [1e30, jnp.nan, jnp.inf])
def test_padding_reaches_neither_loss_nor_gradient(head, garbage):
    _, objective = make(head)
    params, statistics = objective.init(jax.random.key(0))

    def mean(params, action):
        elements, mask, _, _ = objective.loss(params, statistics, BATCH | {"action": action}, jax.random.key(2))
        return jnp.where(mask > 0, elements, 0).sum()

    padded = BATCH["mask"] == 0
    clean = jax.value_and_grad(mean)(params, BATCH["action"])
    dirty = jax.value_and_grad(mean)(params, jnp.where(padded, garbage, BATCH["action"]))
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)


def test_sample_is_the_chunk_of_the_network():
    network, objective = make()
    params, statistics = objective.init(jax.random.key(0))
    chunk = objective.sample(params, statistics, BATCH["observation"], jax.random.split(jax.random.key(3), 5))
    assert chunk.shape == (5, 4, 2)
    np.testing.assert_array_equal(chunk, network.apply(params["bc"], statistics["bc"], BATCH["observation"])[0])


def test_only_state_reaches_the_network():
    observation = SPEC.observation | {"privileged/mass": ArraySpec((1,))}
    network = state_mlp.state_mlp(state_mlp.Config(hidden=(8,)), observation, (4, 2))
    assert network.init(jax.random.key(0))[0]["hidden_0"]["kernel"].shape == (5, 8)


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        ({"privileged/mass": ArraySpec((1,))}, "needs at least one state/<group> observation; offered are privileged/mass"),
        ({"state/scan": ArraySpec((4, 4, 2))}, "takes states .* but state/scan has the shape"),
    ],
)
def test_observations_that_no_mlp_takes(observation, message):
    with pytest.raises(ValueError, match=message):
        state_mlp.state_mlp(state_mlp.Config(), observation, (4, 2))


def outputs(head: str, **fields):
    """Of the network, with loss and mask."""
    network, objective = make(head, **fields)
    params, statistics = objective.init(jax.random.key(0))
    elements, mask, _, _ = objective.loss(params, statistics, BATCH, jax.random.key(2))
    output, _ = network.apply(params["bc"], statistics["bc"], BATCH["observation"])
    return objective, params, statistics, output, np.asarray(elements), np.asarray(mask)


def test_gaussian_head_is_the_density_of_each_number():
    _, _, _, output, elements, mask = outputs("gaussian")
    parameters = {"mean": output[..., 0], "log_std": jnp.log(jax.nn.softplus(output[..., 1]) + 1e-4)}
    each = jax.vmap(normal.log_prob)(jax.tree.map(lambda x: x.reshape(-1, 1), parameters), BATCH["action"].reshape(-1, 1))
    valid = np.asarray(BATCH["mask"]) > 0
    np.testing.assert_array_equal(mask, BATCH["mask"])
    np.testing.assert_allclose(elements[valid], -np.asarray(each).reshape(5, 4, 2)[valid], rtol=1e-4, atol=1e-5)


def test_mixture_head_is_the_density_of_what_counts_of_a_chunk():
    _, _, _, output, elements, mask = outputs("mixture", components=3)
    assert output.shape == (5, 3 * (1 + 2 * 8))
    assert mask.tolist() == [1, 1, 1, 1, 0]  # of the last row nothing counts
    for row in range(4):
        valid = np.asarray(BATCH["mask"][row]) > 0
        mean, free = np.asarray(output[row, 3:]).reshape(2, 3, 4, 2)
        log_std = np.log(np.log1p(np.exp(free)) + 1e-4)
        parameters = {"logits": output[row, :3], "mean": jnp.asarray(mean[:, valid]), "log_std": jnp.asarray(log_std[:, valid])}
        expected = -mixture.log_prob(parameters, BATCH["action"][row][valid]) / valid.sum()
        np.testing.assert_allclose(elements[row], expected, rtol=1e-4, atol=1e-5)


def test_a_mixture_acts_by_each_of_its_components_as_often_as_it_weighs():
    network, objective = make("mixture", components=2)
    params, statistics = objective.init(jax.random.key(0))
    output = {"kernel": jnp.zeros((8, 34)), "bias": jnp.concatenate([jnp.log(jnp.array([1.0, 3.0])), jnp.full(8, -2.0), jnp.full(24, 5.0)])}
    params = {"bc": params["bc"] | {"output": output}}
    seen = {name: jnp.repeat(x[:1], 400, 0) for name, x in BATCH["observation"].items()}
    chunks = objective.sample(params, statistics, seen, jax.random.split(jax.random.key(1), 400))
    first = np.asarray(chunks[:, 0, 0])
    assert set(first.tolist()) == {-2.0, 5.0} and 0.17 < (first == -2.0).mean() < 0.33
    assert (np.asarray(chunks).reshape(400, -1) == first[:, None]).all()  # of one component altogether


def test_binned_head_is_the_probability_of_the_bin():
    objective, params, statistics, output, elements, _ = outputs("binned", bins=8, limit=2.0)
    which, _ = bins.encode(bins.Bins(-2.0, 2.0, 8), np.asarray(BATCH["action"], np.float64))
    logits = np.asarray(output, np.float64)
    expected = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, np.asarray(which)[..., None], -1)[..., 0]
    valid = np.asarray(BATCH["mask"]) > 0
    np.testing.assert_allclose(elements[valid], expected[valid], rtol=1e-4, atol=1e-5)
    chunk = objective.sample(params, statistics, BATCH["observation"], jax.random.split(jax.random.key(3), 5))
    np.testing.assert_allclose(chunk, -2 + 0.5 * (logits.argmax(-1) + 0.5), rtol=1e-6)
