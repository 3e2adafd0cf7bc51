"""Specs travel as they are, and policies meet only robots that mean the same."""

from dataclasses import replace

import numpy as np
import pytest

from jaxrl_client import codec, spec
from jaxrl_client.codec import WireError
from jaxrl_client.limits import Limits
from jaxrl_client.protos import policy_pb2, robot_pb2, values_pb2
from jaxrl_client.spec import ArraySpec, PolicySpec, RobotSpec

ACTION = ArraySpec("action", (2,), names=("shoulder", "gripper"), units=("rad", "1"), low=(-1, 0), high=(1, 1))
Q = ArraySpec("state/q", (2,), names=("shoulder", "gripper"), units=("rad", "1"))
WRIST = ArraySpec("image/wrist", (4, 5, 3), "uint8")
POLICY = PolicySpec("reach", (Q,), ACTION, horizon=8, rate=50, texts=("task/instruction",), profile="absolute", executed_steps=4)
ROBOT = RobotSpec("arm", (Q, WRIST), ACTION, rate=50.0, watchdog_ms=200, profile="absolute", velocity=(2, 2))


@pytest.mark.parametrize(
    "made, kind, read", [(POLICY, policy_pb2.PolicySpec, spec.policy_spec), (ROBOT, robot_pb2.RobotSpec, spec.robot_spec)]
)
def test_specs_come_back_as_they_were_with_their_hash(made, kind, read):
    header = values_pb2.Header(session="a", sequence=1)
    message = kind.FromString(spec.to_message(made, header).SerializeToString())
    assert read(message) == made
    assert message.header.spec_hash == spec.spec_hash(made) and len(spec.spec_hash(made)) == 32
    message.rate_hz = 51
    with pytest.raises(WireError, match="spec_hash"):
        read(message)


def test_whatever_a_spec_says_is_in_its_hash():
    changes = [dict(name="b"), dict(rate=51.0), dict(profile="relative"), dict(horizon=9), dict(action=replace(ACTION, units=("deg", "1")))]
    hashes = {spec.spec_hash(replace(POLICY, **change)) for change in ({}, *changes, dict(texts=()), dict(takes_prefix=True))}
    assert len(hashes) == 8
    assert spec.spec_hash(replace(POLICY, rate=50.0)) == spec.spec_hash(POLICY)


def test_a_policy_and_a_robot_that_fit():
    assert spec.differences(POLICY, ROBOT) == []


@pytest.mark.parametrize(
    "policy, robot, said",
    [
        (dict(rate=30.0), {}, "rate: the policy's steps are of 30 Hz, the robot's of 50 Hz"),
        (dict(profile="relative"), {}, "profile"),
        (dict(action=replace(ACTION, units=("deg", "1"))), {}, "action: units is ('deg', '1')"),
        (dict(action=replace(ACTION, names=("gripper", "shoulder"))), {}, "action: names"),
        (dict(observation=(replace(Q, shape=(3,), names=(), units=()),)), {}, "state/q: shape"),
        ({}, dict(observation=(WRIST,)), "state/q: the policy reads it, but the robot shows image/wrist"),
        (dict(observation=(replace(Q, dtype="float64"),)), {}, "state/q: dtype"),
    ],
)
def test_what_does_not_fit_is_said(policy, robot, said):
    found = spec.differences(replace(POLICY, **policy), replace(ROBOT, **robot))
    assert any(said in line for line in found), found


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: replace(POLICY, horizon=0), "executes 4 of 0"),
        (lambda: replace(POLICY, rate=float("nan")), "rate is nan"),
        (lambda: replace(ROBOT, watchdog_ms=0), "watchdog"),
        (lambda: replace(ROBOT, velocity=(1.0,)), "velocity"),
        (lambda: replace(ROBOT, jerk=(1.0, float("nan"))), "jerk"),
        (lambda: replace(ACTION, low=(2, 0)), "low 2 is not up to high 1"),
        (lambda: replace(ACTION, low=(float("nan"), 0)), "low nan"),
        (lambda: replace(ACTION, names=("a",)), "1 names"),
        (lambda: replace(ACTION, units=("a", "b", "c")), "units has 3 entries"),
        (lambda: replace(ACTION, shape=(0,)), "shape"),
        (lambda: replace(ACTION, dtype="complex64"), "dtype complex64"),
        (lambda: replace(POLICY, action=ArraySpec("action", ())), "one axis"),
    ],
)
def test_impossible_specs_are_refused(make, said):
    with pytest.raises(WireError, match=said):
        make()


def test_observations_are_held_against_the_spec():
    good = {"state/q": np.zeros(2, np.float32), "task/instruction": "go"}
    spec.check_observation(good, POLICY)
    bad = [
        ({"task/instruction": "go"}, "state/q: is missing"),
        (good | {"state/v": np.zeros(2, np.float32)}, "state/v: the policy reads no such thing"),
        (good | {"state/q": np.zeros(2)}, r"state/q: is float64 \(2,\), expected float32 \(2,\)"),
        (good | {"state/q": np.zeros((1, 2), np.float32)}, r"\(1, 2\)"),
        (good | {"state/q": "text"}, "state/q"),
        (good | {"task/instruction": np.zeros(1)}, "task/instruction"),
    ]
    for seen, said in bad:
        with pytest.raises(WireError, match=said):
            spec.check_observation(seen, POLICY)
    spec.check_array(codec.Jpeg(b"", 4, 5), WRIST)
    with pytest.raises(WireError, match="image/wrist"):
        spec.check_array(codec.Jpeg(b"", 5, 5), WRIST)


def test_names_that_are_there_twice_are_refused():
    message = spec.to_message(ROBOT, values_pb2.Header())
    message.observation.append(message.observation[0])
    with pytest.raises(WireError, match="twice"):
        spec.robot_spec(message)


LIMITS = Limits(("shoulder", "gripper"), (-1.0, 0.0), (1.0, 1.0), (1.5,), 0.02)


@pytest.mark.parametrize(
    "limits, robot, said",
    [
        (dict(period=0.01), {}, "period: the limits are of 100 Hz, the robot of 50 Hz"),
        (dict(names=("gripper", "shoulder")), {}, "names: the limits are of"),
        (dict(names=("a",), lower=(0.0,), upper=(1.0,)), {}, "names"),
        (dict(lower=(-1.1, 0.0)), {}, "shoulder: lower is -1.1, beyond the robot's own -1"),
        (dict(upper=(1.0, 1.2)), {}, "gripper: upper is 1.2"),
        (dict(velocity=(3.0,)), {}, "shoulder: velocity is 3, beyond the robot's own 2"),
        ({}, dict(acceleration=(5.0, 5.0)), "shoulder: acceleration is inf, beyond the robot's own 5"),
    ],
)
def test_limits_of_another_robot_are_told(limits, robot, said):
    assert spec.limit_differences(LIMITS, ROBOT) == []
    found = spec.limit_differences(replace(LIMITS, **limits), replace(ROBOT, **robot))
    assert any(said in line for line in found), found
