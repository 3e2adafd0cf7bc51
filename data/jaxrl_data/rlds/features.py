"""What features.json of a TFDS builder directory tells of the steps, read without TensorFlow."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jaxrl.types import ArraySpec
from jaxrl_data.episode import Features

STEPS, OBSERVATION, ACTION, REWARD, DISCOUNT = "steps", "observation", "action", "reward", "discount"
IS_FIRST, IS_LAST, IS_TERMINAL = "is_first", "is_last", "is_terminal"
# The standard names, as in rlds.rlds_types: a test compares them, because importing rlds needs TensorFlow and, in 0.1.8, dm-reverb.

_STRINGS = ("string", "object", "bytes")


class Column(NamedTuple):
    """One column of an episode, and where in a record it comes from."""

    name: str
    path: tuple[str, ...]  # below `steps`
    kind: str  # "array", "image" or "text"; "" where it cannot be a column
    spec: ArraySpec
    ragged: bool = False  # steps differ in size: padded with zeros, and a column <name>/shape has the sizes
    entry: int | None = None  # of several images or texts per step
    coded: bool = False  # every step is a byte string, which tfds turns into an array
    reason: str = ""  # why it cannot be a column


class Layout(NamedTuple):
    """All of a record: what becomes columns, what is left out, and the rest, which tells of the whole episode."""

    columns: tuple[Column, ...]
    left_out: Mapping[str, str]  # name -> reason
    images: tuple[tuple[str, ...], ...]  # paths of images outside the steps

    @property
    def features(self) -> Features:
        """The same as the data set's features."""
        arrays = {}
        for column in self.columns:
            if column.kind == "array":
                arrays[column.name] = column.spec
                if column.ragged:
                    arrays[shape_of(column.name)] = ArraySpec((len(column.spec.shape),), "int64")
        images = {column.name: column.spec for column in self.columns if column.kind == "image"}
        return Features(arrays, images, tuple(column.name for column in self.columns if column.kind == "text"))


def shape_of(name: str) -> str:
    """The column that has the size of each step of a ragged column."""
    return f"{name}/shape"


def layout(text: str, file: str) -> Layout:
    """Reads the text of features.json.

    Raises:
        ValueError: it is damaged, or tells of no steps; the message names `file`.
    """
    try:
        top = json.loads(text)["featuresDict"]["features"]
        steps = top[STEPS]["sequence"]["feature"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{file}: tells of no {STEPS!r} with one record per episode ({type(error).__name__}: {error}); "
            "it may be damaged, or the data set is not RLDS"
        ) from error
    try:
        columns = tuple(_columns(steps, ()))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    kept = tuple(column for column in columns if column.kind)
    if not kept:
        raise ValueError(f"{file}: {STEPS!r} hold nothing that can be read")
    left_out = {column.name: column.reason for column in columns if not column.kind}
    images = tuple(path for name, node in top.items() if name != STEPS for path in _images(node, (name,)))
    return Layout(kept, left_out, images)


def _images(node: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if "image" in node:
        yield path
    for name, inner in node.get("featuresDict", {}).get("features", {}).items():
        yield from _images(inner, (*path, name))


def _sizes(shape: Mapping[str, Any]) -> tuple[int | None, ...]:
    sizes = (int(size) for size in shape.get("dimensions", ()))
    return tuple(None if size < 0 else size for size in sizes)


def _columns(node: Mapping[str, Any], path: tuple[str, ...], outer: tuple[int | None, ...] = ()) -> Iterator[Column]:
    """`outer` has one None for each sequence inside a step that encloses the node."""
    if "featuresDict" in node:
        for name, inner in node["featuresDict"].get("features", {}).items():
            yield from _columns(inner, (*path, name), outer)
    elif "sequence" in node:
        if int(node["sequence"].get("length", -1)) > 0:
            raise ValueError(
                f"{'/'.join(path)}: tensorflow-datasets writes a sequence of fixed length inside steps, but cannot read it; "
                "write the data set anew with a Tensor of that shape"
            )
        yield from _columns(node["sequence"]["feature"], path, (*outer, None))
    else:
        yield from _leaf(node, path, outer)


def _leaf(node: Mapping[str, Any], path: tuple[str, ...], outer: tuple[int | None, ...]) -> Iterator[Column]:
    name = "/".join(path) or "step"
    kind = str(node.get("pythonClassName", "")).rsplit(".", 1)[-1] or "feature without a class"
    if "image" in node:
        shape, dtype = _sizes(node["image"]["shape"]), node["image"].get("dtype") or "uint8"
        if dtype.startswith("float"):  # four bytes of a float as four channels of a PNG: only tfds decodes that
            yield _array(name, path, outer, shape, "float32", coded=True)
        else:
            yield from _several(name, path, outer, "image", ArraySpec(_named(name, shape), dtype))
    elif "text" in node:
        yield from _several(name, path, outer, "text", ArraySpec((), "str"))
    elif "tensor" in node and not node["tensor"].get("optional"):
        tensor = node["tensor"]
        shape, dtype = _sizes(tensor.get("shape", {})), tensor["dtype"]
        if 0 in shape:
            raise ValueError(f"{name}: is a Tensor without values, at which TensorFlow stops the process; write the data set without it")
        if dtype in _STRINGS:
            yield from _several(name, path, (*outer, *shape), "text", ArraySpec((), "str"))
        else:
            yield _array(name, path, outer, shape, dtype, coded=tensor.get("encoding", "none") in ("zlib", "bytes"))
    elif "classLabel" in node:
        yield _array(name, path, outer, (), "int64")
    elif "boundingBox" in node:
        yield _array(name, path, outer, (4,), "float32")
    else:
        yield Column(name, path, "", ArraySpec(()), reason=f"a {kind} inside steps is not known")


def _array(
    name: str, path: tuple[str, ...], outer: tuple[int | None, ...], shape: tuple[int | None, ...], dtype: str, coded: bool = False
) -> Column:
    sizes = (*outer, *shape)
    if outer.count(None) > 1 or (coded and None in outer):
        return Column(name, path, "", ArraySpec(()), reason="sequences of sequences that differ in length")
    return Column(name, path, "array", ArraySpec(_named(name, sizes), dtype), ragged=None in sizes, coded=coded)


def _named(name: str, sizes: tuple[int | None, ...]) -> tuple[int | str, ...]:
    """Sizes that are not known by the name of their axis."""
    axes = ("height", "width", "channels") if len(sizes) == 3 else tuple(f"axis {axis}" for axis in range(len(sizes)))
    return tuple(f"{name} {axis}" if size is None else size for axis, size in zip(axes, sizes, strict=True))


def _several(name: str, path: tuple[str, ...], outer: tuple[int | None, ...], kind: str, spec: ArraySpec) -> Iterator[Column]:
    """One column, or one per entry where each step holds a fixed number of them."""
    if not outer:
        yield Column(name, path, kind, spec)
    elif len(outer) == 1 and outer[0] is not None:
        for entry in range(outer[0]):
            yield Column(f"{name}/{entry}", path, kind, spec, entry=entry)
    else:
        yield Column(name, path, "", spec, reason=f"steps hold different numbers of {kind}s")
