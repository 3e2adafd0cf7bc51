"""Files that are put in place whole, on a file system or in a cloud, by workers of which several may do the same work at once."""

import contextlib
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from etils import epath

from jaxrl_data.stored import is_local
from jaxrl_data.writer import synced

_CHUNK = 16 * 2**20  # bytes that are copied at a time


@contextlib.contextmanager
def whole(path: epath.Path, scratch: epath.Path) -> Iterator[IO[bytes]]:
    """Yields a file elsewhere, which takes the place of `path` when the block ends without an error.

    It lies in the folder `scratch`, or on this machine where `path` is in a cloud, whose objects appear when they are whole.
    """
    if not is_local(path):
        with tempfile.TemporaryFile() as file:
            yield file
            file.seek(0)
            with path.open("wb") as out:
                shutil.copyfileobj(file, out, _CHUNK)
        return
    for folder in (scratch, path.parent):
        folder.mkdir(parents=True, exist_ok=True)
    part = Path(scratch) / f".{uuid.uuid4().hex}.part"
    try:
        with part.open("wb") as file:
            yield file
        synced(part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def put(path: epath.Path | Path, data: bytes) -> None:
    """Writes a file; whoever else writes it at the same time, it is there whole or not at all."""
    at = epath.Path(path)
    with whole(at, at.parent) as file:
        file.write(data)


def keep(path: Path, data: bytes) -> None:
    """`put` for what can be made again: where the folder cannot be written to, that is said, and no more."""
    try:
        put(path, data)
    except OSError as error:
        warnings.warn(f"{path}: cannot be kept, so the next run makes it again ({error.strerror or error})", stacklevel=3)


def copy(source: epath.Path, target: epath.Path, scratch: epath.Path) -> None:
    """Between file system and cloud too; `target` is there whole or not at all."""
    with source.open("rb") as file, whole(target, scratch) as out:
        shutil.copyfileobj(file, out, _CHUNK)


def move(source: epath.Path, target: epath.Path, scratch: epath.Path) -> None:
    """Renames a file; one that another worker, or an attempt before this one, has moved there already stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.replace(target)
    except FileNotFoundError:
        if source.exists():  # etils refuses to rename into a folder of a cloud in which there is nothing yet
            copy(source, target, scratch)
            source.unlink()
        elif not target.exists():
            raise
