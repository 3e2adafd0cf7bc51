"""RLDS folders behind one another: the shards of each part become shards of the whole, and dataset_info.json tells of them all."""

import itertools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etils import epath

from jaxrl_data import origin as origins
from jaxrl_data.placing import copy, move
from jaxrl_data.rlds import writer
from jaxrl_data.rlds.metadata import information

Told = dict[str, Any]


def emptied(folder: Path) -> tuple[str, ...]:
    """The files of a data set of one episode with which every part begins: they tell what each episode has to be like."""
    del folder
    return ("features.json", origins.FILE)


def told(folder: Path) -> Told:
    """What the whole has to know of a part."""
    found = information(str(folder))
    (split,) = found["splits"]
    shards = [int(length) for length in split["shardLengths"]]
    return {key: found[key] for key in ("name", "version")} | {"split": split["name"], "shards": shards, "bytes": int(split["numBytes"])}


def shares(parts: Sequence[Told]) -> list[Told]:
    """Where each part begins in the whole."""
    before = itertools.accumulate((len(part["shards"]) for part in parts), initial=0)
    return [{"shard": first} for first, _ in zip(before, parts, strict=False)]


def place(part: epath.Path, out: epath.Path, scratch: epath.Path, about: Told, share: Told) -> Told:
    """Moves the shards of a part to where they belong."""
    for shard in range(len(about["shards"])):
        old, new = (writer.shard_name(about["name"], about["split"], number) for number in (shard, share["shard"] + shard))
        move(part / old, out / new, scratch)
    return {}


def finish(seed: epath.Path, out: epath.Path, scratch: epath.Path, parts: Sequence[Told], placed: Sequence[Told]) -> None:
    """Writes the metadata of the whole; what makes it readable comes last."""
    del placed
    with tempfile.TemporaryDirectory() as made:
        for name in emptied(Path(made)):
            with (seed / name).open("rb") as file, (Path(made) / name).open("wb") as here:
                shutil.copyfileobj(file, here)
        shards = [length for part in parts for length in part["shards"]]
        about = {key: parts[0][key] for key in ("name", "version", "split")}
        writer.publish(Path(made), **about, shards=shards, size=sum(part["bytes"] for part in parts))
        for name in (*emptied(Path(made)), "dataset_info.json"):
            copy(epath.Path(made) / name, out / name, scratch)
