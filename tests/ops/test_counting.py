"""Counts of products by hand, and memory beside what XLA plans."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops.counting import flops, nbytes, products, program, tokens
from jaxrl.ops.peak_memory import peak

F32 = jnp.float32


def shaped(*shape: int, dtype=F32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def counted(function, named, *arguments):
    return products(lambda leaves, *rest: function(*leaves, *rest), named, *arguments)


def test_a_product_by_hand():
    (one,) = counted(lambda w, x: x @ w, {"layer/kernel": shaped(5, 7)}, shaped(2, 3, 5))
    assert one.flops == 2 * 2 * 3 * 5 * 7 and one.bytes == 4 * (5 * 7 + 2 * 3 * 5 + 2 * 3 * 7)
    assert (one.weight, one.summed, one.times, one.result) == ("layer/kernel", (0,), 1, 4 * 2 * 3 * 7)


def test_a_convolution_by_hand():
    def convolved(w, x):
        return jax.lax.conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    (one,) = counted(convolved, {"kernel": shaped(3, 3, 4, 6)}, shaped(2, 8, 8, 4))
    assert one.flops == 2 * (2 * 4 * 4 * 6) * (3 * 3 * 4) and one.weight == "kernel"


def test_loops_count_as_often_as_they_turn_and_weights_are_known_within():
    def looped(stack, x):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w.astype(jnp.bfloat16).T), None), x.astype(jnp.bfloat16), stack)[0]

    (one,) = counted(looped, {"layers/kernel": shaped(6, 5, 5)}, shaped(3, 5))
    assert one.times == 6 and flops([one]) == 6 * 2 * 3 * 5 * 5
    assert (one.weight, one.summed, one.dtype) == ("layers/kernel", (2,), "bfloat16")


def test_both_ways_are_three_times_one_and_what_is_computed_again_counts():
    def loss(w, v, x):
        layer = lambda x, w: (jnp.tanh(x @ w), None)  # noqa: E731
        return jnp.square(jax.lax.scan(layer, x, w)[0] @ v).sum()

    def again(w, v, x):
        layer = lambda x, w: (jnp.tanh(x @ w), None)  # noqa: E731
        return jnp.square(jax.lax.scan(jax.checkpoint(layer), x, w)[0] @ v).sum()

    named, x = {"layers": shaped(4, 5, 5), "head": shaped(5, 2)}, shaped(30, 5)
    one_way, both = counted(loss, named, x), counted(jax.grad(loss, (0, 1, 2)), named, x)
    assert flops(both) == 3 * flops(one_way)
    assert flops(counted(jax.grad(again, (0, 1, 2)), named, x)) == flops(both) + 4 * 2 * 30 * 5 * 5
    assert {one.weight for one in both} == {"layers", "head", None}
    assert tokens(one_way, {"layers": 100, "head": 10}) == 30


def test_what_no_result_needs_is_not_counted():
    def masked(w, x):
        def body(total, row):
            return total + row.sum(), (row @ w).sum()

        return jax.lax.scan(body, 0.0, x)[0]

    assert counted(masked, {"kernel": shaped(5, 5)}, shaped(3, 5)) == []


def test_of_branches_the_longest_counts():
    def either(w, x, here):
        return jax.lax.cond(here, lambda x: (x @ w) @ w, lambda x: x @ w, x)

    assert flops(counted(either, {"kernel": shaped(5, 5)}, shaped(3, 5), shaped(dtype=bool))) == 2 * 2 * 3 * 5 * 5


def test_factors_beside_a_base_leave_it_a_weight():
    def adapted(base, a, b, x):
        return x @ (base + a @ b)

    found = counted(adapted, {"kernel": shaped(6, 5), "kernel/a": shaped(6, 1), "kernel/b": shaped(1, 5)}, shaped(30, 6))
    assert [(one.weight, one.flops) for one in found] == [("kernel/a", 2 * 6 * 5), ("kernel", 2 * 30 * 6 * 5)]


# Memory


def planned(function, *arguments) -> int:
    return peak(program(function, *arguments).jaxpr, nbytes)


def test_memory_of_a_chain_by_hand():
    def chain(w, x):
        for _ in range(4):
            x = jnp.tanh(x @ w)  # one that is read, one that is made: elementwise work has no array of its own but what is read
        return x

    size = 4 * 64 * 64
    assert planned(chain, shaped(64, 64), shaped(64, 64)) in (2 * size, 3 * size)
    assert planned(lambda x: jnp.exp(jnp.tanh(x) * 2 + 1), shaped(64, 64)) == 0  # which goes where the argument was


def test_memory_that_the_way_back_needs():
    def layer(x, w):
        return jnp.tanh(jnp.tanh(x @ w) @ w), None

    def loss(layer):
        return jax.grad(lambda w, x: jax.lax.scan(layer, x, w)[0].sum())

    w, x = shaped(16, 32, 32), shaped(512, 32)
    one = 4 * 512 * 32
    kept, not_kept = planned(loss(layer), w, x), planned(loss(jax.checkpoint(layer)), w, x)
    assert 16 * one < not_kept < 24 * one  # an array of each layer, and what is worked out of one again
    assert kept > not_kept + 16 * one


@pytest.mark.parametrize("rows", [256, 1024])
def test_memory_beside_that_of_xla(rows):
    def step(w, x):
        def loss(w):
            return jnp.square(jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]).mean()

        return jax.tree.map(lambda w, g: w - 0.1 * g, w, jax.grad(loss)(w))

    w, x = shaped(8, 64, 64), shaped(rows, 64)
    found = jax.jit(step, donate_argnums=0).lower(w, x).compile().memory_analysis()
    held = 4 * (8 * 64 * 64 + rows * 64)
    xla = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes + found.temp_size_in_bytes
    np.testing.assert_allclose(held + peak(program(step, w, x).jaxpr, nbytes, turned=True), xla, rtol=0.1)
