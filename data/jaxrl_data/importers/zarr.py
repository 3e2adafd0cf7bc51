"""Zarr replay buffers, versions 2 and 3, in the layout of Push-T: rows of all episodes in data/*, their ends in meta/episode_ends.

Chunks do not end where episodes do: asked in stored order, each chunk is read once. Images are encoded as PNG, without loss.
"""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from jaxrl.ops.suggestion import suggestion
from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import BadEpisode, Episode, Features, chosen
from jaxrl_data.importers.columns import as_texts, encoded, features, plain, rows_at_a_time
from jaxrl_data.stored import checked, fingerprint, listing, span

_METADATA = (".zarray", ".zattrs", ".zgroup", "zarr.json")


class _Told(NamedTuple):
    path: str
    arrays: dict[str, Any]  # zarr arrays by column
    ends: np.ndarray  # [episodes] rows
    features: Features
    absent: dict[str, np.ndarray]  # first rows of chunks that are not stored, by column
    meta: dict[str, np.ndarray]  # what else meta/ holds, one row per episode


def splits(path: str) -> tuple[str, ...]:
    """The layout has none."""
    return ("all",)


def read(path: str, split: str) -> Dataset:
    """All episodes. Reads metadata and meta/*, no row of data/*.

    Raises:
        ValueError: there is no data/ or meta/episode_ends, they are damaged, or they do not agree.
    """
    if split != "all":
        raise ValueError(f"{path}: has no split {split!r}; {suggestion(split, ('all',))}")
    import zarr

    root = epath.Path(path)
    files = listing(root)
    try:
        group: Any = zarr.open_group(path, mode="r")
        ends = np.asarray(group["meta/episode_ends"][:]).astype(np.int64)
        members = sorted(group["data"].members(max_depth=None))
        arrays = {name: one for name, one in members if isinstance(one, zarr.Array)}
        meta = {name: np.asarray(one[:]) for name, one in group["meta"].members() if name != "episode_ends" and isinstance(one, zarr.Array)}
    except (KeyError, ValueError, OSError, RuntimeError) as error:
        raise ValueError(
            f"{path}: data/* and meta/episode_ends were expected, as in the replay buffer of Push-T ({type(error).__name__}: {error})"
        ) from error
    _agree(path, arrays, ends)
    told = _Told(
        path,
        arrays,
        ends,
        features((name, one.shape[1:], one.dtype) for name, one in arrays.items()),
        {name: rows for name, one in arrays.items() if len(rows := _absent(f"data/{name}", one, files))},
        {name: one for name, one in meta.items() if one.shape[:1] == ends.shape},
    )

    def episodes(first: int, last: int, columns: Iterable[str] | None = None) -> Iterator[Episode]:
        wanted = chosen(told.features, columns)
        takes = {name: _sequential(one) for name, one in arrays.items() if name in wanted.names}
        for place in span(first, last, len(ends), path):
            yield _episode(told._replace(features=wanted), takes, place)

    texts = [(root / name).read_bytes() for name in files if name.rsplit("/", 1)[-1] in _METADATA]
    name = os.path.basename(os.fspath(path).rstrip("/"))
    return Dataset(name, split, told.features, len(ends), episodes, fingerprint(*texts, ends.tobytes(), files))


def _agree(path: str, arrays: dict[str, Any], ends: np.ndarray) -> None:
    if not arrays:
        raise ValueError(f"{path}: data/ holds no arrays")
    if ends.ndim != 1 or not len(ends) or (np.diff(ends, prepend=0) <= 0).any():
        raise ValueError(f"{path}: meta/episode_ends should be numbers of rows that rise from episode to episode")
    for name, one in arrays.items():
        if one.ndim == 0 or one.shape[0] != ends[-1]:
            raise ValueError(f"{path}: data/{name} has the shape {one.shape}, but meta/episode_ends ends at row {ends[-1]}")


def _rows_of_chunk(array: Any) -> int:
    """Of what is stored as one: a shard where there are shards."""
    return int((array.shards or array.chunks)[0])


def _absent(name: str, array: Any, files: dict[str, int]) -> np.ndarray:
    """First rows of chunks without a file: zarr reads them as its fill value, whether nothing else was written or they were lost."""
    sizes = array.shards or array.chunks
    counts = [-(-size // chunk) for size, chunk in zip(array.shape, sizes, strict=True)]
    stored = {file for file in files if file.startswith(f"{name}/") and file.rsplit("/", 1)[-1] not in _METADATA}
    if len(stored) >= np.prod(counts):
        return np.zeros(0, np.int64)
    grid = itertools.product(*(range(count) for count in counts))
    return np.unique([place[0] * sizes[0] for place in grid if f"{name}/{array.metadata.encode_chunk_key(place)}" not in stored])


def _sequential(array: Any) -> Callable[[int, int], np.ndarray]:
    """A function (first row, last row) -> rows, which keeps the block of chunks that it read last."""
    step = rows_at_a_time(array.shape[1:], array.dtype, _rows_of_chunk(array))
    kept: dict[int, np.ndarray] = {}

    def take(first: int, last: int) -> np.ndarray:
        parts = []
        for block in range(first // step, -(-last // step)):
            if block not in kept:
                kept.clear()
                try:
                    kept[block] = np.asarray(array[block * step : (block + 1) * step])
                except (ValueError, OSError, RuntimeError):  # of chunks that this episode may have no part in
                    return np.asarray(array[first:last])
            parts.append(kept[block][max(first - block * step, 0) : last - block * step])
        return np.concatenate(parts)

    return take


def _episode(told: _Told, takes: dict[str, Callable[[int, int], np.ndarray]], place: int) -> Episode:
    first, last = int(told.ends[place - 1]) if place else 0, int(told.ends[place])
    episode = Episode(f"{os.path.basename(told.path.rstrip('/'))}/{place}", {}, {}, {}, {})
    for name, take in takes.items():
        try:
            rows = take(first, last)
            if name in told.features.images:
                episode.images[name] = encoded(rows, told.features.images[name])
            elif name in told.features.texts:
                episode.texts[name] = as_texts(rows)
            else:
                episode.arrays[name] = rows
        except (ValueError, OSError, RuntimeError, KeyError, TypeError) as error:
            raise BadEpisode(place, f"{told.path}: data/{name}: episode {place}, rows {first} to {last - 1}: {error}") from error
    episode.metadata.update({name: plain(one[place]) for name, one in told.meta.items()})
    lost = {name: starts for name, rows in told.absent.items() if (starts := _touching(rows, told.arrays[name], first, last))}
    if lost:
        episode.metadata["chunks_not_stored"] = lost
    return checked(place, told.path, episode, told.features)


def _touching(starts: np.ndarray, array: Any, first: int, last: int) -> list[int]:
    """First rows of chunks that hold rows of an episode."""
    return [int(one) for one in starts[(starts < last) & (starts + _rows_of_chunk(array) > first)]]
