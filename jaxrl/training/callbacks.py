"""What takes the reports of a run: a progress display, JSON lines, TensorBoard, wandb.

Each is a pair of functions. A fault while writing is raised as one line that names the file and the reason.
"""

import contextlib
import importlib
import json
import math
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl.files import written_whole

RETURN = "episode/return"


class Report(NamedTuple):
    """One look at a run. `seconds` counts training only, that of earlier parts of a resumed run included."""

    update: int
    total_updates: int
    env_steps: int
    total_env_steps: int
    seconds: float
    metrics: dict[str, float]
    kind: str = "training"  # or "evaluation"


class Callback(NamedTuple):
    """Takes reports until it is closed."""

    write: Callable[[Report], None]
    close: Callable[[], None]


def several(*callbacks: Callback) -> Callback:
    """All of them in order. Each is closed, even where closing another fails."""

    def write(report: Report) -> None:
        for callback in callbacks:
            callback.write(report)

    def close() -> None:
        with contextlib.ExitStack() as stack:
            for callback in reversed(callbacks):
                stack.callback(callback.close)

    return Callback(write, close)


@contextlib.contextmanager
def _one_line(action: str, path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{action} {path}: {error.strerror or error}") from error


class _Rate(NamedTuple):
    """Speed over the last reports, smoothed; per second of training."""

    update: int = 0
    env_steps: int = 0
    seconds: float = 0.0
    updates_per_second: float = 0.0
    steps_per_second: float = 0.0


def _faster(rate: _Rate, report: Report) -> _Rate:
    """`rate` with one more report."""
    elapsed = report.seconds - rate.seconds
    if elapsed <= 0:
        return rate
    updates, steps = (report.update - rate.update) / elapsed, (report.env_steps - rate.env_steps) / elapsed
    if rate.updates_per_second:
        updates, steps = 0.7 * rate.updates_per_second + 0.3 * updates, 0.7 * rate.steps_per_second + 0.3 * steps
    return _Rate(report.update, report.env_steps, report.seconds, updates, steps)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _short(number: float) -> str:
    """1234567 -> 1.23M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def _figures(report: Report, rate: _Rate, shown: tuple[str, ...]) -> dict[str, str]:
    """What the display says beside its bar."""
    left = (report.total_updates - report.update) / rate.updates_per_second if rate.updates_per_second else math.nan
    speed = f"{_short(rate.steps_per_second)} steps/s" if report.total_env_steps else f"{_short(rate.updates_per_second)} updates/s"
    steps = f"{_short(report.env_steps)}/{_short(report.total_env_steps)} steps" if report.total_env_steps else ""
    known = [name for name in shown if not math.isnan(report.metrics.get(name, math.nan))]
    values = [f"{name.rpartition('/')[2]} {report.metrics[name]:.4g}" for name in known]
    return {
        "steps": steps,
        "speed": speed,
        "values": "  ".join(values),
        "time": f"{_clock(report.seconds)}, {_clock(left) if math.isfinite(left) else '?'} left",
    }


def _evaluation_line(report: Report) -> str:
    values = (f"{name.removeprefix('episode/')} {value:.4g}" for name, value in sorted(report.metrics.items()) if "/seed_" not in name)
    return f"evaluation at {_clock(report.seconds)}  {'  '.join(values)}"


def console(shown: tuple[str, ...] = (RETURN,), every: float = 5.0, stream: Any = None) -> Callback:
    """Progress, speed, the metrics in `shown` and time left: a live line on a terminal, else a plain line every `every` seconds."""
    from rich.console import Console

    screen = Console(file=stream or sys.stdout)
    return _live(screen, shown) if screen.is_terminal else _plain_lines(screen.file, shown, every)


def _live(screen: Any, shown: tuple[str, ...]) -> Callback:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    texts = [
        TextColumn(f"{{task.fields[{name}]}}", style=style)
        for name, style in (("steps", "dim"), ("speed", "cyan"), ("values", "bold green"), ("time", "dim"))
    ]
    # Twice a second: drawing takes time from the cores that train.
    progress = Progress(BarColumn(16), TaskProgressColumn(), *texts, console=screen, refresh_per_second=2)
    task = progress.add_task("", total=None, steps="", speed="", values="", time="")
    progress.start()
    rate = _Rate()

    def write(report: Report) -> None:
        nonlocal rate
        if report.kind != "training":
            progress.console.print(_evaluation_line(report), highlight=False)
            return
        rate = _faster(rate, report)
        figures: dict[str, Any] = dict(_figures(report, rate, shown))
        progress.update(task, total=report.total_updates, completed=report.update, **figures)

    return Callback(write, progress.stop)


def _plain_lines(stream: Any, shown: tuple[str, ...], every: float) -> Callback:
    rate, printed, waiting = _Rate(), -math.inf, ""

    def say(line: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # whoever read along has left; the run goes on
            print(line, file=stream, flush=True)

    def write(report: Report) -> None:
        nonlocal rate, printed, waiting
        if report.kind != "training":
            say(_evaluation_line(report))
            return
        rate = _faster(rate, report)
        figures = [text for text in _figures(report, rate, shown).values() if text]
        waiting = f"update {report.update} of {report.total_updates}  {'  '.join(figures)}"
        now = time.monotonic()
        if now - printed >= every:
            say(waiting)
            printed, waiting = now, ""

    def close() -> None:
        if waiting:  # the last state of the run is always told
            say(waiting)

    return Callback(write, close)


def record(report: Report) -> dict[str, Any]:
    """A report as one flat JSON object; a number that JSON does not have becomes None."""
    fields = {"kind": report.kind, "update": report.update, "env_steps": report.env_steps, "seconds": round(report.seconds, 3)}
    return {name: value if math.isfinite(value) else None for name, value in report.metrics.items()} | fields


def _keep_until(path: Path, update: int) -> None:
    """Cuts a file of JSON lines back to those up to `update`; a line that was cut off in the middle goes too."""
    kept = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if json.loads(line)["update"] <= update:
                kept.append(line + "\n")
    with written_whole(path) as part:
        part.write_text("".join(kept))


def _goes_back(report: Report, last: int) -> bool:
    """Whether a run that had reported update `last` was rolled back to before it."""
    return report.kind == "training" and report.update <= last


def jsonl(path: str | os.PathLike[str], resumed_at: int | None = None) -> Callback:
    """One JSON object per report and line, on disk as soon as it is written.

    A run that resumes at update `resumed_at` goes on after that update's line; None starts anew. No update stands there twice, also where
    a run was rolled back.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    with _one_line("cannot write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if resumed_at is not None and path.exists():
            _keep_until(path, resumed_at)
        file = path.open("w" if resumed_at is None else "a")
    last = -1

    def write(report: Report) -> None:
        nonlocal file, last
        line = json.dumps(record(report), allow_nan=False)
        with _one_line("cannot write", path):
            if _goes_back(report, last):
                file.close()
                _keep_until(path, report.update - 1)
                file = path.open("a")
            file.write(line + "\n")
            file.flush()
        last = report.update

    return Callback(write, _closing(lambda: file.close(), path))


def _closing(close: Callable[[], object], path: Path) -> Callable[[], None]:
    def closed() -> None:
        with _one_line("cannot close", path):
            close()

    return closed


def tensorboard(directory: str | os.PathLike[str], resumed_at: int | None = None) -> Callback:
    """Event files for TensorBoard, over environment steps (updates where the run has none); evaluations under `evaluation/`.

    TensorBoard hides what a run that was resumed at update `resumed_at`, or rolled back, has written of the same steps before.

    Raises:
        OSError: the files cannot be written.
    """
    # Not its SummaryWriter, whose thread dies on a full disk, and whose queue then blocks training for ever.
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.record_writer import RecordWriter

    directory = Path(directory)
    with _one_line("cannot write TensorBoard files to", directory):
        directory.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}.{resumed_at or 0}"
        writer = RecordWriter(str(directory / name))
        writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
    announce, flushed, last = resumed_at is not None, -math.inf, -1

    def write(report: Report) -> None:
        nonlocal announce, flushed, last
        step = report.env_steps if report.total_env_steps else report.update
        prefix = "" if report.kind == "training" else f"{report.kind}/"
        values = [Summary.Value(tag=prefix + name, simple_value=value) for name, value in report.metrics.items() if math.isfinite(value)]
        with _one_line("cannot write TensorBoard files to", directory):
            if announce or _goes_back(report, last):
                start = Event(wall_time=time.time(), step=step, session_log=SessionLog(status=SessionLog.START))
                writer.write(start.SerializeToString())
                announce = False
            writer.write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)).SerializeToString())
            if time.monotonic() - flushed > 10.0:  # its flush waits for the disk
                writer.flush()
                flushed = time.monotonic()
        last = report.update

    return Callback(write, _closing(writer.close, directory))


def wandb(project: str, config: Mapping[str, Any], directory: str | os.PathLike[str] | None = None, name: str | None = None) -> Callback:
    """Weights & Biases. A run of the same `name` goes on where it was.

    Raises:
        ImportError: the package wandb is not installed.
    """
    try:
        tracker = importlib.import_module("wandb")
    except ImportError as error:
        raise ImportError('wandb is not installed: pip install "jaxrl[wandb]", or do not ask for it', name="wandb") from error
    run = tracker.init(project=project, config=dict(config), dir=directory, name=name, id=name, resume="allow" if name else None)

    def write(report: Report) -> None:
        prefix = "" if report.kind == "training" else f"{report.kind}/"
        values = {prefix + key: value for key, value in report.metrics.items() if math.isfinite(value)}
        run.log(values | {"env_steps": report.env_steps, "minutes": report.seconds / 60}, step=report.update)

    return Callback(write, run.finish)
