"""What the folder meta/ of a LeRobot data set tells, in each version: which file, which rows and which seconds are an episode."""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from jaxrl_data.lerobot import columns
from jaxrl_data.stored import listing

VERSIONS = ("v2.0", "v2.1", "v3.0")


class Names(NamedTuple):
    """A file name for each of N episodes; many share one."""

    distinct: list[str]
    which: np.ndarray  # int64 [N]

    def at(self, place: int) -> str:
        """Of one episode."""
        return self.distinct[self.which[place]]

    def used(self) -> list[str]:
        """Those that some episode has."""
        return [self.distinct[one] for one in np.unique(self.which)]

    def among(self, there: Mapping[str, int]) -> np.ndarray:
        """bool [N], whether an episode's file is one of `there`."""
        return np.array([name in there for name in self.distinct], bool)[self.which]


class Video(NamedTuple):
    """One camera of N episodes."""

    files: Names
    starts: np.ndarray  # [N] s, in the file


class Episodes(NamedTuple):
    """N episodes as meta/ lists them."""

    number: np.ndarray  # int64 [N], the episode_index
    length: np.ndarray  # int64 [N]
    tasks: Any  # pyarrow.ListArray [N] of texts
    files: Names  # of rows
    first_row: np.ndarray  # int64 [N], in the file
    videos: Mapping[str, Video]
    written: Any = None  # pyarrow.Table [N] of what our own writer tells beside; None of other writers


class Info(NamedTuple):
    """meta/info.json with its faults put right, where that is possible."""

    path: str
    version: str
    rate: float
    features: Mapping[str, Mapping[str, Any]]
    splits: Mapping[str, tuple[int, int]]  # episode_index from, to; empty where there are none
    text: str
    told: Mapping[str, Any]

    @property
    def cameras(self) -> tuple[str, ...]:
        """The features that are videos."""
        return tuple(name for name, one in self.features.items() if one.get("dtype") == "video")


def read_info(path: str) -> Info:
    """Reads meta/info.json. Raises ValueError where it is damaged, or of a version that is not known."""
    file = epath.Path(path) / "meta/info.json"
    where = os.fspath(file)
    try:
        text = file.read_text()
        told = json.loads(text)
        version, features = told["codebase_version"], told["features"]
        rate = float(told["fps"])
        features.items()
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{where}: is damaged ({type(error).__name__}: {error}); copy it anew from the data set") from error
    if version not in VERSIONS:
        raise ValueError(
            f"{where}: codebase_version {version!r} is not known, only {', '.join(VERSIONS)}; convert it with LeRobot's own scripts"
        )
    if not rate > 0:
        raise ValueError(f"{where}: fps is {told['fps']!r}, which should be the number of steps per second")
    return Info(path, version, rate, features, _splits(told.get("splits") or {}, where), text, told)


def _splits(told: Mapping[str, str], where: str) -> dict[str, tuple[int, int]]:
    found = {}
    for name, text in told.items():
        try:
            first, last = (int(one) for one in text.split(":"))
        except (AttributeError, ValueError) as error:
            raise ValueError(f'{where}: split {name!r} is {text!r}, but should be two numbers such as "0:100"') from error
        found[name] = (first, last)
    return found


def read_episodes(info: Info) -> tuple[Episodes, bytes]:
    """All that meta/ lists, in the order of episode_index, and the bytes that tell of them."""
    episodes, raw = (_episodes_v3 if info.version == "v3.0" else _episodes_v2)(info)
    order = np.argsort(episodes.number, kind="stable")
    if (np.diff(episodes.number[order]) == 0).any():
        raise ValueError(f"{info.path}: meta/ lists an episode_index twice")
    return (episodes if (np.diff(order) == 1).all() else chosen(episodes, order)), raw


def chosen(episodes: Episodes, which: np.ndarray) -> Episodes:
    """Those at the places `which`."""

    def taken(names: Names) -> Names:
        return Names(names.distinct, names.which[which])

    return Episodes(
        episodes.number[which],
        episodes.length[which],
        episodes.tasks.take(which),
        taken(episodes.files),
        episodes.first_row[which],
        {name: Video(taken(video.files), video.starts[which]) for name, video in episodes.videos.items()},
        None if episodes.written is None else episodes.written.take(which),
    )


def is_subset(there: int, listed: int) -> bool:
    """Whether a data set is taken as a part of the one that meta/ tells of: of the files of rows that it lists some are there, and not all.

    Then the episodes whose files are there are read, and their videos have to be there too. Where no file is there, a path is wrong.
    """
    return 0 < there < listed


def file_name(info: Info, key: str, **values: Any) -> str:
    """The path template `key` of info.json, filled in."""
    template = info.told.get(key)
    try:
        return str(template.format(**values))  # type: ignore[union-attr]
    except (AttributeError, KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"{info.path}: meta/info.json: {key} is {template!r}, which is no path of {', '.join(values)} "
            f"({type(error).__name__}: {error}); correct it there"
        ) from error


def _lines(file: epath.Path) -> tuple[list[dict[str, Any]], bytes]:
    raw = file.read_bytes()
    rows = []
    for number, line in enumerate(raw.splitlines(), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"{os.fspath(file)}: line {number} is damaged: {error}") from error
    return rows, raw


def _episodes_v2(info: Info) -> tuple[Episodes, bytes]:
    """One file per episode, and per camera and episode; `chunk` counts episodes."""
    import pyarrow as pa

    file = epath.Path(info.path) / "meta/episodes.jsonl"
    rows, raw = _lines(file)
    try:
        index = np.array([row["episode_index"] for row in rows], np.int64)
        length = np.array([row["length"] for row in rows], np.int64)
    except KeyError as error:
        raise ValueError(f"{os.fspath(file)}: a line lacks {error}") from error
    size = int(info.told.get("chunks_size") or 1000)

    def names(key: str, **more: Any) -> Names:
        found = [file_name(info, key, episode_chunk=one // size, episode_index=one, **more) for one in index.tolist()]
        return Names(found, np.arange(len(found)))

    cameras = info.cameras if info.told.get("video_path") else ()
    videos = {name: Video(names("video_path", video_key=name), np.zeros(len(index))) for name in cameras}
    tasks = pa.array([row.get("tasks") or [] for row in rows], pa.list_(pa.string()))
    return Episodes(index, length, tasks, names("data_path"), np.zeros(len(index), np.int64), videos), raw


def _episodes_v3(info: Info) -> tuple[Episodes, bytes]:
    """Many episodes per file; `chunk` counts files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = epath.Path(info.path) / "meta/episodes"
    files = [folder / name for name in listing(folder, ".parquet")]
    if not files:
        raise ValueError(f"{os.fspath(folder)}: holds no parquet file, so that no episode is known; was the data set written to its end?")
    tables = []
    for file in files:
        try:
            with file.open("rb") as opened, pq.ParquetFile(opened) as parquet:
                names = [name for name in parquet.schema_arrow.names if not name.startswith("stats/")]
                tables.append(parquet.read(columns=names))
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{os.fspath(file)}: is damaged ({error}); copy it anew from the data set") from error
    table = pa.concat_tables(tables, promote_options="default")

    def column(name: str) -> np.ndarray:
        if name not in table.column_names:
            raise ValueError(f"{os.fspath(folder)}: lacks the column {name}")
        return np.asarray(table[name].to_numpy())

    def names_of(key: str, at: str, **more: Any) -> Names:
        pairs = (column(f"{at}chunk_index").astype(np.int64) << 32) + column(f"{at}file_index").astype(np.int64)
        found, which = np.unique(pairs, return_inverse=True)
        distinct = [file_name(info, key, chunk_index=pair >> 32, file_index=pair & (2**32 - 1), **more) for pair in found.tolist()]
        return Names(distinct, which)

    data = names_of("data_path", "data/")
    length = column("length").astype(np.int64)
    videos = {}
    for name in info.cameras if info.told.get("video_path") else ():
        at = f"videos/{name}/"
        if f"{at}file_index" in table.column_names:  # a camera without: the reader says so
            found = names_of("video_path", at, video_key=name)
            videos[name] = Video(found, column(f"{at}from_timestamp").astype(np.float64))
    lists = pa.list_(pa.string())
    tasks = table["tasks"].combine_chunks().cast(lists) if "tasks" in table.column_names else pa.array([[]] * len(length), lists)
    starts = column("dataset_from_index").astype(np.int64)
    number = column("episode_index").astype(np.int64)
    raw = b"".join(one.tobytes() for one in (number, length, starts, *(video.starts for video in videos.values())))
    written = table.select(columns.WRITTEN).combine_chunks() if {*columns.WRITTEN} <= {*table.column_names} else None
    if written is not None:
        raw += "\0".join(text or "" for name in columns.WRITTEN for text in written[name].to_pylist()).encode()
    return Episodes(number, length, tasks, data, _in_file(data, starts), videos, written), raw


def _in_file(files: Names, starts: np.ndarray) -> np.ndarray:
    """Rows count over the whole data set; the first of a file is that of its first episode."""
    first = np.full(len(files.distinct), np.iinfo(np.int64).max)
    np.minimum.at(first, files.which, starts)
    return starts - first[files.which]


def read_tasks(info: Info) -> dict[int, str]:
    """Texts by task_index, from whichever table there is; empty without one."""
    meta = epath.Path(info.path) / "meta"
    readers: tuple[tuple[str, Callable[[epath.Path], dict[int, str]]], ...] = (
        ("tasks.parquet", _tasks_parquet),
        ("tasks.jsonl", lambda file: {int(row["task_index"]): str(row["task"]) for row in _lines(file)[0]}),
    )
    for name, reader in readers:
        if (meta / name).exists():
            try:
                return reader(meta / name)
            except (KeyError, TypeError, OSError) as error:
                raise ValueError(f"{os.fspath(meta / name)}: is damaged ({type(error).__name__}: {error})") from error
    return {}


def _tasks_parquet(file: epath.Path) -> dict[int, str]:
    """The text is the index of a pandas frame, whose column has had two names."""
    import pyarrow.parquet as pq

    with file.open("rb") as opened:
        table = pq.read_table(opened)
    text = next((name for name in ("task", "__index_level_0__") if name in table.column_names), None)
    if text is None or "task_index" not in table.column_names:
        raise ValueError(f"{os.fspath(file)}: has the columns {', '.join(table.column_names)}, but task_index and task were expected")
    return dict(zip((int(one) for one in table["task_index"].to_pylist()), table[text].to_pylist(), strict=True))
