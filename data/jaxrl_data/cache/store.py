"""A prepared cache, opened: any step of any episode by two small reads, in memory that does not grow."""

import json
import math
import os
import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from jaxrl_data.cache.layout import CACHE, EPISODES, INDEX, Plan, column_file, from_json, shard_folder
from jaxrl_data.episode import Features
from jaxrl_data.stored import fingerprint

_OPEN = 256  # files at a time
_TOLD = 8  # shards whose names and texts are remembered
_LONGEST = 4096  # bytes of a numpy file's header
_TOLD_BY = re.compile(r"\{'descr': '(?P<dtype>[^']+)', 'fortran_order': False, 'shape': \((?P<shape>[\d, ]*)\),? *\}")


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


class _File:
    """One open file, closed once it is neither remembered nor read from. Reads at a place of their own, so threads do not meet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = os.open(path, os.O_RDONLY)
        bare: tuple[int, np.dtype, tuple[int, ...]] = (0, np.dtype(np.uint8), ())
        self._begin, self._dtype, self._row = _header(path) if path.suffix == ".npy" else bare
        self._width = self._dtype.itemsize * math.prod(self._row)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # as Python ends, the module may be gone already
        if hasattr(self, "_handle"):
            close(self._handle)

    def read(self, start: int, end: int) -> bytes:
        """Bytes of a file that is no numpy file."""
        data = os.pread(self._handle, end - start, start)
        if len(data) < end - start:
            raise ValueError(f"{self.path}: ends before byte {end}; the file is damaged: remove its shard and prepare again")
        return data

    def rows(self, first: int, last: int) -> np.ndarray:
        """[last - first, ...] of a numpy file."""
        data = os.pread(self._handle, (last - first) * self._width, self._begin + first * self._width)
        if len(data) < (last - first) * self._width:
            raise ValueError(f"{self.path}: has no row {last - 1}; the file is damaged: remove its shard and prepare again")
        return np.frombuffer(data, self._dtype).reshape(last - first, *self._row)


def _header(path: Path) -> tuple[int, np.dtype, tuple[int, ...]]:
    """Of a numpy file: where its data begin, their type and the shape of a row.

    Numpy's own reading parses Python, which in Python 3.11 fails now and then where two threads do it at once (SystemError: AST constructor
    recursion depth mismatch). Raises ValueError: the file is damaged.
    """
    with path.open("rb") as file:
        start = file.read(_LONGEST)
    size, at = (2, 10) if start[6:7] == b"\x01" else (4, 12)
    end = at + int.from_bytes(start[8 : 8 + size], "little")
    told = _TOLD_BY.match(start[at:end].decode("latin1"))
    if start[:6] != b"\x93NUMPY" or told is None:
        raise ValueError(f"{path}: is no numpy file of a cache, it begins with {start[:16]!r}; remove its shard and prepare again")
    shape = tuple(int(size) for size in told["shape"].split(",") if size.strip())
    return end, np.dtype(told["dtype"]), shape[1:]


class _Files:
    """Open files, the least recently used of which are forgotten."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: OrderedDict[tuple[int, str], _File] = OrderedDict()
        self._lock = Lock()

    def __call__(self, shard: int, name: str) -> _File:
        key = (shard, name)
        with self._lock:
            found = self._open.get(key)
            if found is None:
                found = self._open[key] = _File(shard_folder(self._folder, shard) / name)
                if len(self._open) > _OPEN:
                    self._open.popitem(last=False)
            else:
                self._open.move_to_end(key)
            return found

    def close(self) -> None:
        with self._lock:
            self._open.clear()


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
    shard_ends = np.cumsum(counts).tolist()
    row_ends = np.cumsum(lengths, dtype=np.int64)
    file_of = {
        kind: {name: column_file(kind, name) for name in names}
        for kind, names in (("array", plan.features.arrays), ("image", plan.features.images), ("text", plan.features.texts))
    }
    blobs = {name: column_file("image", name, "bin") for name in plan.features.images}
    files, lock = _Files(folder), Lock()
    known: OrderedDict[int, dict[str, Any]] = OrderedDict()

    def place(episode: int) -> tuple[int, int, int]:
        """Number of its shard, and its first and last row there."""
        if not 0 <= episode < len(lengths):
            raise IndexError(f"{folder}: has no episode {episode}, but {len(lengths)}")
        shard = bisect_right(shard_ends, episode)
        before = shard_ends[shard - 1] if shard else 0
        last = int(row_ends[episode]) - (int(row_ends[before - 1]) if before else 0)
        return shard, last - int(lengths[episode]), last

    def words(shard: int) -> dict[str, Any]:
        with lock:
            if shard not in known:
                known[shard] = json.loads((shard_folder(folder, shard) / EPISODES).read_text())
                if len(known) > _TOLD:
                    known.popitem(last=False)
            return known[shard]

    def arrays(episode: int, columns: Sequence[str]) -> dict[str, np.ndarray]:
        shard, first, last = place(episode)
        return {name: files(shard, file_of["array"][name]).rows(first, last) for name in columns}

    def images(episode: int, column: str, steps: Sequence[int]) -> list[bytes]:
        shard, first, last = place(episode)
        begins, data = files(shard, file_of["image"][column]), files(shard, blobs[column])
        out = []
        for step in steps:
            if not 0 <= step < last - first:
                raise IndexError(f"{folder}: episode {episode} has no step {step}, but {last - first}")
            out.append(data.read(*begins.rows(first + step, first + step + 2).tolist()))
        return out

    def texts(episode: int, column: str, steps: Sequence[int]) -> list[str]:
        shard, first, last = place(episode)
        numbers = files(shard, file_of["text"][column]).rows(first, last)
        spelt = words(shard)["texts"]
        return [spelt[numbers[step]] for step in steps]

    def told(episode: int) -> dict[str, Any]:
        shard, *_ = place(episode)
        return dict(words(shard)["episodes"][episode - (shard_ends[shard - 1] if shard else 0)])

    mark = fingerprint(hashes.tobytes())  # of what is held: an episode that was left out, or no longer is, makes it another
    return Store(plan.name, plan.split, plan.features, mark, lengths, hashes, arrays, images, texts, told, files.close)
