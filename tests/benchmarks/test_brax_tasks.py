"""Our ant and half-cheetah are brax's: same start, observation, reward and termination from the same state."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "experiments" / "benchmarks"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("task", ["ant", "half_cheetah"])
def test_equals_brax(task: str) -> None:
    pytest.importorskip("brax", reason="brax is an optional peer: pip install brax==0.14.2")
    # In a process of its own: MJX needs XLA flags before jax is imported, and brax warns on import.
    command = [sys.executable, str(BENCHMARKS / "ppo_vs_brax.py"), "--check", "--models", task]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=800, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    assert checked.returncode == 0, checked.stdout + checked.stderr
