"""Reports arrive whole, once, and a fault on the way is one line."""

import io
import json
import math
import re
import struct
import sys
import types
from pathlib import Path
from typing import Any

import jax
import pytest

from jaxrl.training.callbacks import Callback, Report, console, jsonl, several, tensorboard, wandb
from jaxrl.training.compilation_cache import enable_compilation_cache


def _report(update: int, kind: str = "training", **metrics: float) -> Report:
    values = {name.replace("__", "/"): value for name, value in metrics.items()}
    return Report(update, 100, update * 1000, 100_000, update * 0.5, values, kind)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]


def test_several_write_in_order_and_all_close():
    calls: list[str] = []

    def failing() -> None:
        calls.append("close a")
        raise OSError("a")

    first = Callback(lambda report: calls.append(f"a {report.update}"), failing)
    second = Callback(lambda report: calls.append(f"b {report.update}"), lambda: calls.append("close b"))
    both = several(first, second)
    both.write(_report(1))
    with pytest.raises(OSError, match="a"):
        both.close()
    assert calls == ["a 1", "b 1", "close a", "close b"]


def test_json_lines_are_on_disk_at_once_and_hold_no_nan(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    callback = jsonl(path)
    callback.write(_report(1, episode__return=math.nan, loss=0.25))
    callback.write(_report(1, "evaluation", episode__return=math.inf))
    assert _lines(path) == [
        {"episode/return": None, "loss": 0.25, "kind": "training", "update": 1, "env_steps": 1000, "seconds": 0.5},
        {"episode/return": None, "kind": "evaluation", "update": 1, "env_steps": 1000, "seconds": 0.5},
    ]
    callback.close()


def test_a_resumed_run_writes_no_line_twice(tmp_path):
    path = tmp_path / "metrics.jsonl"
    callback = jsonl(path)
    for update in (1, 2, 3, 4):
        callback.write(_report(update, loss=float(update)))
    callback.close()
    with path.open("a") as file:
        file.write('{"update": 5, "lo')  # killed while writing
    callback = jsonl(path, resumed_at=2)
    for update in (3, 4):
        callback.write(_report(update, loss=-float(update)))
    callback.close()
    assert [(line["update"], line["loss"]) for line in _lines(path)] == [(1, 1), (2, 2), (3, -3), (4, -4)]
    jsonl(path).close()
    assert path.read_text() == ""  # a new run starts anew
    jsonl(tmp_path / "new.jsonl", resumed_at=2).close()  # what was never written cannot be cut


def test_a_run_that_is_rolled_back_writes_no_line_twice(tmp_path):
    lines, events = jsonl(tmp_path / "metrics.jsonl"), tensorboard(tmp_path)
    both = several(lines, events)
    for update, loss in ((1, 1.0), (2, 2.0), (3, 3.0), (2, -2.0), (3, -3.0)):
        both.write(_report(update, loss=loss))
        both.write(_report(update, "evaluation", loss=loss))
    both.close()
    expected = [(update, loss) for update, loss in ((1, 1), (2, -2), (3, -3)) for _ in range(2)]
    assert [(line["update"], line["loss"]) for line in _lines(tmp_path / "metrics.jsonl")] == expected
    assert [event.step for event in _events(tmp_path) if event.HasField("session_log")] == [2000]


def test_json_lines_name_the_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=f"cannot write {tmp_path / 'file' / 'a' / 'metrics.jsonl'}: Not a directory"):
        jsonl(tmp_path / "file" / "a" / "metrics.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_one_line():
    callback = jsonl("/dev/full")
    with pytest.raises(OSError, match="cannot write /dev/full: No space left on device") as fault:
        callback.write(_report(1))
    assert "\n" not in str(fault.value)
    with pytest.raises(OSError, match="cannot close /dev/full: No space left on device"):
        callback.close()


def _events(directory: Path) -> list[Any]:
    from tensorboardX.proto.event_pb2 import Event

    events = []
    for path in sorted(directory.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns):
        data = path.read_bytes()
        while data:  # length, its checksum, payload, its checksum
            (length,) = struct.unpack_from("<Q", data)
            events.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return events


def _scalars(directory: Path) -> list[tuple[int, dict[str, float]]]:
    return [(e.step, {v.tag: v.simple_value for v in e.summary.value}) for e in _events(directory) if e.HasField("summary")]


def test_tensorboard_files_hold_every_finite_metric(tmp_path):
    callback = tensorboard(tmp_path)
    callback.write(_report(1, episode__return=math.nan, loss=0.25))
    assert _scalars(tmp_path) == [(1000, {"loss": 0.25})]  # before it is closed
    callback.write(_report(2, "evaluation", episode__return=3.0))
    callback.close()
    assert _scalars(tmp_path)[1:] == [(2000, {"evaluation/episode/return": 3.0})]
    callback = tensorboard(tmp_path, resumed_at=1)
    callback.write(_report(2, loss=0.5))
    callback.close()
    restarts = [event for event in _events(tmp_path) if event.HasField("session_log")]
    assert [(event.step, event.session_log.status) for event in restarts] == [(2000, 1)]  # START: hides the earlier 2000
    assert _scalars(tmp_path)[-1] == (2000, {"loss": 0.5})


def test_tensorboard_counts_updates_where_there_are_no_steps(tmp_path):
    callback = tensorboard(tmp_path)
    callback.write(Report(7, 10, 0, 0, 1.0, {"loss": 1.0}))
    callback.close()
    assert _scalars(tmp_path) == [(7, {"loss": 1.0})]


def test_tensorboard_names_the_directory_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=f"cannot write TensorBoard files to {tmp_path / 'file' / 'x'}: Not a directory"):
        tensorboard(tmp_path / "file" / "x")
    if Path("/dev/full").exists():
        monkeypatch.setattr("tensorboardX.record_writer.open_file", lambda path: open("/dev/full", "wb"))
        callback = tensorboard(tmp_path)
        with pytest.raises(OSError, match=f"cannot write TensorBoard files to {tmp_path}: No space left"):
            callback.write(_report(1, loss=1.0))
        with pytest.raises(OSError, match="cannot close"):
            callback.close()


def test_wandb_takes_finite_metrics_and_says_how_to_install_it(monkeypatch):
    calls: list[Any] = []
    run = types.SimpleNamespace(log=lambda values, step: calls.append((step, values)), finish=lambda: calls.append("finish"))
    package = types.SimpleNamespace(init=lambda **arguments: calls.append(arguments) or run)
    monkeypatch.setitem(sys.modules, "wandb", package)
    callback = wandb("walk", {"seed": 1}, directory="runs", name="first")
    callback.write(_report(3, loss=1.0, episode__return=math.nan))
    callback.write(_report(3, "evaluation", loss=2.0))
    callback.close()
    assert calls == [
        {"project": "walk", "config": {"seed": 1}, "dir": "runs", "name": "first", "id": "first", "resume": "allow"},
        (3, {"loss": 1.0, "env_steps": 3000, "minutes": 0.025}),
        (3, {"evaluation/loss": 2.0, "env_steps": 3000, "minutes": 0.025}),
        "finish",
    ]
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=re.escape('pip install "jaxrl[wandb]"')):
        wandb("walk", {})


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_where_there_is_no_terminal():
    stream = io.StringIO()
    callback = console(every=0.0, stream=stream)
    callback.write(_report(0, episode__return=math.nan))
    callback.write(_report(10, episode__return=12.3456))
    callback.write(_report(10, "evaluation", episode__return=13.0, episode__fall_rate=0.02))
    callback.close()
    first, second, third = stream.getvalue().splitlines()
    assert "return" not in first
    assert second == "update 10 of 100  10k/100k steps  2k steps/s  return 12.35  0:05, 0:45 left"
    assert third == "evaluation at 0:05  fall_rate 0.02  return 13"
    assert "\x1b" not in stream.getvalue()


def test_plain_lines_are_few_but_the_last_one_is_told():
    stream = io.StringIO()
    callback = console(every=3600.0, stream=stream)
    for update in range(1, 6):
        callback.write(_report(update, episode__return=1.0))
    callback.close()
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["1", "5"]


def test_speed_of_a_run_without_environment():
    stream = io.StringIO()
    callback = console(shown=("loss",), every=0.0, stream=stream)
    callback.write(Report(4, 8, 0, 0, 2.0, {"loss": 0.5}))
    callback.close()
    assert stream.getvalue() == "update 4 of 8  2 updates/s  loss 0.5  0:02, 0:02 left\n"


def test_live_display_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    stream = _Terminal()
    callback = console(stream=stream)
    for update in (10, 20):
        callback.write(_report(update, episode__return=12.3456))
    callback.write(_report(20, "evaluation", episode__return=13.0))
    callback.close()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    for part in ("20%", "20k/100k steps", "2k steps/s", "return 12.35", "0:40 left", "evaluation at 0:10  return 13"):
        assert part in text


@pytest.fixture
def cache_setting(monkeypatch):
    """The settings of JAX's cache, put back afterwards."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield monkeypatch
    for name, value in before.items():
        jax.config.update(name, value)


def test_compilation_cache_is_on_unless_refused(cache_setting, tmp_path):
    cache_setting.setenv("JAXRL_CACHE", "")
    assert enable_compilation_cache() is None
    assert jax.config.jax_compilation_cache_dir is None
    cache_setting.setenv("JAXRL_CACHE", str(tmp_path / "mine"))
    assert enable_compilation_cache() == tmp_path / "mine"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.3
    cache_setting.setenv("JAXRL_CACHE", str(tmp_path / "other"))
    assert enable_compilation_cache() == tmp_path / "mine"  # what JAX was told stays


def test_compilation_cache_is_in_the_home_by_default(cache_setting, tmp_path):
    cache_setting.delenv("JAXRL_CACHE", raising=False)
    cache_setting.setenv("HOME", str(tmp_path))
    assert enable_compilation_cache() == tmp_path / ".cache" / "jaxrl" / "xla"


def test_without_a_place_for_the_cache_training_goes_on(cache_setting, tmp_path):
    (tmp_path / "file").touch()
    cache_setting.setenv("JAXRL_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="no compilation cache: cannot write to .*Not a directory"):
        assert enable_compilation_cache() is None
