"""kill -9 at several moments of a run, some of them inside a save: nothing is lost but time."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxrl.training.checkpoint import open_checkpoints
from tests.training import killed_run

ROOT = Path(__file__).parents[2]


def launch(workdir: Path) -> subprocess.Popen:
    environment = os.environ | {"JAXRL_CACHE": str(ROOT / ".cache" / "jax"), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "tests.training.killed_run", str(workdir)]
    return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def unfinished(workdir: Path) -> bool:
    """Whether a save has begun that has not ended; what is merely being deleted does not count."""
    return any((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


def kill(workdir: Path, moment: int) -> bool:
    """Kills a run some updates after it began, at odd moments inside a save; whether it fell into one."""
    process = launch(workdir)
    lines = (line for line in process.stdout if line.strip().isdigit())
    for _ in range(1 + moment % 3):
        assert next(lines, None) is not None, "the run ended by itself: it is too short for this test"
    deadline = time.monotonic() + 30
    while moment % 2 and not unfinished(workdir) and time.monotonic() < deadline:
        pass
    process.kill()
    process.wait()
    process.stdout.close()
    return unfinished(workdir)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("kills", "least"), [(3, 1), pytest.param(10, 4, marks=pytest.mark.slow)])
def test_killed_runs_end_like_the_one_that_was_left_alone(kills, least, tmp_path):
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    process = launch(alone)
    process.communicate()
    assert process.returncode == 0
    inside, resumed = 0, []
    for moment in range(kills):
        inside += kill(killed, moment)
        checkpoints = open_checkpoints(killed / "checkpoints", read_only=True)
        resumed.append(checkpoints.latest() or 0)
        checkpoints.close()
    assert inside >= least, f"only {inside} of {kills} kills fell into a save"
    assert resumed == sorted(resumed) and 0 < resumed[-1] < killed_run.UPDATES, resumed
    process = launch(killed)
    process.communicate()
    assert process.returncode == 0
    with np.load(alone / "final.npz") as expected, np.load(killed / "final.npz") as found:
        assert expected.files == found.files
        for name in expected.files:
            np.testing.assert_array_equal(expected[name], found[name], err_msg=name)
