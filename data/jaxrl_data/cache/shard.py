"""One shard of a cache: written whole or not at all."""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl_data.cache.layout import EPISODES, HASHES, LENGTHS, Plan, column_file, shard_folder
from jaxrl_data.dataset import Dataset, only
from jaxrl_data.episode import BadEpisode, Episode, Features, check, length, without_columns
from jaxrl_data.writer import synced


class LeftOut(NamedTuple):
    """An episode that could not be used."""

    episode: int
    reason: str


def content_hash(episode: Episode) -> bytes:
    """16 bytes of all that the steps hold, whatever the episode is called."""
    state = hashlib.blake2b(digest_size=16)
    for name in sorted(episode.arrays):
        array = np.ascontiguousarray(episode.arrays[name])
        state.update(f"{name} {array.dtype.str} {array.shape}".encode())
        state.update(array.tobytes())
    for table in (episode.images, episode.texts):
        for name in sorted(table):
            state.update(name.encode())
            for entry in table[name]:
                data = entry.encode() if isinstance(entry, str) else entry
                state.update(len(data).to_bytes(8, "little") + data)
    return state.digest()


def kept(features: Features, without: Sequence[str]) -> Features:
    """Without some columns. Raises ValueError where there is none of that name, or one has rows of different sizes."""
    found = without_columns(features, without)
    if odd := [name for name, spec in found.arrays.items() if not all(isinstance(size, int) for size in spec.shape)]:
        raise ValueError(f"the rows of {odd[0]} differ in size, which a cache cannot hold; leave it out (--without {odd[0]})")
    return found


def left_out_of(shard: Path) -> list[LeftOut]:
    """What a shard that is there does not hold."""
    return [LeftOut(*one) for one in json.loads((shard / EPISODES).read_text())["left_out"]]


def usable(dataset: Dataset, first: int, last: int, quarantine: bool, left_out: list[LeftOut]) -> Iterator[Episode]:
    """The episodes `first` to `last` - 1; bad ones go into `left_out`, or are raised."""
    while first < last:
        try:
            for episode in dataset.read(first, last):
                first += 1
                yield episode
            if first < last:
                raise ValueError(f"{dataset.name}: ends at episode {first}, before episode {last}, although its metadata tell of it")
            return
        except BadEpisode as error:
            if not quarantine:
                raise
            left_out.append(LeftOut(error.episode, str(error)))
            first = error.episode + 1


class _Texts:
    """Strings by number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers))


def write_shard(dataset: Dataset, plan: Plan, folder: Path, shard: int, quarantine: bool = False) -> list[LeftOut]:
    """Writes a shard, unless it is there; what had to be left out of it, which is only allowed with `quarantine`.

    Images are written as they come, so memory holds the shard's arrays and one episode.

    Raises:
        BadEpisode: an episode cannot be used.
        OSError: the folder cannot be written to.
    """
    there = shard_folder(folder, shard)
    if there.exists():
        return left_out_of(there)
    part = there.with_name(f".{there.name}.{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        left_out = _fill(part, dataset, plan, shard, quarantine)
        for path in part.iterdir():
            synced(path)
        try:
            part.rename(there)
        except OSError:  # another process was as quick
            if not there.exists():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return left_out


def _fill(part: Path, dataset: Dataset, plan: Plan, shard: int, quarantine: bool) -> list[LeftOut]:
    features, texts, left_out = plan.features, _Texts(), list[LeftOut]()
    arrays: dict[str, list[np.ndarray]] = {name: [] for name in features.arrays}
    sizes: dict[str, list[int]] = {name: [0] for name in features.images}
    numbers: dict[str, list[int]] = {name: [] for name in features.texts}
    lengths, hashes, told = list[int](), list[bytes](), list[dict[str, Any]]()
    files: dict[str, io.BufferedWriter] = {name: (part / column_file("image", name, "bin")).open("wb") for name in features.images}
    first, last = plan.episodes(shard)
    try:
        for episode in usable(only(dataset, features.names), first, last, quarantine, left_out):
            check(episode, features)
            for name, rows in arrays.items():
                rows.append(episode.arrays[name])
            for name, file in files.items():
                file.writelines(episode.images[name])
                sizes[name] += map(len, episode.images[name])
            for name, row_numbers in numbers.items():
                row_numbers += map(texts.number, episode.texts[name])
            lengths.append(length(episode))
            hashes.append(content_hash(episode))
            told.append({"name": episode.name, "metadata": episode.metadata})
    finally:
        for file in files.values():
            file.close()
    for name, rows in arrays.items():
        empty = np.zeros((0, *map(int, features.arrays[name].shape)), features.arrays[name].dtype)
        np.save(part / column_file("array", name), np.concatenate(rows) if rows else empty)
    for name, row_sizes in sizes.items():
        np.save(part / column_file("image", name), np.cumsum(row_sizes, dtype=np.int64))
    for name, row_numbers in numbers.items():
        np.save(part / column_file("text", name), np.array(row_numbers, np.int32))
    np.save(part / LENGTHS, np.array(lengths, np.int32))
    np.save(part / HASHES, np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 16))
    words = {"texts": list(texts.numbers), "episodes": told, "left_out": left_out}
    (part / EPISODES).write_text(json.dumps(words))
    return left_out
