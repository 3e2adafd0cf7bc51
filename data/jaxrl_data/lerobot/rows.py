"""Rows of parquet files as numpy columns."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from etils import epath

from jaxrl_data.stored import readable

_BATCH = 256  # rows decoded at a time

Take = Callable[[str, int, int | None], Any]  # (file, first row, rows, or None for all that follow) -> pyarrow.Table


def row_reader(root: epath.Path, without: tuple[str, ...] = ()) -> Take:
    """A function that gives rows of files, without some columns. Asked in stored order, it decodes each row once, and holds few."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # of the file that is open: its name, the row that comes next, what was decoded but not asked for, and the rest
    state: dict[str, Any] = {"file": None}

    def begin(file: str, row: int) -> None:
        parquet = pq.ParquetFile(readable(root / file))
        sizes = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
        ends = np.cumsum(sizes) if sizes else np.zeros(0, np.int64)
        group = int(np.searchsorted(ends, row, side="right"))
        names = [name for name in parquet.schema_arrow.names if name not in without]
        batches: Iterator[Any] = iter(())
        if group < len(sizes):
            batches = parquet.iter_batches(_BATCH, row_groups=list(range(group, len(sizes))), columns=names if without else None)
        schema = pa.schema([parquet.schema_arrow.field(name) for name in names], parquet.schema_arrow.metadata)
        state.update(file=file, at=int(ends[group - 1]) if group else 0, kept=[], batches=batches, schema=schema)

    def take(file: str, first: int, count: int | None) -> Any:
        if state["file"] != file or first < state["at"]:
            begin(file, first)
        found, wanted = [], math.inf if count is None else count
        name, state["file"] = state["file"], None  # a fault below leaves nothing to go on from
        while wanted > 0:
            batch = state["kept"].pop() if state["kept"] else next(state["batches"], None)
            if batch is None:
                break
            before = min(max(first - state["at"], 0), batch.num_rows)
            rows = int(min(wanted, batch.num_rows - before))
            if rows:
                found.append(batch.slice(before, rows))
                wanted -= rows
            state["at"] += before + rows
            if before + rows < batch.num_rows:
                state["kept"] = [batch.slice(before + rows)]
        state["file"] = name
        return pa.Table.from_batches(found, state["schema"])

    return take


def array(column: Any, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """A column [rows, *shape], however the file nests it.

    Raises:
        ValueError: it has gaps, another shape, or values that `dtype` cannot hold.
    """
    import pyarrow as pa

    values = column.combine_chunks()
    values = pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values
    rows, depth = len(values), 0
    while True:
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
        if values.null_count:
            raise ValueError("has rows without a value")
        if not isinstance(values, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
            break
        lengths = np.asarray(values.value_lengths()) if len(values) else np.zeros(0)
        need = shape[depth] if depth < len(shape) else None
        if (lengths != need).any():
            raise ValueError(f"has rows of {sorted(set(lengths.tolist()))} values, but meta/info.json tells of the shape {list(shape)}")
        values, depth = values.flatten(), depth + 1
    if depth < len(shape) and math.prod(shape[depth:]) != 1:
        raise ValueError(f"has rows without an axis of {shape[depth]}, but meta/info.json tells of the shape {list(shape)}")
    return _cast(values.to_numpy(zero_copy_only=False), dtype).reshape(rows, *shape)


def _cast(values: np.ndarray, dtype: str) -> np.ndarray:
    need = np.dtype(dtype)
    if values.dtype == need:
        return values
    if values.dtype.kind == need.kind == "f":
        return values.astype(need)
    with np.errstate(invalid="ignore"):
        found = values.astype(need) if values.dtype.kind in "fiub" else None
    if found is None or not np.array_equal(found, values):
        raise ValueError(f"is {values.dtype} in the file, but {dtype} in meta/info.json, which cannot hold its values")
    return found


def strings(column: Any) -> list[str]:
    """Raises ValueError where a row has none."""
    found = column.to_pylist()
    found = [one[0] if isinstance(one, list) and len(one) == 1 else one for one in found]
    if not all(isinstance(one, str) for one in found):
        raise ValueError("has rows without a text")
    return found


def images(column: Any) -> list[bytes]:
    """Encoded images, plain or in the pair of bytes and path that Hugging Face writes. Raises ValueError where one is not there."""
    found = [one.get("bytes") if isinstance(one, dict) else one for one in column.to_pylist()]
    for row, one in enumerate(found):
        if not isinstance(one, bytes) or not one:
            raise ValueError(f"row {row} holds no image, perhaps only the path of one; embed the images in the parquet files")
    return [one for one in found if one]
