"""A prepared cache, opened: any step of any episode by two small reads, in memory that does not grow."""

import json
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from jaxrl_data.cache.layout import CACHE, EPISODES, INDEX, Plan, column_file, from_json, shard_folder
from jaxrl_data.episode import Features

_OPEN = 256  # files at a time
_TOLD = 8  # shards whose names and texts are remembered


class Store(NamedTuple):
    """Episodes by number. Reading is thread-safe; nothing but lengths and hashes stays in memory."""

    name: str  # of the data set
    split: str
    features: Features
    fingerprint: str
    lengths: np.ndarray  # [E] int32
    hashes: np.ndarray  # [E, 16] uint8, of contents
    arrays: Callable[[int, Sequence[str]], dict[str, np.ndarray]]  # (episode, columns) -> whole columns [T, ...]
    images: Callable[[int, str, Sequence[int]], list[bytes]]  # (episode, column, steps) -> encoded images
    texts: Callable[[int, str, Sequence[int]], list[str]]  # (episode, column, steps) -> strings
    told: Callable[[int], dict[str, Any]]  # episode -> its name and metadata
    close: Callable[[], None]


class _Files:
    """Open files, the least recently used of which are closed. Reads at a place of their own, so threads do not meet."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, tuple[int, int, np.dtype, tuple[int, ...]]] = OrderedDict()
        self._lock = Lock()

    def _handle(self, path: Path) -> tuple[int, int, np.dtype, tuple[int, ...]]:
        """A copy of its handle, which is the caller's to close, and of a numpy file where its data begin and what they are."""
        with self._lock:
            known = self._open.pop(path, None)
            if known is None:
                known = (os.open(path, os.O_RDONLY), *(_header(path) if path.suffix == ".npy" else (0, np.dtype(np.uint8), ())))
            self._open[path] = known
            if len(self._open) > _OPEN:
                os.close(self._open.popitem(last=False)[1][0])
            return os.dup(known[0]), *known[1:]

    def read(self, path: Path, start: int, size: int) -> bytes:
        handle, *_ = self._handle(path)
        try:
            data = os.pread(handle, size, start)
        finally:
            os.close(handle)
        if len(data) < size:
            raise ValueError(f"{path}: ends before byte {start + size}; the file is damaged: remove its shard and prepare again")
        return data

    def rows(self, path: Path, first: int, last: int) -> np.ndarray:
        """[last - first, ...] of a numpy file."""
        handle, begin, dtype, shape = self._handle(path)
        width = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        try:
            data = os.pread(handle, (last - first) * width, begin + first * width)
        finally:
            os.close(handle)
        if len(data) < (last - first) * width:
            raise ValueError(f"{path}: has no row {last - 1}; the file is damaged: remove its shard and prepare again")
        return np.frombuffer(data, dtype).reshape(last - first, *shape[1:])

    def close(self) -> None:
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1][0])


def _header(path: Path) -> tuple[int, np.dtype, tuple[int, ...]]:
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        return file.tell(), dtype, shape


def _read_plan(folder: Path) -> Plan:
    try:
        text = (folder / CACHE).read_text()
    except FileNotFoundError:
        if (folder / "plan.json").exists():
            raise ValueError(f"{folder}: this cache is not whole yet; go on with `jaxrl data prepare`") from None
        raise FileNotFoundError(f"{folder}: there is no cache; `jaxrl data prepare` makes one") from None
    return from_json(text, str(folder / CACHE))


def open_store(folder: str | Path) -> Store:
    """The cache in `folder`. Reads the index alone: 20 bytes for each episode.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not whole, or damaged, or of another version.
    """
    folder = Path(folder)
    plan = _read_plan(folder)
    with np.load(folder / INDEX) as index:
        lengths, hashes, counts = index["lengths"], index["hashes"], index["counts"]
    shard_ends = np.cumsum(counts)
    row_ends = np.cumsum(lengths, dtype=np.int64)
    files, lock = _Files(), Lock()
    known: OrderedDict[int, dict[str, Any]] = OrderedDict()

    def place(episode: int) -> tuple[int, Path, int, int]:
        """Number of its shard, folder, and its first and last row there."""
        if not 0 <= episode < len(lengths):
            raise IndexError(f"{folder}: has no episode {episode}, but {len(lengths)}")
        shard = int(np.searchsorted(shard_ends, episode, side="right"))
        before = int(shard_ends[shard - 1]) if shard else 0
        base = int(row_ends[before - 1]) if before else 0
        last = int(row_ends[episode]) - base
        return shard, shard_folder(folder, shard), last - int(lengths[episode]), last

    def words(shard: int) -> dict[str, Any]:
        with lock:
            if shard not in known:
                known[shard] = json.loads((shard_folder(folder, shard) / EPISODES).read_text())
                if len(known) > _TOLD:
                    known.popitem(last=False)
            return known[shard]

    def arrays(episode: int, columns: Sequence[str]) -> dict[str, np.ndarray]:
        _, there, first, last = place(episode)
        return {name: files.rows(there / column_file("array", name), first, last) for name in columns}

    def images(episode: int, column: str, steps: Sequence[int]) -> list[bytes]:
        _, there, first, last = place(episode)
        begins, data = there / column_file("image", column), there / column_file("image", column, "bin")
        out = []
        for step in steps:
            if not 0 <= step < last - first:
                raise IndexError(f"{folder}: episode {episode} has no step {step}, but {last - first}")
            start, end = files.rows(begins, first + step, first + step + 2)
            out.append(files.read(data, int(start), int(end - start)))
        return out

    def texts(episode: int, column: str, steps: Sequence[int]) -> list[str]:
        shard, there, first, last = place(episode)
        numbers = files.rows(there / column_file("text", column), first, last)
        spelt = words(shard)["texts"]
        return [spelt[numbers[step]] for step in steps]

    def told(episode: int) -> dict[str, Any]:
        shard, *_ = place(episode)
        before = int(shard_ends[shard - 1]) if shard else 0
        return dict(words(shard)["episodes"][episode - before])

    fingerprint = f"{plan.fingerprint}-{plan.size}"
    return Store(plan.name, plan.split, plan.features, fingerprint, lengths, hashes, arrays, images, texts, told, files.close)
