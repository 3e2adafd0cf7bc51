"""A parsed record into columns and metadata."""

import base64
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from jaxrl_data.rlds.features import Column, shape_of


def columns(
    told: Sequence[Column], steps: Any, feature: Any, wanted: Collection[str]
) -> tuple[dict[str, np.ndarray], dict[str, Sequence[bytes]], dict[str, Sequence[str]]]:
    """Arrays, images and texts of the steps of one record, those whose names are `wanted`. `feature` is what tfds knows of a step.

    Raises:
        ValueError: a feature is missing; the message names it.
    """
    arrays: dict[str, np.ndarray] = {}
    images: dict[str, Sequence[bytes]] = {}
    texts: dict[str, Sequence[str]] = {}
    for column in told:
        if column.name not in wanted and shape_of(column.name) not in wanted:
            continue
        value = steps
        for name in column.path:
            value = value[name]
        if column.kind == "array":
            arrays |= {name: array for name, array in _array(column, value, feature).items() if name in wanted}
        else:
            rows = _rows(value, column.entry)
            if column.kind == "image":
                images[column.name] = rows
            else:
                texts[column.name] = [row.decode(errors="backslashreplace") for row in rows]
    counts = {name: len(rows) for table in (arrays, images, texts) for name, rows in table.items()}
    lacking = [name for name, count in counts.items() if count == 0]
    if lacking and any(counts.values()):
        raise ValueError(f"the record lacks {', '.join(lacking)}, which features.json tells of")
    return arrays, images, texts


def _rows(value: Any, entry: int | None) -> list[bytes]:
    rows = value.numpy()
    return list(rows if entry is None else rows[:, entry])


def _array(column: Column, value: Any, feature: Any) -> dict[str, np.ndarray]:
    if column.coded:
        return _decoded(column, value, feature)
    if not column.ragged:
        return {column.name: value.numpy()}
    # One axis is ragged: all that lies before it has a size that is known.
    axis = next(place for place, size in enumerate(column.spec.shape) if isinstance(size, str))
    if not hasattr(value, "bounding_shape"):
        sizes = np.tile(np.array(value.shape[1:], np.int64), (int(value.shape[0]), 1))
        return {column.name: value.numpy(), shape_of(column.name): sizes}
    padded = value.to_tensor().numpy()
    sizes = np.tile(np.array(padded.shape[1:], np.int64), (len(padded), 1))
    sizes[:, axis] = value.row_lengths(axis=axis + 1).numpy()
    return {column.name: padded, shape_of(column.name): sizes}


def _decoded(column: Column, value: Any, feature: Any) -> dict[str, np.ndarray]:
    """Steps that are byte strings each, decoded by the feature of tfds that wrote them."""
    for name in column.path:
        feature = _leaf(feature)[name]
    feature = _leaf(feature)
    if isinstance(value, dict):
        shapes, flat = value["shape"].numpy(), value["value"].numpy()
        items = [feature.decode_example_np({"shape": shape, "value": one}) for shape, one in zip(shapes, flat, strict=True)]
        outer: tuple[int, ...] = ()
    else:
        raw = value.numpy()
        outer = raw.shape[1:]
        items = [np.asarray(feature.decode_example_np(one)) for one in raw.reshape(-1)]
    if not column.ragged:
        inner = tuple(size for size in column.spec.shape[len(outer) :])
        rows = -1 if items else 0
        return {column.name: np.array(items, column.spec.dtype).reshape(rows, *outer, *inner)}
    return _padded(column, items)


def _padded(column: Column, items: list[np.ndarray]) -> dict[str, np.ndarray]:
    axes = len(column.spec.shape)
    sizes = np.array([item.shape for item in items], np.int64).reshape(len(items), axes)
    padded = np.zeros((len(items), *(sizes.max(0) if items else [0] * axes)), column.spec.dtype)
    for row, item in zip(padded, items, strict=True):
        row[tuple(slice(size) for size in item.shape)] = item
    return {column.name: padded, shape_of(column.name): sizes}


def _leaf(feature: Any) -> Any:
    """The feature inside sequences."""
    while hasattr(feature, "feature") and type(feature).__name__ in ("Sequence", "Dataset"):
        feature = feature.feature
    return feature


def metadata(tree: Any) -> dict[str, Any]:
    """What is not steps, as plain JSON, by names with slashes; those of `episode_metadata` without that prefix."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        inner = metadata(value) if isinstance(value, dict) else {"": _json(value)}
        for rest, one in inner.items():
            key = "/".join(part for part in (name if name != "episode_metadata" else "", rest) if part)
            found[key] = one
    return found


def _json(value: Any) -> Any:
    if hasattr(value, "to_list"):  # ragged
        return _json(value.to_list())
    if hasattr(value, "numpy"):
        return _json(value.numpy())
    if isinstance(value, np.ndarray | np.generic):
        return _json(value.tolist())
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, list):
        return [_json(one) for one in value]
    return value
