"""LeRobot folders behind one another.

Videos of a part become videos of the whole as they are, because times count from the beginning of their file. Rows are numbered over the
whole data set (`index`, `episode_index`, `task_index`), so those three columns, and what meta/episodes tells of them, are written anew.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

from jaxrl_data import origin as origins
from jaxrl_data.lerobot import columns
from jaxrl_data.lerobot.summary import Summary, merged, summary
from jaxrl_data.lerobot.writer import DATA, EPISODES, VIDEO, nested
from jaxrl_data.placing import copy, move, whole
from jaxrl_data.stored import readable
from jaxrl_data.writer import plain, put_json

Told = dict[str, Any]
_INFO, _TASKS, _ORIGIN = "meta/info.json", "meta/tasks.parquet", f"meta/{origins.FILE}"
_NONE = {"total_episodes": 0, "total_frames": 0, "total_tasks": 0, "splits": {}}


def emptied(folder: Path) -> tuple[str, ...]:
    """Makes of a data set of one episode what every part begins with: what each has to be like, and no episode. The files of it."""
    info = json.loads((folder / _INFO).read_text())
    put_json(folder / _INFO, info | _NONE)
    pq.write_table(columns.tasks_table({}), folder / _TASKS)
    return (_INFO, _TASKS, _ORIGIN)


def told(folder: Path) -> Told:
    """What the whole has to know of a part."""
    info = json.loads((folder / _INFO).read_text())
    tasks = pq.read_table(folder / _TASKS).to_pydict()
    return {
        "episodes": info["total_episodes"],
        "rows": info["total_frames"],
        "files": len(list((folder / "meta/episodes").glob("*/*.parquet"))),
        "files_per_chunk": info["chunks_size"],
        "tasks": [text for _, text in sorted(zip(tasks["task_index"], tasks[columns.TASK], strict=True))],
        "cameras": [name for name, one in info["features"].items() if one["dtype"] == "video"],
    }


def shares(parts: Sequence[Told]) -> list[Told]:
    """Where each part begins in the whole, and the numbers of its tasks there: in the order in which they first come."""
    found, numbers = [], dict[str, int]()
    before = dict.fromkeys(("episodes", "rows", "files"), 0)
    for part in parts:
        found.append(before | {"tasks": [numbers.setdefault(text, len(numbers)) for text in part["tasks"]]})
        before = {key: count + part[key] for key, count in before.items()}
    return found


def place(part: epath.Path, out: epath.Path, scratch: epath.Path, about: Told, share: Told) -> Told:
    """Puts the files of a part where they belong, and merges its statistics, as those of the whole count."""
    tables = []
    for file in range(about["files"]):
        old, new = (
            dict(zip(("chunk_index", "file_index"), divmod(number, about["files_per_chunk"]), strict=True))
            for number in (file, share["files"] + file)
        )
        for camera in about["cameras"]:
            move(part / VIDEO.format(video_key=camera, **old), out / VIDEO.format(video_key=camera, **new), scratch)
        with whole(out / DATA.format(**new), scratch) as rows:
            numbered = list(_rows(part / DATA.format(**old), rows, share))
        with (part / EPISODES.format(**old)).open("rb") as entries:
            table = pq.read_table(entries)
        placed = [
            _entry(row, share, new, about["cameras"], statistics) for row, statistics in zip(table.to_pylist(), numbered, strict=True)
        ]
        with whole(out / EPISODES.format(**new), scratch) as entries:
            pq.write_table(pa.Table.from_pylist(placed, table.schema), entries, compression="snappy")
        tables += [nested(row) for row in placed]
    return {"statistics": _merged(tables)}


def _rows(source: epath.Path, target: Any, share: Told) -> Iterator[dict[str, Summary]]:
    """Writes a file of rows with the numbers of the whole, one episode in memory; yields the statistics of the numbers of each."""
    tasks = np.array(share["tasks"], np.int64)
    file = pq.ParquetFile(readable(source))
    with file, pq.ParquetWriter(target, file.schema_arrow, compression="snappy") as writer:
        for group in range(file.num_row_groups):  # one for each episode
            table = file.read_row_group(group)
            numbers = {name: table[name].to_numpy() for name in ("index", "episode_index", "task_index")}
            numbers["index"] = numbers["index"] + share["rows"]
            numbers["episode_index"] = numbers["episode_index"] + share["episodes"]
            numbers["task_index"] = tasks[numbers["task_index"]]
            for name, column in numbers.items():
                place = table.schema.get_field_index(name)
                table = table.set_column(place, table.schema.field(place), pa.array(column))
            writer.write_table(table, row_group_size=max(len(table), 1))
            yield {name: summary(column) for name, column in numbers.items()}


def _entry(
    row: Mapping[str, Any], share: Told, where: Mapping[str, int], cameras: Sequence[str], statistics: Mapping[str, Summary]
) -> dict[str, Any]:
    """What meta/episodes tells of an episode, from what it told in the part."""
    moved = {"episode_index": row["episode_index"] + share["episodes"]}
    moved |= {f"dataset_{end}_index": row[f"dataset_{end}_index"] + share["rows"] for end in ("from", "to")}
    kinds = ("data", "meta/episodes", *(f"videos/{camera}" for camera in cameras))
    moved |= {f"{kind}/{key}": value for kind in kinds for key, value in where.items()}
    counted = {f"stats/{name}/{key}": plain(value) for name, one in statistics.items() for key, value in one.items()}
    return {**row, **moved, **counted}


def _merged(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: plain(merged([table[name] for table in tables])) for name in tables[-1]}


def finish(seed: epath.Path, out: epath.Path, scratch: epath.Path, parts: Sequence[Told], placed: Sequence[Told]) -> None:
    """Writes the metadata of the whole; what makes it readable comes last."""
    tasks: dict[str, int] = {}
    for part, share in zip(parts, shares(parts), strict=True):
        tasks |= zip(part["tasks"], share["tasks"], strict=True)
    with whole(out / _TASKS, scratch) as file:
        pq.write_table(columns.tasks_table(dict(sorted(tasks.items(), key=lambda item: item[1]))), file)
    episodes, frames = (sum(part[key] for part in parts) for key in ("episodes", "rows"))
    info = json.loads((seed / _INFO).read_text())
    info |= {"total_episodes": episodes, "total_frames": frames, "total_tasks": len(tasks), "splits": {"train": f"0:{episodes}"}}
    copy(seed / _ORIGIN, out / _ORIGIN, scratch)
    for name, value in (("meta/stats.json", _merged([one["statistics"] for one in placed])), (_INFO, info)):
        with whole(out / name, scratch) as file:
            file.write(json.dumps(value, indent=1, ensure_ascii=False).encode())
