"""Conversions there and back, and recordings as data sets. What is written is read by the formats' own libraries."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxrl.types import ArraySpec, PolicySpec
from jaxrl_data.convert import lerobot_origin, rlds_origin, to_lerobot, to_rlds
from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import BadEpisode, Episode, Features
from jaxrl_data.open import open_dataset, splits
from jaxrl_data.origin import read_origin
from jaxrl_data.rlds.schema import metadata_of
from jaxrl_data.writer import encoded
from tests.data.oracles import dataset, features_of, lerobot_episodes, pixels, rlds_episodes

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # TensorFlow's and tensorflow-datasets' own
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
FEATURES = Features(
    arrays={
        "observation/state": ArraySpec((3,), names=("x", "y", "z"), unit="m"),
        "observation/pose": ArraySpec((2, 2), "float64"),
        "observation/force": ArraySpec((1,)),
        "action": ArraySpec((2,), "float64"),
        "reward": ArraySpec(()),
        "timestamp": ArraySpec((), "float64"),
        "is_first": ArraySpec((), "bool"),
        "is_last": ArraySpec((), "bool"),
    },
    images={"observation/image/front": ArraySpec(("height", "width", 3), "uint8"), "observation/wrist": ArraySpec((32, 32, 3), "uint8")},
    texts=("language_instruction", "observation/comment"),
    rate=5.0,
)


def episode(place: int) -> Episode:
    random, steps = np.random.default_rng(place), 4 + place
    arrays: dict[str, np.ndarray] = {}
    for name, spec in FEATURES.arrays.items():
        arrays[name] = np.asarray(random.normal(size=(steps, *spec.shape))).astype(spec.dtype)  # type: ignore[misc]
    row, column = np.mgrid[:32, :32]
    picture = [encoded(np.stack([8 * row, 8 * column, 0 * row + 20 * t], -1).astype(np.uint8)) for t in range(steps)]
    texts = {"language_instruction": [f"lift {place % 2}"] * steps, "observation/comment": [f"step {t}" for t in range(steps)]}
    return Episode(f"{place}", arrays, dict.fromkeys(FEATURES.images, picture), texts, {"file_path": f"/{place}", "number": place})


def source(count: int = 3) -> Dataset:
    return dataset("made/1.0.0", FEATURES, [episode(place) for place in range(count)])


def read_back(name: str, episodes: list[Episode], rate: float = 0.0) -> Dataset:
    """As a reader would find what was written."""
    return dataset(name, features_of(episodes[0], FEATURES, rate), episodes)


def assert_same(found: Episode, given: Episode, exact: bool) -> None:
    assert found.arrays.keys() >= given.arrays.keys()
    for name, array in given.arrays.items():
        assert (found.arrays[name].dtype, found.arrays[name].shape) == (array.dtype, array.shape), name
        np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)
    assert found.texts == given.texts
    assert found.images.keys() == given.images.keys()
    for name, images in given.images.items():
        if exact:
            assert found.images[name] == images
        for one, other in zip(found.images[name], images, strict=True):
            assert np.abs(pixels(one).astype(int) - pixels(other)).mean() < 6


@pytest.mark.parametrize("codec", ["image", "libx264"])
def test_rlds_to_lerobot_to_rlds(tmp_path: Path, codec: str) -> None:
    first, second, third = (str(tmp_path / name) for name in ("first", "second", "third"))
    assert to_rlds(source(), first, "made") == 3
    there = [one._replace(metadata=metadata_of(one.metadata)[1]) for one in rlds_episodes(Path(first))]
    assert to_lerobot(read_back("first", there, 5.0), second, "arm", origin=None, codec=codec) == 3
    found = lerobot_episodes(Path(second))
    assert {*found[0].arrays} >= {"observation.state", "action", "next.reward", "step.timestamp", "is_last", "is_terminal"}
    assert {*found[0].images} == {"observation.images.front", "observation.images.wrist"}
    assert {*found[0].texts} == {"task", "observation.comment"}
    to_rlds(read_back("second", found, 5.0), third, "made", origin=read_origin(second))
    back = rlds_episodes(Path(third))
    assert len(back) == 3
    for one, before in zip(back, there, strict=True):
        assert {*one.arrays} == {*before.arrays}
        assert_same(one, before, codec == "image")
        assert metadata_of(one.metadata)[1] == before.metadata


def test_lerobot_to_rlds_to_lerobot(tmp_path: Path) -> None:
    first, second, third = (str(tmp_path / name) for name in ("first", "second", "third"))
    to_lerobot(source(), first, "arm", codec="image")
    there = lerobot_episodes(Path(first))
    named = read_back("first", there, 5.0)
    named.features.arrays["observation.state"] = FEATURES.arrays["observation/state"]  # type: ignore[index]
    to_rlds(named, second, "made")
    middle = rlds_episodes(Path(second))
    assert {"observation/state", "observation/images_front", "reward", "language_instruction", "frame_index"} <= {
        *middle[0].arrays,
        *middle[0].images,
        *middle[0].texts,
    }
    to_lerobot(read_back("second", middle), third, "arm", codec="image", origin=read_origin(second))
    for one, before in zip(lerobot_episodes(Path(third)), there, strict=True):
        assert {*one.arrays} == {*before.arrays}  # the flags that RLDS added are gone
        assert_same(one, before, True)
    infos = [json.loads((Path(path) / "meta/info.json").read_text()) for path in (first, third)]
    assert infos[0]["features"] == infos[1]["features"]
    assert infos[1]["fps"] == 5


def test_names_units_and_shapes_are_told_beside_the_data(tmp_path: Path) -> None:
    to_lerobot(source(1), str(tmp_path), "arm", codec="image")
    told = read_origin(str(tmp_path)) or pytest.fail("there is none")
    assert (told.dataset, told.fingerprint, told.rate) == ("made/1.0.0", "of made/1.0.0", 5.0)
    specs = {one.source: one.spec for one in told.columns if one.spec}
    assert specs == dict(FEATURES.arrays) | dict(FEATURES.images)


def test_a_conversion_goes_on_where_it_stopped_and_tells_of_it(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    broken = source()

    def read(first: int, last: int) -> Any:
        for place in range(first, last):
            if place == 2:
                raise BadEpisode(2, "made: episode 2: action: is torn")
            yield episode(place)

    with pytest.raises(BadEpisode, match="episode 2: action: is torn"):
        to_lerobot(broken._replace(read=read), str(tmp_path), "arm", codec="image", progress=lambda *one: told.append(one))
    assert to_lerobot(source(), str(tmp_path), "arm", codec="image", progress=lambda *one: told.append(one)) == 1
    assert to_lerobot(source(), str(tmp_path), "arm", codec="image") == 0
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert [one.name for one in lerobot_episodes(tmp_path)] == ["0", "1", "2"]
    with pytest.raises(ValueError, match="tells of another data set, 'made/1.0.0'; write 'other' to another folder"):
        to_lerobot(source()._replace(name="other"), str(tmp_path), "arm", codec="image")
    with pytest.raises(ValueError, match="made/1.0.0: has 2 episodes, but its copy 3 already"):
        to_lerobot(source(2), str(tmp_path), "arm", codec="image")


def test_a_rate_that_lerobot_cannot_tell(tmp_path: Path) -> None:
    for rate, message in ((0.0, "tells of no rate"), (12.5, "tells of 12.5 steps per second")):
        with pytest.raises(ValueError, match=f"made/1.0.0: {message}, but LeRobot needs a whole number"):
            to_lerobot(source()._replace(features=replace(FEATURES, rate=rate)), str(tmp_path), "arm")


def test_columns_that_would_share_a_name() -> None:
    arrays = {name: ArraySpec(()) for name in ("a/b", "a.b", "a.b_", "x", "x/shape", "index")}
    one = source()._replace(features=Features(arrays, {"observation/a": ArraySpec((2, 2, 3)), "a": ArraySpec((2, 2, 3))}))
    lerobot = [column.name for column in lerobot_origin(one).columns]
    assert len(set(lerobot)) == 8 and not any("/" in name for name in lerobot)
    assert "step.index" in lerobot
    rlds = [column.name for column in rlds_origin(one).columns]
    assert len(set(rlds)) == 8
    assert not any(other.startswith(f"{name}/") for name in rlds for other in rlds)


def recording(path: Path, pixels: bool = True, **changes: Any) -> dict[str, np.ndarray]:
    """The file that `jaxrl eval --record` writes: two episodes of 3 and 2 steps."""
    random = np.random.default_rng(0)
    observation = {"state/joints": ArraySpec((2,), names=("a", "b"))} | ({"image/front": ArraySpec((4, 6, 3), "uint8")} if pixels else {})
    spec = PolicySpec(observation, ArraySpec((1,)), rate=20.0)
    told = spec._asdict() | {"observation": {name: asdict(part) for name, part in observation.items()}, "action": asdict(spec.action)}
    arrays: dict[str, Any] = {"action": random.normal(size=(5, 1)).astype(np.float32), "reward": np.arange(5, dtype=np.float32)}
    for name, part in observation.items():
        for prefix, rows in (("observation/", 5), ("final_observation/", 2)):
            arrays[prefix + name] = random.integers(0, 256, (rows, *part.shape)).astype(part.dtype)  # type: ignore[misc]
    arrays |= {"episode_ends": np.array([3, 5]), "terminated": np.array([True, False]), "spec": np.array(json.dumps(told))} | changes
    np.savez_compressed(path, **{name: array for name, array in arrays.items() if array is not None})
    return arrays


def test_a_recording_is_a_data_set(tmp_path: Path) -> None:
    arrays = recording(tmp_path / "run.npz")
    path = str(tmp_path / "run.npz")
    assert splits(path) == ("all",)
    data = open_dataset(path)
    assert (data.name, data.split, data.size, data.features.rate) == ("run", "all", 2, 20.0)
    assert data.features.arrays["observation/state/joints"].names == ("a", "b")
    first, second = data.read(0, 2)
    np.testing.assert_array_equal(first.arrays["action"], arrays["action"][:3])
    np.testing.assert_array_equal(second.arrays["observation/state/joints"], arrays["observation/state/joints"][3:])
    for image, row in zip(second.images["observation/image/front"], arrays["observation/image/front"][3:], strict=True):
        np.testing.assert_array_equal(pixels(image), row)
    assert (first.metadata["terminated"], second.metadata["terminated"]) == (True, False)
    assert second.metadata["final_observation"]["state/joints"] == arrays["final_observation/state/joints"][1].tolist()
    assert [one.name for one in data.read(1, 2)] == ["run/1"]
    copy = tmp_path / "copy.npz"
    copy.write_bytes((tmp_path / "run.npz").read_bytes())
    assert open_dataset(str(copy)).fingerprint == data.fingerprint
    recording(copy, action=arrays["action"] + 1)
    assert open_dataset(str(copy)).fingerprint != data.fingerprint


def test_a_recording_converts_to_both_formats(tmp_path: Path) -> None:
    recording(tmp_path / "run.npz")
    data = open_dataset(str(tmp_path / "run.npz"))
    to_rlds(data, str(tmp_path / "rlds"), "run")
    to_lerobot(data, str(tmp_path / "lerobot"), "arm", codec="libx264")
    given = list(data.read(0, 2))
    terminal = [True, False]
    for one, other, ended in zip(rlds_episodes(tmp_path / "rlds"), given, terminal, strict=True):
        assert_same(one, other._replace(texts={}), True)
        assert metadata_of(one.metadata) == (other.name, other.metadata)
        assert one.arrays["is_terminal"][-1] == ended
    for one, other in zip(lerobot_episodes(tmp_path / "lerobot"), given, strict=True):
        np.testing.assert_array_equal(one.arrays["observation.state.joints"], other.arrays["observation/state/joints"])
        np.testing.assert_array_equal(one.arrays["next.reward"][:, 0], other.arrays["reward"])
        assert one.metadata == other.metadata
        assert {*one.images} == {"observation.images.front"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spec": None}, "lacks spec"),
        ({"spec": np.array("{}")}, "its spec is none of a policy"),
        ({"episode_ends": np.array([3, 3])}, "episode_ends must ascend"),
    ],
)
def test_faulty_recordings(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    recording(tmp_path / "run.npz", **changes)
    with pytest.raises(ValueError, match=f"run.npz: .*{message}"):
        open_dataset(str(tmp_path / "run.npz"))


def test_faults_of_one_episode_and_torn_files(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    recording(path, action=np.zeros((4, 1), np.float32))
    with pytest.raises(BadEpisode, match="run.npz: run/1: reward has 2 rows, but observation/state/joints 1"):
        list(open_dataset(str(path)).read(0, 2))
    recording(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="run.npz: is no whole .npz file"):
        open_dataset(str(path))
