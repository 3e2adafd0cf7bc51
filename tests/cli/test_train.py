"""The command line: one clear line for each mistake, whole runs on small numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxrl.cli.main import main

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "experiments" / "ppo_cartpole_swingup.py"
SMALL = [
    "--config.source.num_worlds=8",
    "--config.source.unroll_length=64",
    "--config.source.pool_size=8",
    "--config.training.total_updates=16",
    "--config.training.updates_per_call=8",
    "--config.evaluation.num_episodes=4",
    "--config.evaluation.video_seconds=0.2",
    "--config.networks.actor_hidden=(8,)",
    "--config.networks.critic_hidden=(8,)",
]


def run(*words: object) -> int:
    return main([str(word) for word in words])


def train(workdir: Path, *more: object) -> int:
    return run("train", "--config", CONFIG, "--workdir", workdir, *SMALL, *more)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "cartpole"
    assert train(workdir, "--config.training.evaluate_every=8") == 0
    return workdir


def test_a_run_leaves_everything_a_reader_needs(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"config.json", "checkpoints", "metrics.jsonl", "tensorboard", "evaluation.json", "learning_curve.png"} <= names
    results = json.loads((trained / "evaluation.json").read_text())
    assert {"nominal", "randomised", "standing_baseline", "train_seconds", "env_steps"} <= results.keys()
    assert results["env_steps"] == 16 * 8 * 64
    value = results["nominal"]["return"]
    assert value["low"] <= value["value"] <= value["high"] and value["n"] == 4
    assert json.loads((trained / "config.json").read_text())["source"]["num_worlds"] == 8


def test_evaluations_along_the_way_are_logged(trained):
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    assert [line["update"] for line in evaluations] == [8, 16]
    assert all(0 < line["return"] < 1000 and line["length"] == 1000 for line in evaluations)


def test_evaluation_from_the_checkpoint_alone_gives_the_same_figures(trained, capsys):
    before = json.loads((trained / "evaluation.json").read_text())
    assert run("eval", trained) == 0
    assert json.loads((trained / "evaluation.json").read_text()) == before


def test_info_and_list(trained, capsys):
    assert run("info", trained) == 0
    told = capsys.readouterr().out
    assert "update 16 of 16, 8,192 environment steps" in told and "state/" in told and "mujoco 3." in told
    assert run("list", "--experiments", ROOT / "experiments") == 0
    told = capsys.readouterr().out
    assert "jaxrl.algorithms.ppo" in told and "ppo_go2_flat.py" in told and "jaxrl_envs.tasks.go2_flat" in told


def test_starting_over_a_run_is_refused(trained, capsys):
    assert train(trained) == 1
    assert "holds a run at update 16; go on with --resume, choose another --workdir, or start anew with --force" in capsys.readouterr().err


def test_resuming_with_another_config_is_refused_with_the_difference(trained, capsys):
    assert train(trained, "--resume", "--config.algorithm.gamma=0.5") == 1
    told = capsys.readouterr().err
    assert "config.algorithm.gamma: " in told and "-> 0.5" in told


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("--config.algorithm.learning_rat=1e-3", "config.algorithm.learning_rat: unknown; did you mean learning_rate?"),
        ("--config.algorithm.learning_rate=fast", "config.algorithm.learning_rate: expected float, got"),
        ("--config.env.name=jaxrl_envs.tasks.cartpol", "cartpole"),
        ("--config.source.unroll_length=9", "unroll_length is 9, no multiple of num_minibatches"),
        ("--config.devices=3", "num_worlds is 8, which 3 devices"),
        ("--config.training.total_updates=3", "total_updates is 3, no multiple of updates_per_call, 8"),
    ],
)
def test_mistakes_are_named_before_anything_is_compiled(tmp_path, capsys, override, said):
    assert train(tmp_path / "run", override) == 1
    assert said in capsys.readouterr().err


def test_a_workdir_without_write_permission(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert train(blocked / "run") == 1
    told = capsys.readouterr().err
    assert "cannot write" in told and str(blocked) in told and "Traceback" not in told


def test_there_is_no_run_here(tmp_path, capsys):
    assert run("eval", tmp_path) == 1
    assert "no run here" in capsys.readouterr().err


def test_interrupt_saves_and_says_how_to_go_on(tmp_path):
    """Ctrl-C in a real process; the resumed run ends."""
    workdir = tmp_path / "run"
    words = [sys.executable, "-m", "jaxrl.cli.main", "train", "--config", str(CONFIG), "--workdir", str(workdir), *SMALL]
    words += ["--config.training.total_updates=100000", "--skip-evaluation"]
    environment = os.environ | {"JAXRL_CACHE": str(ROOT / ".cache" / "jax")}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    seen = ""
    for line in process.stdout:
        seen += line
        if line.startswith("update "):
            process.send_signal(2)
            break
    seen += process.communicate(timeout=120)[0]
    assert process.returncode == 130, seen
    assert "go on with: jaxrl train --config" in seen and "--resume" in seen
    assert any((workdir / "checkpoints").iterdir())
