"""The command that makes the tables of results: what it trains, what it skips, and what it writes."""

import datetime
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from jaxrl import config

SCRIPT = Path(__file__).parents[2] / "experiments" / "launchers" / "tables.py"


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("tables")


def make(*words):
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, words)], capture_output=True, text=True, check=False)


def write_run(folder, value, seconds, updates=10**7):
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps({"nominal": {"return": {"value": value}}}))
    made = ((0, 1.0), (updates, seconds))
    lines = [{"kind": "training", "update": k, "env_steps": k, "seconds": s, "episode/return": value} for k, s in made]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def row(text, task):
    return next([cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith(f"| {task} "))


def test_the_table_says_what_is_reproduced_and_what_is_not_yet(tmp_path):
    runs = tmp_path / "ppo"
    for seed, value in enumerate((430.0, 400.0, 415.0)):  # published: 432.56, standard error 82.54 / sqrt(10) = 26.1
        write_run(runs / "cheetah_run" / str(seed), value, 360.0)
        write_run(runs / "walker_walk" / str(seed), 300.0, 720.0)
    write_run(runs / "finger_spin" / "1", 900.0, 36.0)
    write_run(runs / "finger_spin" / "2", 100.0, 36.0, updates=10)  # of somebody who only tried it out
    made = make("ppo", "--workdir", tmp_path, "--table")
    text, today = (runs / "table.md").read_text(), datetime.date.today().isoformat()
    assert made.returncode == 0 and text in made.stdout
    assert row(text, "cheetah_run") == ["cheetah_run", "432.6 ± 26.1", "415.0 ± 8.7", "3", "0.30", today, "reproduced"]
    assert row(text, "walker_walk")[2:] == ["300.0 ± 0.0", "3", "0.60", today, "below"]
    assert row(text, "finger_spin")[2:] == ["900.0", "1", "0.01", today, "not yet reproduced"]
    assert row(text, "humanoid_run") == ["humanoid_run", "1.1", "-", "0", "-", "-", "not yet reproduced"]
    assert "0.91 hours" in text and "Interquartile mean of 6 runs: 353.8 [" in text
    assert sorted(path.name for path in runs.glob("*.png")) == ["cheetah_run.png", "finger_spin.png", "walker_walk.png"]


def test_what_is_to_be_better_is_not_helped_by_its_spread(tables):
    results = [tables.Result(value, 0.1, "2026-01-01") for value in (860.0, 850.0, 870.0)]  # published: 861 +- 4
    assert tables.verdict(tables.TABLES["sac"], "cartpole_swingup", results) == "reproduced"
    assert tables.verdict(tables.TABLES["simba"], "cartpole_swingup", results) == "below"


def test_a_run_that_was_cut_goes_on_and_one_that_is_evaluated_is_skipped(tmp_path, tables):
    run = tables.Run("cheetah_run", 0, tmp_path / "0")
    assert tables.read(run.folder, 100) is None and "--resume" not in tables.command(tables.TABLES["ppo"], run)
    (run.folder / "checkpoints" / "10").mkdir(parents=True)
    assert tables.read(run.folder, 100) is None and tables.command(tables.TABLES["ppo"], run)[-1] == "--resume"
    write_run(tmp_path / "1", 5.0, 7.2)
    assert tables.read(tmp_path / "1", 100)[:2] == (5.0, pytest.approx(0.002))


def test_runs_side_by_side_and_what_failed(tmp_path, tables, monkeypatch):
    def words(table, run, further):
        marks = [tmp_path / f"{run.task}.began" for run in runs[:2]]
        wait = f"import pathlib, time\nend = time.monotonic() + 20\npathlib.Path({str(tmp_path / run.task)!r} + '.began').touch()\n"
        wait += f"while not all(pathlib.Path(m).exists() for m in {[str(m) for m in marks]}): assert time.monotonic() < end"
        return [sys.executable, "-c", wait if run.task != "bad" else "raise SystemExit(3)"]

    runs = [tables.Run(task, 0, tmp_path / task) for task in ("a", "b", "bad", "c")]
    monkeypatch.setattr(tables, "command", words)
    monkeypatch.setattr(tables.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(tables.os, "sched_setaffinity", lambda *_: None, raising=False)
    failed, interrupted = tables.train(tables.TABLES["ppo"], runs, 2, [])
    assert [run.task for run in failed] == ["bad"] and not interrupted
    assert (tmp_path / "c.began").exists() and (tmp_path / "bad" / "log.txt").exists()


@pytest.mark.parametrize("name", ["ppo", "sac", "simba"])
def test_every_published_task_has_a_config_whose_numbers_fit(tables, name):
    suite = pytest.importorskip("jaxrl_envs.tasks.control_suite")
    table = tables.TABLES[name]
    assert set(table.published) <= set(suite.TASKS) and set(table.chosen) <= set(table.published)
    for task in table.published:
        loaded = config.load(f"{tables.EXPERIMENTS / table.config}:{task}")
        for section, kind in (("env", "task"), ("algorithm", "algorithm"), ("networks", "network"), ("source", "source")):
            config.part(loaded[section], kind, section)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tasks", "cheetah_rum"], "no returns of cheetah_rum are published"),
        (["--what"], "unknown argument --what"),
        (["--jobs", "0"], "--jobs 0: there are"),
    ],
)
def test_refuses_what_it_does_not_know(tmp_path, words, said):
    made = make("ppo", "--workdir", tmp_path, *words)
    assert made.returncode == 2 and said in made.stderr
