import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops.low_rank import LowRank, chosen, factors, merged

KEY = jax.random.key(0)
SHAPES = {
    "dense": ((6, 5), LowRank(2, 8.0)),
    "stacked": ((3, 6, 5), LowRank(2, 8.0)),
    "query": ((6, 4, 2), LowRank(2, 8.0, stacked=0)),
    "output": ((4, 2, 6), LowRank(2, 8.0, stacked=0, inputs=2)),
    "convolution": ((3, 3, 4, 5), LowRank(2, 8.0, stacked=0, inputs=3)),
}
EQUATIONS = {  # a product of both, by its axes
    "dense": "ir,ro->io",
    "stacked": "lir,lro->lio",
    "query": "ir,rho->iho",
    "output": "hir,ro->hio",
    "convolution": "xyir,ro->xyio",
}


@pytest.mark.parametrize("name", SHAPES)
def test_sums_of_all_kinds_of_kernels_against_einsum(name):
    shape, one = SHAPES[name]
    base = {"layer": {name: jax.random.normal(KEY, shape), "bias": jnp.ones(5)}}
    table = {f"{name}$": one}
    assert chosen(table, base) == [f"layer/{name}"]
    made = factors(table, KEY, {"layer": {name: base["layer"][name]}})
    same = merged(table, base, made)
    jax.tree.map(np.testing.assert_array_equal, same, base)  # the identity at first
    a, b = made["layer"][name]["a"], jax.random.normal(jax.random.key(1), made["layer"][name]["b"].shape)
    found = merged(table, base, {"layer": {name: {"a": a, "b": b}}})
    expected = np.asarray(base["layer"][name]) + 4.0 * np.einsum(EQUATIONS[name], np.asarray(a), np.asarray(b))
    np.testing.assert_allclose(found["layer"][name], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found["layer"]["bias"], base["layer"]["bias"])


def test_first_factors_make_of_unit_inputs_numbers_as_large():
    kernel = {"kernel": jnp.zeros((400, 30))}
    a = factors({"kernel": LowRank(30)}, KEY, kernel)["kernel"]["a"]
    assert abs(np.std(np.random.default_rng(0).normal(size=(100, 400)) @ np.asarray(a)) - 1) < 0.1


def test_factors_depend_on_their_own_path_alone():
    kernels = {"one": {"kernel": jnp.zeros((6, 5))}, "two": {"kernel": jnp.zeros((6, 5))}}
    both = factors({"kernel": LowRank(2)}, KEY, kernels)
    alone = factors({"kernel": LowRank(2)}, KEY, {"two": kernels["two"]})
    np.testing.assert_array_equal(both["two"]["kernel"]["a"], alone["two"]["kernel"]["a"])
    assert (both["one"]["kernel"]["a"] != both["two"]["kernel"]["a"]).any()


def test_a_base_in_bfloat16_is_summed_in_float32():
    base = {"kernel": jnp.ones((6, 5), jnp.bfloat16)}
    small = {"kernel": {"a": jnp.full((6, 1), 1e-4), "b": jnp.ones((1, 5))}}
    found = merged({"kernel": LowRank(1, 1.0)}, base, small)["kernel"]
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, 1.0001, rtol=1e-6)


TREE = {"query": {"kernel": jnp.zeros((3, 8, 6)), "bias": jnp.zeros((3, 6))}, "norm": {"scale": jnp.zeros(8)}, "table": jnp.zeros(8)}


@pytest.mark.parametrize(
    ("table", "frozen", "message"),
    [
        ({"querry": LowRank()}, (), "lora: the pattern 'querry' matches no parameter; there are norm/scale, query/bias"),
        ({"query": LowRank(2)}, (), r"query/bias \(3, 6\) is no kernel .* let the pattern match kernels alone"),
        ({"scale": LowRank(2)}, (), r"norm/scale \(8,\) is no kernel"),
        ({"table": LowRank(2)}, (), r"table \(8,\) is no kernel with 0 stacked and 1 input axes"),
        ({"kernel": LowRank(7)}, (), r"rank is 7, but query/kernel \(3, 8, 6\) has the rank 6 itself"),
        (
            {"kernel": LowRank(2, apart=True)},
            (),
            r"query/kernel \(3, 8, 6\) cannot be apart, as kernels of layers",
        ),
        ({"kernel": LowRank(2)}, ("^query",), r"query/kernel is frozen by '\^query', and chosen by lora"),
    ],
)
def test_tables_that_do_not_fit(table, frozen, message):
    with pytest.raises(ValueError, match=message):
        chosen(table, TREE, frozen)


@pytest.mark.parametrize("fields", [{"rank": 0}, {"stacked": -1}, {"inputs": 0}])
def test_impossible_numbers(fields):
    with pytest.raises(ValueError, match=f"{next(iter(fields))} is .*, but must be at least"):
        LowRank(**fields)


def test_apart_are_kernels_of_layers_with_a_gate():
    kernel = {"kernel": jnp.zeros((3, 8, 6))}
    apart = {"output": LowRank(2, apart=True)}
    assert chosen(apart, {"layers": {"output": kernel, "gate": kernel}}) == ["layers/output/kernel"]
    with pytest.raises(ValueError, match="layers/output/kernel .* cannot be apart"):
        chosen(apart, {"layers": {"output": kernel, "hidden": kernel}})
