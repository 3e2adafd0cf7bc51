"""Metrics reach the host as floats, and what is not finite is named."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.training.checkpoint import open_checkpoints
from jaxrl.training.metrics import NonFinite, check_finite, non_finite_leaves, to_host


def test_scalars_become_floats():
    host = to_host({"loss/policy": jnp.float32(0.5), "update/count": jnp.int32(3), "norm": jnp.bfloat16(2.0)})
    assert host == {"loss/policy": 0.5, "update/count": 3.0, "norm": 2.0}
    assert all(type(value) is float for value in host.values())


def test_seeds_give_their_mean_and_each_value():
    host = to_host(jax.vmap(lambda x: {"loss": x})(jnp.array([1.0, 2.0, 6.0])))
    assert host == {"loss": 3.0, "loss/seed_0": 1.0, "loss/seed_1": 2.0, "loss/seed_2": 6.0}
    with pytest.raises(ValueError, match=re.escape("metric loss has the shape (2, 3)")):
        to_host({"loss": jnp.zeros((2, 3))})


def test_finite_metrics_pass_and_episodes_may_be_missing():
    check_finite({"loss": 1.0, "episode/return": math.nan, "episode/return/seed_1": math.nan}, 5)
    with pytest.raises(NonFinite, match="episode/return is inf"):
        check_finite({"episode/return": math.inf}, 5)


def test_names_metric_update_seed_leaf_and_the_file_with_the_state(tmp_path):
    metrics = to_host({"loss/value": jnp.array([1.0, jnp.nan]), "loss/policy": jnp.array([1.0, 2.0])})
    state = {"train_state": {"w": jnp.array([1.0, jnp.inf]), "b": jnp.zeros(2)}, "source_state": jnp.arange(2)}
    with pytest.raises(FloatingPointError) as fault:
        check_finite(metrics, 70, tmp_path / "crash", state)
    message = str(fault.value)
    assert "at update 70: loss/value is nan, loss/value/seed_1 is nan;" in message
    assert "policy" not in message
    assert "not finite in the state: train_state/w;" in message
    assert f"the state is in {tmp_path / 'crash' / '70'}" in message
    saved = open_checkpoints(tmp_path / "crash", read_only=True)
    restored, meta = saved.restore(state)
    np.testing.assert_array_equal(restored["train_state"]["w"], [1.0, np.inf])
    assert meta["metrics"]["loss/value/seed_1"] == "nan"
    saved.close()
    with pytest.raises(NonFinite, match="the state is in"):  # the same update once more, after a rollback
        check_finite(metrics, 70, tmp_path / "crash", state)


def test_a_disk_that_is_full_does_not_hide_the_fault(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NonFinite, match=r"loss is nan.*the state could not be saved: .*Not a directory"):
        check_finite({"loss": math.nan}, 3, tmp_path / "file" / "crash", {"train_state": jnp.zeros(2)})


def test_finds_non_finite_leaves_of_each_type():
    good, bad = jnp.array([1.0]), jnp.array([1.0, jnp.nan])
    tree = {"a": bad, "b": bad.astype(jnp.bfloat16), "c": np.array([np.inf]), "d": good, "e": jnp.array([2]), "f": jax.random.key(0)}
    assert non_finite_leaves(tree) == ["a", "b", "c"]
