"""The table of data sets: each row on episodes of its own raw layout, the ones most trained on against numpy, and the mixtures."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxrl.types import ArraySpec
from jaxrl_data.episode import Episode, Features, check, length
from jaxrl_data.standardise.encodings import ACTIONS, STATES
from jaxrl_data.standardise.oxe import mixture, mixtures, names, standard
from jaxrl_data.standardise.standard import embodiment, features, part, standardiser

T = 6
WIDTH = 16  # of arrays whose width the row does not know
REFUSED = tuple(name for name in names() if standard(name).refused)
USED = tuple(name for name in names() if not standard(name).refused)


def _raw(name: str, optional: bool = True) -> Episode:
    """An episode with the columns that the row of `name` tells of; numbers between -1 and 1, quaternions of length 1."""
    row = standard(name)
    random = np.random.default_rng(len(name))
    arrays = {}
    for column, shape in row.raw.items():
        sizes = tuple(WIDTH if size is None else size for size in shape)
        arrays[column] = random.uniform(-1, 1, (T, *sizes)).astype(np.float32)
    pictures = {**row.images, **{f"{camera}_depth": column for camera, column in row.depth.items()}}
    images = {column.removesuffix("?"): [b"encoded"] * T for column in pictures.values() if optional or not column.endswith("?")}
    texts = {column.removesuffix("?"): [f"step {t}" for t in range(T)] for column in row.text if optional or not column.endswith("?")}
    return Episode(f"{name}/train/0", arrays, images, texts)


@pytest.mark.parametrize("name", USED)
def test_a_row_standardises_an_episode_of_its_layout(name: str) -> None:
    row = standard(name)
    raw = _raw(name)
    before = {column: array.copy() for column, array in raw.arrays.items()}
    found = standardiser(row)(raw)
    steps = T - row.drop_first - row.drop_last
    told = features(row, Features(images={column: ArraySpec(("height", "width", 3), "uint8") for column in raw.images}))
    assert found.arrays["action"].shape == (steps, len(ACTIONS[row.action_encoding]))
    assert {key: found.arrays[key].shape for key in told.arrays} == {key: (steps, *spec.shape) for key, spec in told.arrays.items()}
    check(found, told)
    assert all(len(column) == steps for table in (found.arrays, found.images, found.texts) for column in table.values())
    assert all(np.isfinite(array).all() and array.dtype == np.float32 for array in found.arrays.values())
    assert all(np.array_equal(raw.arrays[column], array) for column, array in before.items())  # the raw episode stays
    assert [f"image/{camera}" for camera in row.images] == [key for key in found.images if key.startswith("image/")]
    assert row.normalised and len(row.normalised) == found.arrays["action"].shape[1]
    grippers = [index for index, one in enumerate(embodiment(row).dimensions) if one.name.endswith("gripper")]
    assert [row.normalised[index] for index in grippers] == [False] * len(grippers)
    assert sum(row.normalised) == len(row.normalised) - len(grippers)


@pytest.mark.parametrize("name", USED)
def test_what_a_row_needs_and_does_not_find_is_named(name: str) -> None:
    row = standard(name)
    for column in row.raw:
        raw = _raw(name)
        del raw.arrays[column]
        with pytest.raises(ValueError, match=f"{name}/train/0: lacks {column}"):
            standardiser(row)(raw)
    standardiser(row)(_raw(name, optional=False))  # what may be missing may be missing


@pytest.mark.parametrize("name", USED)
def test_every_column_that_a_row_slices_is_as_wide_as_the_slice(name: str) -> None:
    row = standard(name)
    for line in (*row.action, *(line for lines in row.state.values() for line in lines)):
        read = part(line)
        if read.constant:
            continue
        size = int(np.prod([WIDTH if size is None else size for size in row.raw[read.column]]))
        first, last, _ = read.columns.indices(size)
        asked = (0 if read.columns.start is None else read.columns.start, size if read.columns.stop is None else read.columns.stop)
        assert all(-size <= end <= size for end in asked) and last > first, line


@pytest.mark.parametrize("name", REFUSED)
def test_a_set_that_nobody_could_check_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: is not standardised, because "):
        standardiser(standard(name))


def test_the_table_is_whole() -> None:
    assert len(names()) == 91
    assert set(REFUSED) & {*mixture("openvla/oxe_magic_soup_plus"), *mixture("octo/oxe_magic_soup")} == set()
    with pytest.raises(ValueError, match="did you mean bridge_dataset"):
        standard("bridge_data_set")
    assert standard("fractal20220817_data").rate == 3.0
    assert standard("berkeley_mvp_converted_externally_to_rlds").images == {"wrist": "observation/hand_image"}


def _delta(raw: Episode, last: np.ndarray) -> np.ndarray:
    return np.concatenate((raw.arrays["action/world_vector"], raw.arrays["action/rotation_delta"], last.reshape(T, 1)), axis=1)


def test_bridge_is_what_was_reached_with_a_binary_gripper() -> None:
    raw = _raw("bridge_dataset")
    raw.arrays["action"][:, 6] = [1, 0.5, 0, 0.3, 1, 1]
    state = raw.arrays["observation/state"]
    found = standardiser(standard("bridge_dataset"))(raw)
    np.testing.assert_allclose(found.arrays["action"][:, :6], state[1:, :6] - state[:-1, :6], atol=1e-6)
    np.testing.assert_array_equal(found.arrays["action"][:, 6], [1, 0, 0, 1, 1])
    np.testing.assert_array_equal(found.arrays["state/eef"], state[:-1, :6])
    other = standardiser(standard("bridge_orig"))(raw)
    np.testing.assert_array_equal(other.arrays["action"], found.arrays["action"][1:])
    assert other.texts["task/instruction"] == ["step 1", "step 2", "step 3", "step 4"]


@pytest.mark.parametrize(
    "name", ["fractal20220817_data", "kuka", "nyu_door_opening_surprising_effectiveness", "columbia_cairlab_pusht_real"]
)
def test_a_relative_gripper_becomes_absolute(name: str) -> None:
    raw = _raw(name)
    closing = raw.arrays["action/gripper_closedness_action"]
    closing[:] = np.array([0, 1, 0, -1, 0, 0], np.float32).reshape(closing.shape)
    np.testing.assert_allclose(standardiser(standard(name))(raw).arrays["action"], _delta(raw, np.array([1, 0, 0, 1, 1, 1])), atol=1e-6)


def test_the_robot_of_fractal_tells_its_quaternion_last_number_first() -> None:
    raw = _raw("fractal20220817_data")
    rotations = Rotation.random(T, rng=0)
    raw.arrays["observation/base_pose_tool_reached"][:, 3:] = rotations.as_quat()
    found = standardiser(standard("fractal20220817_data"))(raw).arrays
    np.testing.assert_allclose(found["state/eef"][:, 3:], rotations.as_quat(scalar_first=True), atol=1e-6)
    np.testing.assert_allclose(found["state/gripper"], 1 - raw.arrays["observation/gripper_closed"], atol=1e-6)


@pytest.mark.parametrize("name", ["viola", "roboturk"])
def test_closedness_becomes_openness(name: str) -> None:
    raw = _raw(name)
    closing = raw.arrays["action/gripper_closedness_action"]
    expected = _delta(raw, 1 - np.clip(closing.reshape(T), 0, 1))
    np.testing.assert_allclose(standardiser(standard(name))(raw).arrays["action"], expected, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "austin_buds_dataset_converted_externally_to_rlds",
        "austin_sailor_dataset_converted_externally_to_rlds",
        "austin_sirius_dataset_converted_externally_to_rlds",
        "utaustin_mutex",
        "libero_spatial_no_noops",
    ],
)
def test_closing_commands_from_minus_one_to_one_become_openness(name: str) -> None:
    raw = _raw(name)
    action = raw.arrays["action"]
    action[:, 6] = [-1, 1, -1, 1, 0, 1]
    expected = np.concatenate((action[:, :6], [[1], [0], [1], [0], [1], [0]]), axis=1)
    np.testing.assert_allclose(standardiser(standard(name))(raw).arrays["action"], expected, atol=1e-6)


def test_droid_commands_velocities_and_how_far_to_close() -> None:
    raw = _raw("droid")
    found = standardiser(standard("droid"))(raw).arrays
    np.testing.assert_array_equal(found["action"][:, :6], raw.arrays["action_dict/cartesian_velocity"])
    np.testing.assert_allclose(found["action"][:, 6:], 1 - raw.arrays["action_dict/gripper_position"], atol=1e-6)
    np.testing.assert_array_equal(found["state/eef"], raw.arrays["observation/cartesian_position"])


def test_maniskill_is_in_metres_and_radians() -> None:
    raw = _raw("maniskill_dataset_converted_externally_to_rlds")
    action = raw.arrays["action"]
    found = standardiser(standard("maniskill_dataset_converted_externally_to_rlds"))(raw).arrays["action"]
    np.testing.assert_allclose(found[:, :3], action[:, :3] * 0.1, atol=1e-6)
    np.testing.assert_allclose(found[:, 3:6], Rotation.from_rotvec(action[:, 3:6] * 0.1).as_euler("xyz"), atol=1e-6)
    np.testing.assert_allclose(found[:, 6], (action[:, 6] + 1) / 2, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["furniture_bench_dataset_converted_externally_to_rlds", "iamlab_cmu_pickup_insert_converted_externally_to_rlds"]
)
def test_a_quaternion_becomes_roll_pitch_yaw(name: str) -> None:
    raw = _raw(name)
    rotations = Rotation.random(T, rng=3)
    raw.arrays["action"][:, 3:7] = rotations.as_quat()
    found = standardiser(standard(name))(raw).arrays["action"]
    np.testing.assert_allclose(found[:, 3:6], rotations.as_euler("xyz"), atol=1e-5)
    np.testing.assert_array_equal(found[:, :3], raw.arrays["action"][:, :3])


def test_what_a_robot_cannot_move_is_zero_and_what_it_can_is_in_its_place() -> None:
    raw = _raw("language_table")
    flat = standardiser(standard("language_table"))(raw).arrays["action"]
    np.testing.assert_array_equal(flat, np.concatenate((raw.arrays["action"], np.zeros((T, 4)), np.ones((T, 1))), axis=1))
    raw = _raw("stanford_mask_vit_converted_externally_to_rlds")
    found = standardiser(standard("stanford_mask_vit_converted_externally_to_rlds"))(raw).arrays["action"]
    np.testing.assert_array_equal(found[:, 5], raw.arrays["action"][:, 3])  # its one angle is the yaw
    np.testing.assert_array_equal(found[:, 3:5], np.zeros((T, 2)))
    np.testing.assert_allclose(found[:, 6], (1 - raw.arrays["action"][:, 4]) / 2, atol=1e-6)  # -1 is open


def test_more_sets_of_the_magic_soup_column_by_column() -> None:
    raw = _raw("taco_play")
    np.testing.assert_allclose(
        standardiser(standard("taco_play"))(raw).arrays["action"],
        np.concatenate(
            (raw.arrays["action/rel_actions_world"][:, :6], np.clip(raw.arrays["action/rel_actions_world"][:, 6:], 0, 1)), axis=1
        ),
    )
    raw = _raw("nyu_franka_play_dataset_converted_externally_to_rlds")
    action = raw.arrays["action"]
    found = standardiser(standard("nyu_franka_play_dataset_converted_externally_to_rlds"))(raw).arrays
    np.testing.assert_array_equal(found["action"], np.concatenate((action[:, 7:13], np.clip(action[:, 13:14], 0, 1)), axis=1))
    np.testing.assert_array_equal(found["state/eef"], raw.arrays["observation/state"][:, 7:13])
    raw = _raw("stanford_hydra_dataset_converted_externally_to_rlds")
    found = standardiser(standard("stanford_hydra_dataset_converted_externally_to_rlds"))(raw).arrays
    np.testing.assert_allclose(found["action"][:, 6], 1 - raw.arrays["action"][:, 6], atol=1e-6)
    np.testing.assert_array_equal(found["state/eef"][:, 3:], raw.arrays["observation/state"][:, 7:10])
    raw = _raw("berkeley_autolab_ur5")
    raw.arrays["action/gripper_closedness_action"][:] = [0, 1, 0, 0, -1, 0]
    found = standardiser(standard("berkeley_autolab_ur5"))(raw).arrays
    np.testing.assert_allclose(found["action"], _delta(raw, np.array([1, 0, 0, 0, 1, 1])), atol=1e-6)
    np.testing.assert_array_equal(found["state/eef"][:, 3], raw.arrays["observation/robot_state"][:, 12])  # w
    raw = _raw("toto")
    raw.arrays["action/open_gripper"] = np.array([True, False, True, True, False, False])
    found = standardiser(standard("toto"))(raw).arrays
    np.testing.assert_allclose(found["action"], _delta(raw, np.array([1, 0, 1, 1, 0, 0])), atol=1e-6)
    raw = _raw("bc_z")
    found = standardiser(standard("bc_z"))(raw).arrays
    np.testing.assert_array_equal(found["action"][:, 3:6], raw.arrays["action/future/axis_angle_residual"][:, :3])
    np.testing.assert_allclose(found["action"][:, 6:], 1 - raw.arrays["action/future/target_close"][:, :1], atol=1e-6)
    raw = _raw("berkeley_fanuc_manipulation")
    found = standardiser(standard("berkeley_fanuc_manipulation"))(raw).arrays
    np.testing.assert_allclose(found["action"][:, 6], 1 - raw.arrays["observation/state"][:, 6], atol=1e-6)


def test_mixtures_name_each_set_once_and_go_without_a_set_only_when_told() -> None:
    assert len(mixtures()) == 31
    soup = mixture("openvla/oxe_magic_soup_plus")
    assert len(soup) == 27 and soup["droid"] == 0.06 and soup["bc_z"] == 0.2
    assert len(mixture("octo/oxe_magic_soup")) == 25
    assert len(mixture("openvla/oxe_magic_soup_plus_minus")) == 25
    with pytest.raises(ValueError, match=r"openvla/rtx_franka: holds cmu_play_fusion, because .*without=\('cmu_play_fusion',\)"):
        mixture("openvla/rtx_franka")
    franka = mixture("openvla/rtx_franka", without=("cmu_play_fusion",))
    assert (franka["taco_play"], franka["berkeley_cable_routing"], franka["viola"], franka["toto"]) == (3.0, 4.0, 3.0, 2.0)
    assert len(franka) == 28 - 4 - 1  # 28 are listed, four of them twice
    with pytest.raises(ValueError, match="has no vioola to go without; did you mean viola"):
        mixture("openvla/rtx", without=("vioola",))
    with pytest.raises(ValueError, match="did you mean openvla/rtx"):
        mixture("openvla/rtxx")
    for name in mixtures():
        for one in mixture(name, without=tuple(set(REFUSED) & set(_listed(name)))):
            assert one in names()


def _listed(name: str) -> tuple[str, ...]:
    try:
        return tuple(mixture(name))
    except ValueError as error:
        return tuple(one for one in REFUSED if f" {one}, because" in str(error))


def test_encodings_name_each_dimension_once() -> None:
    for table in (ACTIONS, STATES):
        for encoding, dimensions in table.items():
            assert len({name for name, _ in dimensions}) == len(dimensions), encoding


def test_the_real_bridge(test_data: Path) -> None:
    from jaxrl_data.open import open_dataset

    dataset = open_dataset(str(test_data / "bridge_debug" / "1.0.0"), "train")
    standardise = standardiser(standard("bridge_dataset"))
    reached, commanded = [], []
    for raw in dataset.read(0, dataset.size):
        found = standardise(raw)
        assert length(found) == length(raw) - 1 == 9
        assert set(np.unique(found.arrays["action"][:, 6])) <= {0.0, 1.0}
        reached.append(found.arrays["action"][:, :6])
        commanded.append(raw.arrays["action"][:-1, :6])
        assert found.images["image/primary"][0] == raw.images["observation/image_0"][0]
        assert found.texts["task/instruction"][0]
    # what was reached follows what was commanded at the same step
    for one, other in zip(np.concatenate(reached).T, np.concatenate(commanded).T, strict=True):
        assert np.corrcoef(one, other)[0, 1] > 0.6
