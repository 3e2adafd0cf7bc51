"""Recordings of `jaxrl eval --record` as a data set, so that they can be converted and trained on like any other.

The file is an .npz with one row per step, the episodes one after the other: `observation/<name>` [N, ...], `action` [N, A], `reward` [N];
`episode_ends` [E], the row after the last of each; and `spec`, the JSON of the policy's spec. Newer ones tell of each episode how it ended:
`final_observation/<name>` [E, ...], what followed the last action, and `terminated` [E], whether it ended by itself. Both become metadata.
An observation of uint8 [height, width, 1 or 3 channels] becomes an image, as PNG.
"""

import base64
import hashlib
import json
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from jaxrl.types import ArraySpec, PolicySpec
from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import Episode, Features, chosen
from jaxrl_data.stored import checked
from jaxrl_data.writer import encoded, plain

PREFIX, FINAL = "observation/", "final_observation/"


def splits(path: str) -> tuple[str, ...]:
    """A recording has one."""
    return ("all",)


def read(path: str, split: str) -> Dataset:
    """The episodes of one file. Rows are read with the first episode that is asked for, and held while episodes are drawn.

    Raises:
        ValueError: the file is damaged or no recording.
    """
    if split != "all":
        raise ValueError(f"{path}: has no split {split!r}; there is all")
    small, fingerprint = _open(path)
    features, ends = _features(path, str(small["spec"])), small["episode_ends"]
    if ends.ndim != 1 or ends.size == 0 or (np.diff(ends, prepend=0) <= 0).any():
        raise ValueError(f"{path}: episode_ends must ascend from above 0, one entry per episode, got {ends[:10]}; record it again")

    def episodes(first: int, last: int, columns: Iterable[str] | None = None) -> Iterator[Episode]:
        wanted = chosen(features, columns)
        if not 0 <= first <= last <= len(ends):
            raise ValueError(f"{path}: has the episodes 0 to {len(ends) - 1}, but {first} to {last - 1} were asked for")
        arrays = _load(path, without={*features.names} - {*wanted.names})
        for place in range(first, last):
            yield _episode(path, arrays, wanted, ends, place)

    return Dataset(epath.Path(path).stem, "all", features, len(ends), episodes, fingerprint)


def _open(path: str) -> tuple[dict[str, np.ndarray], str]:
    """What tells of the rows, and a hash of all that is stored: the checksums of the entries."""
    try:
        with epath.Path(path).open("rb") as whole, zipfile.ZipFile(whole) as archive:
            told = sorted((one.filename, one.file_size, one.CRC) for one in archive.infolist())
        small = _load(path, ("spec", "episode_ends"))
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: is no whole .npz file ({error}); record it again") from error
    return small, hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _load(path: str, names: tuple[str, ...] = (), without: Collection[str] = ()) -> dict[str, np.ndarray]:
    try:
        with epath.Path(path).open("rb") as whole, np.load(whole, allow_pickle=False) as file:
            if missing := {*names} - {*file.files}:
                found = ", ".join(sorted(file.files)) or "nothing"
                raise ValueError(f"lacks {', '.join(sorted(missing))}; it holds {found}, and `jaxrl eval --record` writes more")
            return {name: file[name] for name in names or file.files if name not in without}
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: is no whole recording: {error}") from error


def _features(path: str, spec: str) -> Features:
    try:
        told = json.loads(spec)
        observation = {name: _spec(fields) for name, fields in told["observation"].items()}
        return columns(PolicySpec(observation, _spec(told["action"]), rate=float(told["rate"])))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: its spec is none of a policy ({type(error).__name__}: {error}); record it again") from error


def columns(spec: PolicySpec, texts: tuple[str, ...] = ()) -> Features:
    """Of episodes of such a policy."""
    found = {f"{PREFIX}{name}": part for name, part in spec.observation.items()} | {"action": spec.action, "reward": ArraySpec(())}
    images = {name: part for name, part in found.items() if name.startswith(PREFIX) and _is_image(part)}
    return Features({name: part for name, part in found.items() if name not in images}, images, texts, spec.rate)


def _spec(fields: dict[str, Any]) -> ArraySpec:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return ArraySpec(**values)


def _is_image(spec: ArraySpec) -> bool:
    return spec.dtype == "uint8" and len(spec.shape) == 3 and spec.shape[2] in (1, 3)


def _episode(path: str, arrays: dict[str, np.ndarray], features: Features, ends: np.ndarray, place: int) -> Episode:
    first, last = int(ends[place - 1]) if place else 0, int(ends[place])
    rows = {name: array[first:last] for name, array in arrays.items() if name in features.names}
    told = {name: array[place : place + 1] for name, array in arrays.items() if name == "terminated" or name.startswith(FINAL)}
    return made(place, path, f"{epath.Path(path).stem}/{place}", rows | told, features)


def made(place: int, where: str, name: str, arrays: Mapping[str, np.ndarray], features: Features, instruction: str = "") -> Episode:
    """The episode of that place in its data set, out of the arrays of a recording of it alone; all texts are `instruction`.

    Raises:
        BadEpisode: the arrays do not fit the features; the message begins with `where`.
    """
    rows: dict[str, Any] = {column: array for column, array in arrays.items() if column in features.names}
    metadata: dict[str, Any] = {}
    if "terminated" in arrays:
        metadata = {"terminated": bool(arrays["terminated"][0]), "final_observation": {}}
        for column, array in arrays.items():
            if column.startswith(FINAL):
                image = column.removeprefix("final_") in features.images
                final = base64.b64encode(encoded(array[0])).decode() if image else plain(array[0])
                metadata["final_observation"][column.removeprefix(FINAL)] = final
    images: dict[str, Sequence[bytes]] = {
        column: [encoded(image) for image in rows.pop(column)] for column in features.images if column in rows
    }
    texts: dict[str, Sequence[str]] = {column: [instruction] * len(arrays["reward"]) for column in features.texts}
    return checked(place, where, Episode(name, rows, images, texts, metadata), features)
