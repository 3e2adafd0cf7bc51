"""Reads what the writers wrote with the formats' own libraries, and knows nothing of the project's readers and writers."""

import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from jaxrl.types import ArraySpec
from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import Episode, Features, chosen, with_columns
from jaxrl_data.writer import encoded

DERIVED = ("timestamp", "frame_index", "episode_index", "index", "task_index")


def dataset(name: str, features: Features, episodes: list[Episode]) -> Dataset:
    """Episodes in memory as a data set."""

    def read(first: int, last: int, columns: Iterable[str] | None = None) -> Iterator[Episode]:
        return (with_columns(one, chosen(features, columns)) for one in episodes[first:last])

    return Dataset(name, "all", features, len(episodes), read, f"of {name}")


def rlds_episodes(path: Path, split: str = "train") -> list[Episode]:
    """Of a TFDS folder: columns by the path below steps, images as they are stored."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(path))
    skip = {"steps": _skipped(builder.info.features["steps"].feature)}
    config = tfds.ReadConfig(interleave_cycle_length=1)
    return [_rlds_episode(one) for one in builder.as_dataset(split=split, decoders=skip, read_config=config)]


def _skipped(feature: Any) -> dict[str, Any]:
    import tensorflow_datasets as tfds

    found = {}
    for key, one in feature.items():
        if isinstance(one, tfds.features.FeaturesDict):
            found[key] = _skipped(one)
        elif isinstance(one, tfds.features.Image):
            found[key] = tfds.decode.SkipDecoding()
    return {key: one for key, one in found.items() if one}


def _rlds_episode(example: Any) -> Episode:
    steps = [_flat(step) for step in example["steps"].as_numpy_iterator()]
    metadata = {
        key: value.decode() if isinstance(value, bytes) else value.item() for key, value in _flat(example["episode_metadata"]).items()
    }
    arrays, images, texts = {}, {}, {}
    for name, value in steps[0].items():
        column = [step[name] for step in steps]
        if not isinstance(value, bytes):
            arrays[name] = np.stack(column)
        elif value.startswith((b"\x89PNG", b"\xff\xd8\xff")):
            images[name] = column
        else:
            texts[name] = [row.decode() for row in column]
    return Episode("", arrays, images, texts, metadata)


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        inner = hasattr(value, "items")
        found |= _flat(value, f"{prefix}{key}/") if inner else {prefix + key: value.numpy() if hasattr(value, "numpy") else value}
    return found


def lerobot_episodes(path: Path) -> list[Episode]:
    """Of a LeRobot folder, by what its own metadata tell; frames of videos are PNG."""
    info = json.loads((path / "meta/info.json").read_text())
    tasks = {row["task_index"]: row["task"] for row in pq.read_table(path / "meta/tasks.parquet").to_pylist()}
    return [_lerobot_episode(path, info, tasks, row) for row in episode_rows(path)]


def episode_rows(path: Path) -> list[dict[str, Any]]:
    """What meta/episodes tells."""
    return [row for file in sorted((path / "meta/episodes").glob("*/*.parquet")) for row in pq.read_table(file).to_pylist()]


def _lerobot_episode(path: Path, info: dict[str, Any], tasks: dict[int, str], row: dict[str, Any]) -> Episode:
    where = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
    table = pq.read_table(path / info["data_path"].format(**where))
    table = table.filter(pa.compute.equal(table["episode_index"], row["episode_index"]))
    arrays, images, texts = {}, {}, {"task": [tasks[one] for one in table["task_index"].to_pylist()]}
    for name, told in info["features"].items():
        if told["dtype"] == "video":
            images[name] = _frames(path, info, row, name)
        elif told["dtype"] == "image":
            images[name] = [one["bytes"] for one in table[name].to_pylist()]
        elif told["dtype"] == "string":
            texts[name] = table[name].to_pylist()
        else:
            arrays[name] = np.array(table[name].to_pylist(), told["dtype"]).reshape(len(table), *told["shape"])
    return Episode(row["jaxrl/name"], arrays, images, texts, json.loads(row["jaxrl/metadata"]))


def _frames(path: Path, info: dict[str, Any], row: dict[str, Any], name: str) -> list[bytes]:
    """By their times: frame t of the episode is at from_timestamp + t / fps."""
    where = {"chunk_index": row[f"videos/{name}/chunk_index"], "file_index": row[f"videos/{name}/file_index"]}
    with av.open(str(path / info["video_path"].format(video_key=name, **where))) as file:
        found = {round(frame.time * info["fps"], 6): frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)}
    start = row[f"videos/{name}/from_timestamp"] * info["fps"]
    return [encoded(found[round(start + t, 6)]) for t in range(row["length"])]


def features_of(episode: Episode, like: Features, rate: float = 0.0) -> Features:
    """Of an episode that was read; images have the sizes that `like` tells of some image."""
    arrays = {name: ArraySpec(array.shape[1:], str(array.dtype)) for name, array in episode.arrays.items()}
    size = next(iter(like.images.values()), ArraySpec(()))
    return Features(arrays, dict.fromkeys(episode.images, size), tuple(episode.texts), rate)


def pixels(image: bytes) -> np.ndarray:
    """Of an encoded image."""
    return np.asarray(Image.open(io.BytesIO(image)))
