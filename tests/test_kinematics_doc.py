"""docs/kinematics.md is true: its code is taken out of it and run, and compared with what the textbooks say."""

import re
from pathlib import Path

import numpy as np
import pytest

from jaxrl_envs import robots

TEXT = (Path(__file__).parents[1] / "docs" / "kinematics.md").read_text()
A, B = 0.5, 0.4


@pytest.fixture(scope="module")
def ran():
    """The names that the document's blocks leave behind, run one after the other."""
    found: dict = {}
    for match in re.finditer(r"^```python (\S+)\n(.*?)^```$", TEXT, re.M | re.S):
        exec(match[2], found)
    return found


def test_the_document_is_short_and_its_arm_has_the_lengths_of_the_model():
    assert len(TEXT.splitlines()) < 80
    assert f'pos="{A} 0 0"' in robots.xml("two_link") and f'pos="{B} 0 0"' in robots.xml("two_link")


def test_the_tip_and_its_jacobian_are_in_closed_form(ran):
    first, both = 0.3, 1.1
    assert float(ran["x"]) == pytest.approx(A * np.cos(first) + B * np.cos(both), abs=1e-6)
    assert float(ran["y"]) == pytest.approx(A * np.sin(first) + B * np.sin(both), abs=1e-6)
    expected = [
        [-A * np.sin(first) - B * np.sin(both), -B * np.sin(both)],
        [A * np.cos(first) + B * np.cos(both), B * np.cos(both)],
    ]
    np.testing.assert_allclose(ran["jacobian"], expected, atol=1e-6)
    assert np.linalg.det(ran["jacobian"]) == pytest.approx(A * B * np.sin(0.8), abs=1e-6)


def test_both_solutions_are_those_of_the_law_of_cosines(ran):
    x, y = 0.2, 0.6
    elbow = np.arccos((x**2 + y**2 - A**2 - B**2) / (2 * A * B)) * np.array([1, -1])
    shoulder = np.arctan2(y, x) - np.arctan2(B * np.sin(elbow), A + B * np.cos(elbow))
    assert ran["found"].converged.all()
    np.testing.assert_allclose(ran["found"].qpos, np.stack((shoulder, elbow), -1), atol=1e-3)


def test_the_servo_arrives_within_its_limits_of_speed(ran):
    limits = np.array(ran["config"].speed)
    used = np.abs(ran["speeds"]).max(0) / limits
    assert used.max() <= 1 + 1e-5
    off = ran["site_poses"](ran["panda"], ran["end"])[ran["gripper"]] - ran["goal"]
    np.testing.assert_allclose(off, 0, atol=1e-3)


def test_one_of_several_starts_reaches_the_goal(ran):
    off = ran["site_poses"](ran["panda"], ran["best"])[ran["gripper"], 4:] - ran["goal"][4:]
    assert ran["solutions"].converged.any() and np.linalg.norm(off) < 1e-3
