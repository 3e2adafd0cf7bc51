"""A run becomes a folder that acts as it does."""

from pathlib import Path

import jax
import numpy as np
import pytest

from jaxrl.cli import export
from jaxrl.cli import run as runs
from jaxrl.cli.main import main
from jaxrl.deploy import artifact
from jaxrl.replay.recording import Recording, save
from jaxrl.types import ArraySpec, PolicySpec

EXPERIMENT = """
from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.data = ConfigDict({"path": "episodes.npz"})
    config.source = ConfigDict({"name": "jaxrl.replay.memory", "batch_size": 4, "horizon": 3})
    network = {"name": "jaxrl.networks.state_mlp", "hidden": (8,)}
    config.objectives = ConfigDict({"bc": {"name": "jaxrl.objectives.bc", "network": network}})
    config.policies = ({"name": "receding_horizon", "executed_steps": 3},)
    config.algorithm = ConfigDict({"name": "jaxrl.algorithms.supervised"})
    config.training = ConfigDict({"total_updates": 2, "updates_per_call": 2})
    return config
"""


@pytest.mark.slow
def test_a_run_is_exported(tmp_path: Path, capsys):
    draws = np.random.default_rng(0)
    spec = PolicySpec({"state/q": ArraySpec((3,))}, ArraySpec((2,), names=("a", "b"), unit="rad"))
    seen, action = draws.normal(size=(9, 3)).astype(np.float32), draws.normal(size=(9, 2)).astype(np.float32)
    save(tmp_path / "episodes.npz", Recording({"state/q": seen}, action, np.zeros(9, np.float32), np.array([4, 9]), spec))
    (tmp_path / "small_bc.py").write_text(EXPERIMENT)
    run, out = tmp_path / "run", tmp_path / "out"
    words = ["--config", str(tmp_path / "small_bc.py"), f"--config.data.path={tmp_path / 'episodes.npz'}", "--skip-evaluation"]
    assert main(["train", *words, "--workdir", str(run)]) == 0
    assert main(["export", str(run), "--out", str(out)]) == 1 and "--rate" in capsys.readouterr().err
    assert main(["export", str(run), "--out", str(out), "--rate", "10", "--profile", "velocity", "--platforms", "cpu", "cuda"]) == 0
    assert "cosine 1.000000" in capsys.readouterr().out
    made, found = artifact.load(out), runs.opened(run)
    assert (made.spec.name, made.spec.profile, made.spec.rate) == ("run", "velocity", 10.0) and made.manifest["run"]["update"] == 2
    assert made.manifest["platforms"] == ["cpu", "cuda"] and made.spec.action.names == ("a", "b")
    chunk, _ = made.act({"state/q": seen[0]}, made.begin(), 0, 0)
    policy = found.algorithm.policy
    live, *_ = jax.jit(policy.act)(found.params, {"state/q": seen[:1]}, policy.init(1), jax.random.split(jax.random.key(0), 1))
    np.testing.assert_allclose(chunk, live[0], rtol=1e-5, atol=1e-6)
    assert main(["export", str(run), "--out", str(out), "--rate", "10"]) == 1 and "is there already" in capsys.readouterr().err


def test_which_data_set_is_the_robots():
    kept = {"one": {"history": 1}, "other": {"history": 2}}
    assert export._of_set(kept, "other") == {"history": 2} and export._of_set({"one": 1}, None) == 1 and export._of_set(None, None) is None
    with pytest.raises(ValueError, match="learnt from one, other; name the one of this robot"):
        export._of_set(kept, None)
    with pytest.raises(ValueError, match="keeps nothing of data sets"):
        export._of_set(None, "one")
