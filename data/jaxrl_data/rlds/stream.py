"""RLDS without TensorFlow in this process: children read, and their episodes come over pipes, one ahead of the reader.

Metadata are read here: of a data set in a cloud with EPATH_USE_TF=false and gcsfs or s3fs, or else etils imports TensorFlow for them.
A child ends when it is closed, and by itself when the process that reads dies: its standard input ends then.
"""

import contextlib
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import Any, BinaryIO, NamedTuple, cast

from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import BadEpisode, Episode, chosen
from jaxrl_data.rlds import reader
from jaxrl_data.rlds.child import answers, end, receive, send, start


class Reading(NamedTuple):
    """Data sets that share children: as many as are read from at once, each of which stays to be asked again."""

    read: Callable[[str, str], Dataset]  # as `jaxrl_data.rlds.reader.read`: only where the episodes are decoded is another process
    close: Callable[[], None]  # ends the children; who still waits for one gets a RuntimeError


def read(path: str, split: str) -> Dataset:
    """As `jaxrl_data.rlds.reader.read`, with a child for each call of `read`."""

    return _elsewhere(path, split, stream)


def _elsewhere(path: str, split: str, ask: Callable[..., Iterator[Episode]]) -> Dataset:
    """A split of which `ask` (path, split, first, last, columns) has the episodes. Raises as `reader.read`."""
    dataset = reader.read(path, split)

    def episodes(first: int, last: int, columns: Iterable[str] | None = None) -> Iterator[Episode]:
        return ask(path, split, first, last, None if columns is None else chosen(dataset.features, columns).names)

    return dataset._replace(read=episodes)


def stream(path: str, split: str, first: int, last: int, columns: Iterable[str] | None = None) -> Iterator[Episode]:
    """Episodes `first` to `last - 1`, with all columns or these. Memory here is one episode, there two.

    Raises:
        BadEpisode, ValueError: as the reader in the child.
        RuntimeError: the child ended before it was through, such as for lack of memory.
    """
    child = start("jaxrl_data.rlds.stream")
    try:
        yield from _ask(child, path, split, first, last, columns)
    finally:
        end(child)


def reading() -> Reading:
    """Children for many calls; the first episode takes as long as TensorFlow's import. Thread-safe."""
    waiting: list[subprocess.Popen[bytes]] = []
    every: set[subprocess.Popen[bytes]] = set()
    lock, closed = threading.Lock(), threading.Event()

    def episodes(path: str, split: str, first: int, last: int, columns: Iterable[str] | None) -> Iterator[Episode]:
        with lock:
            if closed.is_set():
                raise RuntimeError(f"{path}: is read after it was closed")
            child = waiting.pop() if waiting else start("jaxrl_data.rlds.stream")
            every.add(child)
        whole = False
        try:
            yield from _ask(child, path, split, first, last, columns)
            whole = True
        except (BadEpisode, ValueError):  # which end an answer too
            whole = True
            raise
        finally:
            with lock:
                if whole and not closed.is_set():
                    waiting.append(child)
                else:
                    every.discard(child)
                    end(child)

    def read(path: str, split: str) -> Dataset:
        return _elsewhere(path, split, episodes)

    def close() -> None:
        with lock:
            closed.set()
            for child in every:
                child.kill()
            for child in waiting:
                end(child)
            waiting.clear()

    return Reading(read, close)


def _ask(child: subprocess.Popen[bytes], path: str, split: str, first: int, last: int, columns: Iterable[str] | None) -> Iterator[Episode]:
    """One question and its answer; a generator that is left before its end leaves the rest in the pipe."""
    question, output = cast(BinaryIO, child.stdin), cast(BinaryIO, child.stdout)
    with contextlib.suppress(BrokenPipeError):  # told below
        question.write(json.dumps([path, split, first, last, None if columns is None else list(columns)]).encode() + b"\n")
        question.flush()
    place = first
    while (message := receive(output)) is not None:
        if message == b"":
            return
        found = pickle.loads(message)  # of our own child
        if isinstance(found, Exception):
            raise found
        yield found
        place += 1
    raise RuntimeError(f"{path}: the process that reads {split} ended at episode {place} with exit code {child.wait()}; see its output")


def _answer(pipe: BinaryIO, known: dict[tuple[str, str], Dataset], path: str, split: str, *wanted: Any) -> None:
    """Episodes, and an empty message behind the last; or what ended it."""
    try:
        if (path, split) not in known:
            known[path, split] = reader.read(path, split)
        for episode in known[path, split].read(*wanted):
            send(pipe, pickle.dumps(episode, protocol=5))
        send(pipe, b"")
    except BrokenPipeError:
        raise
    except Exception as error:
        told = error if type(error) in (BadEpisode, ValueError) else ValueError(f"{path}: {type(error).__name__}: {error}")
        send(pipe, pickle.dumps(told))


def _questions(into: SimpleQueue) -> None:
    """Ends the process with its parent, whatever it is about."""
    for line in sys.stdin.buffer:
        into.put(json.loads(line))
    os._exit(0)


def main() -> None:
    """The child: writes episodes to what was its standard output; what libraries print goes to the standard error."""
    pipe = answers()
    questions: SimpleQueue = SimpleQueue()
    threading.Thread(target=_questions, args=(questions,), daemon=True).start()
    known: dict[tuple[str, str], Dataset] = {}
    with contextlib.suppress(BrokenPipeError):
        while True:
            _answer(pipe, known, *questions.get())


if __name__ == "__main__":
    main()
