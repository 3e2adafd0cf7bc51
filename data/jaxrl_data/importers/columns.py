"""What a bare array of N rows is, by its shape and dtype, where a layout has no metadata that tell."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxrl.types import ArraySpec
from jaxrl_data.encode import png, whole_numbers
from jaxrl_data.episode import Features

BLOCK = 2**24  # bytes that are decoded at a time
_SMALLEST = 16  # pixels; below it is a matrix


def kind(shape: tuple[int, ...], dtype: Any) -> str:
    """Of rows [N, *shape]: "image", "text" or "array". Depth in floats stays an array: its unit may be metres."""
    dtype = np.dtype(dtype) if not isinstance(dtype, np.dtype) else dtype
    if dtype.kind in "OSUT":
        return "text"
    pixels = len(shape) == 3 and min(shape[:2]) >= _SMALLEST
    if pixels and ((str(dtype) in ("uint8", "uint16") and shape[2] in (1, 3, 4)) or (dtype.kind == "f" and shape[2] in (3, 4))):
        return "image"
    return "array"


def image_spec(shape: tuple[int, ...], dtype: Any) -> ArraySpec:
    """Of an image column: floats become uint8."""
    return ArraySpec(tuple(shape), "uint16" if str(np.dtype(dtype)) == "uint16" else "uint8")


def features(told: Iterable[tuple[str, tuple[int, ...], Any]], rate: float = 0.0) -> Features:
    """Of columns by name, shape of a row, and dtype."""
    arrays: dict[str, ArraySpec] = {}
    images: dict[str, ArraySpec] = {}
    texts: list[str] = []
    for name, shape, dtype in told:
        found = kind(shape, dtype)
        if found == "image":
            images[name] = image_spec(shape, dtype)
        elif found == "text":
            texts.append(name)
        else:
            arrays[name] = ArraySpec(tuple(shape), str(np.dtype(dtype)))
    return Features(arrays, images, tuple(texts), rate)


def rows_at_a_time(shape: tuple[int, ...], dtype: Any, step: int = 1) -> int:
    """Rows in about BLOCK bytes, a multiple of `step` and at least that."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize if np.dtype(dtype).kind not in "OT" else 1024
    return max(1, BLOCK // max(1, size * step)) * step


def encoded(images: np.ndarray, spec: ArraySpec) -> list[bytes]:
    """PNG of each. Raises ValueError where floats are no whole numbers."""
    return [png(image) for image in whole_numbers(images, spec.dtype)] if len(images) else []


def as_texts(rows: np.ndarray) -> list[str]:
    """Strings, from strings or UTF-8 bytes."""
    return [row.decode(errors="backslashreplace") if isinstance(row, bytes) else str(row) for row in rows.tolist()]


def plain(value: Any) -> Any:
    """An attribute or small array as plain JSON."""
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value if isinstance(value, str | int | float | bool | type(None)) else str(value)
