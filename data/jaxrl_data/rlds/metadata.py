"""What a TFDS builder directory tells of its splits and shards, read without TensorFlow."""

import json
import os
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from jaxrl.ops.suggestion import suggestion
from jaxrl_data.rlds.features import Layout, layout
from jaxrl_data.stored import fingerprint, sizes

FORMATS = ("tfrecord", "array_record", "parquet", "riegeli")  # those of tensorflow-datasets
TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"  # of data sets that were written before dataset_info.json told


class Split(NamedTuple):
    """One split of a builder directory."""

    path: str
    name: str  # of the data set and its version
    split: str
    format: str
    layout: Layout
    shards: tuple[str, ...]  # names of files
    ends: np.ndarray  # [shards] episodes up to the end of each
    fingerprint: str

    def shard(self, episode: int) -> int:
        """The place of the shard that holds an episode."""
        return int(np.searchsorted(self.ends, episode, side="right"))


def information(path: str) -> dict[str, Any]:
    """dataset_info.json. Raises ValueError where it is damaged or of a format that tensorflow-datasets does not know."""
    file = epath.Path(path) / "dataset_info.json"
    try:
        found = json.loads(file.read_text())
        names = [one["name"] for one in found["splits"]]
        found["name"], found["version"]  # noqa: B018
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(file)}: is damaged ({type(error).__name__}: {error}); copy it anew from the data set") from error
    if not names:
        raise ValueError(f"{os.fspath(file)}: lists no splits; was the data set written to its end?")
    if found.setdefault("fileFormat", "tfrecord") not in FORMATS:
        raise ValueError(f"{os.fspath(file)}: fileFormat {found['fileFormat']!r} is not known; {suggestion(found['fileFormat'], FORMATS)}")
    return found


def read_split(path: str, split: str) -> Split:
    """Reads dataset_info.json and features.json, and asks for the sizes of the shards.

    Raises:
        ValueError: they are damaged, there is no such split, or none of its shards is there.
    """
    told = information(path)
    named = {one["name"]: one for one in told["splits"]}
    if split not in named:
        raise ValueError(f"{path}: has no split {split!r}; {suggestion(split, tuple(named))}")
    lengths = [int(one) for one in named[split].get("shardLengths", ())]
    if not lengths:
        raise ValueError(f"{path}: dataset_info.json tells no shardLengths of split {split!r}; was the data set written to its end?")
    where = epath.Path(path)
    shards = tuple(shard_file(told, named[split], index, len(lengths)) for index in range(len(lengths)))
    found = sizes(where, shards)
    if not found:
        raise ValueError(f"{path}: none of the {len(shards)} files of split {split!r} is there, such as {shards[0]}")
    features = (where / "features.json").read_text()
    return Split(
        path,
        f"{told['name']}/{told['version']}",
        split,
        told["fileFormat"],
        layout(features, os.fspath(where / "features.json")),
        shards,
        np.cumsum(lengths),
        fingerprint(features, json.dumps([told["name"], told["version"], told["fileFormat"], named[split]], sort_keys=True), found),
    )


def shard_file(told: dict[str, Any], split: dict[str, Any], index: int, count: int) -> str:
    """The name of one of `count` shards, as dataset_info.json and its entry of a split tell. Raises ValueError where it is no name."""
    values = {
        "DATASET": told["name"],
        "SPLIT": split["name"],
        "FILEFORMAT": told["fileFormat"],
        "SHARD_X_OF_Y": f"{index:05d}-of-{count:05d}",
        "SHARD_INDEX": f"{index:05d}",
        "NUM_SHARDS": f"{count:05d}",
    }
    template = split.get("filepathTemplate") or TEMPLATE
    try:
        return template.format(**values)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"dataset_info.json: filepathTemplate {template!r} of split {split['name']!r} is not understood: {error}"
        ) from error
