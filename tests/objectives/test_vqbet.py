import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import optimizers
from jaxrl.algorithms import supervised
from jaxrl.networks import gpt, state_mlp
from jaxrl.objectives import vqbet
from jaxrl.ops import running_statistics
from jaxrl.ops.paths import flatten_names, merge
from jaxrl.tokenizers import residual_vq
from jaxrl.types import ArraySpec, PolicySpec, StatefulNetwork

SPEC = PolicySpec({"state/a": ArraySpec((2,))}, ArraySpec((2,)), horizon=4)
BOOKS = residual_vq.Config(codes=4, size=6)
KEY = jax.random.key(0)


def config(stage: str = "policy", **fields) -> vqbet.Config:
    return vqbet.Config(stage, codebooks=BOOKS, hidden=(16,), **fields)


def made(stage: str = "policy", network: StatefulNetwork | None = None, **fields):
    own = config(stage, **fields)
    network = network or state_mlp.state_mlp(state_mlp.Config((16,)), SPEC.observation, vqbet.output_shape(own, SPEC))
    return vqbet.vqbet(own, SPEC, network)


def batch(size: int = 8):
    """Chunks of two kinds, whatever is seen."""
    side = jnp.where(jnp.arange(size) % 2, 1.0, -1.0)
    action = side[:, None, None] * jnp.array([[0.2, 0.0], [0.6, 0.1], [0.8, 0.2], [0.9, 0.9]])[None]
    return {"observation": {"state/a": jnp.zeros((size, 2))}, "action": action + 0.02 * jax.random.normal(KEY, action.shape)}


def imitate(objective, learning_rate=3e-3, **fields):
    normaliser = running_statistics.init(SPEC.observation | {"action": SPEC.action})
    return supervised.supervised(
        supervised.Config(optimizers.Config("adamw", learning_rate), **fields), {"one": objective}, {"one": 1.0}, normaliser
    )


def train(algorithm, updates: int, pretrained=None):
    data = batch(32)

    @jax.jit
    def run(key):
        begun = algorithm.init(key, pretrained)
        return begun, *jax.lax.scan(lambda state, k: algorithm.update(state, data, k)[:2], begun, jax.random.split(key, updates))

    return run(KEY)


def test_two_stages_learn_two_ways_and_the_second_leaves_the_first_as_it_is():
    first = imitate(made("codes"))
    _, learnt, metrics = train(first, 300)
    assert metrics["one/distance"][-1] < 0.06 < metrics["one/distance"][0] and metrics["one/used"][-1] > 0
    stage = first.deployable(learnt)
    pretrained = merge(stage.params, flatten_names(stage.statistics.objectives))
    second = imitate(made("policy", offsets="true", temperature=1.0))
    _, after, metrics = train(second, 300, pretrained)
    kept = {name: x for name, x in flatten_names(after.statistics.objectives).items() if name.startswith("codes/")}
    given = flatten_names(stage.params) | flatten_names(stage.statistics.objectives)
    assert kept.keys() == given.keys() and all(name.startswith("vqbet/") for name in flatten_names(after.params))
    for name, x in given.items():
        np.testing.assert_array_equal(kept[name], x)
    assert metrics["one/distance"][-1] < 0.06 and metrics["one/used"][0] > 0
    keys = jax.random.split(KEY, 200)
    chunk, _, _ = jax.jit(second.policy.act)(second.deployable(after), {"state/a": jnp.zeros((200, 2))}, (), keys)
    ways = np.abs(np.asarray(chunk)[:, None] - np.asarray(batch(2)["action"])[None]).mean((2, 3))  # to each of both
    assert (ways.min(1) < 0.1).mean() > 0.75  # codes are drawn apart from each other: now and then the second is one of the other way
    assert 40 < (ways.argmin(1) == 0).sum() < 160


def test_the_policy_says_what_it_lacks():
    _, _, metrics = train(imitate(made("policy")), 1)
    assert metrics["one/used"][0] == 0  # no codebook entry was ever chosen: the first stage was forgotten


def chosen_by(codes, offset=0.0):
    """A network whose logits are for certain codes, one of each codebook, with the same offset for all."""
    shape = vqbet.output_shape(config(), SPEC)
    output = jnp.full(shape, offset).at[..., 0].set(0.0).at[:, jnp.arange(2), jnp.asarray(codes), 0].set(50.0)
    return StatefulNetwork(
        lambda key: ({"scale": jnp.ones(())}, {}),
        lambda params, statistics, x, key=None, train=False: (
            params["scale"] * jnp.broadcast_to(output[None], (len(x["state/a"]), *shape)),
            statistics,
        ),
    )


def test_a_chunk_is_what_its_codes_decode_to_and_their_offsets():
    objective = made(network=chosen_by((3, 1), 0.25))
    params, statistics = jax.jit(objective.init)(KEY)
    chunk = jax.jit(objective.sample)(params, statistics, batch()["observation"], jax.random.split(KEY, 8))
    own = jax.tree.map(np.asarray, statistics["codes"])
    vector = own["codebooks"].vectors[0, 3] + own["codebooks"].vectors[1, 1]
    hidden = np.maximum(vector @ own["decoder"]["hidden_0"]["kernel"], 0.0)
    decoded = (hidden @ own["decoder"]["output"]["kernel"]).reshape(4, 2)
    np.testing.assert_allclose(chunk, np.broadcast_to(decoded + 2 * 0.25, (8, 4, 2)), rtol=1e-5, atol=1e-6)


def test_windows_are_chunks_of_their_own():
    objective = made("codes", chunk=3)
    assert objective.spec.horizon == 3 and SPEC.horizon == 4
    params, statistics = jax.jit(objective.init)(KEY)
    elements, mask, _, _ = jax.jit(objective.loss)(params, statistics, batch(), KEY)
    assert elements.shape == mask.shape == (8, 2, 3, 2)
    one = made("codes", chunk=3)
    short = batch()["action"][:, 1:]
    alone = vqbet.vqbet(config("codes"), SPEC._replace(horizon=3), chosen_by((0, 0)))
    np.testing.assert_allclose(
        jax.jit(alone.loss)(params, statistics, {"action": short}, KEY)[0][:, 0], elements[:, 1], rtol=1e-5, atol=1e-6
    )
    assert one.sample(params, statistics, batch()["observation"], jax.random.split(KEY, 8)).shape == (8, 3, 2)


def test_windows_without_a_step_move_no_codebook():
    objective = made("codes", chunk=2)
    params, statistics = jax.jit(objective.init)(KEY)
    data = batch(2)
    mask = jnp.ones((2, 4, 2)).at[1].set(0.0).at[0, 2:].set(0.0)  # of the first row two windows hold something
    _, _, after, _ = jax.jit(objective.loss)(params, statistics, data | {"mask": mask}, KEY)
    uses = np.asarray(after["codes"]["codebooks"].uses)
    np.testing.assert_allclose(uses.sum(1), (1 - BOOKS.decay) * 2, rtol=1e-5)


def test_a_padded_step_is_read_as_the_one_before_it():
    objective = made("codes")
    params, statistics = jax.jit(objective.init)(KEY)
    action = batch(2)["action"]
    mask = jnp.ones((2, 4, 2)).at[:, 2:].set(0.0)
    held = action.at[:, 2:].set(action[:, 1:2])
    elements, _, _, _ = jax.jit(objective.loss)(params, statistics, {"action": action, "mask": mask}, KEY)
    whole, _, _, _ = jax.jit(objective.loss)(params, statistics, {"action": held}, KEY)
    np.testing.assert_allclose(elements[:, 0, :2], whole[:, 0, :2], rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"chunk": -1}, "chunk is -1"),
        ({"code_weights": (1.0,)}, r"code_weights are \(1.0,\), but must be one for each of 2 codebooks"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"offset_weight": -1.0}, "offset_weight is -1.0"),
    ],
)
def test_impossible_numbers_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        config(**fields)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="chunk is 5, but a batch holds only 4 steps; set the source's horizon"):
        made(chunk=5)
    with pytest.raises(ValueError, match="vqbet needs continuous actions"):
        vqbet.vqbet(config(), SPEC._replace(action=ArraySpec((), "int32", low=0, high=3)), chosen_by((0, 0)))


# The transformer

HISTORY = {"state/a": ArraySpec((3, 2)), "state/b": ArraySpec((3, 1))}
SMALL = gpt.Config(8, 2, 2, dropout=0.0)


def seen(size=4):
    return {name: jax.random.normal(jax.random.key(i), (size, *s.shape)) for i, (name, s) in enumerate(HISTORY.items())}


def test_later_queries_do_not_change_the_first():
    params, _ = jax.jit(gpt.gpt(SMALL, HISTORY, (3, 5)).init)(KEY)
    shorter = jax.tree.map(lambda x: x, params)
    shorter["transformer"]["positions"] = params["transformer"]["positions"][:-2]
    all_three, _ = jax.jit(gpt.gpt(SMALL, HISTORY, (3, 5)).apply)(params, {}, seen())
    alone, _ = jax.jit(gpt.gpt(SMALL, HISTORY, (5,)).apply)(shorter, {}, seen())
    assert all_three.shape == (4, 3, 5)
    np.testing.assert_allclose(all_three[:, 0], alone, rtol=1e-5, atol=1e-6)


def test_each_step_and_group_of_the_history_is_seen():
    network = gpt.gpt(SMALL, HISTORY, (2, 5))
    params, _ = jax.jit(network.init)(KEY)
    params = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(KEY, x.shape), params)
    apply = jax.jit(network.apply)
    before, _ = apply(params, {}, seen())
    for name in HISTORY:
        for step in range(3):
            changed = {n: x.at[:, step].add(1.0) if n == name else x for n, x in seen().items()}
            assert (jnp.abs(apply(params, {}, changed)[0] - before).max((1, 2)) > 1e-4).all()


def test_dropout_needs_a_key_and_training():
    network = gpt.gpt(gpt.Config(8, 1, 2, dropout=0.5), HISTORY, (2, 5))
    params, _ = jax.jit(network.init)(KEY)
    plain, _ = network.apply(params, {}, seen())
    np.testing.assert_array_equal(plain, network.apply(params, {}, seen(), KEY)[0])
    assert (plain != network.apply(params, {}, seen(), KEY, train=True)[0]).any()


def test_the_start_is_the_published_one():
    network = gpt.gpt(gpt.Config(64, 4, 4), HISTORY, (2, 5))
    own = jax.jit(network.init)(KEY)[0]["transformer"]
    for part in (own["input"], own["block_0"]["query"], own["block_3"]["output"], own["features"]):
        np.testing.assert_allclose(part["kernel"].std(), 0.02, rtol=0.05)
    np.testing.assert_allclose(own["block_0"]["mixed"]["kernel"].std(), 0.02 / np.sqrt(8), rtol=0.05)
    np.testing.assert_allclose(own["output"]["kernel"].std(), 1 / np.sqrt(3 * 64), rtol=0.1)
    assert all(not x.any() for name, x in flatten_names(own).items() if name.endswith("bias"))


@pytest.mark.parametrize(
    ("fields", "message"), [({"layers": 0}, "layers is 0"), ({"heads": 3}, "3 heads do not divide"), ({"dropout": 1.0}, "dropout")]
)
def test_impossible_sizes_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        gpt.Config(**fields)
