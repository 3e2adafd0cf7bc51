"""LeRobot data sets, versions 2.0, 2.1 and 3.0: rows from parquet, frames from video files, encoded as JPEG again.

What can be read rightly in spite of a fault is read, and an episode's metadata say what was done; what cannot is refused by name.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import av
import numpy as np
from etils import epath

from jaxrl.ops.suggestion import suggestion
from jaxrl.types import ArraySpec
from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import BadEpisode, Episode, Features
from jaxrl_data.episode import chosen as columns_of
from jaxrl_data.lerobot import video
from jaxrl_data.lerobot.columns import metadata_of
from jaxrl_data.lerobot.metadata import Episodes, Info, chosen, is_subset, read_episodes, read_info, read_tasks
from jaxrl_data.lerobot.rows import Take, array, images, row_reader, strings
from jaxrl_data.lerobot.windows import TOLERANCE
from jaxrl_data.origin import completed, read_origin
from jaxrl_data.stored import checked, fingerprint, listing, sizes, span

TASK = "task"  # the column of texts
_INDEX = {"timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "task_index": "int64", "index": "int64"}
_NUMBERS = ("bool", "float16", "float32", "float64", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)))


class _Told(NamedTuple):
    info: Info
    split: str
    episodes: Episodes
    tasks: Mapping[int, str]
    features: Features
    notes: Mapping[str, Any]  # what each episode's metadata say


def splits(path: str) -> tuple[str, ...]:
    """The names of the splits; "all" where there are none. Raises ValueError as `read_info`."""
    return tuple(read_info(path).splits) or ("all",)


def read(path: str, split: str) -> Dataset:
    """The episodes of one split whose files are there.

    Raises:
        ValueError: the version is not known, metadata are damaged, or path templates lead to no file.
    """
    info = read_info(path)
    if split not in (tuple(info.splits) or ("all",)):
        raise ValueError(f"{path}: has no split {split!r}; {suggestion(split, tuple(info.splits) or ('all',))}")
    listed, raw = read_episodes(info)
    first, last = info.splits.get(split, (0, np.iinfo(np.int64).max))
    listed = chosen(listed, np.flatnonzero((listed.number >= first) & (listed.number < last)))
    root = epath.Path(path)
    files = listed.files.used()
    there = sizes(root, files)
    if not there:
        _refuse_template(info, "data_path", listed.files.at(0) if len(listed.number) else "", listing(root, ".parquet"), "meta/")
    episodes = chosen(listed, np.flatnonzero(listed.files.among(there)))
    notes: dict[str, Any] = {}
    if is_subset(len(there), len(files)):
        notes["subset"] = (
            f"meta/ lists {len(listed.number)} episodes of split {split}, of which the files of {len(episodes.number)} are there"
        )
    cameras, left_out = _cameras(info, episodes, root, there)
    tasks = read_tasks(info)
    origin = read_origin(path)
    has_tasks = bool(tasks) or len(episodes.tasks.flatten()) > 0
    if origin and TASK not in origin.names("texts").values():
        has_tasks = False  # our own writer had none, and LeRobot wants one
    features = completed(_features(info, cameras, left_out, has_tasks), origin)
    if left_out:
        notes["left_out"] = left_out
    told = _Told(info, split, episodes, tasks, features, notes)

    def read_some(first: int, last: int, columns: Iterable[str] | None = None) -> Iterator[Episode]:
        wanted = columns_of(features, columns)
        take = row_reader(root, tuple(name for name in features.images if name not in wanted.images))
        for place in span(first, last, len(episodes.number), f"{path} {split}"):
            yield _episode(told, wanted, root, take, place)

    mark = fingerprint(info.text, raw, str(sorted(tasks.items())), split, there)
    return Dataset(_name(path), split, features, len(episodes.number), read_some, mark)


def _name(path: str) -> str:
    return os.path.basename(os.fspath(path).rstrip("/"))


def _refuse_template(info: Info, key: str, need: str, found: Mapping[str, int], but: str) -> None:
    others = [name for name in found if not name.startswith(but)]
    hint = f"; there is {others[0]}: correct {key} in meta/info.json" if others else "; copy the files from the data set"
    raise ValueError(f"{info.path}: {key} {info.told.get(key)!r} leads to no file, such as {need or 'of an episode'}{hint}")


def _cameras(info: Info, episodes: Episodes, root: epath.Path, there: dict[str, int]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The cameras that have files, whose sizes are added to `there`; and why others are left out."""
    kept, left_out = [], {}
    every: dict[str, int] | None = None
    for name in info.cameras:
        found = sizes(root, episodes.videos[name].files.used()) if name in episodes.videos else {}
        if found:
            kept.append(name)
            there |= found
            continue
        every = listing(root, ".mp4") if every is None else every
        mine = {file: size for file, size in every.items() if name in file.split("/")}
        if mine and name in episodes.videos:
            _refuse_template(info, "video_path", episodes.videos[name].files.at(0), mine, "meta/")
        left_out[name] = "meta/info.json tells of this camera, but there is no video of it"
    return tuple(kept), left_out


def _features(info: Info, cameras: tuple[str, ...], left_out: dict[str, str], has_tasks: bool) -> Features:
    arrays: dict[str, ArraySpec] = {}
    pictures: dict[str, ArraySpec] = {}
    texts: list[str] = []
    for name, told in info.features.items():
        dtype, shape = told.get("dtype"), tuple(int(size) for size in told.get("shape") or ())
        if name in _INDEX:
            arrays[name] = ArraySpec((), _INDEX[name] if dtype not in _NUMBERS else str(dtype))
        elif dtype in ("video", "image"):
            if dtype == "image" or name in cameras:
                pictures[name] = ArraySpec(_height_first(shape, told.get("names")))
                pictures[name] = ArraySpec(pictures[name].shape, "uint16" if _is_depth(told) else "uint8")
        elif dtype == "string":
            texts.append(name)
        elif dtype in _NUMBERS:
            arrays[name] = ArraySpec(shape, str(dtype), _names(told.get("names"), shape))
        else:
            left_out[name] = f"its dtype {dtype!r} is not known"
    arrays |= {name: ArraySpec((), dtype) for name, dtype in _INDEX.items() if name not in arrays and name != "index"}
    if has_tasks and TASK not in info.features:
        texts.append(TASK)
    return Features(arrays, pictures, tuple(texts), info.rate)


def _is_depth(told: Mapping[str, Any]) -> bool:
    """Depth in more than 8 bits, which JPEG cannot hold."""
    return str((told.get("info") or {}).get("video.pix_fmt", "")).startswith(video.DEEP)


def _height_first(shape: tuple[int, ...], names: Any) -> tuple[int, ...]:
    flat = _flat(names)
    if len(shape) == 3 and (flat[:1] in (["channels"], ["channel"], ["c"]) or (not flat and shape[0] in (1, 3, 4) and shape[2] > 4)):
        return (*shape[1:], shape[0])
    return shape


def _flat(names: Any) -> list[str]:
    """Names come as a list, as a list in a list, and as a dict of lists."""
    if isinstance(names, Mapping):
        return [one for inner in names.values() for one in (_flat(inner) if isinstance(inner, list | Mapping) else [str(inner)])]
    if isinstance(names, list):
        return [one for inner in names for one in (_flat(inner) if isinstance(inner, list | Mapping) else [str(inner)])]
    return []


def _names(names: Any, shape: tuple[int, ...]) -> tuple[str, ...]:
    flat = _flat(names)
    return tuple(flat) if shape and len(flat) == shape[-1] else ()


def _episode(told: _Told, wanted: Features, root: epath.Path, take: Take, place: int) -> Episode:
    """With the columns that are `wanted`. The index columns are read whether they are or not: times and texts follow from them."""
    episodes, info = told.episodes, told.info
    index, length, file = int(episodes.number[place]), int(episodes.length[place]), episodes.files.at(place)
    where = f"{info.path}: {file}: episode {index}"
    key = "rows"
    try:
        table = take(file, int(episodes.first_row[place]), length if info.version == "v3.0" else None)
        if table.num_rows != length:
            raise ValueError(f"has {table.num_rows} rows, but meta/ tells of {length}")
        notes = dict(told.notes)
        arrays: dict[str, np.ndarray] = {}
        pictures: dict[str, Sequence[bytes]] = {}
        texts: dict[str, Sequence[str]] = {}
        for key, spec in told.features.arrays.items():
            if key not in wanted.arrays and key not in _INDEX:
                continue
            arrays[key] = _column(told, table, key, spec, index, notes)
        key = "episode_index"
        if (arrays[key] != index).any():
            raise ValueError(f"is {sorted(set(arrays[key].tolist()))} in the rows that meta/ tells of; its tables are wrong")
        for key in wanted.texts:
            texts[key] = _texts(told, table, key, arrays, place)
        for key in wanted.images:
            if info.features[key].get("dtype") == "image":
                pictures[key] = images(_present(table, key))
            else:
                where = f"{info.path}: {episodes.videos[key].files.at(place)}: episode {index}"
                pictures[key] = _frames(told, root, key, place, arrays["timestamp"], notes)
    except BadEpisode:
        raise
    except (ValueError, KeyError, OSError, av.FFmpegError, RuntimeError) as error:
        raise BadEpisode(place, f"{where}: {key}: {error}") from error
    unknown = [name for name in table.column_names if name not in (*told.features.names, *_INDEX)]
    if unknown:
        notes["left_out"] = notes.get("left_out", {}) | {name: "meta/info.json does not tell of it" for name in unknown}
    if episodes.written is None:
        name, metadata = "", {"episode_index": index, "tasks": episodes.tasks[place].as_py() or []}
    else:
        name, metadata = metadata_of(episodes.written.slice(place, 1).to_pylist()[0])
    name = name or f"{_name(info.path)}/{told.split}/{index}"
    arrays = {key: arrays[key] for key in wanted.arrays}
    return checked(place, f"{info.path}: {file}", Episode(name, arrays, pictures, texts, notes | metadata), wanted)


def _present(table: Any, key: str) -> Any:
    if key not in table.column_names:
        raise ValueError(f"the file has no such column; it has {', '.join(table.column_names)}")
    return table[key]


def _column(told: _Told, table: Any, key: str, spec: ArraySpec, index: int, notes: dict[str, Any]) -> np.ndarray:
    if key not in table.column_names and key in _INDEX:
        steps = np.arange(table.num_rows)
        derived = {
            "frame_index": lambda: steps,
            "timestamp": lambda: steps / told.info.rate,
            "episode_index": lambda: np.full(len(steps), index),
            "task_index": lambda: np.full(len(steps), _only_task(told, index)),
        }
        if key in derived:
            notes["derived"] = [*notes.get("derived", ()), key]
            return derived[key]().astype(spec.dtype)
    return array(_present(table, key), tuple(int(size) for size in spec.shape), spec.dtype)


def _only_task(told: _Told, index: int) -> int:
    place = int(np.searchsorted(told.episodes.number, index))
    listed = told.episodes.tasks[place].as_py() or []
    found = [number for number, text in told.tasks.items() if text in listed] if listed else list(told.tasks) or [0]
    if len(found) > 1 or (listed and told.tasks and not found):
        raise ValueError(f"the file has no such column, and the tasks of the episode, {listed}, do not tell it")
    return found[0] if found else 0


def _texts(told: _Told, table: Any, key: str, arrays: Mapping[str, np.ndarray], place: int) -> list[str]:
    if key != TASK or TASK in told.info.features:
        return strings(_present(table, key))
    listed = told.episodes.tasks[place].as_py() or []
    if not told.tasks:
        if len(listed) != 1:
            raise ValueError(f"there is no table of tasks in meta/, and the episode lists {listed}")
        return listed * table.num_rows
    lacking = set(arrays["task_index"].tolist()) - told.tasks.keys()
    if lacking:
        raise ValueError(f"task_index {sorted(lacking)} is not in the tasks of meta/")
    return [told.tasks[number] for number in arrays["task_index"].tolist()]


def _frames(told: _Told, root: epath.Path, key: str, place: int, timestamps: np.ndarray, notes: dict[str, Any]) -> list[bytes]:
    """Of one camera, by the times of the rows. What a float32 cannot tell of a time is added to the tolerance."""
    camera = told.episodes.videos[key]
    path = root / camera.files.at(place)
    rounding = np.abs(np.spacing(timestamps.astype(np.float32))).astype(np.float64)
    times = timestamps.astype(np.float64)
    if told.info.version != "v3.0" and times[0] > TOLERANCE + rounding[0] and video.count(path) == len(times):
        notes["timestamps_begin_at"] = float(times[0])  # as many frames as rows: each row has its own
        times = times - times[0]
    return video.frames(path, camera.starts[place] + times, TOLERANCE + rounding)
