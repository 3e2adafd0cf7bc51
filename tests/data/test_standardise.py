"""From raw columns to house names: the steps, the lines that name them, and what an episode becomes."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxrl.types import ArraySpec
from jaxrl_data.episode import Episode, Features, check
from jaxrl_data.gripper import absolute, binarised
from jaxrl_data.rotations import WIDTH, convert, read, wrapped, write
from jaxrl_data.standardise.standard import Standard, embodiment, features, part, standardiser
from jaxrl_data.standardise.steps import STEPS, step

STEPS_OF_TEST = 5


def _row(**changes: object) -> Standard:
    row = Standard(
        "made_up",
        images={"primary": "observation/image", "wrist": "observation/hand?"},
        text=("language_instruction",),
        state={"eef": ("observation/state[0:6]",), "gripper": ("observation/state[-1:] | invert_gripper",)},
        action=("action[0:6] | scale 0.1", "action[6:7] | clip 0 1 | invert_gripper"),
        raw={"action": (7,), "observation/state": (7,)},
        rate=5.0,
        state_encoding={"eef": "POS_EULER", "gripper": "GRIPPER"},
        action_unit="si",
    )
    return dataclasses.replace(row, **changes)  # type: ignore[arg-type]


def _episode(steps: int = STEPS_OF_TEST) -> Episode:
    values = np.random.default_rng(0).uniform(-1, 1, (2, steps, 7)).astype(np.float32)
    return Episode(
        "made_up/train/7",
        {"action": values[0], "observation/state": values[1]},
        {"observation/image": [f"picture {t}".encode() for t in range(steps)]},
        {"language_instruction": ["lift it"] * steps},
        {"place": "kitchen"},
    )


def test_an_episode_gets_house_names_and_keeps_the_rest() -> None:
    raw = _episode()
    row = _row()
    found = standardiser(row)(raw)
    np.testing.assert_allclose(found.arrays["action"][:, :6], raw.arrays["action"][:, :6] * 0.1, rtol=1e-6)
    np.testing.assert_allclose(found.arrays["action"][:, 6], 1 - np.clip(raw.arrays["action"][:, 6], 0, 1), rtol=1e-6)
    np.testing.assert_array_equal(found.arrays["state/eef"], raw.arrays["observation/state"][:, :6])
    np.testing.assert_allclose(found.arrays["state/gripper"][:, 0], 1 - raw.arrays["observation/state"][:, 6], rtol=1e-6)
    assert found.images == {"image/primary": raw.images["observation/image"]}  # the wrist may be missing
    assert found.texts == {"task/instruction": ["lift it"] * STEPS_OF_TEST}
    assert found.name == raw.name and found.metadata == raw.metadata
    told = features(row, Features(images={"observation/image": ArraySpec((48, 64, 3), "uint8")}))
    check(found, told)
    assert told.images == {"image/primary": ArraySpec((48, 64, 3), "uint8")}
    assert told.arrays["action"].names[-1] == "gripper" and told.rate == 5.0
    assert [one.unit for one in embodiment(row).dimensions] == ["m"] * 3 + ["rad"] * 3 + ["1"]


def test_steps_at_both_ends_are_dropped_from_every_column() -> None:
    raw = _episode()
    found = standardiser(_row(drop_first=1, drop_last=2))(raw)
    np.testing.assert_array_equal(found.arrays["state/eef"], raw.arrays["observation/state"][1:3, :6])
    assert found.images["image/primary"] == raw.images["observation/image"][1:3]
    assert len(found.texts["task/instruction"]) == 2
    with pytest.raises(ValueError, match=r"made_up/train/7: has 3 steps, and made_up drops 3"):
        standardiser(_row(drop_first=1, drop_last=2))(_episode(3))


def test_an_instruction_may_be_code_points() -> None:
    codes = np.zeros((STEPS_OF_TEST, 16), np.int32)
    codes[:, :4] = [ord(one) for one in "käse"]
    raw = _episode()._replace(texts={})
    raw.arrays["observation/instruction"] = codes
    found = standardiser(_row(text=("observation/instruction",)))(raw)
    assert found.texts["task/instruction"] == ["käse"] * STEPS_OF_TEST


def test_a_step_may_have_several_instructions() -> None:
    raw = _episode()
    raw.texts["second"] = ["raise it"] * STEPS_OF_TEST
    found = standardiser(_row(text=("language_instruction", "second", "third?")))(raw)
    assert {name: column[0] for name, column in found.texts.items()} == {
        "task/instruction": "lift it",
        "task/instruction_2": "raise it",
        "task/instruction_3": "",
    }


def test_depth_lies_as_it_is_stored() -> None:
    raw = _episode()
    raw.arrays["observation/depth"] = np.ones((STEPS_OF_TEST, 4, 4), np.float32)
    raw.images["observation/hand_depth"] = [b"png"] * STEPS_OF_TEST
    row = _row(depth={"primary": "observation/depth", "wrist": "observation/hand_depth", "top": "observation/top_depth?"})
    found = standardiser(row)(raw)
    hand = ArraySpec((4, 4, 1), "uint16")
    told = features(row, Features({"observation/depth": ArraySpec((4, 4))}, {"observation/hand_depth": hand}))
    check(found, told)
    assert told.images["depth/wrist"] == hand
    assert found.arrays["depth/primary"].shape == (STEPS_OF_TEST, 4, 4)
    assert found.images["depth/wrist"] == [b"png"] * STEPS_OF_TEST


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw.arrays.pop("action"), "made_up/train/7: lacks action"),
        (lambda raw: raw.images.clear(), "made_up/train/7: lacks observation/image, the camera primary"),
        (lambda raw: raw.texts.clear(), "made_up/train/7: lacks the text language_instruction"),
        (lambda raw: raw.arrays.update(action=np.zeros((STEPS_OF_TEST, 8))), "another version of the data set needs a row of its own"),
    ],
)
def test_what_is_missing_or_of_another_shape_is_named(damage: object, message: str) -> None:
    raw = _episode()
    damage(raw)  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        standardiser(_row())(raw)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action": ("action(0:6)",)}, "cannot be read"),
        ({"action": ("action[0:6] | invert",)}, "did you mean invert_gripper"),
        ({"action": ("actions",)}, "needs actions, whose shape `raw` does not tell"),
        ({"action_encoding": "EEF_POSE"}, "did you mean EEF_POS"),
        ({"state_encoding": {"eef": "POS_EULER"}}, "state_encoding of gripper"),
        ({"normalised": (True,)}, "1 entries for 7 dimensions"),
        ({"drop_last": -1}, "not negative"),
    ],
)
def test_a_row_that_cannot_be_is_refused_when_written(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _row(**changes)


def test_an_action_of_too_few_dimensions_is_refused() -> None:
    with pytest.raises(ValueError, match="its action has 6 dimensions, EEF_POS 7"):
        standardiser(_row(action=("action[0:6]",)))(_episode())


def test_a_refused_row_says_why_and_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"is not standardised, because nobody knows. Who knows better writes a row"):
        standardiser(Standard("odd", refused="nobody knows"))


def test_a_line_is_read() -> None:
    read_line = part("action/x[-2:-1] | clip 0 1 | invert_gripper")
    assert (read_line.column, read_line.columns) == ("action/x", slice(-2, -1))
    assert read_line.steps == (("clip", "0", "1"), ("invert_gripper",))
    assert part("zeros 3").constant == 3
    assert part("zeros").column == "zeros" and not part("zeros").constant  # a column of that name


def _loop_binarised(openness: np.ndarray) -> np.ndarray:
    """The same, backwards through time."""
    carry = float(openness[-1] >= 0.5)
    out = np.empty(len(openness))
    for t in reversed(range(len(openness))):
        if openness[t] > 0.95:
            carry = 1.0
        elif openness[t] < 0.05:
            carry = 0.0
        elif not ((openness[t:] > 0.95) | (openness[t:] < 0.05)).any():
            carry = float(openness[t] >= 0.5)
        out[t] = carry
    return out


def test_a_gripper_in_between_becomes_what_it_moves_to() -> None:
    np.testing.assert_array_equal(binarised(np.array([1.0, 0.8, 0.4, 0.0, 0.3, 0.6, 1.0, 0.7])), [1, 0, 0, 0, 1, 1, 1, 1])
    random = np.random.default_rng(0)
    for _ in range(50):
        openness = random.choice([0.0, 0.1, 0.5, 0.9, 1.0], size=9)
        np.testing.assert_array_equal(binarised(openness), _loop_binarised(openness))
    np.testing.assert_array_equal(binarised(np.array([0.2, 0.7])), [0, 1])  # Octo writes 0.7 on both


def test_relative_commands_of_a_gripper_become_absolute() -> None:
    np.testing.assert_array_equal(absolute(np.array([0.0, 0, 1, 0, -1, 0])), [1, 1, 0, 0, 1, 1])  # open until it closes
    np.testing.assert_array_equal(absolute(np.array([0.0, -1, 0, 1])), [0, 1, 1, 0])  # closed until it opens
    np.testing.assert_array_equal(absolute(np.zeros(3)), [1, 1, 1])
    np.testing.assert_array_equal(absolute(np.array([0.05, 0.3])), [1, 0])  # below the threshold is no command


def test_the_way_to_the_next_pose_is_the_short_one() -> None:
    pose = np.array([[0, 0, 0, 3.1, 0, 0], [1, 2, 3, -3.1, 0.5, 0], [1, 2, 3, -3.1, 0.5, 0]])
    found = STEPS["to_next_pose"](pose)
    np.testing.assert_allclose(found[0], [1, 2, 3, 2 * np.pi - 6.2, 0.5, 0], atol=1e-12)
    np.testing.assert_array_equal(found[1:], np.zeros((2, 6)))
    assert wrapped(np.array([np.pi, -np.pi, 7.0])) == pytest.approx([-np.pi, -np.pi, 7.0 - 2 * np.pi])


def test_small_steps() -> None:
    values = np.array([[0.0, 0.0, np.sin(0.1), np.cos(0.1)]])  # x, y, z, w: 0.2 rad about z
    np.testing.assert_allclose(step("euler_of_xyzw", ())(values), [[0, 0, 0.2]], atol=1e-6)
    np.testing.assert_array_equal(step("wxyz_of_xyzw", ())(np.array([[1, 2, 3, 4]])), [[4, 1, 2, 3]])
    np.testing.assert_allclose(step("range", ("1", "-1"))(np.array([[1.0], [0.0], [-1.0]])), [[0], [0.5], [1]])
    np.testing.assert_allclose(step("euler_of", ("vector",))(np.array([[0, 0.3, 0]])), [[0, 0.3, 0]], atol=1e-6)
    zxy = np.array([[0.3, 0.2, 0.1]])
    expected = Rotation.from_euler("zxy", zxy).as_euler("xyz")
    np.testing.assert_allclose(step("euler_from", ("zxy",))(zxy), expected, atol=1e-6)
    assert step("pad", ("2",))(np.ones((3, 1))).shape == (3, 3)
    with pytest.raises(ValueError, match="one column, not 2"):
        step("absolute_gripper", ())(np.ones((3, 2)))


@pytest.mark.parametrize("form", tuple(WIDTH))
def test_rotations_go_through_every_form_and_back(form: str) -> None:
    rotations = Rotation.random(40, rng=0)
    there = write(rotations, form, (8, 5))
    assert there.shape == (8, 5, WIDTH[form])
    assert (read(there, form) * rotations.inv()).magnitude().max() < 1e-6
    if form == "quaternion":
        assert there[..., 0].min() >= 0
        np.testing.assert_allclose(there.reshape(40, 4)[:, [1, 2, 3, 0]] ** 2, rotations.as_quat() ** 2, atol=1e-12)


def test_euler_angles_are_scipys_and_bear_looking_straight_up() -> None:
    rotations = Rotation.random(40, rng=1)
    np.testing.assert_allclose(write(rotations, "euler", (40,)), rotations.as_euler("xyz"), atol=1e-9)
    up = convert(np.array([0.3, np.pi / 2, 0.0]), "euler", "quaternion")
    again = convert(up, "quaternion", "euler")
    assert again[2] == pytest.approx(0.0, abs=1e-3) and again[0] == pytest.approx(0.3, abs=1e-2)


def test_six_numbers_that_a_network_wrote_are_made_a_rotation() -> None:
    written = np.random.default_rng(2).normal(size=(30, 6))
    matrix = convert(written, "rotation_6d", "matrix").reshape(30, 3, 3)
    np.testing.assert_allclose(matrix @ matrix.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (30, 3, 3)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(matrix), 1.0, atol=1e-6)
    first = written[:, :3] / np.linalg.norm(written[:, :3], axis=1, keepdims=True)
    np.testing.assert_allclose(matrix[:, :, 0], first, atol=1e-6)
    with pytest.raises(ValueError, match="span no plane"):
        convert(np.ones((1, 6)), "rotation_6d", "matrix")
    with pytest.raises(ValueError, match="quaternion takes 4 numbers, not 3"):
        convert(np.ones((1, 3)), "quaternion", "euler")
