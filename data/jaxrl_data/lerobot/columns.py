"""The columns of a LeRobot data set: what info.json tells of them, and an episode as a table of parquet."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from jaxrl.types import ArraySpec
from jaxrl_data.episode import Episode, Features, length

TASK = "task"  # the text that is stored as task_index; other texts are columns
DERIVED = {"timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64", "task_index": "int64"}
TYPES = {kind: pa.from_numpy_dtype(kind) for kind in ("float16", "float32", "float64", "bool")} | {
    f"{sign}int{bits}": pa.from_numpy_dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)
}
WRITTEN = ("jaxrl/name", "jaxrl/metadata")  # of meta/episodes: what an episode was called, and its metadata as JSON
MOST_AXES = 5  # of an array, in LeRobot


def check_columns(features: Features) -> None:
    """Raises ValueError that names a column which LeRobot has no place for."""
    for name in features.names:
        if "/" in name or name in DERIVED:
            told = "LeRobot allows no / in a name" if "/" in name else "LeRobot makes this column itself"
            raise ValueError(f"{name}: {told}; rename it, as jaxrl_data.convert.lerobot_origin does")
    for name, spec in features.arrays.items():
        if spec.dtype not in TYPES:
            raise ValueError(f"{name}: is {spec.dtype}, but a column of parquet is one of {', '.join(TYPES)}")
        if len(spec.shape) > MOST_AXES or not all(isinstance(size, int) and size > 0 for size in spec.shape):
            raise ValueError(f"{name}: has the shape {spec.shape}, but LeRobot needs up to {MOST_AXES} axes of known sizes above 0")
    if TASK in features.arrays or TASK in features.images:
        raise ValueError(f"{TASK}: is the text that tells what to do, and no array; rename it")


def stored_shape(spec: ArraySpec) -> tuple[int, ...]:
    """As info.json tells it: a single number has the shape (1,)."""
    return tuple(int(size) for size in spec.shape) or (1,)


def told_features(features: Features, images: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """`features` of info.json; `images` are the entries of those, which the first episode tells."""
    told: dict[str, dict[str, Any]] = {}
    for name, spec in features.arrays.items():
        told[name] = {"dtype": spec.dtype, "shape": list(stored_shape(spec)), "names": list(spec.names) or None}
    told |= {name: dict(entry) for name, entry in images.items()}
    told |= {name: {"dtype": "string", "shape": [1], "names": None} for name in features.texts if name != TASK}
    return told | {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in DERIVED.items()}


def table(episode: Episode, told: Mapping[str, Mapping[str, Any]], derived: Mapping[str, np.ndarray]) -> pa.Table:
    """The rows of an episode. `told` is `features` of info.json, `derived` what LeRobot adds, [T] each."""
    arrays: dict[str, Any] = {}
    columns = {**episode.arrays, **derived}
    for name, entry in told.items():
        if entry["dtype"] == "image":
            rows = [{"bytes": image, "path": None} for image in episode.images[name]]
            arrays[name] = pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
        elif entry["dtype"] == "string":
            arrays[name] = pa.array(list(episode.texts[name]), pa.string())
        elif entry["dtype"] != "video":
            arrays[name] = _column(columns[name], tuple(entry["shape"]))
    metadata = {b"huggingface": json.dumps({"info": {"features": _hugging_face(told)}}).encode()}
    return pa.table(arrays).replace_schema_metadata(metadata)


def derived_columns(episode: Episode, place: int, before: int, tasks: Mapping[str, int], fps: int) -> dict[str, np.ndarray]:
    """What LeRobot adds to the rows of an episode, `before` the rows of all episodes before it."""
    steps = np.arange(length(episode))
    return {
        "timestamp": (steps / fps).astype(np.float32),
        "frame_index": steps,
        "episode_index": np.full(len(steps), place),
        "index": before + steps,
        "task_index": np.array([tasks[text] for text in task_texts(episode)]),
    }


def metadata_of(row: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and metadata of an episode as they were written, from its row of meta/episodes. Without them the name is empty."""
    name, metadata = (row.get(key) for key in WRITTEN)
    return name or "", json.loads(metadata or "{}")


def task_texts(episode: Episode) -> list[str]:
    """What to do, by step; an empty text where no task is told."""
    return list(episode.texts[TASK]) if TASK in episode.texts else [""] * length(episode)


def tasks_table(tasks: Mapping[str, int]) -> pa.Table:
    """tasks.parquet: for pandas, the texts are the index."""
    columns = [
        {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64", "metadata": None},
        {"name": TASK, "field_name": TASK, "pandas_type": "unicode", "numpy_type": "object", "metadata": None},
    ]
    pandas = {
        "index_columns": [TASK],
        "column_indexes": [],
        "columns": columns,
        "creator": {"library": "pyarrow", "version": pa.__version__},
    }
    found = pa.table({"task_index": pa.array(tasks.values(), pa.int64()), TASK: pa.array(tasks.keys(), pa.string())})
    return found.replace_schema_metadata({b"pandas": json.dumps(pandas).encode()})


def _column(array: np.ndarray, shape: tuple[int, ...]) -> pa.Array:
    """One axis is a list of fixed size, several are lists of lists, as Hugging Face's arrays are stored."""
    flat = pa.array(np.ascontiguousarray(array).reshape(-1))
    if shape == (1,):
        return flat
    if len(shape) == 1:
        return pa.FixedSizeListArray.from_arrays(flat, shape[0])
    for size in reversed(shape):
        offsets = pa.array(np.arange(0, len(flat) + 1, size, dtype=np.int32))
        flat = pa.ListArray.from_arrays(offsets, flat)
    return flat


def _hugging_face(told: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """How `datasets` names the types of the columns."""
    found: dict[str, Any] = {}
    for name, entry in told.items():
        shape = list(entry["shape"])
        value = {"dtype": entry["dtype"], "_type": "Value"}
        if entry["dtype"] == "image":
            found[name] = {"_type": "Image"}
        elif entry["dtype"] != "video":
            several = {"shape": shape, "dtype": entry["dtype"], "_type": f"Array{len(shape)}D"}
            found[name] = (
                value if shape == [1] else {"feature": value, "length": shape[0], "_type": "Sequence"} if len(shape) == 1 else several
            )
    return found
