"""The command that makes the baselines: what it trains, what it skips, and the table."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from jaxrl import config

SCRIPT = Path(__file__).parents[2] / "experiments" / "launchers" / "baselines.py"


@pytest.fixture(scope="module")
def baselines():
    spec = importlib.util.spec_from_file_location("baselines", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_run(folder, value, seconds):
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps({"nominal": {"return": {"value": value}}}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps({"seconds": s}) + "\n" for s in (1.0, seconds)))


def row(text, task):
    return next([cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith(f"| {task} "))


def test_the_table_says_what_is_reproduced_and_what_is_not_yet(tmp_path):
    for seed, value in enumerate((430.0, 400.0, 415.0)):  # published: 432.56, standard error 82.54 / sqrt(10) = 26.1
        write_run(tmp_path / "cheetah_run" / str(seed), value, 360.0)
        write_run(tmp_path / "walker_walk" / str(seed), 300.0, 720.0)
    write_run(tmp_path / "finger_spin" / "1", 900.0, 36.0)
    made = subprocess.run([sys.executable, str(SCRIPT), "--workdir", str(tmp_path), "--table"], capture_output=True, text=True, check=True)
    text = (tmp_path / "table.md").read_text()
    assert text in made.stdout
    assert row(text, "cheetah_run") == ["cheetah_run", "432.6 ± 26.1", "415.0 ± 8.7", "3", "0.30", "reproduced"]
    assert row(text, "walker_walk")[2:] == ["300.0 ± 0.0", "3", "0.60", "below"]
    assert row(text, "finger_spin")[2:] == ["900.0", "1", "0.01", "not yet reproduced"]
    assert row(text, "humanoid_run") == ["humanoid_run", "1.1", "-", "0", "-", "not yet reproduced"]
    assert "0.91 hours" in text


def test_a_run_that_was_cut_goes_on_and_one_that_is_evaluated_is_skipped(tmp_path, baselines):
    folder = tmp_path / "0"
    assert baselines.read(folder) is None and "--resume" not in baselines.command("cheetah_run", 0, folder)
    (folder / "checkpoints" / "10").mkdir(parents=True)
    assert baselines.read(folder) is None and baselines.command("cheetah_run", 0, folder)[-1] == "--resume"
    write_run(tmp_path / "1", 5.0, 7.2)
    assert baselines.read(tmp_path / "1") == (5.0, pytest.approx(0.002))


def test_every_published_task_has_a_config_whose_numbers_fit(baselines):
    suite = pytest.importorskip("jaxrl_envs.tasks.control_suite")
    assert set(baselines.PUBLISHED) <= set(suite.TASKS) and set(baselines.CHOSEN) <= set(baselines.PUBLISHED)
    for task in suite.TASKS:
        loaded = config.load(f"{baselines.CONFIG}:{task}")
        for section, kind in (("env", "task"), ("algorithm", "algorithm"), ("networks", "network"), ("source", "source")):
            config.part(loaded[section], kind, section)


@pytest.mark.parametrize("words", [["--tasks", "cheetah_rum"], ["--what"]])
def test_refuses_what_it_does_not_know(tmp_path, words):
    made = subprocess.run([sys.executable, str(SCRIPT), "--workdir", str(tmp_path), *words], capture_output=True, text=True, check=False)
    assert made.returncode == 2 and ("no returns of cheetah_rum are published" in made.stderr or "unknown argument --what" in made.stderr)
