"""Small LeRobot data sets for tests, in each version: every frame shows its number as a grey level."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FPS, HEIGHT, WIDTH = 10, 48, 64
LENGTHS = (12, 9, 15, 7)
CAMERAS = ("observation.images.front", "observation.images.wrist")
TASKS = ("open the door", "close the door")
STARTS = tuple(int(one) for one in np.cumsum((0, *LENGTHS))[:-1])
FILES = {"data": (0, 0, 0, 1), CAMERAS[0]: (0, 0, 0, 1), CAMERAS[1]: (0, 1, 1, 1)}  # of version 3: which file an episode is in


def level(camera: str, episode: int, step: int) -> int:
    """The grey of a frame, another for each."""
    return 20 + 5 * (STARTS[episode] + step) - 7 * CAMERAS.index(camera)


def write_video(path: Path, levels: list[int], fps: int = FPS, codec: str = "libx264", group: int = 5) -> None:
    """A file of grey frames with a key frame every `group`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options={"g": str(group), "crf": "5"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number, grey in enumerate(levels):
            frame = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), grey, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def state(episode: int) -> np.ndarray:
    """float32 [T, 3]."""
    return np.random.default_rng(episode).random((LENGTHS[episode], 3)).astype(np.float32)


def rows(episode: int) -> dict[str, Any]:
    """The columns of an episode."""
    length = LENGTHS[episode]
    steps = np.arange(length)
    image = cv2.imencode(".png", np.full((4, 5, 3), episode, np.uint8))[1].tobytes()
    return {
        "observation.state": pa.FixedSizeListArray.from_arrays(state(episode).ravel(), 3),
        "observation.pose": pa.array(np.arange(length * 4, dtype=np.float64).reshape(length, 2, 2).tolist()),
        "observation.images.small": pa.array([{"bytes": image, "path": "x.png"}] * length),
        "action": pa.array((state(episode) + 1).tolist(), pa.list_(pa.float32())),
        "next.done": pa.array(steps == length - 1),
        "timestamp": pa.array((steps / FPS).astype(np.float32)),
        "frame_index": pa.array(steps),
        "episode_index": pa.array(np.full(length, episode)),
        "index": pa.array(STARTS[episode] + steps),
        "task_index": pa.array(np.full(length, episode % 2)),
    }


def info(version: str) -> dict[str, Any]:
    """meta/info.json."""
    scalar = {"shape": [1], "names": None}
    three = version == "v3.0"
    return {
        "codebase_version": version,
        "robot_type": "arm",
        "fps": FPS,
        "total_episodes": len(LENGTHS),
        "total_frames": sum(LENGTHS),
        "chunks_size": 1000,
        "splits": {"train": "0:3", "val": "3:4"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        if three
        else "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
        if three
        else "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": {
            "observation.state": {"dtype": "float32", "shape": [3], "names": {"motors": ["x", "y", "z"]}},
            "observation.pose": {"dtype": "float64", "shape": [2, 2], "names": None},
            "observation.images.small": {"dtype": "image", "shape": [4, 5, 3], "names": ["height", "width", "channels"]},
            "action": {"dtype": "float32", "shape": [3], "names": [["a", "b", "c"]]},
            "next.done": {"dtype": "bool", **scalar},
            **{name: {"dtype": "video", "shape": [HEIGHT, WIDTH, 3], "names": ["height", "width", "channel"]} for name in CAMERAS},
            "timestamp": {"dtype": "float32", **scalar},
            **{name: {"dtype": "int64", **scalar} for name in ("frame_index", "episode_index", "index", "task_index")},
        },
    }


def write(folder: Path, version: str) -> Path:
    """A whole data set of four episodes, three of split train and one of val."""
    (folder / "meta").mkdir(parents=True)
    (folder / "meta/info.json").write_text(json.dumps(info(version)))
    if version == "v3.0":
        _write_v3(folder)
    else:
        _write_v2(folder)
    return folder


def _write_v2(folder: Path) -> None:
    lines = [json.dumps({"task_index": number, "task": task}) for number, task in enumerate(TASKS)]
    (folder / "meta/tasks.jsonl").write_text("\n".join(lines))
    lines = [json.dumps({"episode_index": one, "tasks": [TASKS[one % 2]], "length": LENGTHS[one]}) for one in range(len(LENGTHS))]
    (folder / "meta/episodes.jsonl").write_text("\n".join(lines))
    (folder / "data/chunk-000").mkdir(parents=True)
    for episode, length in enumerate(LENGTHS):
        pq.write_table(pa.table(rows(episode)), folder / f"data/chunk-000/episode_{episode:06d}.parquet")
        for camera in CAMERAS:
            path = folder / f"videos/chunk-000/{camera}/episode_{episode:06d}.mp4"
            write_video(path, [level(camera, episode, step) for step in range(length)])


def _write_v3(folder: Path) -> None:
    (folder / "data/chunk-000").mkdir(parents=True)
    for file in (0, 1):
        name = folder / f"data/chunk-000/file-{file:03d}.parquet"
        tables = [pa.table(rows(episode)) for episode in range(len(LENGTHS)) if FILES["data"][episode] == file]
        with pq.ParquetWriter(name, tables[0].schema) as writer:
            for table in tables:
                writer.write_table(table)  # one row group per episode
    told: dict[str, list[Any]] = {
        "episode_index": list(range(len(LENGTHS))),
        "tasks": [[TASKS[one % 2]] for one in range(len(LENGTHS))],
        "length": list(LENGTHS),
        "data/chunk_index": [0] * len(LENGTHS),
        "data/file_index": list(FILES["data"]),
        "dataset_from_index": list(STARTS),
        "dataset_to_index": [start + length for start, length in zip(STARTS, LENGTHS, strict=True)],
        "stats/action/mean": [[0.0]] * len(LENGTHS),
    }
    for camera in CAMERAS:
        begun: dict[int, list[int]] = {}
        starts = []
        for episode, file in enumerate(FILES[camera]):
            frames = begun.setdefault(file, [])
            starts.append(len(frames) / FPS)
            frames += [level(camera, episode, step) for step in range(LENGTHS[episode])]
        for file, frames in begun.items():
            write_video(folder / f"videos/{camera}/chunk-000/file-{file:03d}.mp4", frames)
        at = f"videos/{camera}/"
        told |= {f"{at}chunk_index": [0] * len(LENGTHS), f"{at}file_index": list(FILES[camera]), f"{at}from_timestamp": starts}
        told[f"{at}to_timestamp"] = [start + length / FPS for start, length in zip(starts, LENGTHS, strict=True)]
    (folder / "meta/episodes/chunk-000").mkdir(parents=True)
    pq.write_table(pa.table(told), folder / "meta/episodes/chunk-000/file-000.parquet")
    pq.write_table(pa.table({"task_index": [0, 1], "task": list(TASKS)}), folder / "meta/tasks.parquet")
