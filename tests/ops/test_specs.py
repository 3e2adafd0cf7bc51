import pytest

from jaxrl.ops.specs import check_spec, from_json, to_json, transition_spec, with_axes
from jaxrl.types import ArraySpec, EnvSpec, PolicySpec

SPEC = PolicySpec(
    observation={"state/joint": ArraySpec((2,), names=("hip", "knee"), unit="rad", low=-1.0), "image/wrist": ArraySpec((8, 8, 3), "uint8")},
    action=ArraySpec((2,), low=(-1.0, -2.0), high=(1.0, 2.0)),
    horizon=4,
    rate=50.0,
    extras={"log_prob": ArraySpec(())},
)


def test_round_trip():
    assert from_json(to_json(SPEC)) == SPEC


@pytest.mark.parametrize("text", ["", "{}", "[]", to_json(SPEC).replace('"rate"', '"pace"'), to_json(SPEC)[:-9]])
def test_garbage_is_no_spec(text):
    with pytest.raises(ValueError, match="this is no policy spec"):
        from_json(text)


def test_axes_come_in_front_and_nothing_is_lost():
    part = SPEC.observation["state/joint"]
    found = with_axes({"joint": part}, ("batch", 4), "state/")
    assert found == {"state/joint": ArraySpec(("batch", 4, 2), names=("hip", "knee"), unit="rad", low=-1.0)}
    assert with_axes({"joint": part}, ()) == {"joint": part}


def test_transitions_keep_what_the_environment_says():
    env = EnvSpec("x", {"state/joint": SPEC.observation["state/joint"]}, ArraySpec((2,), unit="N m"), 10, 0.1)
    found = transition_spec(env, {"log_prob": ArraySpec(())})
    scalars = {"reward", "discount", "truncation", "extras/log_prob"}
    assert set(found) == scalars | {"action", "observation/state/joint", "next_observation/state/joint"}
    assert all(found[name] == ArraySpec(("time", "world")) for name in scalars)
    assert found["action"] == ArraySpec(("time", "world", 2), unit="N m")
    assert found["observation/state/joint"] == found["next_observation/state/joint"] and found["observation/state/joint"].unit == "rad"
    other = transition_spec(env._replace(action=ArraySpec((2,), unit="rad")), {})
    with pytest.raises(ValueError, match="action: needs the unit N m, got rad"):
        check_spec({"action": found["action"]}, other, "x", "y")


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
