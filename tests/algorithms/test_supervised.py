import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import optimizers
from jaxrl.algorithms.supervised import Config, masked_mean, supervised
from jaxrl.distributed.mesh import data_mesh
from jaxrl.networks.state_mlp import Config as StateMLP
from jaxrl.networks.state_mlp import state_mlp
from jaxrl.objectives import bc
from jaxrl.ops import running_statistics
from jaxrl.replay.memory import Config as Memory
from jaxrl.replay.memory import memory
from jaxrl.replay.recording import Recording
from jaxrl.training.fit import Run, initial, many_updates
from jaxrl.types import ArraySpec, Objective, PolicySpec

SPEC = PolicySpec({"state/x": ArraySpec((3,))}, ArraySpec((2,)), horizon=2)
STORED = {"state/x": SPEC.observation["state/x"], "action": SPEC.action}
IDENTITY = running_statistics.init(STORED)
SGD = optimizers.Config(name="sgd", learning_rate=0.1)
KEY = jax.random.key(0)


def clone(spec: PolicySpec = SPEC, hidden: tuple[int, ...] = (8,)) -> Objective:
    return bc.bc(bc.Config(), spec, state_mlp(StateMLP(hidden), spec.observation, (spec.horizon, *spec.action.shape)))


def point(name: str, target: float, shape: tuple[int, ...] = ()) -> Objective:
    """Pulls one parameter towards a target: gradients by hand."""

    def loss(params, statistics, batch, key):
        error = jnp.square(params[name] - target).reshape(1, -1)
        return error, jnp.ones_like(error), {"calls": statistics["calls"] + 1.0}, {"seen": batch["action"].mean()}

    def sample(params, statistics, observation, key, context=None):
        chunk = jnp.broadcast_to(params[name].reshape(-1)[0], (len(key), 2, 2))
        return chunk if context is None else context["prefix"] + 0.0 * chunk

    spec = {"action": ArraySpec(("batch", 2, 2))}
    return Objective(lambda key: ({name: jnp.zeros(shape)}, {"calls": jnp.zeros(())}), loss, sample, SPEC, spec)


def make_batch(key=KEY, size: int = 16, scale: float = 1.0, shift: float = 0.0):
    x = jax.random.normal(key, (size, 3))
    action = jnp.stack([x[:, :2], -x[:, 1:]], 1) * scale + shift
    return {"observation": {"state/x": x}, "action": action, "mask": jnp.ones(action.shape)}


def test_learns_a_linear_map_in_the_units_of_the_data():
    batch = make_batch(size=256, scale=50.0, shift=300.0)
    stored = running_statistics.update(IDENTITY, batch["observation"] | {"action": batch["action"]})
    algorithm = supervised(Config(optimizers.Config(learning_rate=3e-3)), {"bc": clone(hidden=(32,))}, {"bc": 1.0}, stored)

    def body(state, key):
        state, metrics, _ = algorithm.update(state, make_batch(key, 256, 50.0, 300.0), key)
        return state, metrics["loss"]

    state, losses = jax.jit(lambda s: jax.lax.scan(body, s, jax.random.split(KEY, 500)))(algorithm.init(KEY))
    assert losses[0] > 0.5 and losses[-20:].mean() < 0.01
    test = make_batch(jax.random.key(9), 32, 50.0, 300.0)
    chunk, carry, extras = algorithm.policy.act(algorithm.deployable(state), test["observation"], (), jax.random.split(KEY, 32))
    assert jnp.abs(chunk - test["action"]).mean() < 5.0 and carry == () and extras == {}


def test_update_is_the_weighted_gradient_step():
    table = {"a": point("p", 1.0), "b": point("q", 1.0)}
    algorithm = supervised(Config(SGD), table, {"a": 1.0, "b": 3.0}, IDENTITY)
    state, metrics, feedback = algorithm.update(algorithm.init(KEY), make_batch(), KEY)
    assert np.isclose(state.params["p"], 0.2) and np.isclose(state.params["q"], 0.6)  # -0.1 * weight * 2 * (0 - 1)
    assert metrics["loss"] == 4.0 and metrics["loss/a"] == metrics["loss/b"] == 1.0 and feedback == ()
    assert np.isclose(metrics["gradient_norm"], np.hypot(2.0, 6.0)) and metrics["a/seen"].shape == ()
    assert state.step == 1 and state.statistics.objectives["calls"] == 2  # both were given the other's statistics


def test_objectives_share_what_has_one_name():
    table = {"a": point("p", 1.0), "b": point("p", -1.0)}
    algorithm = supervised(Config(SGD), table, {"a": 1.0, "b": 1.0}, IDENTITY)
    state, _, _ = algorithm.update(algorithm.init(KEY), make_batch(), KEY)
    assert list(state.params) == ["p"] and state.params["p"] == 0


def test_sharing_needs_equal_shapes():
    algorithm = supervised(Config(), {"a": point("p", 1.0), "b": point("p", 1.0, (2,))}, {"a": 1.0, "b": 1.0}, IDENTITY)
    with pytest.raises(ValueError, match="objective 'b' shares 'p' with another one, but in other shapes"):
        algorithm.init(KEY)


def test_frozen_parameters_keep_their_values_and_have_no_optimizer_state():
    algorithm = supervised(Config(frozen=("bc/hidden",)), {"bc": clone()}, {"bc": 1.0}, IDENTITY)
    state = algorithm.init(KEY)
    assert set(state.frozen["bc"]) == {"hidden_0"} and set(state.params["bc"]) == {"output"}
    assert sum(leaf.size for leaf in jax.tree.leaves(state.opt_state)) < 3 * sum(leaf.size for leaf in jax.tree.leaves(state.params))
    after, _, _ = algorithm.update(state, make_batch(), KEY)
    jax.tree.map(np.testing.assert_array_equal, after.frozen, state.frozen)
    assert (after.params["bc"]["output"]["kernel"] != state.params["bc"]["output"]["kernel"]).any()
    whole = supervised(Config(), {"bc": clone()}, {"bc": 1.0}, IDENTITY)
    observation, keys = make_batch()["observation"], jax.random.split(KEY, 16)
    chunks = [a.policy.act(a.deployable(a.init(KEY)), observation, (), keys)[0] for a in (algorithm, whole)]
    np.testing.assert_array_equal(*chunks)  # frozen parts are acted with


def test_pretrained_parameters_are_laid_over_fresh_ones():
    algorithm = supervised(Config(frozen=("hidden",)), {"bc": clone()}, {"bc": 1.0}, IDENTITY)
    bias = jnp.arange(8.0)
    state = algorithm.init(KEY, {"bc": {"hidden_0": {"bias": bias}}})
    np.testing.assert_array_equal(state.frozen["bc"]["hidden_0"]["bias"], bias)
    np.testing.assert_array_equal(state.frozen["bc"]["hidden_0"]["kernel"], algorithm.init(KEY).frozen["bc"]["hidden_0"]["kernel"])


@pytest.mark.parametrize(
    ("path", "here"), [({"bc": {"output": {"bias": jnp.zeros(5)}}}, r"\(4,\)"), ({"vit": {"bias": jnp.zeros(5)}}, "no such parameter")]
)
def test_pretrained_parameters_that_do_not_fit(path, here):
    with pytest.raises(ValueError, match=rf"has the shape \(5,\), but this model has {here}"):
        supervised(Config(), {"bc": clone()}, {"bc": 1.0}, IDENTITY).init(KEY, path)


def test_average_is_deployed_and_follows_its_formula():
    algorithm = supervised(Config(SGD, ema_decay=0.6), {"a": point("p", 1.0)}, {"a": 1.0}, IDENTITY)
    state, live, average = algorithm.init(KEY), 0.0, 0.0
    for step in range(1, 6):
        state, _, _ = algorithm.update(state, make_batch(), KEY)
        live += 0.1 * 2 * (1 - live)
        decay = min(0.6, 1 - (1 + step) ** -0.75)
        average = decay * average + (1 - decay) * live
    assert np.isclose(algorithm.behaviour(state).params["p"], live) and np.isclose(algorithm.deployable(state).params["p"], average)
    assert not np.isclose(live, average)


def test_each_objective_may_have_a_batch_of_its_own():
    table = {"sim": point("p", 1.0), "real": point("p", 1.0)}
    algorithm = supervised(Config(SGD, named_sources=True), table, {"sim": 1.0, "real": 1.0}, IDENTITY)
    assert set(algorithm.batch_spec) == {"sim/action", "real/action"}
    batches = {"sim": make_batch(shift=1.0, scale=0.0), "real": make_batch(shift=2.0, scale=0.0)}
    _, metrics, _ = algorithm.update(algorithm.init(KEY), batches, KEY)
    assert np.isclose(metrics["sim/seen"], 1, atol=1e-4) and np.isclose(metrics["real/seen"], 2, atol=1e-4)


def test_statistics_of_the_data_are_fixed():
    stored = running_statistics.update(IDENTITY, {"state/x": jnp.arange(6.0).reshape(2, 3), "action": jnp.arange(4.0).reshape(2, 2)})
    algorithm = supervised(Config(), {"bc": clone()}, {"bc": 1.0}, stored)
    state, _, _ = algorithm.update(algorithm.init(KEY), make_batch(), KEY)
    jax.tree.map(np.testing.assert_array_equal, state.statistics.normaliser, stored)


def test_chunk_in_flight_is_normalised_like_an_action():
    stored = IDENTITY._replace(mean=IDENTITY.mean | {"action": jnp.full(2, 5.0)}, variance=IDENTITY.variance | {"action": jnp.full(2, 4.0)})
    algorithm = supervised(Config(), {"a": point("p", 0.0)}, {"a": 1.0}, stored)
    prefix = jnp.arange(12.0).reshape(3, 2, 2)
    chunk, _, _ = algorithm.policy.act(  # this objective samples the prefix as it comes: through both maps
        algorithm.deployable(algorithm.init(KEY)), make_batch(size=3)["observation"], (), jax.random.split(KEY, 3), {"prefix": prefix}
    )
    np.testing.assert_allclose(chunk, prefix, rtol=1e-5)


def test_masked_mean_ignores_what_is_masked():
    assert masked_mean(jnp.array([1.0, 3.0, jnp.nan]), jnp.array([1.0, 1.0, 0.0])) == 2
    assert masked_mean(jnp.array([1.0, 3.0]), jnp.zeros(2)) == 0


def test_fully_masked_batch_moves_nothing():
    algorithm = supervised(Config(SGD), {"bc": clone()}, {"bc": 1.0}, IDENTITY)
    state = algorithm.init(KEY)
    batch = make_batch()
    after, metrics, _ = algorithm.update(state, batch | {"mask": jnp.zeros_like(batch["mask"])}, KEY)
    jax.tree.map(np.testing.assert_array_equal, after.params, state.params)
    assert metrics["loss"] == 0


def test_four_devices_learn_what_one_does():
    batch = make_batch(size=8)
    stored = Recording(
        {"state/x": np.asarray(batch["observation"]["state/x"])},
        np.asarray(batch["action"][:, 0]),
        np.zeros(8, np.float32),
        np.array([3, 8]),
        SPEC._replace(horizon=1),
    )
    algorithm = supervised(Config(SGD), {"bc": clone()}, {"bc": 1.0}, IDENTITY)

    def learn(devices: int) -> Run:
        mesh = data_mesh(devices)
        source = memory(Memory(batch_size=8, horizon=2), stored, mesh)
        run = jax.jit(initial(algorithm, source))(KEY)
        return jax.jit(many_updates(algorithm, source, 3))(run, KEY)[0]

    one, four = learn(1), learn(4)
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(four.train_state.params)} == {4}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one.train_state, four.train_state)


@pytest.mark.parametrize(
    ("config", "weights", "message"),
    [
        ({}, {"bc": 1.0, "act": 1.0}, r"every objective needs one weight: objectives are \['bc'\], weights \['act', 'bc'\]"),
        ({"policy": "act"}, {"bc": 1.0}, "policy is 'act', but the objectives are bc"),
        ({}, {"bc": -1.0}, "weights must be finite and not negative, but that of bc is -1.0"),
        ({}, {"bc": float("nan")}, "weights must be finite and not negative, but that of bc is nan"),
    ],
)
def test_tables_that_do_not_agree(config, weights, message):
    with pytest.raises(ValueError, match=message):
        supervised(Config(**config), {"bc": clone()}, weights, IDENTITY)


def test_one_batch_cannot_serve_two_horizons():
    other = clone(SPEC._replace(horizon=5))
    with pytest.raises(ValueError, match="objective 'long' needs action as .* named_sources gives each its own batch"):
        supervised(Config(), {"bc": clone(), "long": other}, {"bc": 1.0, "long": 1.0}, IDENTITY)


def test_misspelt_frozen_pattern():
    with pytest.raises(ValueError, match="frozen: the pattern 'backbone' matches no parameter; there are bc/"):
        supervised(Config(frozen=("backbone",)), {"bc": clone()}, {"bc": 1.0}, IDENTITY).init(KEY)
