"""A process of its own for what needs TensorFlow, and messages to it and back over pipes."""

import contextlib
import os
import subprocess
import sys
from typing import BinaryIO

_PIPE = 2**20  # bytes that one side may be ahead, beside what it is about
_HEADER = 8  # bytes, the length of what follows


def start(module: str) -> subprocess.Popen[bytes]:
    """A child that runs the `main` of a module, its standard input and output for messages."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "CUDA_VISIBLE_DEVICES": "",
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
    }
    command = [sys.executable, "-m", module]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, pipesize=_PIPE)


def end(child: subprocess.Popen[bytes]) -> None:
    """Kills it, and waits until it is gone."""
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        with contextlib.suppress(OSError):
            pipe.close()  # type: ignore[union-attr]


def receive(pipe: BinaryIO) -> bytes | None:
    """One message; None where the pipe ended first."""
    header = pipe.read(_HEADER)
    if len(header) < _HEADER:
        return None
    size = int.from_bytes(header, "little")
    message = pipe.read(size)
    return message if len(message) == size else None


def send(pipe: BinaryIO, message: bytes) -> None:
    """One message, which may be empty. Raises BrokenPipeError: who should receive it is gone."""
    pipe.write(len(message).to_bytes(_HEADER, "little"))
    pipe.write(message)
    pipe.flush()


def answers() -> BinaryIO:
    """In the child, where messages go: what was its standard output. What libraries print goes to the standard error from now on."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return pipe
