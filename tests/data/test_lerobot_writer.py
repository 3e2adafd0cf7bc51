"""The layout of what the LeRobot writer writes, by pyarrow and PyAV; and what LeRobot itself read of it (golden/lerobot_reads.json)."""

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from jaxrl.types import ArraySpec
from jaxrl_data.episode import Episode, Features
from jaxrl_data.lerobot.summary import KNOTS, QUANTILES, image_summary, merged, summary
from jaxrl_data.lerobot.writer import lerobot_writer
from jaxrl_data.open import open_dataset
from jaxrl_data.writer import encoded
from tests.data.killed import writer as killed_writer
from tests.data.oracles import DERIVED, episode_rows, lerobot_episodes, pixels
from tests.golden.lerobot_written import CAMERA, CODECS, FEATURES, RECORDED, episode, write, write_recorded

GOLDEN = Path(__file__).parents[1] / "golden/lerobot_reads.json"
SMALL = Features({"action": ArraySpec((2,))}, {}, ("task",))


def small(place: int, steps: int = 3) -> Episode:
    return Episode(f"small {place}", {"action": np.full((steps, 2), place, np.float32)}, {}, {"task": [f"task {place % 2}"] * steps})


def info(folder: Path) -> Any:
    return json.loads((folder / "meta/info.json").read_text())


@pytest.fixture(scope="module", params=CODECS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("golden") / request.param
    write(made, request.param)
    return made


def test_values_names_and_metadata_come_back(folder: Path) -> None:
    found = lerobot_episodes(folder)
    assert len(found) == 4
    for place, one in enumerate(found):
        given = episode(place)
        assert (one.name, one.metadata, one.texts) == (given.name, given.metadata, given.texts)
        for name, array in given.arrays.items():
            assert one.arrays[name].dtype == array.dtype
            np.testing.assert_array_equal(one.arrays[name].reshape(array.shape), array)
        if folder.name == "image":
            assert one.images == given.images
        for image, other in zip(one.images[CAMERA], given.images[CAMERA], strict=True):
            difference = pixels(image).astype(int) - pixels(other)
            assert np.abs(difference).mean() < 3  # frames differ by 20 in red: it is the right one


def test_what_lerobot_itself_read(folder: Path) -> None:
    assert_lerobot_read(folder)
    assert {*(feature for one in lerobot_episodes(folder) for feature in one.arrays)} == {*FEATURES.arrays, *DERIVED}


def test_what_lerobot_itself_read_of_a_recorder(tmp_path: Path) -> None:
    write_recorded(tmp_path / RECORDED)
    assert_lerobot_read(tmp_path / RECORDED)
    found = lerobot_episodes(tmp_path / RECORDED)
    assert [one.metadata for one in found] == [{"terminated": False}, {"terminated": True}]
    for one, given in zip(found, map(episode, (0, 1)), strict=True):
        assert (one.name, one.texts["task"]) == (given.name, given.texts["task"])
        np.testing.assert_array_equal(one.arrays["observation.state.joints"], given.arrays["observation.state"])
        np.testing.assert_array_equal(one.arrays["action"], given.arrays["action"])


def assert_lerobot_read(folder: Path) -> None:
    """What is written today is what LeRobot read then: steps, episodes, windows that are padded at an episode's end, statistics."""
    golden = json.loads(GOLDEN.read_text())[folder.name]
    told, found = info(folder), lerobot_episodes(folder)
    assert (golden["num_episodes"], golden["num_frames"], golden["fps"]) == (told["total_episodes"], told["total_frames"], told["fps"])
    assert (golden["cameras"], golden["robot_type"]) == ([CAMERA], "arm")
    steps = [(one, step) for one in found for step in range(len(one.texts["task"]))]
    for (one, step), read in zip(steps, golden["steps"], strict=True):
        assert set(read) == {*one.arrays, *one.images, *one.texts}
        for name, array in one.arrays.items():
            dtype = np.float32 if array.dtype.kind == "f" else array.dtype  # torch makes float32 of all floats that LeRobot gives it
            np.testing.assert_array_equal(np.ravel(read[name]).astype(dtype), np.ravel(array[step]).astype(dtype), err_msg=name)
        assert all(read[name] == column[step] for name, column in one.texts.items())
        image = pixels(one.images[CAMERA][step])
        assert read[CAMERA]["shape"] == [3, *image.shape[:2]]
        np.testing.assert_allclose(read[CAMERA]["mean"], image.mean((0, 1)) / 255, atol=0.01)
    for one, row, read, window in zip(found, episode_rows(folder), golden["episodes"], golden["windows"], strict=True):
        assert (read["from"], read["to"], read["length"]) == (row["dataset_from_index"], row["dataset_to_index"], row["length"])
        assert (read["tasks"], read["index"]) == (row["tasks"], one.arrays["index"].ravel().tolist())
        assert window["padded"] == [False, False, True]
        around = [-2, -1, -1]  # what is padded is the last step again
        np.testing.assert_allclose(window["action"], one.arrays["action"][around], rtol=1e-6)
        colours = [pixels(one.images[CAMERA][step]).mean((0, 1)) / 255 for step in around]
        np.testing.assert_allclose(window["colours"], colours, atol=0.01)
    stats = json.loads((folder / "meta/stats.json").read_text())
    assert stats.keys() == golden["stats"].keys()
    for name, table in stats.items():
        for key, value in table.items():
            np.testing.assert_allclose(value, golden["stats"][name][key], rtol=1e-6, atol=1e-9, err_msg=f"{name} {key}")


def test_info(folder: Path) -> None:
    told = info(folder)
    assert told["codebase_version"] == "v3.0"
    assert {key: told[key] for key in ("total_episodes", "total_frames", "total_tasks", "chunks_size")} == {
        "total_episodes": 4,
        "total_frames": 22,
        "total_tasks": 2,
        "chunks_size": 1000,
    }
    assert told["splits"] == {"train": "0:4"}
    features = told["features"]
    assert features["observation.state"] == {"dtype": "float32", "shape": [3], "names": ["shoulder", "elbow", "gripper"]}
    assert features["next.reward"] == {"dtype": "float32", "shape": [1], "names": None}
    assert features["timestamp"]["dtype"] == "float32"
    assert {features[name]["dtype"] for name in ("frame_index", "episode_index", "index", "task_index")} == {"int64"}
    camera = features[CAMERA]
    assert camera["shape"] == [64, 96, 3]
    if folder.name == "image":
        assert told["video_path"] is None and camera["dtype"] == "image"
    else:
        codec = {"libx264": "h264", "libsvtav1": "av1"}[folder.name]
        expected = {"video.height": 64, "video.width": 96, "video.codec": codec, "video.pix_fmt": "yuv420p", "video.fps": 10}
        assert expected.items() <= camera["info"].items()


def test_rows(folder: Path) -> None:
    files = sorted((folder / "data").glob("*/*.parquet"))
    assert [str(file.relative_to(folder / "data")) for file in files] == ["chunk-000/file-000.parquet", "chunk-000/file-001.parquet"]
    groups = [[metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] for metadata in map(pq.read_metadata, files)]
    assert groups == [[4, 5, 6], [7]]  # one per episode
    assert pq.read_metadata(files[0]).row_group(0).column(0).compression == "SNAPPY"
    schema = pq.read_schema(files[0])
    assert str(schema.field("observation.state").type) == "fixed_size_list<element: float>[3]"
    assert (CAMERA in schema.names) == (folder.name == "image")
    table = {
        name: np.concatenate([pq.read_table(file)[name].to_numpy() for file in files]) for name in ("index", "timestamp", "frame_index")
    }
    assert table["index"].tolist() == list(range(22))
    np.testing.assert_array_equal(table["timestamp"], (table["frame_index"] / 10).astype(np.float32))


def test_episodes(folder: Path) -> None:
    rows = episode_rows(folder)
    assert [row["length"] for row in rows] == [4, 5, 6, 7]
    assert [(row["dataset_from_index"], row["dataset_to_index"]) for row in rows] == [(0, 4), (4, 9), (9, 15), (15, 22)]
    assert [row["tasks"] for row in rows] == [["lift"], ["put it ünder"], ["lift"], ["lift"]]
    assert [row["data/file_index"] for row in rows] == [row["meta/episodes/file_index"] for row in rows] == [0, 0, 0, 1]
    for place, row in enumerate(rows):
        action = episode(place).arrays["action"]
        np.testing.assert_allclose(row["stats/action/q90"], np.quantile(action, 0.9, axis=0))
        np.testing.assert_allclose(row["stats/action/std"], action.std(0))
        assert row["stats/action/count"] == [len(action)]
        assert np.shape(row[f"stats/{CAMERA}/mean"]) == (3, 1, 1)
        if folder.name != "image":
            times = [row[f"videos/{CAMERA}/{key}_timestamp"] for key in ("from", "to")]
            assert times == [[0, 0.4], [0.4, 0.9], [0.9, 1.5], [0, 0.7]][place]


def test_videos_have_key_frames_and_lengths(folder: Path) -> None:
    for file, frames in zip(sorted((folder / "videos" / CAMERA).glob("*/*.mp4")), (15, 7), strict=folder.name != "image"):
        with av.open(str(file)) as video:
            packets = [packet for packet in video.demux(video=0) if packet.pts is not None]
            assert [float(packet.pts * packet.time_base) * 10 for packet in packets] == pytest.approx(range(frames))
            assert sum(packet.is_keyframe for packet in packets) >= frames // 2
            assert float(video.duration) / av.time_base == pytest.approx(frames / 10, abs=1e-3)


def test_tasks_are_the_index_of_a_pandas_frame(folder: Path) -> None:
    table = pq.read_table(folder / "meta/tasks.parquet")
    assert json.loads(table.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    assert table.to_pydict() == {"task_index": [0, 1], "task": ["lift", "put it ünder"]}


def test_files_roll_over_by_size_and_by_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxrl_data.lerobot.writer.FILES_PER_CHUNK", 2)
    steps = 2**15  # 1.25 MiB of rows
    with contextlib.closing(lerobot_writer(str(tmp_path), SMALL, 10, "arm", data_mb=3)) as writer:
        for place in range(7):
            writer.add(small(place, steps))
    found = [(row["data/chunk_index"], row["data/file_index"]) for row in episode_rows(tmp_path)]
    assert len(set(found)) == 4
    assert found == sorted(found) and {file for _, file in found} == {0, 1}
    for file in (tmp_path / "data").glob("*/*.parquet"):
        assert pq.read_table(file).nbytes < 3 * 2**20
    assert [one.arrays["action"][0, 0] for one in lerobot_episodes(tmp_path)] == list(range(7))


def test_without_a_task_and_streamed(tmp_path: Path) -> None:
    features = Features({"action": ArraySpec(())}, {CAMERA: ArraySpec((16, 16, 3), "uint8")})
    with contextlib.closing(lerobot_writer(str(tmp_path), features, 10, "arm", codec="libx264")) as writer:
        writer.begin("one")
        for step in range(3):
            writer.step({"action": np.float32(step)}, {CAMERA: np.full((16, 16, 3), 60 * step, np.uint8)})
        writer.end(False)
    (found,) = lerobot_episodes(tmp_path)
    assert found.texts == {"task": ["", "", ""]} and found.metadata == {"terminated": False}
    assert [pixels(image).mean() for image in found.images[CAMERA]] == pytest.approx([0, 60, 120], abs=2)


def test_depth_keeps_its_bits_in_an_image_column(tmp_path: Path) -> None:
    features = Features({"action": ArraySpec(())}, {"observation.images.depth": ArraySpec((4, 6, 1), "uint16")})
    depth = np.arange(24, dtype=np.uint16).reshape(4, 6, 1) * 2000
    with pytest.raises(ValueError, match="a video is uint8 with 3 channels; write with codec='image'"):
        lerobot_writer(str(tmp_path), features, 10, "arm")
    with contextlib.closing(lerobot_writer(str(tmp_path), features, 10, "arm", codec="image")) as writer:
        writer.add(Episode("one", {"action": np.zeros(1, np.float32)}, {"observation.images.depth": [encoded(depth)]}, {}))
    (found,) = lerobot_episodes(tmp_path)
    np.testing.assert_array_equal(pixels(found.images["observation.images.depth"][0]), depth[..., 0])


@pytest.mark.parametrize(
    ("features", "fps", "message"),
    [
        (Features({"observation/state": ArraySpec(())}), 10, "observation/state: LeRobot allows no /"),
        (Features({"timestamp": ArraySpec(())}), 10, "timestamp: LeRobot makes this column itself"),
        (Features({"points": ArraySpec(("n", 2))}), 10, r"points: has the shape \('n', 2\)"),
        (Features({"z": ArraySpec((), "complex64")}), 10, "z: is complex64"),
        (SMALL, 12.5, "fps must be a whole number above 0"),
    ],
)
def test_what_lerobot_has_no_place_for(tmp_path: Path, features: Features, fps: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lerobot_writer(str(tmp_path), features, fps, "arm")


def test_a_refused_episode_leaves_no_trace_and_other_data_stay(tmp_path: Path) -> None:
    camera = Features(SMALL.arrays, {CAMERA: ArraySpec(("height", "width", 3), "uint8")}, SMALL.texts)

    def filmed(*sizes: tuple[int, int]) -> Episode:
        return small(0, len(sizes))._replace(images={CAMERA: [encoded(np.zeros((*size, 3), np.uint8)) for size in sizes]})

    with contextlib.closing(lerobot_writer(str(tmp_path), camera, 10, "arm", codec="libx264")) as writer:
        with pytest.raises(ValueError, match=f"small 0: {CAMERA}: is 15 x 16, and yuv420p needs even numbers"):
            writer.add(filmed((15, 16)))
        with pytest.raises(ValueError, match=f"small 0: {CAMERA}: step 1 is 32 x 16, and not 16 x 16"):
            writer.add(filmed((16, 16), (32, 16)))
        writer.add(filmed((16, 16)))
        with pytest.raises(ValueError, match="step 0 is 32 x 32, and not 16 x 16"):
            writer.add(filmed((32, 32)))
        with pytest.raises(ValueError, match="another writer is at work there"):
            lerobot_writer(str(tmp_path), camera, 10, "arm")
    assert info(tmp_path)["total_frames"] == 1
    for features, fps, message in ((SMALL, 10, f"dtype of {CAMERA} is video"), (camera, 20, "fps is 10, but the writer is to add 20")):
        with pytest.raises(ValueError, match=message):
            lerobot_writer(str(tmp_path), features, fps, "arm", codec="libx264")
    (tmp_path / "meta/jaxrl.json").unlink()
    with pytest.raises(ValueError, match="was not written by jaxrl"):
        lerobot_writer(str(tmp_path), camera, 10, "arm", codec="libx264")


def test_episodes_that_wait_keep_what_info_would_tell(tmp_path: Path) -> None:
    """Of a writer that was killed before it joined any: others do not go behind them."""
    camera = Features(SMALL.arrays, {CAMERA: ArraySpec((16, 16, 3), "uint8")}, SMALL.texts)
    one = small(0, 2)._replace(images={CAMERA: [encoded(np.zeros((16, 16, 3), np.uint8))] * 2})
    with contextlib.closing(lerobot_writer(str(tmp_path / "open"), camera, 10, "arm", codec="libx264")) as writer:
        writer.add(one)
        shutil.copytree(tmp_path / "open", tmp_path / "killed")
    assert not (tmp_path / "killed/meta/info.json").exists()
    with pytest.raises(ValueError, match="killed: a data set was begun here and is not whole yet; go on with the command that writes it"):
        open_dataset(str(tmp_path / "killed"))
    for fps, robot, codec, message in (
        (20, "arm", "libx264", "fps is 10, but the writer is to add 20"),
        (10, "leg", "libx264", "robot_type is arm, but the writer is to add leg"),
        (10, "arm", "libsvtav1", f"{CAMERA} is h264, but the writer is to add av1"),
    ):
        with pytest.raises(ValueError, match=message):
            lerobot_writer(str(tmp_path / "killed"), camera, fps, robot, codec=codec)
    with contextlib.closing(lerobot_writer(str(tmp_path / "killed"), camera, 10, "arm", codec="libx264")) as writer:
        writer.add(one)
    assert open_dataset(str(tmp_path / "killed")).size == 2


def test_what_a_writer_leaves_that_is_killed_at_once_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/.jaxrl.json.part").touch()
    with contextlib.closing(lerobot_writer(str(tmp_path), SMALL, 10, "arm")) as writer:
        writer.add(small(0, 2))
    assert open_dataset(str(tmp_path)).size == 1


def test_a_killed_process_loses_at_most_the_open_episode(tmp_path: Path) -> None:
    import time

    command = [sys.executable, "-m", "tests.data.killed", "lerobot", str(tmp_path), "0"]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
    told = tmp_path / "0.added"
    while child.poll() is None and (not told.exists() or int(told.read_text() or 0) < 4):
        time.sleep(0.05)
    child.kill()
    child.wait()
    assert_goes_on(tmp_path / "0", int(told.read_text() or 0))


@pytest.mark.slow
def test_killed_before_each_file_takes_its_place(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.data.killed", "lerobot", str(tmp_path)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
    folders = [folder for folder in tmp_path.iterdir() if folder.is_dir()]
    assert len(folders) > 15
    for folder in folders:
        told = folder.with_suffix(".added")
        assert_goes_on(folder, int(told.read_text()) if told.exists() else 0)


def assert_goes_on(folder: Path, added: int) -> None:
    writer = killed_writer("lerobot", folder)
    kept = writer.size()
    assert kept >= added
    writer.add(episode(kept % 50))
    writer.close()
    found = lerobot_episodes(folder)
    assert len(found) == kept + 1
    for place, one in enumerate(found):
        given = episode(place % 50)
        assert (one.name, one.texts) == (given.name, given.texts)
        np.testing.assert_array_equal(one.arrays["action"], given.arrays["action"])
        for image, other in zip(one.images[CAMERA], given.images[CAMERA], strict=True):
            assert np.abs(pixels(image).astype(int) - pixels(other)).mean() < 3
    stats = json.loads((folder / "meta/stats.json").read_text())
    actions = np.concatenate([one.arrays["action"] for one in found])
    assert stats["action"]["count"] == [len(actions)]  # no episode twice
    np.testing.assert_allclose(stats["action"]["std"], actions.std(0))


def test_merged_statistics_are_those_of_all_rows() -> None:
    random = np.random.default_rng(0)
    parts = [random.normal(random.normal(), 0.5 + random.random(), (80 + 10 * place, 3)) for place in range(30)]
    parts = [np.concatenate([part, part[:, :1] > 0.7], 1) for part in parts]  # and a gripper that is open or closed
    rows = np.concatenate(parts)
    found = summary(parts[0])
    for part in parts[1:]:
        found = merged([found, summary(part)])  # the worst order: one at a time
    for key, expected in {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0), "count": [len(rows)]}.items():
        np.testing.assert_allclose(found[key], expected, rtol=1e-12)
    span = np.ptp(rows, axis=0)[:3]
    for batch, bound in ((merged([summary(part) for part in parts]), 0.02), (found, 0.06)):
        for key, level in QUANTILES.items():
            assert (np.abs(batch[key][:3] - np.quantile(rows[:, :3], level, axis=0)) < bound * span).all(), key
        assert (np.diff([batch[key] for key in KNOTS], axis=0) >= 0).all()
    assert merged([summary(part) for part in parts])["q99"][3] == 1


def test_merged_quantiles_by_hand() -> None:
    even = summary(np.linspace(0, 1, 101)[:, None])
    both = merged([even, summary(np.linspace(1, 2, 101)[:, None])])
    np.testing.assert_allclose([both[key][0] for key in QUANTILES], [0.02, 0.2, 1, 1.8, 1.98], atol=1e-9)
    jump = merged([summary(np.zeros((30, 1))), summary(np.ones((70, 1)))])
    assert [jump[key][0] for key in QUANTILES] == [0, 0, 1, 1, 1]
    endless = merged([even, summary(np.array([[np.inf], [1.0]]))])
    assert np.isnan(endless["q50"]).all() and endless["max"] == np.inf and endless["count"] == [103]


def test_image_statistics() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (5, 20, 30, 3), dtype=np.uint8)
    found = image_summary([encoded(image) for image in images])
    levels = images.reshape(-1, 3) / 255
    np.testing.assert_allclose(found["mean"][:, 0, 0], levels.mean(0))
    np.testing.assert_allclose(found["std"][:, 0, 0], levels.std(0))
    for key, level in KNOTS.items():
        np.testing.assert_allclose(found[key][:, 0, 0], np.quantile(levels, level, axis=0, method="inverted_cdf"))
    assert found["count"] == [5]
    assert image_summary([encoded(np.zeros((2, 2, 3), np.uint8))] * 400)["count"] == [100]
