"""What a writer of episodes is, and what the writers of all formats share: the open episode, the lock, files put in place whole."""

import contextlib
import fcntl
import io
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxrl.ops.suggestion import suggestion
from jaxrl_data.episode import Episode, Features

Row = Mapping[str, Any]


class Writer(NamedTuple):
    """Writes episodes to a folder, behind those that lie there. An episode is safe from a killed process as soon as `add` or `end` returns.

    Whole episodes come by `add`. Those that come step by step, from a robot or a simulator, are begun, stepped and ended, one at a time.
    For a `with` block there is `contextlib.closing`.
    """

    features: Features
    size: Callable[[], int]  # whole episodes in the folder
    add: Callable[
        [Episode], None
    ]  # raises ValueError that names episode and column where it does not fit `features`: nothing is written then
    begin: Callable[..., None]  # (name, metadata={}) of an episode
    step: Callable[..., None]
    # (arrays, images={}, texts={}) of one step, by column. An image is encoded, or an array, which becomes a PNG before the call returns:
    # where cameras are large or many, give their JPEG
    end: Callable[[bool], None]  # (terminated): whether the episode ended by itself, and was not cut; it is metadata["terminated"] then
    close: Callable[[], None]  # makes the whole folder readable; drops an open episode, with a warning


class _Open(NamedTuple):
    """An episode that has begun."""

    name: str
    metadata: dict[str, Any]
    rows: dict[str, list[Any]]  # by column


def streamed(features: Features, size: Callable[[], int], add: Callable[[Episode], None], close: Callable[[], None]) -> Writer:
    """A writer whose `add` and `close` are given, and which gathers steps in memory, images encoded, until the episode ends."""
    kinds = {"arrays": tuple(features.arrays), "images": tuple(features.images), "texts": features.texts}
    opened: list[_Open] = []  # the open episode, or none

    def current(what: str) -> _Open:
        if not opened:
            raise ValueError(f"{what}: no episode has begun; call begin(name) first")
        return opened[0]

    def begin(name: str, metadata: Mapping[str, Any] | None = None) -> None:
        if opened:
            raise ValueError(f"{name}: the episode {opened[0].name} is still open; end it first")
        rows: dict[str, list[Any]] = {column: [] for column in features.names}
        opened.append(_Open(name, dict(metadata or {}), rows))

    def step(arrays: Row, images: Row | None = None, texts: Row | None = None) -> None:
        episode = current("step")
        given = {"arrays": arrays, "images": images or {}, "texts": texts or {}}
        for kind, columns in kinds.items():  # all is checked before anything is kept: a refused step can be given again
            for column in sorted({*columns} ^ {*given[kind]}):
                told = "is missing" if column in columns else f"is none of the {kind}; {suggestion(column, columns)}"
                raise ValueError(f"{episode.name}: {column} {told}")
        row: dict[str, Any] = {column: _array(episode.name, column, value, features) for column, value in arrays.items()}
        row |= {column: encoded(value) for column, value in given["images"].items()} | dict(given["texts"])
        for column, value in row.items():
            episode.rows[column].append(value)

    def end(terminated: bool) -> None:
        name, metadata, rows = current("end")
        if not any(rows.values()):
            raise ValueError(f"{name}: has no steps; step before the end")
        arrays = {column: np.stack(rows[column]) for column in features.arrays}
        images: dict[str, Sequence[bytes]] = {column: rows[column] for column in features.images}
        texts: dict[str, Sequence[str]] = {column: rows[column] for column in features.texts}
        add(Episode(name, arrays, images, texts, metadata | {"terminated": bool(terminated)}))
        opened.clear()

    def ended() -> None:
        close()
        if opened:
            warnings.warn(f"{opened.pop().name}: was still open when its writer closed, and is dropped", RuntimeWarning, stacklevel=2)

    return Writer(features, size, add, begin, step, end, ended)


def _array(episode: str, column: str, value: Any, features: Features) -> np.ndarray:
    spec, array = features.arrays[column], np.array(value)  # a copy: simulators write into the same array again
    fits = len(array.shape) == len(spec.shape) and all(
        not isinstance(n, int) or n == m for n, m in zip(spec.shape, array.shape, strict=True)
    )
    if not fits or str(array.dtype) != spec.dtype:
        raise ValueError(f"{episode}: {column} is {array.dtype} {array.shape}, but should be {spec.dtype} {spec.shape}")
    return array


def encoded(image: bytes | np.ndarray) -> bytes:
    """An image as bytes: those given, or the PNG of an array [height, width] or [height, width, channels], which loses nothing.

    Raises:
        ValueError: the array is neither uint8 with 1, 3 or 4 channels nor uint16 with one.
    """
    if isinstance(image, bytes):
        return image
    array = np.asarray(image)
    flat = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    colours = array.dtype == np.uint8 and (flat.ndim == 2 or (flat.ndim == 3 and flat.shape[2] in (3, 4)))
    if not colours and not (array.dtype == np.uint16 and flat.ndim == 2):
        raise ValueError(f"an image is uint8 with 1, 3 or 4 channels, or uint16 with one, but this is {array.dtype} {array.shape}")
    file = io.BytesIO()
    Image.fromarray(flat).save(file, "PNG", compress_level=1)  # a quarter of the default's time
    return file.getvalue()


def plain(value: Any) -> Any:
    """Metadata as JSON has them: numpy's numbers and arrays become Python's, bytes text."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    return value.decode() if isinstance(value, bytes) else value


def local(path: str | os.PathLike[str]) -> Path:
    """The folder, made if need be. Raises ValueError for one in a cloud, where no file can be written to at its end, and for a file."""
    if "://" in str(path):
        raise ValueError(f"{path}: writers write to a local folder; write there, and copy it when the writer has closed")
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{path}: is a file, and should be a folder; choose another one")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def begun(folder: Path, kind: str, *signs: str) -> None:
    """Looks whether a writer of this kind has been here before, which one of the files `signs` tells, or nobody.

    Raises:
        ValueError: the folder holds something else, beside which nobody would find what is written.
    """
    if any((folder / sign).exists() for sign in signs):
        return
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    found = next((file for file in files if not any(part.startswith(".") for part in file.parts)), None)  # hidden: of a killed writer
    if found is not None:
        raise ValueError(f"{folder}: is not empty ({found}), and holds no {kind} data set; choose another folder")


@contextlib.contextmanager
def put(path: Path) -> Iterator[Path]:
    """Yields a path to write to, which takes the place of `path` when the block ends: it is there whole, on disk, or as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    yield part
    synced(part)
    part.replace(path)


def put_json(path: Path, value: Any) -> None:
    """One file of JSON, whole or not at all."""
    with put(path) as part:
        part.write_text(json.dumps(value, indent=1, ensure_ascii=False))


def synced(path: Path) -> None:
    """Waits until a file or folder is on disk, where a loss of power leaves it."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def locked(folder: Path) -> Callable[[], None]:
    """Keeps every other writer out of a folder until the returned function is called or the process ends, however it ends.

    Raises:
        ValueError: another writer is at work there.
    """
    file = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise ValueError(f"{folder}: another writer is at work there; close it first, or write to another folder") from None
    held = [file]

    def free() -> None:
        while held:  # a second call does nothing
            os.close(held.pop())

    return free
