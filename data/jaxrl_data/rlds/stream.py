"""RLDS without TensorFlow in this process: a child reads, and its episodes come over a pipe, one ahead of the reader.

Metadata are read here: of a data set in a cloud with EPATH_USE_TF=false and gcsfs or s3fs, or else etils imports TensorFlow for them.
The child ends when its reader is closed, and by itself when the process that reads dies: its standard input ends then.
"""

import contextlib
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import BinaryIO, cast

from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import BadEpisode, Episode, chosen
from jaxrl_data.rlds import reader

_PIPE = 2**20  # bytes that the child may be ahead, beside the episode that it has read
_HEADER = 8  # bytes, the length of what follows; 0 at the end


def read(path: str, split: str) -> Dataset:
    """As `jaxrl_data.rlds.reader.read`: only where the episodes are decoded is another process."""

    def episodes(first: int, last: int, columns: Iterable[str] | None = None) -> Iterator[Episode]:
        return stream(path, split, first, last, None if columns is None else chosen(dataset.features, columns).names)

    dataset = reader.read(path, split)
    return dataset._replace(read=episodes)


def stream(path: str, split: str, first: int, last: int, columns: Iterable[str] | None = None) -> Iterator[Episode]:
    """Episodes `first` to `last - 1`, with all columns or these. Memory here is one episode, there two.

    Raises:
        BadEpisode, ValueError: as the reader in the child.
        RuntimeError: the child ended before it was through, such as for lack of memory.
    """
    child = _start(path, split, first, last, columns)
    output = cast(BinaryIO, child.stdout)
    place = first
    try:
        while (message := _receive(output)) is not None:
            if message == b"":
                return
            found = pickle.loads(message)  # of our own child
            if isinstance(found, Exception):
                raise found
            yield found
            place += 1
        raise RuntimeError(f"{path}: the process that reads {split} ended at episode {place} with exit code {child.wait()}; see its output")
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]


def _start(path: str, split: str, first: int, last: int, columns: Iterable[str] | None) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "CUDA_VISIBLE_DEVICES": "",
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
    }
    told = json.dumps(None if columns is None else list(columns))
    command = [sys.executable, "-m", "jaxrl_data.rlds.stream", path, split, str(first), str(last), told]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, pipesize=_PIPE)


def _receive(pipe: BinaryIO) -> bytes | None:
    """One message; None where the pipe ended first."""
    header = pipe.read(_HEADER)
    if len(header) < _HEADER:
        return None
    size = int.from_bytes(header, "little")
    message = pipe.read(size)
    return message if len(message) == size else None


def _send(pipe: BinaryIO, message: bytes) -> None:
    pipe.write(len(message).to_bytes(_HEADER, "little"))
    pipe.write(message)
    pipe.flush()


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main(path: str, split: str, first: int, last: int, columns: list[str] | None) -> None:
    """The child: writes episodes to what was its standard output; what libraries print goes to the standard error."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        for episode in reader.read(path, split).read(first, last, columns):
            _send(pipe, pickle.dumps(episode, protocol=5))
        _send(pipe, b"")
    except BrokenPipeError:
        return
    except Exception as error:
        _send(
            pipe, pickle.dumps(error if type(error) in (BadEpisode, ValueError) else ValueError(f"{path}: {type(error).__name__}: {error}"))
        )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), json.loads(sys.argv[5]))
