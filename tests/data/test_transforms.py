"""What is drawn from an episode and what becomes of it: masks row by row, round trips of every transform, histograms of draws."""

import inspect
import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxrl.types import ArraySpec
from jaxrl_data import gripper, rotations
from jaxrl_data.episode import Episode, Features
from jaxrl_data.rotations import WIDTH, write
from jaxrl_data.standardise.oxe import standard
from jaxrl_data.transforms.grippers import GripperRange
from jaxrl_data.transforms.instruction import ChooseInstruction, Tokenise, sentencepiece_file, tokenizers_file
from jaxrl_data.transforms.interface import apply, definition, invert, spec_after
from jaxrl_data.transforms.normalise import Normalise, bounds, z_score
from jaxrl_data.transforms.poses import ConvertRotation, DeltaAction, RelativePose
from jaxrl_data.transforms.select import Select
from jaxrl_data.transforms.window import GoalWindow, IdleFilter, Window

RANDOM = np.random.default_rng(0)  # for calls that draw nothing


def _episode(steps: int) -> Episode:
    """Rows tell their step: state t, action 100 + t, picture "t"."""
    t = np.arange(steps, dtype=np.float32)
    return Episode(
        "set/train/3",
        {"state/arm": np.stack((t, -t), axis=1), "action": np.stack((100 + t, 200 + t), axis=1), "reward": t},
        {"image/primary": [b"%d" % one for one in range(steps)]},
        {"task/instruction": [f"do {one}" for one in range(steps)]},
    )


@pytest.mark.parametrize(("steps", "history", "horizon"), list(itertools.product((1, 2, 5), (1, 2, 3), (1, 2, 4, 7))))
def test_every_row_at_both_ends(steps: int, history: int, horizon: int) -> None:
    window, episode = Window(history, horizon), _episode(steps)
    for step in range(steps):  # the last frames too
        sample = window(episode, step)
        for row in range(history):
            at = step - (history - 1) + row
            assert sample["present/state/arm"][row] == sample["present/image/primary"][row] == float(at >= 0)
            assert sample["observation/state/arm"][row, 0] == max(at, 0)
            assert sample["observation/image/primary"][row] == b"%d" % max(at, 0)
        for row in range(horizon):
            np.testing.assert_array_equal(sample["mask"][row], [float(step + row < steps)] * 2)
            assert sample["action"][row, 0] == 100 + min(step + row, steps - 1)
        assert sample["mask"].sum() == 2 * min(horizon, steps - step)
        assert sample["observation/task/instruction"] == f"do {step}"
        assert "observation/reward" not in sample and "reward" not in sample


def test_octos_case_masks_every_step_behind_the_end() -> None:
    window = Window(horizon=4)
    assert [window(_episode(5), step)["mask"][:, 0].tolist() for step in (2, 3, 4)] == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]]


def test_strides_leave_steps_out() -> None:
    sample = Window(3, 3, history_stride=2, action_stride=3)(_episode(9), 4)
    assert sample["observation/state/arm"][:, 0].tolist() == [0, 2, 4]
    assert sample["action"][:, 0].tolist() == [104, 107, 108]
    assert sample["mask"][:, 0].tolist() == [1, 1, 0]
    assert sample["present/state/arm"].tolist() == [1, 1, 1]


def test_a_camera_that_is_not_there_is_not_present() -> None:
    sample = Window(2, cameras=("wrist",))(_episode(4), 2)
    assert sample["observation/image/wrist"] == [b"", b""]
    assert sample["present/image/wrist"].tolist() == [0, 0]
    assert "observation/image/primary" not in sample


def test_a_window_refuses_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="horizon is 0, but counts at least 1"):
        Window(horizon=0)
    with pytest.raises(ValueError, match="set/train/3: has no step 4, but 4 from 0 on"):
        Window()(_episode(4), 4)


def test_samples_are_as_the_spec_tells() -> None:
    features = Features(
        {"state/arm": ArraySpec((2,), names=("a", "b"), unit="rad"), "action": ArraySpec((2,), names=("a", "b"), unit="rad")},
        {"image/primary": ArraySpec(("height", "width", 3), "uint8")},
        ("task/instruction",),
    )
    for window in (Window(3, 4, cameras=("primary", "wrist")), GoalWindow(Window(2, 1))):
        told = window.spec(features)
        sample = window(_episode(5), 1, RANDOM)
        assert set(told) == set(sample)
        for key, spec in told.items():
            if spec.dtype == "str":
                assert isinstance(sample[key], str)
            else:
                assert len(sample[key]) == spec.shape[0]
                assert spec.dtype == "bytes" or (sample[key].shape, str(sample[key].dtype)) == (spec.shape, spec.dtype)
    assert told["action"].names == ("a", "b")


def test_a_goal_is_any_later_step_of_the_same_episode() -> None:
    window, random = GoalWindow(Window()), np.random.default_rng(0)
    drawn = Counter(window(_episode(5), 1, random)["observation/task/goal_image/primary"][0] for _ in range(300))
    assert set(drawn) == {b"2", b"3", b"4"} and min(drawn.values()) > 70
    assert window(_episode(5), 4, random)["observation/task/goal_image/primary"] == [b"4"]
    silent = GoalWindow(Window(), keep_instruction=0.0)(_episode(5), 1, random)
    assert silent["observation/task/instruction"] == ""
    with pytest.raises(ValueError, match="keep_instruction is 2"):
        GoalWindow(Window(), keep_instruction=2)


def test_steps_from_which_a_robot_stands_are_left_out() -> None:
    move, gripper = np.array([0, 0, 1, 0, 0, 0, 0.0]), np.array([1, 1, 1, 1, 0, 0, 0.0])
    episode = Episode("set/train/3", {"action": np.stack((move, gripper), axis=1)}, {}, {})
    idle = np.array([1, 1, 0, 1, 0, 1, 1], bool)  # the gripper closes at step 4
    assert IdleFilter((0,), (1,))(episode).tolist() == (~idle).tolist()
    assert IdleFilter((0,), (1,), horizon=2)(episode).tolist() == [False, True, True, True, True, False, False]
    for horizon, share in itertools.product((1, 3, 9), (0.5, 1.0)):
        expected = [idle[t : t + horizon].mean() < share for t in range(7)]
        assert IdleFilter((0,), (1,), horizon=horizon, share=share)(episode).tolist() == expected
    with pytest.raises(ValueError, match="names no column"):
        IdleFilter(())
    with pytest.raises(ValueError, match="set/train/3: its action has 2 dimensions, and none of the number 2"):
        IdleFilter((2,))(episode)


def _arm_sample() -> dict[str, Any]:
    """A pose with Euler angles and a gripper, absolute, over a history of two and a horizon of five."""
    random = np.random.default_rng(1)

    def poses(count: int) -> np.ndarray:
        euler = write(Rotation.random(count, rng=random), "euler", (count,))
        return np.concatenate((random.normal(size=(count, 3)), euler, random.uniform(0, 1, (count, 1))), axis=1).astype(np.float32)

    mask = np.ones((5, 7), np.float32)
    mask[3:] = 0
    return {"observation/state/eef": poses(2), "action": poses(5), "mask": mask, "observation/task/instruction": "lift it"}


STATE = "observation/state/eef"
ROUND_TRIPS = {
    "z_score": z_score("action", np.arange(7), np.linspace(0.1, 1, 7)),
    "bounds": bounds("action", -np.arange(7) - 1.0, np.arange(7) + 2.0, normalised=[True] * 6 + [False]),
    "state": z_score(STATE, np.arange(7), np.linspace(0.1, 1, 7)),
    "delta": DeltaAction(STATE, tuple((column, column) for column in range(6)), angles=(3, 4, 5)),
    "relative": RelativePose(STATE),
    "relative_history": RelativePose(STATE, history_too=True),
    "six": ConvertRotation("action", 3, "euler", "rotation_6d"),
    "quaternion": ConvertRotation("action", 3, "euler", "quaternion"),
    "state_matrix": ConvertRotation(STATE, 3, "euler", "matrix"),
    "gripper": GripperRange("action", 6, closed=0.8, opened=0.0),
    "choice": ChooseInstruction(),
    "tokens": Tokenise(),
}


def _same_actions(one: np.ndarray, other: np.ndarray) -> None:
    """Angles are compared as rotations: there are several ways to write one."""
    np.testing.assert_allclose(one[:, [0, 1, 2, 6]], other[:, [0, 1, 2, 6]], atol=2e-5)
    apart = Rotation.from_euler("xyz", one[:, 3:6]).inv() * Rotation.from_euler("xyz", other[:, 3:6])
    assert apart.magnitude().max() < 1e-4


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_what_is_changed_comes_back_and_the_robot_is_served_alike(name: str) -> None:
    _round_trip([ROUND_TRIPS[name]])


def test_a_whole_list_comes_back() -> None:
    names = ("gripper", "relative", "six", "state_matrix", "state_normal", "z_nine", "choice", "tokens")
    more = {
        "state_normal": z_score(STATE, np.zeros(13), np.full(13, 3.0)),
        "z_nine": z_score("action", np.full(10, 0.2), np.full(10, 2.0)),
    }
    _round_trip([{**ROUND_TRIPS, **more}[one] for one in names])


def _round_trip(transforms: list[Any]) -> None:
    sample = _arm_sample()
    kept = {key: np.copy(value) for key, value in sample.items()}
    trained = apply(transforms, sample, np.random.default_rng(0))
    assert all(np.array_equal(sample[key], value) for key, value in kept.items())  # the given sample stays
    robot = {key: value for key, value in sample.items() if key.startswith("observation/")}
    served = apply(transforms, robot, np.random.default_rng(5))
    for key, value in served.items():  # without an action, the observation is what training sees
        np.testing.assert_array_equal(value, trained[key])
    assert not any(key in served for key in ("action", "mask"))
    back = invert(transforms, {**served, "action": trained["action"]})
    _same_actions(back["action"], sample["action"])
    told = {
        STATE: ArraySpec((2, 7), names=tuple("xyzrpyg"), unit="m,m,m,rad,rad,rad,1"),
        "action": ArraySpec((5, 7), names=tuple("xyzrpyg"), unit="m,m,m,rad,rad,rad,1"),
        "mask": ArraySpec((5, 7)),
        "observation/task/instruction": ArraySpec((), "str"),
    }
    spec = spec_after(transforms, told)
    assert set(spec) == set(trained)
    for key, one in spec.items():
        if one.dtype != "str":
            assert trained[key].shape == one.shape and str(trained[key].dtype) == one.dtype, key
        assert len(one.names) in (0, one.shape[-1] if one.shape else 0)
    assert "action" not in invert(transforms, served)  # nothing to undo in an observation


def test_a_batch_of_chunks_comes_back_as_its_rows() -> None:
    transforms = [ROUND_TRIPS["delta"], ROUND_TRIPS["z_score"]]
    other = [ROUND_TRIPS["relative"], ROUND_TRIPS["six"]]
    for chosen in (transforms, other):
        done = [apply(chosen, {**_arm_sample(), STATE: _arm_sample()[STATE] * scale}, RANDOM) for scale in (1.0, 0.5)]
        batch = {key: np.stack([one[key] for one in done]) for key in done[0] if key == "action" or key.startswith("reference/")}
        back = invert(chosen, batch)["action"]
        for row in back:
            _same_actions(row, _arm_sample()["action"])


def test_normalised_numbers_are_numpys() -> None:
    values = np.random.default_rng(3).normal(2, 3, (50, 4)).astype(np.float32)
    low, high = np.quantile(values, 0.01, axis=0), np.quantile(values, 0.99, axis=0)
    found = bounds("action", low, high, clip=1.0)({"action": values}, RANDOM)["action"]
    np.testing.assert_allclose(found, np.clip(2 * (values - low) / (high - low) - 1, -1, 1), atol=1e-5)
    unclipped = bounds("action", low, high)({"action": values}, RANDOM)["action"]
    assert np.abs(unclipped).max() > 1
    standardised = z_score("action", values.mean(0), values.std(0), [True, True, False, True])({"action": values}, RANDOM)["action"]
    np.testing.assert_allclose(standardised.mean(0)[[0, 1, 3]], 0, atol=1e-5)
    np.testing.assert_array_equal(standardised[:, 2], values[:, 2])


def test_a_constant_dimension_stays_small() -> None:
    noise = np.full((1, 1), 5.0 + 1e-4, np.float32)
    assert abs(z_score("action", [5.0], [0.0])({"action": noise}, RANDOM)["action"][0, 0]) < 0.2
    assert abs(bounds("action", [5.0], [5.0], floor=1e-2)({"action": noise}, RANDOM)["action"][0, 0]) < 0.05
    assert bounds("action", [5.0], [5.0]).inverse({"action": np.zeros((1, 1))})["action"][0, 0] == 5.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bounds("action", [0, 1], [1, 0]), r"dimension 1 has low 1.0 above high 0.0"),
        (lambda: z_score("action", [0, np.nan], [1, 1]), "dimension 1 has offset nan"),
        (lambda: z_score("action", [0], [1], floor=-1, normalised=[True, True]), "2 entries for 1 dimensions"),
        (lambda: Normalise("action", (0.0,), (0.0,)), "a scale is positive"),
        (lambda: Normalise("action", (0.0,), (1.0, 2.0)), "1 offsets and 2 scales"),
        (lambda: GripperRange("action", 0, 1.0, 1.0), "closed and opened are both 1.0"),
        (lambda: DeltaAction(STATE, ((0, 0),), angles=(1,)), "in no pair"),
        (lambda: ConvertRotation("action", 0, "euler", "quarternion"), "did you mean quaternion"),
        (lambda: Tokenise(length=0), "at least 1 token"),
    ],
)
def test_impossible_numbers_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (z_score("action", [0], [1]), "action has 7 dimensions, but statistics of 1"),
        (z_score("observation/state/eeff", [0], [1]), "did you mean observation/state/eef"),
        (DeltaAction(STATE, ((7, 0),)), "action has 7 dimensions, and none of the number 7"),
        (RelativePose(STATE, action_first=2, rotation="matrix"), "none of the number 13"),
        (ConvertRotation("action", 5, "euler", "matrix"), "none of the number 7"),
        (GripperRange("action", 9, 0.0, 1.0), "none of the number 9"),
    ],
)
def test_what_does_not_fit_a_spec_is_named_before_training(transform: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        transform.spec({STATE: ArraySpec((2, 7)), "action": ArraySpec((5, 7))})


def test_deltas_are_from_the_last_observation_the_short_way_round() -> None:
    sample = {"observation/state/arm": np.array([[9.0, 9.0], [1.0, 3.0]]), "action": np.array([[1.5, -3.0], [2.0, 3.1]])}
    found = DeltaAction("observation/state/arm", ((0, 0), (1, 1)), angles=(1,))(sample, RANDOM)
    np.testing.assert_allclose(found["action"], [[0.5, -6 + 2 * np.pi], [1.0, 0.1]], atol=1e-6)
    with pytest.raises(ValueError, match="two of these cannot share one state"):
        DeltaAction("observation/state/arm", ((0, 0),))(found, RANDOM)
    with pytest.raises(ValueError, match="hand it back beside the action"):
        DeltaAction("observation/state/arm", ((0, 0),)).inverse({"action": sample["action"]})


def test_a_relative_pose_is_what_the_gripper_sees() -> None:
    """Homogeneous matrices say the same: inv(T) T'."""
    sample = _arm_sample()
    found = RelativePose(STATE, history_too=True)(sample, RANDOM)

    def matrix(pose: np.ndarray) -> np.ndarray:
        out = np.eye(4)
        out[:3, :3], out[:3, 3] = Rotation.from_euler("xyz", pose[3:6]).as_matrix(), pose[:3]
        return out

    reference = np.linalg.inv(matrix(sample[STATE][-1]))
    for key in ("action", STATE):
        for before, after in zip(sample[key], found[key], strict=True):
            np.testing.assert_allclose(matrix(after), reference @ matrix(before), atol=1e-5)
            assert after[6] == before[6]
    np.testing.assert_allclose(found[STATE][-1, :6], np.zeros(6), atol=1e-6)


def test_two_arms_take_two_relative_poses() -> None:
    one = _arm_sample()
    both = {STATE: np.tile(one[STATE], (1, 2)), "action": np.tile(one["action"], (1, 2))}
    transforms = [RelativePose(STATE), RelativePose(STATE, action_first=7, state_first=7)]
    there = apply(transforms, both, RANDOM)
    np.testing.assert_allclose(there["action"][:, 7:], there["action"][:, :7], atol=1e-6)
    _same_actions(invert(transforms, there)["action"][:, 7:], one["action"])


@pytest.mark.parametrize("after", tuple(WIDTH))
def test_the_mask_follows_a_rotation_into_another_form(after: str) -> None:
    sample = _arm_sample()
    sample["mask"][1, 4] = 0  # one angle that is not there leaves no rotation
    found = ConvertRotation("action", 3, "euler", after)(sample, RANDOM)
    assert found["mask"].shape == found["action"].shape == (5, 4 + WIDTH[after])
    assert found["mask"][0].all() and not found["mask"][3:].any()
    assert found["mask"][1].tolist() == [1, 1, 1, *[0] * WIDTH[after], 1]


def test_a_robot_gets_its_own_gripper_numbers() -> None:
    plain = GripperRange("action", 0, closed=1.0, opened=0.0)
    assert plain({"action": np.array([[0.0], [0.25], [1.0]])}, RANDOM)["action"][:, 0].tolist() == [1.0, 0.75, 0.0]
    decided = GripperRange("action", 0, closed=0.0, opened=0.08, threshold=0.5)
    np.testing.assert_allclose(decided.inverse({"action": np.array([[0.49], [0.5]])})["action"][:, 0], [0, 0.08])


def test_every_instruction_is_drawn_the_last_one_too() -> None:
    key = "observation/task/instruction"
    sample = {key: "a", f"{key}_2": "b", f"{key}_3": "", f"{key}_4": "c", "action": np.zeros((1, 1))}
    random = np.random.default_rng(0)
    drawn = Counter(ChooseInstruction()(sample, random)[key] for _ in range(300))
    assert set(drawn) == {"a", "b", "c"} and min(drawn.values()) > 70
    assert not any(f"{key}_{number}" in ChooseInstruction()(sample, random) for number in (2, 3, 4))
    robot = {key: "only", f"{key}_2": ""}
    assert ChooseInstruction()(robot, random) == {key: "only"}
    assert ChooseInstruction()({key: "", "action": np.zeros((1, 1))}, random)[key] == ""
    told = ChooseInstruction().spec({key: ArraySpec((), "str"), f"{key}_2": ArraySpec((), "str")})
    assert set(told) == {key}


def test_words_become_numbers_through_a_callable_given_by_its_path() -> None:
    key = "observation/task/instruction"
    found = Tokenise(length=5)({key: "ä!"}, RANDOM)
    assert found[key].tolist() == [0xC3 + 1, 0xA4 + 1, ord("!") + 1, -1, -1]
    assert Tokenise(length=1, cut=True)({key: "lift"}, RANDOM)[key].tolist() == [ord("l") + 1]
    assert Tokenise()({key: found[key]}, RANDOM)[key] is found[key]  # ids already
    for path in ("nothing", "jaxrl_data.transforms.instruction.byte_idz", "no.such.module"):
        with pytest.raises(ValueError, match=f"there is no {path}; write module.function"):
            Tokenise(path)({key: "lift"}, RANDOM)


@pytest.mark.parametrize(("library", "factory"), [("tokenizers", tokenizers_file), ("sentencepiece", sentencepiece_file)])
def test_an_optional_library_that_is_missing_is_named(library: str, factory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(ImportError, match=f"pip install {library}"):
        factory("words.model")


def test_the_definition_changes_with_a_number() -> None:
    first = definition([ROUND_TRIPS["z_score"], ROUND_TRIPS["relative"]])
    assert first == definition([ROUND_TRIPS["z_score"], RelativePose(STATE)])
    assert first != definition([ROUND_TRIPS["z_score"], RelativePose(STATE, action_first=1)])
    assert first != definition([ROUND_TRIPS["relative"], ROUND_TRIPS["z_score"]])


def test_the_definition_changes_with_what_a_transform_is_built_on(monkeypatch: pytest.MonkeyPatch) -> None:
    before = definition([ROUND_TRIPS["relative"]]), definition([ROUND_TRIPS["z_score"]]), definition([standard("bridge_orig")])
    read = inspect.getsource

    def edited(module: Any) -> str:
        changed = module is rotations or module is gripper
        return read(module) + ("# another line" if changed else "")

    monkeypatch.setattr(inspect, "getsource", edited)
    after = definition([ROUND_TRIPS["relative"]]), definition([ROUND_TRIPS["z_score"]]), definition([standard("bridge_orig")])
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, True, False]


def test_select_takes_dimensions_with_their_names_and_units() -> None:
    select = Select("observation/state/arm", (2, 0))
    spec = ArraySpec((1, 3), names=("x", "y", "angle"), unit="m,m,rad")
    assert select.spec({"observation/state/arm": spec})["observation/state/arm"] == ArraySpec((1, 2), names=("angle", "x"), unit="rad,m")
    sample = {"observation/state/arm": np.array([[1.0, 2.0, 3.0]], np.float32), "action": np.ones((1, 2))}
    np.testing.assert_array_equal(select(sample, RANDOM)["observation/state/arm"], [[3, 1]])
    assert select.inverse(sample) is sample
    with pytest.raises(ValueError, match="Select: observation/state/arm has 3 dimensions"):
        Select("observation/state/arm", (3,)).spec({"observation/state/arm": spec})
    with pytest.raises(ValueError, match="a robot needs all of its action"):
        Select("action", (0,))
