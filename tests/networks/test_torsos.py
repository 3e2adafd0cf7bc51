"""Networks of off-policy methods: blocks against numpy, statistics, projections, ensembles."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxrl.networks._layers import BatchRenorm
from jaxrl.networks._stateful import headed, several
from jaxrl.networks._torsos import TORSOS, Torso
from jaxrl.ops.paths import flatten_names
from jaxrl.types import StatefulNetwork

INPUTS, WIDTH, OUTPUTS = 3, 4, 2
KEY = jax.random.key(0)


def compiled(part):
    """One program in place of many small ones, which take longer to compile."""
    return StatefulNetwork(jax.jit(part.init), jax.jit(part.apply, static_argnames="train"), jax.jit(part.project))


def network(kind, depth=2, **fields):
    return compiled(headed(Torso(kind, WIDTH, depth, **fields), INPUTS, OUTPUTS, 1.0))


def members(kind, number, depth=2, **fields):
    return compiled(several(headed(Torso(kind, WIDTH, depth, **fields), INPUTS, OUTPUTS, 1.0), number))


def drawn(*shape, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(*shape, INPUTS)) * 2.0 + 0.5, jnp.float32)


def disturbed(params, seed=2):
    """Parameters that are nowhere at 0 or 1, so that each of them counts."""
    noise = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(x + 0.3 * noise.normal(size=x.shape), jnp.float32), params)


# Numpy

relu = lambda x: np.maximum(x, 0)  # noqa: E731


def unit(x, axis=-1):
    return x / np.linalg.norm(x, axis=axis, keepdims=True)


class Numpy:
    """Layers by the names of their parameters."""

    def __init__(self, params):
        self.leaves = {name: np.asarray(leaf, np.float64) for name, leaf in flatten_names(params).items()}

    def dense(self, x, name):
        return x @ self.leaves[f"{name}/kernel"] + self.leaves.get(f"{name}/bias", 0.0)

    def layer_norm(self, x, name):
        normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return normal * self.leaves[f"{name}/scale"] + self.leaves[f"{name}/bias"]

    def batch_norm(self, x, name, eps=1e-5):
        normal = (x - x.mean(0)) / np.sqrt(x.var(0) + eps)
        return normal * self.leaves[f"{name}/scale"] + self.leaves[f"{name}/bias"]

    def rms_norm(self, x, name):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * self.leaves[f"{name}/scale"]


def mlp(n, x):
    for i in range(2):
        x = n.dense(x, f"torso/hidden_{i}")
        x = relu(n.layer_norm(x, f"torso/norm_{i}"))
    return n.dense(x, "output")


def simba(n, x):
    x = n.dense(x, "torso/embed")
    for i in range(2):
        x = x + n.dense(relu(n.dense(n.layer_norm(x, f"torso/norm_{i}"), f"torso/wide_{i}")), f"torso/narrow_{i}")
    return n.dense(n.layer_norm(x, "torso/norm"), "output")


def simba_v2(n, x):
    def scaled(x, name, begin, scale):
        return x * n.leaves[f"torso/{name}/scale"] * begin / scale

    root = math.sqrt(2 / WIDTH)
    x = unit(np.concatenate([x, np.full((len(x), 1), 3.0)], -1))
    x = unit(scaled(n.dense(x, "torso/embed"), "embed_scaler", root, root))
    for i in range(2):
        y = relu(scaled(n.dense(x, f"torso/wide_{i}"), f"scaler_{i}", root / 2, root / 2)) + 1e-8
        y = unit(n.dense(y, f"torso/narrow_{i}"))
        x = unit(x + scaled(y - x, f"step_{i}", 1 / 3, 1 / math.sqrt(WIDTH)))
    return n.dense(scaled(n.dense(x, "torso/head"), "head_scaler", root, root), "output")


def bro(n, x):
    x = relu(n.layer_norm(n.dense(x, "torso/embed"), "torso/norm_embed"))
    for i in range(2):
        y = relu(n.layer_norm(n.dense(x, f"torso/first_{i}"), f"torso/norm_first_{i}"))
        x = x + n.layer_norm(n.dense(y, f"torso/second_{i}"), f"torso/norm_second_{i}")
    return n.dense(x, "output")


def crossq(n, x):
    x = n.batch_norm(x, "torso/norm", 1e-3)
    for i in range(2):
        x = n.batch_norm(relu(n.dense(x, f"torso/hidden_{i}")), f"torso/norm_{i}", 1e-3)
    return n.dense(x, "output")


def xqc(n, x):
    x = n.batch_norm(x, "torso/norm")
    for i in range(2):
        x = relu(n.batch_norm(n.dense(x, f"torso/hidden_{i}"), f"torso/norm_{i}"))
    return n.dense(x, "output")


def flash(n, x):
    x = n.dense(n.batch_norm(x, "torso/norm"), "torso/embed")
    for i in range(2):
        y = relu(n.batch_norm(n.dense(x, f"torso/wide_{i}"), f"torso/norm_wide_{i}"))
        x = x + relu(n.batch_norm(n.dense(y, f"torso/narrow_{i}"), f"torso/norm_narrow_{i}"))
    return n.dense(n.rms_norm(x, "torso/norm_out"), "output")


ORACLES = {"mlp": mlp, "simba": simba, "simba_v2": simba_v2, "bro": bro, "crossq": crossq, "xqc": xqc, "flash": flash}
WITH_STATISTICS = ("crossq", "xqc", "flash")


def test_every_torso_has_an_oracle():
    assert set(ORACLES) == set(TORSOS)


@pytest.mark.parametrize("kind", TORSOS)
def test_equations(kind):
    part = network(kind, **({"layer_norm": True} if kind == "mlp" else {}))
    params, statistics = part.init(KEY)
    params, x = disturbed(params), drawn(7)
    output, after = part.apply(params, statistics, x, train=True)
    np.testing.assert_allclose(output, ORACLES[kind](Numpy(params), np.asarray(x, np.float64)), rtol=1e-4, atol=1e-4)
    assert bool(statistics) == (kind in WITH_STATISTICS)
    assert jax.tree.structure(after) == jax.tree.structure(statistics)


@pytest.mark.parametrize("kind", TORSOS)
def test_statistics_and_leading_axes(kind):
    part = network(kind)
    params, statistics = part.init(KEY)
    x = drawn(6)
    for _ in range(3):
        _, after = part.apply(params, statistics, x, train=True)
        changed = [bool((a != b).any()) for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(statistics), strict=True)]
        assert all(changed)
        statistics = after
    output, same = part.apply(params, statistics, x)
    jax.tree.map(np.testing.assert_array_equal, same, statistics)
    np.testing.assert_allclose(part.apply(params, statistics, x[2:3])[0][0], output[2], atol=1e-5)
    folded, _ = part.apply(params, statistics, x.reshape(2, 3, INPUTS))
    np.testing.assert_allclose(folded.reshape(6, OUTPUTS), output, atol=1e-5)
    # A batch is all its leading axes.
    whole = part.apply(params, statistics, x, train=True)
    folded = part.apply(params, statistics, x.reshape(2, 3, INPUTS), train=True)
    np.testing.assert_allclose(folded[0].reshape(6, OUTPUTS), whole[0], atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), folded[1], whole[1])


@pytest.mark.parametrize("kind", WITH_STATISTICS)
def test_running_statistics_become_those_of_the_data(kind):
    part = network(kind)
    params, statistics = part.init(KEY)
    x = drawn(16) + jnp.array([1000.0, 0.0, 0.0])[None]  # raw observations may be far from 0
    train = jax.jit(lambda statistics: part.apply(params, statistics, x, train=True))
    for _ in range(1500):
        output, statistics = train(statistics)
    found = statistics["torso"]["norm"]
    np.testing.assert_allclose(found["mean"], np.asarray(x, np.float64).mean(0), rtol=1e-4)
    np.testing.assert_allclose(found["var"], np.asarray(x, np.float64).var(0), rtol=1e-3)
    np.testing.assert_allclose(part.apply(params, statistics, x)[0], output, atol=2e-2)


@pytest.mark.parametrize("kind", WITH_STATISTICS)
def test_statistics_of_a_batch_on_several_devices_are_those_of_all_of_it(kind):
    part = members(kind, 2, 1)
    params, statistics = part.init(KEY)
    x = drawn(8)
    mesh = jax.make_mesh((4,), ("data",))
    apply = jax.jit(lambda x: part.apply(params, statistics, x, train=True))
    there = apply(jax.device_put(x, NamedSharding(mesh, PartitionSpec("data"))))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), there, apply(x))


# Projections


def rows(params, kind):
    """Norms of the weights with which each output reads its inputs, by kernel, and joint norms of scale and bias, by norm."""
    leaves = {name: np.asarray(leaf) for name, leaf in flatten_names(params).items()}
    kernels = {n: np.linalg.norm(x, axis=-2) for n, x in leaves.items() if n.endswith("kernel")}
    norms = {n.rpartition("/")[0] for n in leaves if n.endswith("scale") and "norm" in n}
    joint = {n: np.sqrt((leaves[f"{n}/scale"] ** 2 + leaves.get(f"{n}/bias", np.float32(0)) ** 2).sum(-1)) for n in norms}
    lengths = {n: leaves[f"{n}/scale"].shape[-1] for n in norms}
    return kernels, joint, lengths


@pytest.mark.parametrize("kind", ["simba_v2", "xqc", "flash"])
def test_projections(kind):
    part = members(kind, 3)
    params, statistics = part.init(KEY)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), part.project(params), params)  # begins there
    far = jax.tree.map(lambda x: x * 3.0, disturbed(params))
    near = part.project(far)
    kernels, joint, lengths = rows(near, kind)
    for name, length in kernels.items():
        if kind != "xqc" or name != "output/kernel":
            np.testing.assert_allclose(length, 1.0, rtol=1e-5, err_msg=name)
    if kind == "flash":
        for name, length in joint.items():
            np.testing.assert_allclose(length, math.sqrt(lengths[name]), rtol=1e-5, err_msg=name)
    before, after = flatten_names(far), flatten_names(near)
    moved = {name for name in before if (before[name] != after[name]).any()}
    free = {"simba_v2": ("scale", "bias"), "xqc": ("scale", "bias", "output/kernel"), "flash": ("output/bias",)}[kind]
    assert moved == {name for name in before if not name.endswith(free)}
    if kind == "xqc":  # each kernel is normalised behind: its length does not count, and a projection changes no output
        outputs = [part.apply(p, statistics, drawn(50), train=True)[0] for p in (near, far)]
        np.testing.assert_allclose(*outputs, rtol=2e-3, atol=2e-3)


def test_features_of_simba_v2_lie_on_the_sphere_however_long_the_input():
    part = network("simba_v2")
    params, _ = part.init(KEY)
    outputs = part.apply(params, {}, drawn(5) * jnp.array([0.0, 0.1, 1.0, 10.0, 1e6])[:, None])[0]
    assert jnp.isfinite(outputs).all() and (np.ptp(outputs, axis=0) > 1e-3).all()
    slope = jax.jit(jax.grad(lambda p: part.apply(p, {}, jnp.zeros((2, 3)))[0].sum()))(params)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(slope))


# Batch renormalisation


def test_batch_renormalisation():
    """Algorithm 1 of Ioffe 2017, with the correction after a warm-up."""
    layer = BatchRenorm(momentum=0.9, largest_r=1.5, largest_d=0.5, warm_up=2)
    variables = layer.init(KEY, jnp.zeros((2, INPUTS)), True)
    params = disturbed(variables["params"])
    scale, bias = (np.asarray(params[name], np.float64) for name in ("scale", "bias"))
    mean, variance, clipped = np.zeros(INPUTS), np.ones(INPUTS), [set(), set()]
    state = variables["batch_stats"]
    for step in range(6):
        x = np.asarray(drawn(9, seed=step), np.float64) * [3.0, 0.5, 0.1] + step * np.array([0.1, 1.0, -0.2])
        own_mean, std, running = x.mean(0), np.sqrt(x.var(0) + 1e-3), np.sqrt(variance + 1e-3)
        r, d = np.ones(INPUTS), np.zeros(INPUTS)
        if step >= 2:
            r, d = np.clip(std / running, 1 / 1.5, 1.5), np.clip((own_mean - mean) / running, -0.5, 0.5)
            clipped[0] |= set(np.round(r, 6))
            clipped[1] |= set(np.round(d, 6))
        expected = ((x - own_mean) / std * r + d) * scale + bias
        seen = {"params": params, "batch_stats": state}
        output, updated = layer.apply(seen, jnp.asarray(x, jnp.float32), True, mutable=["batch_stats"])
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)
        mean, variance = 0.9 * mean + 0.1 * own_mean, 0.9 * variance + 0.1 * x.var(0)
        state = updated["batch_stats"]
        np.testing.assert_allclose(state["mean"], mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(state["var"], variance, rtol=1e-4)
        assert state["batches"] == step + 1
        still = layer.apply({"params": params, "batch_stats": state}, jnp.asarray(x, jnp.float32), False)
        np.testing.assert_allclose(still, (x - mean) / np.sqrt(variance + 1e-3) * scale + bias, rtol=1e-4, atol=1e-4)
    assert {1.5, round(1 / 1.5, 6)} <= clipped[0] and {0.5, -0.5} <= clipped[1], "each bound must have been met"
    assert len(clipped[0]) > 2 and len(clipped[1]) > 2, "and something between them"


def test_no_gradient_goes_through_the_correction():
    layer = BatchRenorm(warm_up=0)
    variables = layer.init(KEY, jnp.zeros((2, INPUTS)), True)
    x = drawn(9)

    def total(x):
        return (layer.apply(variables, x, True, mutable=["batch_stats"])[0] * jnp.arange(27.0).reshape(9, 3)).sum()

    mean, std = x.mean(0, keepdims=True), jnp.sqrt(x.var(0, keepdims=True) + 1e-3)
    r, d = jnp.clip(std, 1 / 3, 3) / math.sqrt(1 + 1e-3), jnp.clip(mean / math.sqrt(1 + 1e-3), -5, 5)

    def by_hand(x):
        normal = (x - x.mean(0, keepdims=True)) / jnp.sqrt(x.var(0, keepdims=True) + 1e-3)
        return ((normal * r + d) * jnp.arange(27.0).reshape(9, 3)).sum()

    np.testing.assert_allclose(jax.jit(jax.grad(total))(x), jax.jit(jax.grad(by_hand))(x), rtol=1e-2, atol=1e-3)


# Dropout and ensembles


def test_dropout_needs_a_key_and_keeps_the_mean():
    part = members("mlp", 2, 1, dropout=0.4)
    params, _ = part.init(KEY)
    params = jax.tree.map(lambda x: x[:1].repeat(2, 0), params)  # two members alike
    x = drawn(5)
    plain = part.apply(params, {}, x)[0]
    np.testing.assert_array_equal(part.apply(params, {}, x, train=True)[0], plain)
    np.testing.assert_array_equal(plain[0], plain[1])
    dropped = part.apply(params, {}, x, KEY)[0]
    assert (dropped[0] != dropped[1]).any(), "members drop the same"
    np.testing.assert_array_equal(part.apply(params, {}, x, KEY)[0], dropped)
    # One hidden layer of relu: what is left is scaled before it, so that the mean stays.
    many = jax.jit(jax.vmap(lambda key: part.apply(params, {}, x, key)[0]))(jax.random.split(KEY, 4000)).mean((0, 1))
    np.testing.assert_allclose(many, plain[0], atol=0.15)


@pytest.mark.parametrize("kind", ["mlp", "crossq"])
def test_members_of_an_ensemble_have_parameters_and_statistics_of_their_own(kind):
    one, part, x = network(kind), members(kind, 3), drawn(6)
    params, statistics = part.init(KEY)
    output, after = part.apply(params, statistics, x, train=True)
    assert output.shape == (3, 6, OUTPUTS) and (output[0] != output[1]).all() and (output[1] != output[2]).all()
    for e in range(3):
        mine = jax.tree.map(lambda leaf, e=e: leaf[e], (params, statistics, after))
        alone, its_own = one.apply(mine[0], mine[1], x, train=True)
        np.testing.assert_allclose(output[e], alone, atol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), its_own, mine[2])


def test_widths_of_a_narrowing_torso():
    params, _ = headed(Torso("mlp", 8, 3, "swish", layer_norm=True, narrowing=2), INPUTS, 1, 0.0).init(KEY)
    assert [params["torso"][f"hidden_{i}"]["kernel"].shape for i in range(3)] == [(3, 8), (8, 4), (4, 2)]
    assert params["output"]["kernel"].shape == (2, 1) and not params["output"]["kernel"].any()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "sinba"}, "no torso 'sinba'.*simba"),
        ({"activation": "rely"}, "activation 'rely' is unknown"),
        ({"width": 0}, "width is 0, but must be at least 1"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"kind": "bro", "dropout": 0.1}, "for the torso 'mlp', but this is 'bro'"),
        ({"kind": "xqc", "activation": "tanh"}, "'xqc' has relu inside, but activation is 'tanh'"),
        ({"width": 4, "depth": 4, "narrowing": 2}, "nothing is left of a width of 4 after 4 layers"),
    ],
)
def test_impossible_torsos_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Torso(**fields)
