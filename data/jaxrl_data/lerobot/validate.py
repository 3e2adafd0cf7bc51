"""What can be wrong with the files of a LeRobot data set, v2.0 to v3.0; its episodes are looked at by jaxrl_data.checks."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from string import Formatter
from typing import Any

from etils import epath

from jaxrl_data.findings import Finding, error, warning
from jaxrl_data.lerobot.metadata import is_subset
from jaxrl_data.lerobot.video_files import Expected, check_video

VERSIONS = ("v2.0", "v2.1", "v3.0")
STANDARD = ("timestamp", "frame_index", "episode_index", "index", "task_index")
_FIELDS = {"v2": {"episode_chunk", "episode_index"}, "v3": {"chunk_index", "file_index"}}
_ARROW = {"float": "float32", "double": "float64", "halffloat": "float16", "bool": "bool", "string": "string", "large_string": "string"}


@dataclass
class _File:
    """What metadata say of one data or video file."""

    frames: int = 0
    end: float = 0.0  # [s], of the last episode in a video
    count: int = 0  # of episodes
    episodes: list[int] = field(default_factory=list)  # the first few
    rows: set[str] = field(default_factory=set)  # of a video: the files that hold its episodes' rows


def files(path: epath.Path) -> Iterator[Finding]:
    """Metadata against each other, data files against metadata, video files against rows."""
    where = str(path / "meta" / "info.json")
    try:
        about = json.loads((path / "meta" / "info.json").read_text())
    except (OSError, ValueError) as fault:
        yield error("metadata", where, "", "JSON", str(fault))
        return
    lacking = [key for key in ("codebase_version", "fps", "features", "data_path", "total_episodes", "total_frames") if key not in about]
    for key in lacking:
        yield error("metadata", where, key, "to be there", "missing")
    if not lacking and about["codebase_version"] not in VERSIONS:
        yield error("version", where, "codebase_version", ", ".join(VERSIONS), str(about["codebase_version"]))
        lacking = ["version"]
    if lacking:
        return
    if not isinstance(about["fps"], int | float) or about["fps"] <= 0:
        yield error("fps", where, "fps", "a positive whole number", repr(about["fps"]))
        return
    yield from _info(where, about)
    cameras = [name for name, told in about["features"].items() if told["dtype"] == "video"]
    if cameras and not about.get("video_path"):
        yield error("path template", where, "video_path", f"where the files of {', '.join(cameras)} are", "none")
        cameras = []
    plan = _Plan(path, about, cameras)
    yield from plan.read()
    yield from _data(plan)
    yield from _videos(plan)


def _info(where: str, about: dict[str, Any]) -> Iterator[Finding]:
    total = about["total_episodes"]
    if not isinstance(about["fps"], int):
        yield warning("fps", where, "fps", "a whole number", repr(about["fps"]))
    version = about["codebase_version"][:2]
    for key, more in (("data_path", set()), ("video_path", {"video_key"})):
        if about.get(key):
            found = {name for _, name, _, _ in Formatter().parse(about[key]) if name is not None}
            if found != _FIELDS[version] | more:
                yield error("path template", where, key, f"the fields {', '.join(sorted(_FIELDS[version] | more))}", about[key])
    taken: list[tuple[int, int, str]] = []
    for name, given in about.get("splits", {}).items():
        try:
            first, last = map(int, given.split(":"))
        except (ValueError, AttributeError):
            yield error("splits", where, name, 'a range such as "0:50"', repr(given))
            continue
        if last > total or first > last:
            yield error("splits", where, name, f"a range within 0:{total}", given)
        for start, end, other in taken:
            if first < end and start < last:
                yield error("splits overlap", where, name, f"no episode of {other} ({start}:{end})", given)
        taken.append((first, last, name))
    for name, told in about["features"].items():
        yield from _feature(where, name, told)
    if not any(name == "action" or name.startswith("action.") for name in about["features"]):
        yield warning("no action", where, "action", "a feature of this name", ", ".join(about["features"]))
    for name in STANDARD:
        if name not in about["features"]:
            yield warning("standard column", where, name, "to be there", "missing")


def _feature(where: str, name: str, told: dict[str, Any]) -> Iterator[Finding]:
    names, shape = told.get("names"), told.get("shape") or [1]
    if isinstance(names, dict):  # {"motors": [...]}, as older recorders wrote
        names = next((one for one in names.values() if isinstance(one, list)), None)
    if isinstance(names, list) and names and isinstance(names[0], list):
        yield warning("names", where, name, "a flat list of names", "lists in a list")
        names = [one for inner in names for one in inner]
    if told["dtype"] in ("video", "image"):
        if names and len(names) != len(shape):
            yield error("names", where, name, f"{len(shape)} names, one per axis", f"{len(names)}")
    elif names and len(shape) == 1 and len(names) != shape[0]:
        yield error("names", where, name, f"{shape[0]} names", f"{len(names)}")


class _Plan:
    """The metadata of all episodes, by the files that they name. A million episodes of v3 are few files; in v2 each has its own."""

    def __init__(self, path: epath.Path, about: dict[str, Any], cameras: list[str]) -> None:
        self.path, self.about, self.cameras = path, about, cameras
        self.data: dict[str, _File] = {}
        self.videos: dict[str, dict[str, _File]] = {camera: {} for camera in cameras}
        self.tasks: int | None = None

    def read(self) -> Iterator[Finding]:
        """Fills the tables; findings are of the metadata themselves."""
        v3, meta = self.about["codebase_version"] == "v3.0", self.path / "meta"
        where = str(meta / ("episodes" if v3 else "episodes.jsonl"))
        episodes = frames = 0
        try:
            for row in _rows_v3(meta) if v3 else _rows_v2(meta / "episodes.jsonl"):
                yield from self._episode(where, row, v3)
                episodes, frames = episodes + 1, frames + row["length"]
            tasks = meta / ("tasks.parquet" if v3 else "tasks.jsonl")
            self.tasks = _number_of_rows(tasks) if v3 else sum(1 for _ in _rows_v2(tasks))
        except (OSError, ValueError, KeyError) as fault:
            yield error("metadata", where, "", "one row per episode, and the tasks", f"{type(fault).__name__}: {fault}")
        for key, found in (("total_episodes", episodes), ("total_frames", frames)):
            if self.about[key] != found:
                yield error("totals", str(meta / "info.json"), key, f"{found}, as in {where}", str(self.about[key]))
        if self.tasks is not None and self.about.get("total_tasks", self.tasks) != self.tasks:
            yield error("totals", str(meta / "info.json"), "total_tasks", f"{self.tasks} tasks", str(self.about["total_tasks"]))
        size = self.about.get("chunks_size", 1000)
        for key, expected in (("total_chunks", -(-episodes // size)), ("total_videos", episodes * len(self.cameras))):
            if not v3 and key in self.about and self.about[key] != expected:
                yield warning("totals", str(meta / "info.json"), key, str(expected), str(self.about[key]))

    def _episode(self, where: str, row: dict[str, Any], v3: bool) -> Iterator[Finding]:
        index, length = row["episode_index"], row["length"]
        if v3 and row["dataset_to_index"] - row["dataset_from_index"] != length:
            found = f"{row['dataset_from_index']}:{row['dataset_to_index']}"
            yield error("episode range", f"{where}, episode {index}", "dataset_to_index", f"{length} rows", found)
        place = {"chunk_index": row.get("data/chunk_index"), "file_index": row.get("data/file_index")} if v3 else self._place(index)
        rows = self._count(self.data, "data_path", place, index, length, 0.0)
        for camera in tuple(self.cameras):
            end = 0.0
            if v3 and f"videos/{camera}/to_timestamp" not in row:
                yield error("missing video", f"{where}, episode {index}", camera, f"columns videos/{camera}/...", "they are missing")
                self.cameras.remove(camera)
                continue
            if v3:
                place = {one: row[f"videos/{camera}/{one}"] for one in ("chunk_index", "file_index")}
                start, end = row[f"videos/{camera}/from_timestamp"], row[f"videos/{camera}/to_timestamp"]
                if abs((end - start) * self.about["fps"] - length) > 0.5:
                    found = f"{end - start:.4f} s"
                    yield error(
                        "video range", f"{where}, episode {index}", camera, f"{length / self.about['fps']:.4f} s ({length} frames)", found
                    )
            self._count(self.videos[camera], "video_path", {**place, "video_key": camera}, index, length, end, rows)

    def _place(self, index: int) -> dict[str, int]:
        return {"episode_chunk": index // self.about.get("chunks_size", 1000), "episode_index": index}

    def _count(self, table: dict[str, _File], key: str, place: dict[str, Any], index: int, length: int, end: float, rows: str = "") -> str:
        """Adds an episode to one of its files, and says which; to none where the template is wrong, which was told of."""
        try:
            name = str(self.about[key].format(**place))
        except (KeyError, IndexError, ValueError):
            return ""
        file = table.setdefault(name, _File())
        file.frames, file.end, file.count = file.frames + length, max(file.end, end), file.count + 1
        file.rows.add(rows)
        if len(file.episodes) < 3:
            file.episodes.append(index)
        return name


def _rows_v2(file: epath.Path) -> Iterator[dict[str, Any]]:
    with file.open("r") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def _rows_v3(meta: epath.Path) -> Iterator[dict[str, Any]]:
    """Of the columns that are not statistics."""
    found = sorted((meta / "episodes").glob("*/*.parquet"))
    if not found:
        raise OSError(f"{meta / 'episodes'}: no files")
    for file in found:
        with _parquet(file) as parquet:
            wanted = [name for name in parquet.schema_arrow.names if not name.startswith("stats/")]
            for batch in parquet.iter_batches(columns=wanted):
                yield from batch.to_pylist()


@contextlib.contextmanager
def _parquet(file: epath.Path) -> Iterator[Any]:
    import pyarrow.parquet

    with file.open("rb") as opened:
        yield pyarrow.parquet.ParquetFile(opened)


def _number_of_rows(file: epath.Path) -> int:
    with _parquet(file) as parquet:
        return int(parquet.metadata.num_rows)


def _gone(plan: _Plan, table: dict[str, _File]) -> tuple[dict[str, _File], str]:
    """Takes the files that are not there out of the table; those, and how to tell of them."""
    gone = {name: file for name, file in table.items() if not (plan.path / name).exists()}
    if not gone:
        return gone, ""
    of, first = len(table), next(iter(gone))
    for name in gone:
        del table[name]
    beside = [one.name for one in plan.path.iterdir() if one.is_dir() and one.name not in ("meta", "data")]
    hint = f"; there is a folder {', '.join(beside)}" if beside and not (plan.path / first.split("/")[0]).exists() else ""
    return gone, f"{len(gone)} of {of} files are missing, such as {first}{hint}"


def _data(plan: _Plan) -> Iterator[Finding]:
    promised = len(plan.data)
    gone, listed = _gone(plan, plan.data)
    if is_subset(len(plan.data), promised):
        kept, lost = (sum(file.count for file in table.values()) for table in (plan.data, gone))
        yield warning("subset", str(plan.path), "", f"the {kept + lost} episodes that meta/ lists", f"{kept}, which are read: {listed}")
    elif gone:
        yield error("missing data", str(plan.path), "", "the files that meta/ lists", listed)
    told: set[tuple[str, str]] = set()
    used: set[int] = set()
    for name, file in plan.data.items():
        where = str(plan.path / name)
        try:
            with _parquet(plan.path / name) as parquet:
                rows, schema = parquet.metadata.num_rows, parquet.schema_arrow
                if "task_index" in schema.names:
                    used |= set(parquet.read(columns=["task_index"])["task_index"].unique().to_pylist())
        except (OSError, ValueError) as fault:
            yield error("damaged file", where, "", "a parquet file that was closed", str(fault))
            continue
        if rows != file.frames:
            yield error("row count", where, "", f"{file.frames} rows (episodes {file.episodes[0]} ...)", str(rows))
        for one in _columns(where, schema, plan.about["features"]):
            if (one.fault, one.key) not in told:  # once, not per file
                told.add((one.fault, one.key))
                yield one
    tasks = plan.tasks
    if tasks is not None and plan.data and used:
        if beyond := sorted(one for one in used if not 0 <= one < tasks):
            yield error("unknown task", str(plan.path / "data"), "task_index", f"0 to {tasks - 1}", ", ".join(map(str, beyond[:5])))
        elif len(used) < tasks and len(plan.data) == promised:
            yield warning(
                "constant text" if len(used) == 1 else "unused tasks", str(plan.path), "task_index", f"{tasks} tasks", f"{len(used)}"
            )


def _columns(where: str, schema: Any, features: dict[str, Any]) -> Iterator[Finding]:
    import pyarrow as pa

    for name in schema.names:
        if name not in features:
            yield warning("unknown column", where, name, "a feature of info.json", "none")
    for name, told in features.items():
        if told["dtype"] in ("video", "image", "language"):
            continue
        if name not in schema.names:
            yield error("missing column", where, name, f"{told['dtype']} {told['shape']}", "none")
            continue
        kind = schema.field(name).type
        if isinstance(kind, pa.BaseExtensionType):
            continue  # arrays of more axes, whose shape is their own
        size = told["shape"][0] if len(told["shape"]) == 1 else None
        if pa.types.is_fixed_size_list(kind):
            if size is not None and kind.list_size != size:
                yield error("column shape", where, name, str(told["shape"]), str(kind))
        elif pa.types.is_list(kind) and size is not None:
            yield warning("variable length", where, name, f"a fixed_size_list of {size}", str(kind))
        while pa.types.is_nested(kind):
            kind = kind.field(0).type
        found = _ARROW.get(str(kind), str(kind))
        if found != told["dtype"]:
            yield warning("column type", where, name, told["dtype"], found)


def _videos(plan: _Plan) -> Iterator[Finding]:
    """Of episodes whose rows are there: what is missing of the others was told of."""
    for camera in plan.cameras:
        table = {name: file for name, file in plan.videos[camera].items() if not file.rows.isdisjoint(plan.data)}
        gone, listed = _gone(plan, table)
        if gone:
            yield error("missing video", str(plan.path), camera, "the videos of all episodes whose rows are there", listed)
        told = plan.about["features"][camera]
        for name, file in table.items():
            expected = Expected(
                file.frames, file.end, plan.about["fps"], tuple(told.get("shape") or ()), told.get("info") or told.get("video_info") or {}
            )
            yield from check_video(plan.path / name, camera, expected)
