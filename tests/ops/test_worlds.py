import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops.worlds import by_rows, finite_rows, where_rows, world_keys


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_one_entry_spoils_its_row_alone(bad):
    tree = {"deep": jnp.zeros((4, 2, 3)).at[2, 1, 0].set(bad), "flat": jnp.zeros(4), "count": jnp.zeros((4, 2), jnp.int32)}
    np.testing.assert_array_equal(finite_rows(tree), [True, True, False, True])
    np.testing.assert_array_equal(finite_rows((tree["flat"], {"flat": tree["flat"].at[0].set(bad)})), [False, True, True, True])


def test_rows_are_chosen_whole_at_any_rank():
    new, old = (jax.tree.map(lambda x, v=v: jnp.full_like(x, v), {"a": jnp.zeros(3), "b": jnp.zeros((3, 2, 2))}) for v in (1.0, 0.0))
    chosen = where_rows(jnp.array([True, False, True]), new, old)
    np.testing.assert_array_equal(chosen["a"], [1, 0, 1])
    np.testing.assert_array_equal(chosen["b"], np.array([1, 0, 1])[:, None, None] * np.ones((3, 2, 2)))


def test_keys_follow_the_global_number():
    key = jax.random.key(0)
    whole, part = (jax.random.key_data(world_keys(key, index)) for index in (jnp.arange(5), jnp.array([4, 1])))
    np.testing.assert_array_equal(part, whole[jnp.array([4, 1])])
    assert len(np.unique(whole, axis=0)) == 5


def test_all_rows_of_nested_maps_come_in_one_call():
    calls = []

    def run(x, shift):
        calls.append(x.shape)
        return {"sum": x.sum(-1) + shift, "rank": x - x.mean(0, keepdims=True)}

    one, x = by_rows(run), jnp.arange(24.0).reshape(2, 4, 3)
    out = jax.vmap(jax.vmap(one, (0, None)), (0, 0))(x, jnp.array([10.0, 20.0]))
    assert calls[-1] == (8, 3)
    np.testing.assert_allclose(out["sum"], np.asarray(x).sum(-1) + np.array([[10.0], [20.0]]))
    np.testing.assert_allclose(out["rank"], np.asarray(x) - np.asarray(x).mean((0, 1)), rtol=1e-6)
    assert one(x[0, 0], jnp.float32(1.0))["sum"].shape == () and calls[-1] == (1, 3)
