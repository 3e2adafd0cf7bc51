"""Episodes into a LeRobot data set, version 3.0.

A whole episode is first a hidden folder of its own, renamed into place: its rows, one video per camera, and its entry for meta/episodes.
When enough of them wait, or the writer closes, they become one file of rows, one of entries and one video per camera, each put in place
whole, and info.json, which counts the episodes, comes last. A process that is killed leaves waiting episodes, which the next writer finds
and goes on behind; what it was killed in the middle of joining is joined anew. Only the episode that was not whole is lost.
"""

import contextlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jaxrl_data import origin as origins
from jaxrl_data.episode import Episode, Features, check, length
from jaxrl_data.lerobot import columns, encode
from jaxrl_data.lerobot.summary import image_summary, merged, summary
from jaxrl_data.origin import Origin, unchanged
from jaxrl_data.writer import Writer, begun, local, locked, plain, put, put_json, streamed, synced

DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
FILES_PER_CHUNK, DATA_MB, VIDEO_MB = 1000, 100, 200
_KEPT = ("fps", "robot_type")  # by every episode that waits, for who goes on before there is an info.json
IMAGE = "image"  # instead of a codec: images keep their bytes, in the rows


@dataclass
class _State:
    """Of one writer at work."""

    folder: Path
    info: dict[str, Any]
    waiting: list[dict[str, Any]] = field(default_factory=list)  # entries of whole episodes that are not joined yet
    tasks: dict[str, int] = field(default_factory=dict)  # of joined and waiting episodes
    sizes: dict[str, int] = field(default_factory=dict)  # bytes that wait, of rows ("") and of each camera

    def staged(self, episode: int) -> Path:
        return self.folder / ".waiting" / f"{episode:09d}"

    @property
    def episodes(self) -> int:
        return int(self.info["total_episodes"]) + len(self.waiting)

    @property
    def rows(self) -> int:
        return int(self.waiting[-1]["dataset_to_index"] if self.waiting else self.info["total_frames"])


def lerobot_writer(
    path: str,
    features: Features,
    fps: int,
    robot_type: str,
    *,
    codec: str = "libsvtav1",
    data_mb: int = DATA_MB,
    video_mb: int = VIDEO_MB,
    origin: Origin | None = None,
) -> Writer:
    """Writes to the folder `path`, behind the episodes that are there.

    The text `task` tells what to do. Images become videos by `codec`, libsvtav1 or libx264, at about its usual loss; with the codec
    "image" they keep their bytes. Files are no larger than `data_mb` and `video_mb`, if one episode is not.

    Raises:
        ValueError: fps is no whole number above 0, a column does not suit LeRobot, the folder holds something else, or another writer is
            at work there.
    """
    columns.check_columns(features)
    if not isinstance(fps, int) or fps <= 0:
        raise ValueError(f"fps must be a whole number above 0, because LeRobot stores no other; got {fps!r}")
    if codec not in (*encode.QUALITY, IMAGE):
        raise ValueError(f"codec must be one of {', '.join((*encode.QUALITY, IMAGE))}, got {codec!r}")
    if data_mb <= 0 or video_mb <= 0:
        raise ValueError(f"data_mb and video_mb must be above 0, got {data_mb} and {video_mb}")
    for name, spec in features.images.items():
        if codec != IMAGE and (spec.dtype != "uint8" or spec.shape[-1] not in (3, "channels")):
            raise ValueError(f"{name}: is {spec.dtype} {spec.shape}, and a video is uint8 with 3 channels; write with codec={IMAGE!r}")
    folder = local(path)
    begun(folder, "LeRobot", "meta/info.json", f"meta/{origins.FILE}")
    free = locked(folder)
    try:
        state = _open(folder, features, fps, robot_type, codec, data_mb, video_mb)
    except BaseException:
        free()
        raise

    def add(episode: Episode) -> None:
        check(episode, features)
        if not state.info["features"]:
            put_json(folder / "meta" / origins.FILE, origins.to_json(origin or unchanged(features)))
        _stage(state, episode, features, codec)
        over = {"": data_mb} | dict.fromkeys(features.images, video_mb)
        if any(size >= over[kind] * 2**20 for kind, size in state.sizes.items()):
            _join(state, len(state.waiting) - 1 or 1)  # the last one would make a file too large

    def close() -> None:
        try:
            _join(state, len(state.waiting))
            with contextlib.suppress(OSError):  # never made
                (folder / ".waiting").rmdir()
        finally:
            free()

    return streamed(features, lambda: state.episodes, add, close)


def _open(folder: Path, features: Features, fps: int, robot_type: str, codec: str, data_mb: int, video_mb: int) -> _State:
    info = {
        "codebase_version": "v3.0",
        "robot_type": robot_type,
        "total_episodes": 0,
        "total_frames": 0,
        "total_tasks": 0,
        "chunks_size": FILES_PER_CHUNK,
        "data_files_size_in_mb": data_mb,
        "video_files_size_in_mb": video_mb,
        "fps": fps,
        "splits": {},
        "data_path": DATA,
        "video_path": VIDEO if features.images and codec != IMAGE else None,
        "features": {},
    }
    state = _State(folder, dict(info))
    if (folder / "meta/info.json").exists():
        if not (folder / "meta" / origins.FILE).exists():
            raise ValueError(f"{folder}: was not written by jaxrl, whose files could not follow; convert it to another folder first")
        state.info = json.loads((folder / "meta/info.json").read_text())
        tasks = pq.read_table(folder / "meta/tasks.parquet").to_pydict()
        text = next(name for name in tasks if name != "task_index")
        state.tasks = dict(zip(tasks[text], tasks["task_index"], strict=True))
    shutil.rmtree(folder / ".waiting/part", ignore_errors=True)
    for staged in sorted((folder / ".waiting").glob("[0-9]*")):
        if int(staged.name) < state.info["total_episodes"]:
            shutil.rmtree(staged)  # joined, but the writer was killed before it was cleared away
        else:
            _take_up(state, json.loads((staged / "episode.json").read_text()))
    if state.info["features"]:
        _check_same(state, features, info, codec)
    return state


def _check_same(state: _State, features: Features, info: dict[str, Any], codec: str) -> None:
    found = state.info["features"]
    kind = IMAGE if codec == IMAGE else "video"
    images = {name: found[name] | {"dtype": kind} for name in features.images if name in found}
    expected = columns.told_features(features, images)
    for name in sorted({*found} | {*expected}):
        told, given = ((side.get(name) or {}) for side in (found, expected))
        for key in ("dtype", "shape"):
            if told.get(key) != given.get(key):
                raise ValueError(
                    f"{state.folder}: {key} of {name} is {told.get(key)}, but the writer is to add {given.get(key)}; use another folder"
                )
    if codec != IMAGE:
        given = encode.canonical(codec)
        for name in images:
            if (told := found[name]["info"]["video.codec"]) != given:
                raise ValueError(f"{state.folder}: {name} is {told}, but the writer is to add {given}; take that codec, or another folder")
    for key in ("codebase_version", *_KEPT):
        if state.info[key] != info[key]:
            raise ValueError(f"{state.folder}: {key} is {state.info[key]}, but the writer is to add {info[key]}; write to another folder")


def _stage(state: _State, episode: Episode, features: Features, codec: str) -> None:
    """Writes one episode where it waits, and takes it up."""
    part = state.folder / ".waiting/part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name, images in episode.images.items():
        if codec != IMAGE:
            size = state.info["features"].get(name, {}).get("shape", [None, None])[:2]
            encode.encode(part / f"{name}.mp4", images, state.info["fps"], codec, size, f"{episode.name}: {name}")
    told = state.info["features"] or columns.told_features(features, _told_images(state, episode, features, codec, part))
    texts = columns.task_texts(episode)
    tasks = list(dict.fromkeys(texts))
    numbers = state.tasks | {text: len(state.tasks) + n for n, text in enumerate(text for text in tasks if text not in state.tasks)}
    derived = columns.derived_columns(episode, state.episodes, state.rows, numbers, state.info["fps"])
    rows = columns.table(episode, told, derived)
    pq.write_table(rows, part / "rows.parquet", compression="snappy", row_group_size=max(len(rows), 1))
    statistics = {name: summary(array) for name, array in {**episode.arrays, **derived}.items()}
    statistics |= {name: image_summary(images) for name, images in episode.images.items()}
    entry = {
        "episode_index": state.episodes,
        "tasks": tasks,
        "length": length(episode),
        "dataset_from_index": state.rows,
        "dataset_to_index": state.rows + length(episode),
        "jaxrl/name": episode.name,
        "jaxrl/metadata": json.dumps(plain(episode.metadata), ensure_ascii=False),
        "statistics": plain(statistics),
        "sizes": {name: (part / f"{name}.mp4").stat().st_size for name in episode.images if codec != IMAGE} | {"": rows.nbytes},
        "task_index": {text: numbers[text] for text in tasks},
        "features": told,
        **{key: state.info[key] for key in _KEPT},
    }
    (part / "episode.json").write_text(json.dumps(entry, ensure_ascii=False))
    for file in part.iterdir():
        synced(file)
    os.replace(part, state.staged(state.episodes))
    synced(state.folder / ".waiting")
    _take_up(state, entry)


def _told_images(state: _State, episode: Episode, features: Features, codec: str, part: Path) -> dict[str, dict[str, Any]]:
    """Of the first episode: sizes that the features leave open are those of its first images."""
    told: dict[str, dict[str, Any]] = {}
    for name, spec in features.images.items():
        height, width, _ = encode.picture(episode.images[name][0]).shape
        for axis, size, found in (("height", spec.shape[0], height), ("width", spec.shape[1], width)):
            if isinstance(size, int) and size != found:
                raise ValueError(f"{episode.name}: {name} has the {axis} {found}, but should have {size}")
        channels = spec.shape[2] if isinstance(spec.shape[2], int) else 3
        told[name] = {"dtype": IMAGE, "shape": [height, width, channels], "names": ["height", "width", "channels"]}
        if codec != IMAGE:
            told[name] |= {"dtype": "video", "info": encode.video_info(part / f"{name}.mp4", state.info["fps"])}
    return told


def _take_up(state: _State, entry: dict[str, Any]) -> None:
    if entry["episode_index"] != state.episodes:
        staged = state.folder / ".waiting"
        raise ValueError(f"{staged}: episode {state.episodes} is missing before {entry['episode_index']}; delete those behind the gap")
    state.info |= {key: entry[key] for key in ("features", *_KEPT) if key in entry}
    state.tasks |= entry["task_index"]
    for name, size in entry["sizes"].items():
        state.sizes[name] = state.sizes.get(name, 0) + size
    state.waiting.append(entry)


def _join(state: _State, count: int) -> None:
    """The first `count` waiting episodes become the next file of each kind. What info.json does not tell of may be written again."""
    entries = state.waiting[:count]
    if not entries:
        return
    folder, fps = state.folder, state.info["fps"]
    parts = [state.staged(entry["episode_index"]) for entry in entries]
    chunk, file = _next_file(folder, state.info["total_episodes"])
    where = {"chunk_index": chunk, "file_index": file}
    cameras = [name for name, told in state.info["features"].items() if told["dtype"] == "video"]
    ends = np.cumsum([entry["length"] for entry in entries])
    for name in cameras:
        with put(folder / VIDEO.format(video_key=name, **where)) as whole:
            encode.join(whole, [part / f"{name}.mp4" for part in parts], [entry["length"] for entry in entries], fps)
    with put(folder / DATA.format(**where)) as whole:
        _join_rows(whole, [part / "rows.parquet" for part in parts])
    rows = [_row(entry, cameras, where, int(end) - entry["length"], fps) for entry, end in zip(entries, ends, strict=True)]
    with put(folder / EPISODES.format(**where)) as whole:
        pq.write_table(pa.Table.from_pylist(rows), whole, compression="snappy")
    tasks = dict(sorted(state.tasks.items(), key=lambda item: item[1]))
    with put(folder / "meta/tasks.parquet") as whole:
        pq.write_table(columns.tasks_table(tasks), whole)
    total = state.info["total_episodes"] + len(entries)
    put_json(folder / "meta/stats.json", _statistics(state, entries))
    counts = {"total_episodes": total, "total_frames": entries[-1]["dataset_to_index"], "total_tasks": len(tasks)}
    state.info |= counts | {"splits": {"train": f"0:{total}"}}
    put_json(folder / "meta/info.json", state.info)
    synced(folder / "meta")
    for part in parts:
        shutil.rmtree(part)
    state.waiting = state.waiting[count:]
    state.sizes = {}
    for entry in state.waiting:
        state.sizes |= {name: state.sizes.get(name, 0) + size for name, size in entry["sizes"].items()}


def _join_rows(path: Path, parts: list[Path]) -> None:
    """One group of rows per episode, which is in memory alone."""
    with pq.ParquetWriter(path, pq.read_schema(parts[0]), compression="snappy") as writer:
        for part in parts:
            table = pq.read_table(part)
            writer.write_table(table, row_group_size=max(len(table), 1))


def _row(entry: dict[str, Any], cameras: list[str], where: dict[str, int], frames: int, fps: int) -> dict[str, Any]:
    """What meta/episodes tells of an episode, whose frames are behind `frames` others in the files of its cameras."""
    kept = ("episode_index", "tasks", "length", "dataset_from_index", "dataset_to_index", *columns.WRITTEN)
    row = {key: entry[key] for key in kept}
    row |= {f"{kind}/{key}": value for kind in ("data", "meta/episodes") for key, value in where.items()}
    for name in cameras:
        row |= {f"videos/{name}/{key}": value for key, value in where.items()}
        row |= {f"videos/{name}/from_timestamp": frames / fps, f"videos/{name}/to_timestamp": (frames + entry["length"]) / fps}
    return row | {f"stats/{name}/{key}": value for name, table in entry["statistics"].items() for key, value in table.items()}


def _next_file(folder: Path, episodes: int) -> tuple[int, int]:
    """Chunk and file behind those of the joined episodes; a file that was put there by a writer killed in the middle is overwritten."""
    if not episodes:
        return 0, 0
    for file in sorted((folder / "meta/episodes").glob("*/*.parquet"), reverse=True):  # at most one is not told of by info.json
        places = ("meta/episodes/chunk_index", "meta/episodes/file_index")
        told = pq.read_table(file, columns=["episode_index", *places]).to_pylist()[-1]
        if told["episode_index"] < episodes:
            chunk, last = (told[place] for place in places)
            return (chunk + 1, 0) if last == FILES_PER_CHUNK - 1 else (chunk, last + 1)
    raise ValueError(f"{folder}: info.json tells of {episodes} episodes, but meta/episodes does not; copy the data set anew")


def _statistics(state: _State, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the joined episodes and these."""
    tables = [entry["statistics"] for entry in entries]
    if frames := state.info["total_frames"]:
        found = json.loads((state.folder / "meta/stats.json").read_text())
        # A writer that was killed behind stats.json and before info.json has these episodes in it already: then they are merged anew.
        tables = ([found] if found["index"]["count"] == [frames] else _joined_statistics(state)) + tables
    return {name: plain(merged([table[name] for table in tables])) for name in tables[-1]}


def _joined_statistics(state: _State) -> list[dict[str, Any]]:
    found = []
    for file in sorted((state.folder / "meta/episodes").glob("*/*.parquet")):
        rows = (row for row in pq.read_table(file).to_pylist() if row["episode_index"] < state.info["total_episodes"])
        found += [nested(row) for row in rows]
    return found


def nested(row: dict[str, Any]) -> dict[str, Any]:
    """The statistics of an episode by column, from its row of meta/episodes."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        if key.startswith("stats/"):
            _, name, one = key.split("/")
            found.setdefault(name, {})[one] = value
    return found
