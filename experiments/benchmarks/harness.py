"""What the benchmarks share: contestants in processes of their own of which one works at a time, medians, and the JSON line at the end.

A contestant's process runs the same script with `--contestant NAME`. It reads one JSON line per command and answers each with one JSON
line, so that blocks of work alternate between live, warmed-up processes, each under the environment (XLA flags) that suits it.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

Handlers = dict[str, Callable[..., Any]]
LOAD = os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # before anything of ours ran


class Contestant:
    """A live process of this script under `environment`, by another `python` where a peer needs one, asked one command at a time."""

    def __init__(self, arguments: Sequence[str], environment: dict[str, str] | None = None, python: str = sys.executable):
        self.name = " ".join(arguments)
        self._errors = tempfile.TemporaryFile("w+")
        self.launched = time.perf_counter()
        self._process = subprocess.Popen(
            [python, os.path.abspath(sys.argv[0]), "--contestant", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "ignore", **(environment or {})},
        )

    def ask(self, command: str, **arguments: Any) -> Any:
        """The answer to `command`. From then on until it is asked again the process is stopped: what it reads ahead costs others nothing.

        Raises:
            RuntimeError: the process ended instead; the message holds the last lines of what it wrote.
        """
        assert self._process.stdin and self._process.stdout
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._errors.seek(0)
            raise RuntimeError(f"{self.name}: ended at {command!r}:\n" + "".join(self._errors.readlines()[-30:]))
        self._process.send_signal(signal.SIGSTOP)
        return json.loads(line)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()


@contextmanager
def contestants(**started: Callable[[], Contestant]) -> Iterator[dict[str, Contestant]]:
    """Live contestants by name, ended at the end."""
    with ExitStack() as stack:
        live = {}
        for name, start in started.items():
            live[name] = start()
            stack.callback(live[name].close)
        yield live


class Commands:
    """A contestant's side: commands on stdin, answers on what was stdout; everything printed goes to stderr instead."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def receive(self) -> dict[str, Any]:
        """The next command; ends the process where there is none."""
        line = sys.stdin.readline()
        if not line:
            raise SystemExit
        return json.loads(line)

    def answer(self, value: Any) -> None:
        self._answers.write(json.dumps(value) + "\n")
        self._answers.flush()

    def serve(self, handlers: Handlers) -> None:
        """Answers every command with what its handler returns, for ever."""
        while True:
            arguments = self.receive()
            self.answer(handlers[arguments.pop("command")](**arguments))


def alternate(repeats: int, measures: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """`repeats` values of each measure, taken in turns; every other turn in reverse order, so that drift favours nobody."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    for turn in range(repeats):
        order = list(measures) if turn % 2 == 0 else list(measures)[::-1]
        for name in order:
            values[name].append(measures[name]())
    return values


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Seconds until the result of `function` is there, and the result."""
    import jax

    start = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start, result


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median with minimum and maximum."""
    low, middle, high = (f"{v:,.{digits}f}" for v in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})"


def table(rows: Sequence[Sequence[str]]) -> None:
    """Prints rows in aligned columns; the first is the heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for name, *cells in rows:
        aligned = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        print("  ".join((name.ljust(widths[0]), *aligned)), flush=True)


def setup(**settings: Any) -> dict[str, Any]:
    """The machine, the versions that count and the settings of this run."""
    from jaxrl.ops.cores import cores
    from jaxrl.training.provenance import versions

    return {"cores": cores(), "machine": platform.machine(), "load_before": LOAD, **versions("brax"), **settings}


def report(benchmark: str, ratio: float | None, ours: Any, theirs: Any, unit: str, **rest: Any) -> None:
    """The last line of a benchmark's output: one JSON object, figures to four digits. Without a peer `ratio` and `theirs` are None."""
    whole = {"benchmark": benchmark, "ratio": ratio, "ours": ours, "theirs": theirs, "unit": unit, **rest}
    print(json.dumps(_rounded(whole)), flush=True)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    return value


def require_brax() -> None:
    """Ends the script with what to install where brax is missing."""
    import brax_tasks

    try:
        brax_tasks.assets()
    except ModuleNotFoundError as error:
        sys.exit(str(error))


def add_data(made: argparse.ArgumentParser) -> None:
    """The data set that a benchmark of reading reads; by default the small one in the folder of test data."""
    folder = os.environ.get("JAXRL_TEST_DATA")
    default = os.path.join(folder, "bridge_debug", "1.0.0") if folder else None
    made.add_argument("--data", default=default, help="folder of a TFDS builder with images; by default that in JAXRL_TEST_DATA")


def prepared(data: str | None, cache: str) -> None:
    """Makes a cache of a data set's train split, or of all that it has; ends the script where none is named."""
    if data is None:
        sys.exit("--data: name the folder of a TFDS builder, or that of the test data in JAXRL_TEST_DATA")
    from jaxrl_data.cache.prepare import plan, prepare
    from jaxrl_data.open import splits

    prepare(plan(data, "train" if "train" in splits(data) else None), cache)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Arguments every script with contestants takes."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--contestant", nargs="*", default=None, help=argparse.SUPPRESS)
    return made
