"""Files that are put in place whole, on a file system or in a cloud, by workers of which several may do the same work at once."""

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from etils import epath

from jaxrl_data.stored import is_local
from jaxrl_data.writer import synced

_CHUNK = 16 * 2**20  # bytes that are copied at a time


@contextlib.contextmanager
def whole(path: epath.Path, scratch: epath.Path) -> Iterator[IO[bytes]]:
    """Yields a file of a name of its own in `scratch`, which takes the place of `path` when the block ends without an error."""
    for folder in (scratch, path.parent):
        folder.mkdir(parents=True, exist_ok=True)
    part = scratch / uuid.uuid4().hex
    try:
        with part.open("wb") as file:
            yield file
        if is_local(part):
            synced(Path(part))
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def copy(source: epath.Path, target: epath.Path, scratch: epath.Path) -> None:
    """Between file system and cloud too; `target` is there whole or not at all."""
    with source.open("rb") as file, whole(target, scratch) as out:
        shutil.copyfileobj(file, out, _CHUNK)


def move(source: epath.Path, target: epath.Path) -> None:
    """Renames a file; one that another worker, or an attempt before this one, has moved there already stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.replace(target)
    except FileNotFoundError:
        if not target.exists():
            raise
