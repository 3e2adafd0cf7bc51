"""RLDS written without TensorFlow in this process: a child writes the episodes that come over a pipe.

TensorFlow and the OpenGL of a simulator's cameras do not bear each other in one process (both bring an LLVM), and where JAX trains it is
not wanted. When the process that plays dies, the child's input ends: it writes the episode that it has, and closes the data set.
"""

import contextlib
import pickle
import signal
import sys
from typing import Any, BinaryIO, cast

from jaxrl_data.episode import BadEpisode, Episode, Features
from jaxrl_data.rlds.child import answers, end, receive, send, start
from jaxrl_data.rlds.writer import rlds_writer
from jaxrl_data.writer import Writer, streamed

_TOLD = (BadEpisode, ValueError, OSError)  # exceptions that come out as they are


def rlds_writer_apart(path: str, name: str, features: Features, **options: Any) -> Writer:
    """As `rlds_writer`, with a child; an episode is safe when `add` or `end` returns.

    Raises:
        ValueError, OSError: as the writer in the child.
        RuntimeError: the child ended before it was closed, such as for lack of memory.
    """
    child = start("jaxrl_data.rlds.writer_apart")
    question, answer = cast(BinaryIO, child.stdin), cast(BinaryIO, child.stdout)

    def ask(what: str, *given: Any) -> int:
        """-> episodes in the folder."""
        try:
            send(question, pickle.dumps((what, given), protocol=5))
            message = receive(answer)
        except BrokenPipeError:
            message = None
        if message is None:
            raise RuntimeError(f"{path}: the process that writes ended with exit code {child.wait()}; see its output")
        found = pickle.loads(message)  # of our own child
        if isinstance(found, Exception):
            raise found
        return int(found)

    try:
        size = [ask("open", path, name, features, options)]
    except BaseException:
        end(child)
        raise

    def add(episode: Episode) -> None:
        size[0] = ask("add", episode)

    def close() -> None:
        if child.poll() is None:
            try:
                ask("close")
            finally:
                end(child)

    return streamed(features, lambda: size[0], add, close)


def main() -> None:
    """The child: answers every message with the number of episodes, or with what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the other process that is interrupted, and then closes this one
    pipe, questions = answers(), sys.stdin.buffer
    writer: Writer | None = None
    while (message := receive(questions)) is not None:
        what, given = pickle.loads(message)
        try:
            if what == "open":
                path, name, features, options = given
                writer = rlds_writer(path, name, features, **options)
            elif writer is not None and what == "add":
                writer.add(*given)
            elif writer is not None:
                writer.close()
            found: Any = writer.size() if writer is not None else 0
        except _TOLD as error:
            found = error
        with contextlib.suppress(BrokenPipeError):  # who asked is dead: nothing else comes
            send(pipe, pickle.dumps(found))
    if writer is not None:
        writer.close()


if __name__ == "__main__":
    main()
