"""HDF5 demonstrations: robomimic's layout (data/demo_*/obs/...), and ACT's, one file per episode (observations/..., action).

A folder of files is one data set. Raw images are encoded as PNG; encoded ones lose the zeros that pad them, and stay as they are.
Of a recorder that gave OpenCV images with red first, encoded images show red and blue exchanged; nothing in the file says so.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from jaxrl.ops.suggestion import suggestion
from jaxrl.types import ArraySpec
from jaxrl_data.dataset import Dataset
from jaxrl_data.encode import is_image
from jaxrl_data.episode import BadEpisode, Episode, Features, chosen
from jaxrl_data.importers.columns import as_texts, encoded, features, image_spec, kind, plain, rows_at_a_time
from jaxrl_data.stored import checked, fingerprint, readable, sizes, span

_ENDINGS = (".hdf5", ".h5")
_LEFT_OUT = {"next_obs": "each row repeats the next row of obs"}  # of robomimic
_LENGTHS = "compress_len"  # of ACT: bytes of encoded images before their padding, [cameras, T]
_INSTRUCTION = "language_instruction"  # of LIBERO, for all episodes of a file
_JPEG_END, _PNG_END = b"\xff\xd9", b"IEND\xaeB`\x82"


class _Entry(NamedTuple):
    file: str
    group: str  # of the episode, "" where the file is the episode


class _Told(NamedTuple):
    root: epath.Path
    features: Features
    encoded: tuple[str, ...]  # image columns that are encoded in the file
    instruction: dict[str, str]  # by file


def splits(path: str) -> tuple[str, ...]:
    """robomimic's filter keys, train first, and then all. Raises ValueError where a file is damaged."""
    root, files = _files(path)
    if len(files) != 1:
        return ("all",)
    with _opened(root, files[0]) as file:
        masks = sorted(file["mask"]) if "mask" in file else []
    return (*sorted(masks, key=lambda name: name != "train"), "all")


def read(path: str, split: str) -> Dataset:
    """One split. Of ACT's many files only the first is opened, and read is what the others hold.

    Raises:
        ValueError: a file is damaged, or of another layout.
    """
    root, files = _files(path)
    there = sizes(root, files)
    entries: list[_Entry] = []
    first, refused = None, None
    for file in files:
        try:
            with _opened(root, file) as opened:
                found = _entries(opened, file, split)
                if first is None and found:
                    first = _told(root, opened, found[0])
                if first is not None and "data" in opened:
                    first.instruction.update(_instruction(opened, file))
        except ValueError as error:
            refused = refused or error
            if len(files) == 1:
                raise
            found = [_Entry(file, "")]  # reading it raises, when its turn comes
        entries += found
        if first is not None and not _several(entries):
            entries = [_Entry(one, "") for one in files]
            break
    if first is None:
        raise refused or ValueError(f"{path}: holds no episodes of split {split!r}")
    told = first

    def episodes(first: int, last: int, columns: Iterable[str] | None = None) -> Iterator[Episode]:
        wanted = chosen(told.features, columns)
        for place in span(first, last, len(entries), path):
            yield _episode(told, wanted, entries[place], place)

    name = os.path.basename(os.fspath(path).rstrip("/"))
    bytes_ = there if len(files) > 1 else {"": there[files[0]]}  # a file may be given any name
    mark = fingerprint(split, bytes_, repr(told.features), repr([one.group for one in entries]))
    return Dataset(name, split, told.features, len(entries), episodes, mark)


def _several(entries: Sequence[_Entry]) -> bool:
    """Whether files hold several episodes each, so that every one has to be opened to know them."""
    return any(one.group for one in entries)


def _files(path: str) -> tuple[epath.Path, list[str]]:
    root = epath.Path(path)
    if root.suffix in _ENDINGS:
        return root.parent, [root.name]
    names = sorted((one.name for one in root.iterdir() if one.suffix in _ENDINGS), key=_numbered)
    if not names:
        raise ValueError(f"{path}: holds no file that ends with {' or '.join(_ENDINGS)}")
    return root, names


def _numbered(name: str) -> list[tuple[int, str]]:
    """demo_2 before demo_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _opened(root: epath.Path, file: str) -> Any:
    import h5py

    try:
        return h5py.File(readable(root / file), "r")
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{os.fspath(root / file)}: is damaged or no HDF5 file ({error}); copy or record it anew") from error


def _entries(opened: Any, file: str, split: str) -> list[_Entry]:
    if "data" in opened:
        names = sorted((name for name in opened["data"] if hasattr(opened["data"][name], "keys")), key=_numbered)
        if split != "all":
            masks = opened.get("mask", {})
            if split not in masks:
                raise ValueError(f"{file}: has no split {split!r}; {suggestion(split, (*masks, 'all'))}")
            chosen = set(as_texts(masks[split][:]))
            if lacking := sorted(chosen - set(names)):
                raise ValueError(f"{file}: mask/{split} names {lacking[0]}, which data/ does not hold")
            names = [name for name in names if name in chosen]
        return [_Entry(file, f"data/{name}") for name in names]
    if split != "all":
        raise ValueError(f"{file}: has no split {split!r}; {suggestion(split, ('all',))}")
    if "observations" not in opened or "action" not in opened:
        raise ValueError(
            f"{file}: holds {', '.join(opened) or 'nothing'}, but data/demo_* of robomimic, or observations and action of ACT were expected"
        )
    return [_Entry(file, "")]


def _datasets(group: Any) -> dict[str, Any]:
    """All below a group, by path, but what is left out and what is no row."""
    found = {}

    def visit(name: str, item: Any) -> None:
        if hasattr(item, "dtype") and name.split("/")[0] not in (*_LEFT_OUT, _LENGTHS) and item.ndim:
            found[name] = item

    group.visititems(visit)
    return found


def _told(root: epath.Path, opened: Any, entry: _Entry) -> _Told:
    columns = _datasets(opened[entry.group or "/"])
    coded = tuple(name for name, one in columns.items() if _is_encoded(one))
    told = features(((name, one.shape[1:], one.dtype) for name, one in columns.items() if name not in coded), _rate(opened))
    images = dict(told.images)
    for name in coded:
        images[name] = _decoded_spec(_bytes(columns[name][0]))
    texts = (*told.texts, *((_INSTRUCTION,) if _instruction(opened, entry.file) else ()))
    return _Told(root, Features(told.arrays, images, texts, told.rate), coded, _instruction(opened, entry.file))


def _is_encoded(dataset: Any) -> bool:
    """Rows of bytes that begin as a JPEG or PNG."""
    rows = dataset.ndim == 2 and dataset.dtype == np.uint8
    return bool((rows or dataset.dtype.kind in "OSV") and len(dataset) and dataset.ndim <= 2 and is_image(_bytes(dataset[0])[:8]))


def _bytes(row: Any) -> bytes:
    if isinstance(row, str):
        return row.encode()
    return row if isinstance(row, bytes) else np.asarray(row).tobytes()


def _decoded_spec(image: bytes) -> ArraySpec:
    import cv2

    found = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None:
        raise ValueError("the first image cannot be decoded")
    return image_spec(found.shape if found.ndim == 3 else (*found.shape, 1), found.dtype)


def _attribute(opened: Any, name: str) -> dict[str, Any]:
    try:
        found = json.loads(opened["data"].attrs[name])
    except (KeyError, TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _rate(opened: Any) -> float:
    return float((_attribute(opened, "env_args").get("env_kwargs") or {}).get("control_freq") or 0)


def _instruction(opened: Any, file: str) -> dict[str, str]:
    found = _attribute(opened, "problem_info").get(_INSTRUCTION)
    return {file: found if isinstance(found, str) else " ".join(found)} if found else {}


def _episode(told: _Told, wanted: Features, entry: _Entry, place: int) -> Episode:
    where = f"{os.fspath(told.root / entry.file)}: {entry.group or 'episode'}"
    key = "file"
    episode = Episode("/".join(part for part in (entry.file, entry.group.removeprefix("data/")) if part), {}, {}, {}, {})
    try:
        with _opened(told.root, entry.file) as opened:
            group = opened[entry.group or "/"]
            lengths = np.asarray(group[_LENGTHS][:]) if _LENGTHS in group else None
            found = _datasets(group)
            for key in wanted.names:
                if key == _INSTRUCTION and key not in found:
                    steps = len(next(iter(found.values())))
                    episode.texts[key] = [told.instruction[entry.file]] * steps
                elif key not in found:
                    raise ValueError(f"is missing; there are {', '.join(found)}")
                else:
                    _add(told, episode, key, found[key], lengths)
            episode.metadata.update({name: plain(value) for name, value in group.attrs.items()})
            if left := {name: reason for name, reason in _LEFT_OUT.items() if name in group}:
                episode.metadata["left_out"] = left
            if unknown := [name for name in found if name not in told.features.names]:
                raise ValueError(f"there is also {unknown[0]}, which the first episode does not have")
    except (ValueError, KeyError, OSError, RuntimeError, TypeError) as error:
        raise BadEpisode(place, f"{where}: {key}: {error}") from error
    return checked(place, where, episode, wanted)


def _add(told: _Told, episode: Episode, key: str, dataset: Any, lengths: np.ndarray | None) -> None:
    if key in told.encoded:
        episode.images[key] = _trimmed(dataset, lengths)
    elif key in told.features.images:
        spec = told.features.images[key]
        if dataset.shape[1:] != spec.shape or kind(dataset.shape[1:], dataset.dtype) != "image":
            raise ValueError(f"is {dataset.dtype} {dataset.shape[1:]}, but {spec.shape} in the first episode")
        step = rows_at_a_time(dataset.shape[1:], dataset.dtype)
        blocks = (encoded(dataset[start : start + step], spec) for start in range(0, len(dataset), step))
        episode.images[key] = [one for block in blocks for one in block]
    elif key in told.features.texts:
        episode.texts[key] = as_texts(dataset[:])
    else:
        episode.arrays[key] = dataset[:]


def _trimmed(dataset: Any, lengths: np.ndarray | None) -> list[bytes]:
    """Encoded images without padding: none ends with a zero. Raises ValueError where one is cut, or not as long as the file says."""
    found = [_bytes(row).rstrip(b"\0") for row in dataset[:]]
    for row, image in enumerate(found):
        if not is_image(image) or not image.endswith((_JPEG_END, _PNG_END)):
            raise ValueError(f"row {row} is no whole JPEG or PNG image")
    sizes_ = np.array([len(image) for image in found])
    if lengths is not None and not any(len(one) >= len(sizes_) and (one[: len(sizes_)] == sizes_).all() for one in np.atleast_2d(lengths)):
        raise ValueError(f"has images of {sizes_[0]} and more bytes, which is no row of {_LENGTHS}")
    return found
