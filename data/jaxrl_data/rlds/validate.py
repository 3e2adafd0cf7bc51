"""What can be wrong with the files of an RLDS data set; its episodes are looked at by jaxrl_data.checks. No TensorFlow is needed."""

import json
import struct
from collections.abc import Iterator
from typing import Any

from etils import epath

from jaxrl_data.findings import Finding, error
from jaxrl_data.rlds.metadata import TEMPLATE, shard_file

_HEADER, _CHECKSUM = struct.Struct("<Q"), 4  # a record is its length (u64), a checksum, itself, another checksum


def files(path: epath.Path) -> Iterator[Finding]:
    """Shards that are missing, left over or cut, and records that are not as many as dataset_info.json says."""
    known: list[dict[str, Any]] = []
    for name in ("dataset_info.json", "features.json"):
        try:
            known.append(json.loads((path / name).read_text()))
        except (OSError, ValueError) as fault:
            yield error("metadata", str(path / name), "", "JSON written by tensorflow-datasets", str(fault))
            return
    told, features = known
    if "steps" not in features.get("featuresDict", {}).get("features", {}):
        yield error("no steps", str(path / "features.json"), "steps", "a data set of steps, as RLDS has", "none")
    if not told.get("splits"):
        yield error("no splits", str(path / "dataset_info.json"), "splits", "at least one", "none")
    for split in told.get("splits", ()):
        yield from _shards(path, told, split)


def _shards(path: epath.Path, told: dict[str, Any], split: dict[str, Any]) -> Iterator[Finding]:
    lengths = [int(one) for one in split.get("shardLengths", ())]
    ending = told.setdefault("fileFormat", "tfrecord")
    where = str(path / "dataset_info.json")
    try:
        names = [shard_file(told, split, place, len(lengths)) for place in range(len(lengths))]
    except ValueError as fault:
        yield error("path template", where, split["name"], "{DATASET}, {SPLIT}, {FILEFORMAT}, {SHARD_X_OF_Y} or {SHARD_INDEX}", str(fault))
        return
    for name, length in zip(names, lengths, strict=True):
        shard = path / name
        if not shard.exists():
            yield error("missing shard", str(shard), split["name"], f"a file of {length} records", "no such file")
            continue
        records, cut = _tfrecords(shard) if ending == "tfrecord" else _array_records(shard)
        if cut:
            yield error("cut shard", str(shard), split["name"], f"{length} whole records", f"{records}, then {cut}")
        elif records != length:
            yield error("record count", str(shard), split["name"], f"{length} records", f"{records}")
    stem = (split.get("filepathTemplate") or TEMPLATE).partition("{SHARD_")[0]
    start = shard_file(told, split | {"filepathTemplate": stem}, 0, 0)
    for left in sorted(one.name for one in path.iterdir() if one.name.startswith(start) and one.name not in names):
        yield error(
            "unknown shard", str(path / left), split["name"], f"{len(lengths)} shards of this split", "one more, which is never read"
        )


def _tfrecords(shard: epath.Path) -> tuple[int, str]:
    """The number of whole records, and what is wrong behind them. Reads their lengths alone."""
    size, place, records = shard.stat().length, 0, 0
    with shard.open("rb") as file:
        while place < size:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return records, f"{size - place} bytes of a record at byte {place}"
            behind = place + _HEADER.size + _CHECKSUM + _HEADER.unpack(header)[0] + _CHECKSUM
            if behind > size:
                return records, f"a record at byte {place} that would end at byte {behind} of {size}"
            file.seek(behind)
            place, records = behind, records + 1
    return records, ""


def _array_records(shard: epath.Path) -> tuple[int, str]:
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        reader = ArrayRecordReader(str(shard))
        return reader.num_records(), ""
    except (RuntimeError, ValueError, OSError) as fault:
        return 0, str(fault)
