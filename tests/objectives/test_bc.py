import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks import state_mlp
from jaxrl.objectives import bc
from jaxrl.types import ArraySpec, PolicySpec

SPEC = PolicySpec({"state/a": ArraySpec((3,)), "state/b": ArraySpec((2,))}, ArraySpec((2,)), horizon=4)
STEPS = jnp.array([[1.0, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
BATCH = {
    "observation": {"state/a": jnp.ones((5, 3)), "state/b": jnp.arange(10.0).reshape(5, 2)},
    "action": jax.random.normal(jax.random.key(1), (5, 4, 2)),
    "mask": STEPS[..., None] * jnp.array([[[1.0, 1.0]], [[1.0, 1.0]], [[1.0, 0.0]], [[1.0, 1.0]], [[1.0, 1.0]]]),  # of steps and dimensions
}


def make(loss: str = "mse"):
    network = state_mlp.state_mlp(state_mlp.Config(hidden=(8,)), SPEC.observation, (4, 2))
    return network, bc.bc(bc.Config(loss), SPEC, network)


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


@pytest.mark.parametrize("loss", ["mse", "l1"])
@pytest.mark.parametrize("garbage", [1e30, jnp.nan, jnp.inf])
def test_padding_reaches_neither_loss_nor_gradient(loss, garbage):
    _, objective = make(loss)
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
