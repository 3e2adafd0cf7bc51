"""LeRobot in: each version beside pyarrow and PyAV, published faults, and faults made from good data."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxrl_data.episode import BadEpisode, Episode, length
from jaxrl_data.lerobot import reader
from jaxrl_data.lerobot.windows import offsets, window, windows
from jaxrl_data.open import open_dataset, splits
from tests.data import lerobot_sets as sets

VERSIONS = ("v2.0", "v2.1", "v3.0")
FRONT, WRIST = sets.CAMERAS
SLACK = 3  # grey levels that two lossy codecs may change


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Good data sets, by version."""
    return {version: sets.write(tmp_path_factory.mktemp(version), version) for version in VERSIONS}


@pytest.fixture
def copy(whole: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Copies to damage."""
    return lambda version: Path(shutil.copytree(whole[version], tmp_path / version))


def _change_info(path: Path, **changes: Any) -> None:
    told = json.loads((path / "meta/info.json").read_text())
    (path / "meta/info.json").write_text(json.dumps(told | changes))


def _change_rows(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def _greys(images: Any) -> np.ndarray:
    return np.array([cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR).mean() for one in images])


def _bad(path: Path, place: int, split: str = "train") -> str:
    """The message of a bad episode, after which the others are read."""
    dataset = reader.read(str(path), split)
    with pytest.raises(BadEpisode) as caught:
        list(dataset.read(place, dataset.size))
    assert caught.value.episode == place
    assert len(list(dataset.read(0, place))) == place
    return str(caught.value)


def _check(episode: Episode, number: int) -> None:
    count = sets.LENGTHS[number]
    assert length(episode) == count
    np.testing.assert_array_equal(episode.arrays["observation.state"], sets.state(number))
    np.testing.assert_array_equal(episode.arrays["action"], sets.state(number) + 1)
    np.testing.assert_array_equal(episode.arrays["observation.pose"].ravel(), np.arange(count * 4))
    assert episode.arrays["next.done"].shape == (count, 1) and episode.arrays["next.done"].sum() == 1
    np.testing.assert_array_equal(episode.arrays["index"], sets.STARTS[number] + np.arange(count))
    assert episode.texts == {"task": [sets.TASKS[number % 2]] * count}
    assert episode.metadata["episode_index"] == number
    for camera in sets.CAMERAS:
        want = [sets.level(camera, number, step) for step in range(count)]
        np.testing.assert_allclose(_greys(episode.images[camera]), want, atol=SLACK)
    np.testing.assert_allclose(_greys(episode.images["observation.images.small"]), number)
    assert episode.images[FRONT][0][:2] == b"\xff\xd8"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_episode_and_frame(version: str, whole: dict[str, Path]) -> None:
    path = str(whole[version])
    assert splits(path) == ("train", "val")
    dataset = open_dataset(path)
    assert dataset.size == 3 and dataset.features.rate == sets.FPS
    assert dataset.features.arrays["action"].names == ("a", "b", "c")
    assert dataset.features.arrays["observation.state"].names == ("x", "y", "z")
    for number, episode in enumerate(dataset.read(0, 3)):
        _check(episode, number)
    _check(next(dataset.read(2, 3)), 2)  # alone: from the middle of its files
    (last,) = open_dataset(path, "val").read(0, 1)
    _check(last, 3)
    assert dataset.fingerprint != open_dataset(path, "val").fingerprint


def test_decoding_begins_at_the_key_frame_before_an_episode(whole: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The third episode begins at 2.1 s of one camera's file and at 0.9 s of the other's; there is a key frame every 0.5 s."""
    from jaxrl_data.lerobot import video

    decoded, chain = [], video._chain
    monkeypatch.setattr(video, "_chain", lambda first, rest: (decoded.append(frame.time) or frame for frame in chain(first, rest)))
    next(open_dataset(str(whole["v3.0"])).read(2, 3))
    assert decoded[0] == 2.0 and min(decoded) == 0.5
    assert len(decoded) <= 2 * sets.LENGTHS[2] + 1 + 4 + 2  # what lies between key frame and episode, and one frame behind


def test_task_texts_in_both_spellings(copy: Callable[[str], Path]) -> None:
    path = copy("v3.0")
    table = pa.table({"task_index": [0, 1], "__index_level_0__": list(sets.TASKS)})
    pq.write_table(table, path / "meta/tasks.parquet")
    assert next(reader.read(str(path), "train").read(1, 2)).texts["task"][0] == sets.TASKS[1]
    pq.write_table(table.rename_columns(["task_index", "text"]), path / "meta/tasks.parquet")
    with pytest.raises(ValueError, match="tasks.parquet: has the columns task_index, text, but task_index and task were expected"):
        reader.read(str(path), "train")


def test_faults_of_published_sets_that_can_be_read_rightly(copy: Callable[[str], Path]) -> None:
    """fps as a float, no frame_index, float64 columns, a first timestamp that is not 0, a camera without files, splits of more episodes."""
    path = copy("v2.0")
    told = sets.info("v2.0")
    told["features"]["observation.images.top"] = told["features"][FRONT]
    _change_info(path, fps=10.0, total_chunks=0, splits={"train": "0:100"}, features=told["features"])
    for number in range(4):
        file = path / f"data/chunk-000/episode_{number:06d}.parquet"

        def change(table: pa.Table) -> pa.Table:
            late = pa.array(np.float32(0.1) + table["timestamp"].to_numpy())
            wide = pa.array(np.asarray(table["action"].to_pylist(), np.float64).tolist())
            table = table.set_column(table.schema.get_field_index("timestamp"), "timestamp", late)
            table = table.set_column(table.schema.get_field_index("action"), "action", wide)
            return table.drop_columns(["frame_index"]).append_column("annotation", table["index"])

        _change_rows(file, change)
    dataset = reader.read(str(path), "train")
    assert dataset.size == 4 and "observation.images.top" not in dataset.features.images
    for number, episode in enumerate(dataset.read(0, 4)):
        _check(episode, number)
        np.testing.assert_array_equal(episode.arrays["frame_index"], np.arange(sets.LENGTHS[number]))
        assert episode.metadata["derived"] == ["frame_index"]
        assert episode.metadata["timestamps_begin_at"] == pytest.approx(0.1)
        assert set(episode.metadata["left_out"]) == {"observation.images.top", "annotation"}
        json.dumps(episode.metadata)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_subset_of_the_files(version: str, copy: Callable[[str], Path]) -> None:
    path = copy(version)
    _change_info(path, splits={"train": "0:4"})
    (path / f"data/chunk-000/{'file-000' if version == 'v3.0' else 'episode_000001'}.parquet").unlink()
    dataset = reader.read(str(path), "train")
    left = [3] if version == "v3.0" else [0, 2, 3]
    for number, episode in zip(left, dataset.read(0, dataset.size), strict=True):
        _check(episode, number)
        assert "lists 4 episodes" in episode.metadata["subset"] and f"of {len(left)} are there" in episode.metadata["subset"]


@pytest.mark.parametrize("version", ["v1.6", "v2.2", "v3.1"])
def test_unknown_version(version: str, copy: Callable[[str], Path]) -> None:
    path = copy("v2.1")
    _change_info(path, codebase_version=version)
    with pytest.raises(ValueError, match=f"codebase_version '{version}' is not known"):
        open_dataset(str(path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data_path": "data/chunk-{episode_index}/episode_{episode_index:06d}.parquet"},
            "data_path .* leads to no file.*there is data/chunk-000",
        ),
        ({"data_path": "data/{chunk}.parquet"}, "data_path is .*KeyError: 'chunk'.*correct it there"),
        ({"video_path": "video/{video_key}/{episode_index}.mp4"}, "video_path .* leads to no file.*there is videos/chunk-000"),
        ({"fps": 0}, "fps is 0"),
        ({"splits": {"train": "all"}}, "split 'train' is 'all'"),
        ({"features": None}, "is damaged"),
    ],
)
def test_wrong_info(changes: dict[str, Any], message: str, copy: Callable[[str], Path]) -> None:
    path = copy("v2.1")
    _change_info(path, **changes)
    with pytest.raises(ValueError, match=message):
        open_dataset(str(path))


def test_cut_files(copy: Callable[[str], Path]) -> None:
    """Parquet and mp4: the episodes behind are read."""
    path = copy("v2.1")
    file = path / "data/chunk-000/episode_000000.parquet"
    file.write_bytes(file.read_bytes()[:-50])
    clip = path / f"videos/chunk-000/{WRIST}/episode_000001.mp4"
    clip.write_bytes(clip.read_bytes()[:-400])
    assert "episode_000000.parquet: episode 0: rows" in _bad(path, 0)
    assert f"{WRIST}/episode_000001.mp4: episode 1: {WRIST}" in _bad_at(path, 1)
    _check(next(reader.read(str(path), "train").read(2, 3)), 2)


def _bad_at(path: Path, place: int) -> str:
    with pytest.raises(BadEpisode) as caught:
        next(reader.read(str(path), "train").read(place, place + 1))
    assert caught.value.episode == place
    return str(caught.value)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_video_shorter_than_its_rows(version: str, copy: Callable[[str], Path]) -> None:
    path = copy(version)
    count = sets.LENGTHS[2]
    if version == "v3.0":
        clip = path / f"videos/{FRONT}/chunk-000/file-000.mp4"
        before = [sets.level(FRONT, episode, step) for episode in range(2) for step in range(sets.LENGTHS[episode])]
    else:
        clip, before = path / f"videos/chunk-000/{FRONT}/episode_000002.mp4", []
    sets.write_video(clip, before + [sets.level(FRONT, 2, step) for step in range(count - 2)])
    message = _bad(path, 2)
    assert f"{clip.name}: episode 2: {FRONT}: row {count - 2}" in message and "the video ends there" in message


def test_times_beyond_the_tolerance(copy: Callable[[str], Path]) -> None:
    path = copy("v3.0")
    table = path / "meta/episodes/chunk-000/file-000.parquet"
    key = f"videos/{FRONT}/from_timestamp"

    def move(by: float) -> Callable[[pa.Table], pa.Table]:
        return lambda told: told.set_column(
            told.schema.get_field_index(key), key, pa.array([told[key].to_pylist()[0], *(one + by for one in told[key].to_pylist()[1:])])
        )

    _change_rows(table, move(5e-5))
    _check(next(reader.read(str(path), "train").read(1, 2)), 1)
    _change_rows(table, move(1e-3))
    assert f"{FRONT}: row 0 is at 1.201050 s" in _bad(path, 1)


def test_missing_video_feature_and_gap(copy: Callable[[str], Path]) -> None:
    path = copy("v2.1")
    (path / f"videos/chunk-000/{FRONT}/episode_000000.mp4").unlink()
    assert f"{FRONT}/episode_000000.mp4" in _bad_at(path, 0)
    _change_rows(path / "data/chunk-000/episode_000001.parquet", lambda table: table.drop_columns(["action"]))
    assert "episode_000001.parquet: episode 1: action: the file has no such column" in _bad_at(path, 1)

    def gap(table: pa.Table) -> pa.Table:
        column = pa.array([None, *table["action"].to_pylist()[1:]], pa.list_(pa.float32()))
        return table.set_column(table.schema.get_field_index("action"), "action", column)

    _change_rows(path / "data/chunk-000/episode_000002.parquet", gap)
    assert "episode 2: action: has rows without a value" in _bad_at(path, 2)


def test_rows_that_do_not_fit(copy: Callable[[str], Path]) -> None:
    path = copy("v2.1")
    _change_rows(path / "data/chunk-000/episode_000000.parquet", lambda table: table.slice(0, 5))
    assert "has 5 rows, but meta/ tells of 12" in _bad_at(path, 0)
    features = sets.info("v2.1")["features"]
    features["action"]["shape"] = [4]
    _change_info(path, features=features)
    assert "action: has rows of [3] values, but meta/info.json tells of the shape [4]" in _bad_at(path, 1)
    three = copy("v3.0")
    table = three / "meta/episodes/chunk-000/file-000.parquet"
    _change_rows(table, lambda told: told.set_column(told.schema.get_field_index("length"), "length", pa.array([12, 10, 15, 7])))
    assert "episode 1: episode_index: is [1, 2] in the rows" in _bad_at(three, 1)


def test_each_row_of_a_file_is_decoded_once(whole: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Several episodes of one file, in stored order: it is opened once."""
    from jaxrl_data.lerobot import rows

    opened = []
    monkeypatch.setattr(rows, "readable", lambda path: opened.append(path.name) or str(path))
    list(open_dataset(str(whole["v3.0"])).read(0, 3))
    assert opened == ["file-000.parquet"]


def test_yellow_bottle_beside_pyarrow_and_pyav(test_data: Path) -> None:
    path = test_data / "g1_yellow_bottle"
    dataset = open_dataset(str(path))
    camera = "observation.images.cam_high"
    assert dataset.size == 8 and dataset.features.rate == 30
    assert dataset.features.arrays["action"].names[:2] == ("kLeftShoulderPitch", "kLeftShoulderRoll")
    episode = next(dataset.read(6, 7))
    assert episode.metadata["episode_index"] == 10 and "lists 100 episodes" in episode.metadata["subset"]
    table = pq.read_table(path / "data/chunk-000/episode_000010.parquet")
    for name in ("observation.state", "action", "timestamp", "index"):
        np.testing.assert_array_equal(episode.arrays[name], np.array(table[name].to_pylist(), episode.arrays[name].dtype))
    assert set(episode.texts["task"]) == {"Pick up the yellow bottle on the table."} and length(episode) == table.num_rows == 290
    with av.open(str(path / f"videos/chunk-000/{camera}/episode_000010.mp4")) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number in (0, 145, 289):
                ours = cv2.cvtColor(
                    cv2.imdecode(np.frombuffer(episode.images[camera][number], np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
                )
                difference = ours.astype(float) - frame.to_ndarray(format="rgb24")
                assert np.sqrt((difference**2).mean()) < 3


def test_windows() -> None:
    np.testing.assert_array_equal(offsets((-0.1, 0.0, 0.3), 10), [-1, 0, 3])
    rows, is_pad = window(1, 5, offsets((-0.2, -0.1, 0.0, 0.3, 0.4), 10))
    np.testing.assert_array_equal(rows, [0, 0, 1, 4, 4])
    np.testing.assert_array_equal(is_pad, [True, False, False, False, True])
    found = windows(4, 5, {"action": (0.0, 0.1), "state": (0.0,)}, 10)
    assert found["action"].is_pad.tolist() == [False, True] and found["state"].rows.tolist() == [4]
    with pytest.raises(ValueError, match="action: 0.15 s is 0.05 s from the nearest step.*use a multiple of 0.1 s"):
        windows(0, 5, {"action": (0.0, 0.15)}, 10)
    with pytest.raises(ValueError, match="step 5 is not in an episode of 5 steps"):
        window(5, 5, offsets((0.0,), 10))
    with pytest.raises(ValueError, match="rate of the data set is not known"):
        offsets((0.0,), 0)
