import jax
import jax.numpy as jnp
import pytest

from jaxrl.types import ArraySpec, Transition, check_spec, flatten_names, spec_of

TREE = {"observation": {"state/joint": jnp.zeros((4, 2, 3))}, "action": jnp.zeros((4, 2, 5), jnp.int32)}


def test_flat_names_join_keys_fields_and_indices():
    step = Transition({"state/x": 1}, 2, 3, 4, 5, {"state/x": 6}, {"log_prob": (7, 8)})
    names = flatten_names({"step": step})
    assert names["step/observation/state/x"] == 1 and names["step/next_observation/state/x"] == 6
    assert names["step/extras/log_prob/0"] == 7 and names["step/extras/log_prob/1"] == 8 and len(names) == 8


def test_spec_of_arrays_and_of_shapes():
    expected = {"observation/state/joint": ArraySpec(("time", "world", 3)), "action": ArraySpec(("time", "world", 5), "int32")}
    assert spec_of(TREE, ("time", "world")) == expected
    assert spec_of(jax.eval_shape(lambda: TREE), ("time", "world")) == expected


def test_named_axes_take_any_size_but_only_one():
    needed = {"a": ArraySpec(("time", 3)), "b": ArraySpec(("time",))}
    check_spec(needed, {"a": ArraySpec((7, 3)), "b": ArraySpec((7,))}, "x", "y")
    check_spec(needed, {"a": ArraySpec(("step", 3)), "b": ArraySpec(("step",))}, "x", "y")
    with pytest.raises(ValueError, match=r"b: needs shape \('time',\), got \(8,\)"):
        check_spec(needed, {"a": ArraySpec((7, 3)), "b": ArraySpec((8,))}, "x", "y")


def test_more_than_needed_is_offered():
    check_spec({}, {"a": ArraySpec((1,))}, "x", "y")


def test_names_and_units_are_compared_where_both_sides_have_them():
    check_spec({"a": ArraySpec((1,), names=("hip",), unit="rad")}, {"a": ArraySpec((1,))}, "x", "y")
    check_spec({"a": ArraySpec((1,))}, {"a": ArraySpec((1,), names=("hip",), unit="rad")}, "x", "y")


@pytest.mark.parametrize(
    ("offered", "message"),
    [
        ({"b": ArraySpec((2,))}, "a: missing; offered are b"),
        ({}, "a: missing; offered are none"),
        ({"a": ArraySpec((3,))}, r"a: needs shape \(2,\), got \(3,\)"),
        ({"a": ArraySpec((2, 1))}, r"a: needs shape \(2,\), got \(2, 1\)"),
        ({"a": ArraySpec((2,), "int32")}, "a: needs float32, got int32"),
        ({"a": ArraySpec((2,), names=("knee", "hip"))}, r"a: needs the dimensions \('hip', 'knee'\), got \('knee', 'hip'\)"),
        ({"a": ArraySpec((2,), unit="deg")}, "a: needs the unit rad, got deg"),
    ],
)
def test_what_does_not_fit_is_named(offered, message):
    with pytest.raises(ValueError, match=f"algorithm ppo does not fit source rollout:\n  {message}"):
        check_spec({"a": ArraySpec((2,), names=("hip", "knee"), unit="rad")}, offered, "algorithm ppo", "source rollout")


def test_every_fault_is_told_at_once():
    with pytest.raises(ValueError) as told:
        check_spec({"a": ArraySpec((2,)), "b": ArraySpec((1,), "int32")}, {"b": ArraySpec((2,))}, "x", "y")
    assert len(str(told.value).splitlines()) == 4
