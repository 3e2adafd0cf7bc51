"""Experiments that learn what their files say, from the command line: minutes to an hour each."""

import json
from pathlib import Path

import pytest

from jaxrl.cli.main import main

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
# File, seed, the return that its nominal episodes have to reach on average, and minutes on a busy core.
RUNS = [
    ("dqn_cartpole_v1.py", 10, 475.0, 10),
    ("reinforce_cartpole_v1.py", 0, 475.0, 15),
    ("sac_control_suite.py:cartpole_swingup", 0, 840.0, 60),
    ("drqv2_cartpole_pixels.py", 0, 800.0, 180),
]


@pytest.mark.slow
@pytest.mark.parametrize(("file", "seed", "least"), [pytest.param(*run[:3], marks=pytest.mark.timeout(60 * run[3])) for run in RUNS])
def test_a_policy_learns(file, seed, least, tmp_path):
    chosen = [f"--config.training.seed={seed}", "--config.evaluation.video_seconds=0.1"]
    assert main(["train", "--config", str(EXPERIMENTS / file), "--workdir", str(tmp_path), *chosen]) == 0
    results = json.loads((tmp_path / "evaluation.json").read_text())
    frames = results["env_steps"] / results["train_seconds"]
    print(f"{file}: return {results['nominal']['return']['value']:.1f}, {frames:.1f} steps of the environment per second")
    assert results["nominal"]["return"]["value"] >= least
