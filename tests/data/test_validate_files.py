"""Faults of the files of LeRobot and RLDS data sets, each made from good ones of two short episodes."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from etils import epath

from jaxrl_data.findings import Finding, failed
from jaxrl_data.lerobot import validate as lerobot
from jaxrl_data.open import open_dataset
from jaxrl_data.rlds import validate as rlds
from jaxrl_data.validate import validate

FPS = 10
LENGTHS = (6, 9)
CAMERA = "observation.images.front"
V2_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
V2_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
V3_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
V3_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


def _video(file: Path, frames: int, fps: int = FPS, codec: str = "mpeg4", size: tuple[int, int] = (32, 48)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        random = np.random.default_rng(0)
        for _ in range(frames):
            image = random.integers(0, 255, (*size, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def _table(first_index: int, episode: int, length: int) -> pa.Table:
    action = pa.FixedSizeListArray.from_arrays(pa.array(np.random.default_rng(episode).normal(size=2 * length), pa.float32()), 2)
    return pa.table(
        {
            "action": action,
            "timestamp": pa.array(np.arange(length) / FPS, pa.float32()),
            "frame_index": pa.array(range(length), pa.int64()),
            "episode_index": pa.array([episode] * length, pa.int64()),
            "index": pa.array(range(first_index, first_index + length), pa.int64()),
            "task_index": pa.array([episode] * length, pa.int64()),
        }
    )


def _info(version: str) -> dict[str, Any]:
    features: dict[str, Any] = {"action": {"dtype": "float32", "shape": [2], "names": ["x", "gripper"]}}
    features[CAMERA] = {"dtype": "video", "shape": [32, 48, 3], "names": ["height", "width", "channels"], "info": {"video.codec": "mpeg4"}}
    features |= {name: {"dtype": "float32" if name == "timestamp" else "int64", "shape": [1]} for name in lerobot.STANDARD}
    total = {"total_episodes": 2, "total_frames": sum(LENGTHS), "total_tasks": 2, "chunks_size": 1000, "splits": {"train": "0:2"}}
    v3 = version == "v3.0"
    paths = {"data_path": V3_DATA if v3 else V2_DATA, "video_path": V3_VIDEO if v3 else V2_VIDEO}
    old = {} if v3 else {"total_chunks": 1, "total_videos": 2}
    return {"codebase_version": version, "fps": FPS, "features": features, **total, **paths, **old}


def _change_info(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    file = path / "meta" / "info.json"
    about = json.loads(file.read_text())
    change(about)
    file.write_text(json.dumps(about))


def _v2(path: Path) -> Path:
    (path / "meta").mkdir(parents=True)
    (path / "meta" / "info.json").write_text(json.dumps(_info("v2.1")))
    (path / "data" / "chunk-000").mkdir(parents=True)
    episodes, tasks, first = [], [], 0
    for index, length in enumerate(LENGTHS):
        pq.write_table(_table(first, index, length), path / V2_DATA.format(episode_chunk=0, episode_index=index))
        _video(path / V2_VIDEO.format(episode_chunk=0, episode_index=index, video_key=CAMERA), length)
        episodes.append(json.dumps({"episode_index": index, "tasks": [f"task {index}"], "length": length}))
        tasks.append(json.dumps({"task_index": index, "task": f"task {index}"}))
        first += length
    (path / "meta" / "episodes.jsonl").write_text("\n".join(episodes))
    (path / "meta" / "tasks.jsonl").write_text("\n".join(tasks) + "\n")
    return path


def _rows(path: Path, change: Callable[[list[dict[str, Any]]], Any] = lambda rows: None) -> None:
    rows, first = [], 0
    for index, length in enumerate(LENGTHS):
        row = {"episode_index": index, "tasks": [f"task {index}"], "length": length, "data/chunk_index": 0, "data/file_index": 0}
        row |= {"dataset_from_index": first, "dataset_to_index": first + length, "stats/action/min": [0.0]}
        row |= {f"videos/{CAMERA}/chunk_index": 0, f"videos/{CAMERA}/file_index": 0}
        row |= {f"videos/{CAMERA}/from_timestamp": first / FPS, f"videos/{CAMERA}/to_timestamp": (first + length) / FPS}
        rows.append(row)
        first += length
    change(rows)
    file = path / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)


def _v3(path: Path) -> Path:
    (path / "meta").mkdir(parents=True)
    (path / "meta" / "info.json").write_text(json.dumps(_info("v3.0")))
    _rows(path)
    pq.write_table(pa.table({"task_index": [0, 1], "task": ["task 0", "task 1"]}), path / "meta" / "tasks.parquet")
    data = path / V3_DATA.format(chunk_index=0, file_index=0)
    data.parent.mkdir(parents=True)
    pq.write_table(pa.concat_tables([_table(0, 0, LENGTHS[0]), _table(LENGTHS[0], 1, LENGTHS[1])]), data)
    _video(path / V3_VIDEO.format(chunk_index=0, file_index=0, video_key=CAMERA), sum(LENGTHS))
    return path


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("good")
    return {"v2": _v2(folder / "v2"), "v3": _v3(folder / "v3")}


@pytest.fixture
def copy(good: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(good[name], tmp_path / name))


def _found(path: Path) -> list[Finding]:
    return list(lerobot.files(epath.Path(path)))


@pytest.mark.parametrize("name", ["v2", "v3"])
def test_a_good_set_has_no_finding(good: dict[str, Path], name: str) -> None:
    assert _found(good[name]) == []


def _feature(about: dict[str, Any], name: str = "action", **fields: Any) -> None:
    about["features"][name].update(fields)


@pytest.mark.parametrize("name", ["v2", "v3"])
@pytest.mark.parametrize(
    "change, severity, fault, words",
    [
        (lambda about: about.update(fps=0), "error", "fps", "0"),
        (lambda about: about.update(fps=10.0), "warning", "fps", "10.0"),
        (lambda about: about.update(codebase_version="v1.6"), "error", "version", "v1.6"),
        (lambda about: about.pop("features"), "error", "metadata", "missing"),
        (lambda about: about.update(total_frames=16), "error", "totals", "16"),
        (lambda about: about.update(total_tasks=1), "error", "totals", "1"),
        (lambda about: about.update(splits={"train": "0:100"}), "error", "splits", "0:100"),
        (lambda about: about.update(splits={"train": "all"}), "error", "splits", "'all'"),
        (lambda about: about.update(splits={"train": "0:2", "val": "1:2"}), "error", "splits overlap", "1:2"),
        (lambda about: about.update(data_path="data/chunk-{episode_index:03d}/x.parquet"), "error", "path template", "x.parquet"),
        (lambda about: about.update(video_path=None), "error", "path template", "none"),
        (
            lambda about: about["features"].update({"observation.images.wrist": about["features"][CAMERA]}),
            "error",
            "missing video",
            "are missing",
        ),
        (lambda about: _feature(about, names=["x"]), "error", "names", "1"),
        (lambda about: _feature(about, names=[["x", "gripper"]]), "warning", "names", "lists in a list"),
        (lambda about: _feature(about, shape=[3], names=None), "error", "column shape", "[2]"),
        (lambda about: _feature(about, dtype="float64"), "warning", "column type", "float32"),
        (lambda about: _feature(about, CAMERA, info={"video.codec": "h264"}), "warning", "codec", "mpeg4"),
        (lambda about: _feature(about, CAMERA, shape=[64, 48, 3]), "error", "image shape", "32 x 48"),
        (lambda about: _feature(about, CAMERA, info={"video.height": 48, "video.width": 32}), "error", "image shape", "32 x 48"),
        (lambda about: about["features"].update(actions=about["features"].pop("action")), "warning", "no action", "actions"),
        (lambda about: about["features"].update(actions=about["features"].pop("action")), "error", "missing column", "none"),
        (lambda about: about["features"].pop("frame_index"), "warning", "standard column", "missing"),
        (lambda about: about["features"].pop("frame_index"), "warning", "unknown column", "none"),
    ],
)
def test_a_fault_in_info(
    copy: Callable[[str], Path], name: str, change: Callable[[dict[str, Any]], Any], severity: str, fault: str, words: str
) -> None:
    path = copy(name)
    _change_info(path, change)
    found = [one for one in _found(path) if (one.severity, one.fault) == (severity, fault)]
    assert found and words in found[0].found, _found(path)


def test_wrong_fps_is_told_by_the_video(copy: Callable[[str], Path]) -> None:
    path = copy("v2")
    _change_info(path, lambda about: about.update(fps=30))
    assert {(one.fault, one.found) for one in _found(path)} == {("rate", "10")}


def test_totals_of_v2(copy: Callable[[str], Path]) -> None:
    path = copy("v2")
    _change_info(path, lambda about: about.update(total_chunks=0, total_videos=7))
    assert [(one.severity, one.key, one.found) for one in _found(path)] == [
        ("warning", "total_chunks", "0"),
        ("warning", "total_videos", "7"),
    ]


def _kinds(path: Path) -> list[tuple[str, str]]:
    return [(one.severity, one.fault) for one in _found(path)]


def test_files_that_are_missing(copy: Callable[[str], Path]) -> None:
    path = copy("v2")
    (path / V2_DATA.format(episode_chunk=0, episode_index=0)).unlink()
    (found,) = _found(path)  # its video is not asked for
    assert (found.severity, found.fault, found.expected) == ("warning", "subset", "the 2 episodes that meta/ lists")
    assert found.found.startswith("1, which are read: 1 of 2 files are missing") and "episode_000000" in found.found
    assert not failed(validate(str(path))) and open_dataset(str(path)).size == 1  # the reader says the same
    (path / V2_VIDEO.format(episode_chunk=0, episode_index=1, video_key=CAMERA)).unlink()
    assert _kinds(path) == [("warning", "subset"), ("error", "missing video")]
    (path / V2_DATA.format(episode_chunk=0, episode_index=1)).unlink()
    assert _kinds(path) == [("error", "missing data")]
    with pytest.raises(ValueError, match="leads to no file"):
        open_dataset(str(path))


def test_a_subset_of_v3(copy: Callable[[str], Path]) -> None:
    path = copy("v3")
    second = {"chunk_index": 0, "file_index": 1}
    pq.write_table(_table(0, 0, LENGTHS[0]), path / V3_DATA.format(chunk_index=0, file_index=0))
    _rows(
        path,
        lambda rows: rows[1].update(
            {"data/file_index": 1, f"videos/{CAMERA}/file_index": 1}
            | {f"videos/{CAMERA}/from_timestamp": 0.0, f"videos/{CAMERA}/to_timestamp": LENGTHS[1] / FPS}
        ),
    )
    pq.write_table(_table(LENGTHS[0], 1, LENGTHS[1]), path / V3_DATA.format(**second))
    for file, length in enumerate(LENGTHS):
        _video(path / V3_VIDEO.format(chunk_index=0, file_index=file, video_key=CAMERA), length)
    assert _found(path) == []
    for gone in (V3_DATA.format(**second), V3_VIDEO.format(**second, video_key=CAMERA)):
        (path / gone).unlink()
        assert _kinds(path) == [("warning", "subset")]
    assert [episode.metadata["episode_index"] for episode in open_dataset(str(path)).read(0, 1)] == [0]
    (path / V3_VIDEO.format(chunk_index=0, file_index=0, video_key=CAMERA)).unlink()
    assert _kinds(path) == [("warning", "subset"), ("error", "missing video")]


def test_a_folder_of_another_name_is_told(copy: Callable[[str], Path]) -> None:
    path = copy("v3")
    (path / "videos").rename(path / "video")
    (found,) = _found(path)
    assert found.fault == "missing video" and "there is a folder video" in found.found


@pytest.mark.parametrize("name", ["v2", "v3"])
def test_videos_that_are_short_damaged_or_slow(copy: Callable[[str], Path], name: str) -> None:
    path = copy(name)
    v3 = name == "v3"
    fields = {"chunk_index": 0, "file_index": 0} if v3 else {"episode_chunk": 0, "episode_index": 1}
    video = path / (V3_VIDEO if v3 else V2_VIDEO).format(**fields, video_key=CAMERA)
    frames = sum(LENGTHS) if v3 else LENGTHS[1]
    _video(video, frames - 1)
    (found,) = _found(path)
    assert (found.severity, found.fault, found.found) == ("error", "frame count", str(frames - 1))
    _video(video, frames, fps=2 * FPS)
    assert _kinds(path) == [("error", "rate")]
    _video(video, frames)
    video.write_bytes(video.read_bytes()[:-200])  # the index at the end
    assert _kinds(path) == [("error", "damaged video")]


def test_rows_that_are_not_as_many(copy: Callable[[str], Path]) -> None:
    path = copy("v2")
    pq.write_table(_table(0, 0, LENGTHS[0] - 1), path / V2_DATA.format(episode_chunk=0, episode_index=0))
    (found,) = _found(path)
    assert (found.severity, found.fault, found.found) == ("error", "row count", str(LENGTHS[0] - 1))


def test_a_parquet_file_that_was_not_closed(copy: Callable[[str], Path]) -> None:
    path = copy("v3")
    file = path / V3_DATA.format(chunk_index=0, file_index=0)
    file.write_bytes(file.read_bytes()[:-20])
    assert _kinds(path) == [("error", "damaged file")]


def test_columns_of_variable_length_and_double(copy: Callable[[str], Path]) -> None:
    path = copy("v2")
    for index, length in enumerate(LENGTHS):
        table = _table(0, index, length)
        loose = pa.array([[0.0, 1.0]] * length, pa.list_(pa.float64()))
        table = table.set_column(table.schema.get_field_index("action"), "action", loose)
        pq.write_table(table, path / V2_DATA.format(episode_chunk=0, episode_index=index))
    assert _kinds(path) == [("warning", "variable length"), ("warning", "column type")]  # once, not per file


@pytest.mark.parametrize("used, kind", [(0, ("warning", "constant text")), (5, ("error", "unknown task"))])
def test_tasks_against_rows(copy: Callable[[str], Path], used: int, kind: tuple[str, str]) -> None:
    path = copy("v2")
    for index, length in enumerate(LENGTHS):
        table = _table(0, index, length)
        table = table.set_column(table.schema.get_field_index("task_index"), "task_index", pa.array([used] * length, pa.int64()))
        pq.write_table(table, path / V2_DATA.format(episode_chunk=0, episode_index=index))
    assert _kinds(path) == [kind]


def test_ranges_of_v3(copy: Callable[[str], Path]) -> None:
    path = copy("v3")
    _rows(path, lambda rows: rows[0].update({f"videos/{CAMERA}/to_timestamp": (LENGTHS[0] - 1) / FPS}))
    assert _kinds(path) == [("error", "video range")]  # one frame short
    _rows(path, lambda rows: rows[1].update(dataset_to_index=14))
    assert _kinds(path) == [("error", "episode range")]
    _rows(path, lambda rows: rows[1].update({f"videos/{CAMERA}/from_timestamp": 5.0, f"videos/{CAMERA}/to_timestamp": 5.9}))
    assert _kinds(path) == [("error", "video range")]  # behind the end of its file


def test_episodes_that_are_not_told_of(copy: Callable[[str], Path]) -> None:
    path = copy("v2")
    (path / "meta" / "episodes.jsonl").write_text('{"episode_index": 0')
    assert ("error", "metadata") in _kinds(path) and ("error", "totals") in _kinds(path)


def _tfrecords(lengths: list[int]) -> bytes:
    return b"".join(struct.pack("<Q", length) + bytes(4) + bytes(length) + bytes(4) for length in lengths)


@pytest.fixture
def records(tmp_path: Path) -> Path:
    split = {"name": "train", "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}", "shardLengths": ["3", "2"]}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"name": "set", "fileFormat": "tfrecord", "splits": [split]}))
    (tmp_path / "features.json").write_text(json.dumps({"featuresDict": {"features": {"steps": {}}}}))
    (tmp_path / "set-train.tfrecord-00000-of-00002").write_bytes(_tfrecords([10, 0, 300]))
    (tmp_path / "set-train.tfrecord-00001-of-00002").write_bytes(_tfrecords([7, 7]))
    return tmp_path


def _in_records(path: Path) -> list[tuple[str, str]]:
    return [(one.fault, one.found) for one in rlds.files(epath.Path(path))]


def test_good_records_have_no_finding(records: Path, test_data: Path) -> None:
    assert _in_records(records) == []
    assert _in_records(test_data / "bridge_debug" / "1.0.0") == []


def test_faults_of_records(records: Path) -> None:
    shard = records / "set-train.tfrecord-00001-of-00002"
    shard.write_bytes(_tfrecords([7]))
    assert _in_records(records) == [("record count", "1")]
    shard.write_bytes(_tfrecords([7, 7])[:-5])
    assert _in_records(records) == [("cut shard", "1, then a record at byte 23 that would end at byte 46 of 41")]
    shard.write_bytes(_tfrecords([7, 7]) + b"abc")
    assert _in_records(records) == [("cut shard", "2, then 3 bytes of a record at byte 46")]
    shard.unlink()
    assert _in_records(records) == [("missing shard", "no such file")]
    shard.write_bytes(_tfrecords([7, 7]))
    (records / "set-train.tfrecord-00000-of-00001").write_bytes(b"")
    assert [fault for fault, _ in _in_records(records)] == ["unknown shard"]


def test_shards_that_are_numbered_without_their_total(records: Path) -> None:
    """As our own writer does."""
    about = json.loads((records / "dataset_info.json").read_text())
    about["splits"][0]["filepathTemplate"] = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}"
    (records / "dataset_info.json").write_text(json.dumps(about))
    for shard in records.glob("*-of-00002"):
        shard.rename(str(shard).removesuffix("-of-00002"))
    assert _in_records(records) == []
    (records / "set-train.tfrecord-00002").write_bytes(b"")
    assert [fault for fault, _ in _in_records(records)] == ["unknown shard"]


def test_faults_of_metadata_of_records(records: Path) -> None:
    (records / "features.json").write_text(json.dumps({"featuresDict": {"features": {"image": {}}}}))
    assert _in_records(records) == [("no steps", "none")]
    about = json.loads((records / "dataset_info.json").read_text())
    (records / "dataset_info.json").write_text(json.dumps({**about, "splits": []}))
    assert _in_records(records) == [("no steps", "none"), ("no splits", "none")]
    (records / "dataset_info.json").write_text("{")
    assert [fault for fault, _ in _in_records(records)] == ["metadata"]


def test_the_subset_that_is_shipped_is_told_as_one(test_data: Path) -> None:
    found = _found(test_data / "g1_yellow_bottle")
    assert [(one.severity, one.fault) for one in found] == [("warning", "names"), ("warning", "names"), ("warning", "subset")]
    assert found[2].found.startswith("8, which are read: 92 of 100 files are missing")
