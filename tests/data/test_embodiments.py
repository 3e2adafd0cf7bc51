"""Robots of different dimensions in one space: by name and unit, there and back, and in one batch."""

import cv2
import numpy as np
import pytest

from jaxrl.types import ArraySpec
from jaxrl_data.embodiments import Dimension, Embodiment, Space, embodiment, indices, place, space, taken, unitless
from jaxrl_data.episode import Episode, Features
from jaxrl_data.standardise.oxe import mixture, standard
from jaxrl_data.standardise.standard import embodiment as of_standard
from jaxrl_data.standardise.standard import features, standardiser, states
from jaxrl_data.transforms.images import Decode, Resize
from jaxrl_data.transforms.instruction import Tokenise
from jaxrl_data.transforms.interface import apply, invert, spec_after
from jaxrl_data.transforms.normalise import z_score
from jaxrl_data.transforms.place import Place, PlaceStates
from jaxrl_data.transforms.window import Window

RANDOM = np.random.default_rng(0)  # for calls that draw nothing
ARM = Embodiment("arm", (Dimension("x", "m"), Dimension("y", "m"), Dimension("gripper", "1")))
BASE = Embodiment("base", (Dimension("gripper", "1"), Dimension("yaw", "rad"), Dimension("x", "m")))
BOTH = space((ARM, BASE))


def test_a_space_is_the_union_by_name_in_the_order_told() -> None:
    assert BOTH.names == ("x", "y", "gripper", "yaw")
    assert space((BASE, ARM)).names == ("gripper", "yaw", "x", "y")
    assert BOTH.spec == ArraySpec((4,), names=("x", "y", "gripper", "yaw"), unit="m,m,1,rad")


def test_one_name_with_two_units_is_refused() -> None:
    odd = Embodiment("odd", (Dimension("x", "mm"),))
    with pytest.raises(ValueError, match=r"x is in m for arm, but in mm for odd; convert one"):
        space((ARM, odd))
    with pytest.raises(ValueError, match="an unknown unit for odd"):
        space((ARM, Embodiment("odd", (Dimension("y", ""),))))
    assert space((unitless(ARM), unitless(odd))).names == ("x", "y", "gripper")  # normalised by their own statistics, they meet


def test_a_name_twice_in_one_robot_is_refused() -> None:
    with pytest.raises(ValueError, match=r"two: has the dimension x twice; two arms need two names, such as left_x"):
        Embodiment("two", (Dimension("x", "m"), Dimension("x", "m")))


def test_a_vector_goes_to_its_places_and_back() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    padded, mask = place(BOTH, BASE, values)
    np.testing.assert_array_equal(padded, [[2, 0, 0, 1], [5, 0, 3, 4]])
    np.testing.assert_array_equal(mask, [1, 0, 1, 1])
    np.testing.assert_array_equal(taken(BOTH, BASE, padded), values)
    np.testing.assert_array_equal(indices(BOTH, ARM), [0, 1, 2])


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="arm: has 3 dimensions, not 4"):
        place(BOTH, ARM, np.zeros(4))
    with pytest.raises(ValueError, match="the space has 4 dimensions, not 3"):
        taken(BOTH, ARM, np.zeros(3))
    with pytest.raises(ValueError, match="other: the space has no dimension gripped; did you mean gripper"):
        indices(BOTH, Embodiment("other", (Dimension("gripped", "1"),)))
    with pytest.raises(ValueError, match="other: yaw is in deg, but in rad in the space"):
        Place(BOTH, Embodiment("other", (Dimension("yaw", "deg"),)))


def test_an_embodiment_is_read_from_what_a_file_tells() -> None:
    assert embodiment("arm", ArraySpec((3,), names=("x", "y", "gripper"), unit="m,m,1")) == ARM
    assert embodiment("legs", ArraySpec((2,), names=("hip", "knee"), unit="rad")).dimensions[1] == Dimension("knee", "rad")
    with pytest.raises(ValueError, match="legs: has 2 dimensions and 0 names"):
        embodiment("legs", ArraySpec((2,)))
    with pytest.raises(ValueError, match="2 dimensions and 3 units"):
        embodiment("legs", ArraySpec((2,), names=("hip", "knee"), unit="rad,rad,m"))


def _sample(robot: Embodiment, horizon: int, ended: int) -> dict[str, np.ndarray]:
    mask = np.ones((horizon, len(robot.dimensions)), np.float32)
    mask[ended:] = 0
    return {"action": np.random.default_rng(0).normal(size=mask.shape).astype(np.float32), "mask": mask}


def test_samples_of_different_robots_meet_in_one_batch_whose_mask_says_what_is_real() -> None:
    random = np.random.default_rng(0)
    transforms = [Place(BOTH, ARM)], [Place(BOTH, BASE)]
    samples = [_sample(ARM, 3, 2), _sample(BASE, 3, 3)]
    placed = [apply(one, sample, random) for one, sample in zip(transforms, samples, strict=True)]
    batch = {key: np.stack([sample[key] for sample in placed]) for key in placed[0]}
    assert batch["action"].shape == batch["mask"].shape == (2, 3, 4)
    np.testing.assert_array_equal(batch["mask"][0], [[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(batch["mask"][1], [[1, 0, 1, 1]] * 3)
    for row, (one, sample) in enumerate(zip(transforms, samples, strict=True)):
        np.testing.assert_array_equal(invert(one, {"action": batch["action"][row]})["action"], sample["action"])
    assert apply(transforms[0], {"observation/state/x": np.ones(3)}, random) == {"observation/state/x": pytest.approx(np.ones(3))}
    told = spec_after(transforms[1], {"action": ArraySpec((3, 3))})
    assert told["action"].shape == told["mask"].shape == (3, 4) and told["action"].names == BOTH.names
    with pytest.raises(ValueError, match="the action has 2 dimensions, but base 3"):
        spec_after(transforms[1], {"action": ArraySpec((3, 2))})


def test_the_magic_soup_has_one_space_once_each_set_is_normalised() -> None:
    sets = [of_standard(standard(name)) for name in mixture("openvla/oxe_magic_soup_plus")]
    with pytest.raises(ValueError, match="delta_x is in"):
        space(sets)
    soup = space(unitless(one) for one in sets)
    assert soup.names == ("delta_x", "delta_y", "delta_z", "delta_roll", "delta_pitch", "delta_yaw", "gripper")
    mixed = space([*(unitless(one) for one in sets), unitless(of_standard(standard("aloha1_fold_shirt_30_demos")))])
    assert len(mixed.dimensions) == 7 + 14
    assert isinstance(mixed, Space)


def test_normalised_by_its_own_statistics_and_placed_an_action_comes_back() -> None:
    robot = of_standard(standard("bridge_orig"))
    transforms = [
        z_score("action", np.arange(7), np.full(7, 0.5), normalised=standard("bridge_orig").normalised),
        Place(space((unitless(robot),)), unitless(robot)),
    ]
    sample = _sample(robot, 4, 4)
    there = apply(transforms, sample, np.random.default_rng(0))
    np.testing.assert_allclose(there["action"][:, 6], sample["action"][:, 6])  # the gripper is left alone
    np.testing.assert_allclose(invert(transforms, {"action": there["action"]})["action"], sample["action"], atol=1e-6)


def test_a_state_that_a_set_does_not_tell_is_masked() -> None:
    both = space((ARM, Embodiment("hand", (Dimension("finger", "rad"),))))
    sample = {
        "observation/state/arm": np.array([[1.0, 2, 3], [4, 5, 6]]),
        "present/state/arm": np.array([0.0, 1.0]),
        "action": np.zeros((1, 1)),
    }
    found = PlaceStates(both, (("arm", ARM),))(sample, RANDOM)
    np.testing.assert_array_equal(found["observation/state/all"], [[1, 2, 3, 0], [4, 5, 6, 0]])
    assert found["present/state/all"].tolist() == [0, 1]
    assert found["present/state/all_dimensions"].tolist() == [1, 1, 1, 0]
    assert "observation/state/arm" not in found and "present/state/arm" not in found
    blind = PlaceStates(both, ())({"observation/image/primary": [b"", b""]}, RANDOM)
    assert (
        not blind["observation/state/all"].any() and not blind["present/state/all"].any() and blind["observation/state/all"].shape == (2, 4)
    )
    with pytest.raises(ValueError, match="lacks observation/state/arm"):
        PlaceStates(both, (("arm", ARM),))({"observation/image/primary": [b""]}, RANDOM)
    with pytest.raises(ValueError, match="gripper is in two groups"):
        PlaceStates(BOTH, (("arm", ARM), ("base", BASE)))


def _recorded(name: str) -> Episode:
    row, random = standard(name), np.random.default_rng(0)
    arrays = {column: random.uniform(0.1, 1, (6, *shape)).astype(np.float32) for column, shape in row.raw.items()}
    picture = cv2.imencode(".png", np.full((12, 20 + len(name), 3), 99, np.uint8))[1].tobytes()
    images = {column.removesuffix("?"): [picture] * 6 for column in row.images.values()}
    return Episode(name, arrays, images, {column.removesuffix("?"): ["lift it"] * 6 for column in row.text})


def test_recorded_episodes_of_three_robots_meet_in_one_batch() -> None:
    rows = [standard(name) for name in ("bridge_dataset", "toto", "aloha1_fold_shirt_30_demos", "roboturk")]
    actions = space(unitless(of_standard(row)) for row in rows)
    known = space(unitless(told) for row in rows for _, told in states(row))
    batch, specs = [], []
    window = Window(2, 4, cameras=("primary", "wrist"))
    for row in rows:
        episode = standardiser(row)(_recorded(row.name))
        transforms = [
            z_score("action", np.zeros(len(row.normalised)), np.ones(len(row.normalised)), row.normalised),
            Place(actions, unitless(of_standard(row))),
            PlaceStates(known, tuple((group, unitless(told)) for group, told in states(row))),
            Decode(bgr=row.bgr),
            Resize(16, 16, pad=True),
            Tokenise(length=8),
        ]
        batch.append(apply(transforms, window(episode, 3), RANDOM))
        stored = Features(images={column: ArraySpec(("height", "width", 3), "uint8") for column in row.images.values()})
        specs.append(spec_after(transforms, window.spec(features(row, stored))))
        own = len(episode.arrays["action"]) - 3  # steps that are left
        assert batch[-1]["mask"].sum() == own * len(row.normalised)
        np.testing.assert_allclose(invert(transforms, batch[-1])["action"][:own], episode.arrays["action"][3:], atol=1e-6)
    assert [set(sample) for sample in batch] == [set(batch[0])] * 4
    stacked = {key: np.stack([sample[key] for sample in batch]) for key in batch[0] if key != "name"}
    assert stacked["action"].shape == stacked["mask"].shape == (4, 4, 7 + 14)
    assert stacked["present/image/wrist"].tolist() == [[0, 0]] * 4 and stacked["present/image/primary"].all()
    assert stacked["present/state/all"].tolist() == [[1, 1], [1, 1], [1, 1], [0, 0]]
    for sample, spec in zip(batch, specs, strict=True):
        assert set(spec) == set(sample)
        assert {key: one.shape for key, one in spec.items() if key != "name"} == {key: sample[key].shape for key in spec if key != "name"}
