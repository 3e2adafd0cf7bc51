"""What every reader does with files: their sizes, one fingerprint of them, and the check of an episode that came out of one."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from etils import epath

from jaxrl_data.episode import BadEpisode, Episode, Features, check

_REQUESTS = 16  # at a time, to a cloud


def is_local(root: epath.Path) -> bool:
    """Whether `root` is a path of this machine's file system."""
    return "://" not in os.fspath(root)


def readable(path: epath.Path) -> Any:
    """What libraries that open files themselves are given: the path, or an open file of a cloud."""
    return os.fspath(path) if is_local(path) else path.open("rb")


def sizes(root: epath.Path, names: Iterable[str]) -> dict[str, int]:
    """Bytes of the files `names` below `root`, by name; those that are not there are left out."""

    def size(name: str) -> tuple[str, int]:
        try:
            return name, int((root / name).stat().length)
        except FileNotFoundError:
            return name, -1

    if is_local(root):
        found = [size(name) for name in names]
    else:
        with ThreadPoolExecutor(_REQUESTS) as pool:
            found = list(pool.map(size, names))
    return {name: length for name, length in found if length >= 0}


def listing(root: epath.Path, suffix: str = "") -> dict[str, int]:
    """Bytes of every file below `root` whose name ends with `suffix`, by its path from there, sorted."""
    if not is_local(root):
        where = f"{os.fspath(root).rstrip('/')}/"
        names = [
            os.fspath(folder / name).removeprefix(where) for folder, _, files in root.walk() for name in files if name.endswith(suffix)
        ]
        return dict(sorted(sizes(root, names).items()))
    found = {}
    for folder, _, files in os.walk(root):
        for name in files:
            if name.endswith(suffix):
                path = os.path.join(folder, name)
                found[os.path.relpath(path, root).replace(os.sep, "/")] = os.stat(path).st_size
    return dict(sorted(found.items()))


def fingerprint(*parts: bytes | str | Mapping[str, int]) -> str:
    """A hash of metadata and of the names and sizes of files, in any order."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, Mapping):
            part = "\n".join(f"{name}\t{size}" for name, size in sorted(part.items()))
        data = part.encode() if isinstance(part, str) else part
        found.update(len(data).to_bytes(8, "little"))
        found.update(data)
    return found.hexdigest()[:32]


def checked(place: int, file: str, episode: Episode, features: Features) -> Episode:
    """The episode, if it is as `features` tell. Raises BadEpisode that names file, episode and column."""
    try:
        check(episode, features)
    except ValueError as error:
        raise BadEpisode(place, f"{file}: {error}") from error
    return episode


def span(first: int, last: int, size: int, name: str) -> range:
    """Of a call of `read`. Raises ValueError where it reaches out of the data set."""
    if not 0 <= first <= last <= size:
        raise ValueError(f"{name}: episodes {first} to {last} were asked for, but there are 0 to {size}")
    return range(first, last)
