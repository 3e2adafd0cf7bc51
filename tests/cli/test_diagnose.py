"""`jaxrl diagnose`, end to end: a run that is well, one that has learnt nothing, and a config that has no run yet."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxrl.cli.main import main
from jaxrl.replay.recording import Recording, save
from jaxrl.types import ArraySpec, PolicySpec

SPEC = PolicySpec({"state/place": ArraySpec((1,))}, ArraySpec((1,), names=("speed",), unit="m"), rate=10.0)
ENV = '''
"""From a place in [0, 1) by the action; who is beyond 3 has succeeded, and the episode is cut."""
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxrl.types import SUCCESS, ArraySpec, Env, EnvSpec, TimeStep


@dataclass(frozen=True)
class Config:
    backend: str = "none"


def walk_task(config):
    action = ArraySpec((1,), names=("speed",), unit="m")
    spec = EnvSpec("walk", {"state/place": ArraySpec((1,))}, action, 12, 0.1, (SUCCESS,))

    def reset(key, parameters):
        place = jax.random.uniform(key, (1,))
        return place, {"state/place": place}

    def step(place, action, parameters, key):
        place = place + action
        done = (place[0] > 3).astype(jnp.float32)
        return place, TimeStep({"state/place": place}, done, jnp.ones(()), done, {SUCCESS: done})

    return Env(spec, reset, step, lambda place, p, key: (place, {"state/place": place}), jnp.zeros(()), lambda key: jnp.zeros(()))
'''
EXPERIMENT = """
from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.env = ConfigDict({"name": "walks.walk_task"})
    config.data = ConfigDict({"path": PATH})
    config.source = ConfigDict({"name": "jaxrl.replay.memory", "horizon": 2, "validation": 0.2, "batch_size": 64})
    network = {"name": "jaxrl.networks.state_mlp", "hidden": (32,)}
    config.objectives = ConfigDict({"bc": {"name": "jaxrl.objectives.bc", "network": network}})
    optimizer = {"name": "adam", "learning_rate": 1e-2}
    config.algorithm = ConfigDict({"name": "jaxrl.algorithms.supervised", "optimizer": optimizer})
    config.training = ConfigDict({"total_updates": 1500, "updates_per_call": 500})
    config.evaluation = ConfigDict({"num_episodes": 30})
    return config
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task, demonstrations of it that go fast in the middle, an experiment, and a run."""
    folder = tmp_path_factory.mktemp("walk")
    draws, seen, action, ends = np.random.default_rng(0), [], [], []
    for _ in range(40):
        place = draws.uniform(0, 1)
        while place <= 3:
            seen.append([place])
            action.append([0.3 + 0.5 * np.exp(-((place - 1.5) ** 2))])
            place += action[-1][0]
        ends.append(len(seen))
    rows = [np.array(x, np.float32) for x in (seen, action)]
    save(folder / "episodes.npz", Recording({"state/place": rows[0]}, rows[1], np.zeros(len(seen), np.float32), np.array(ends), SPEC))
    (folder / "walks").mkdir()
    (folder / "walks" / "__init__.py").touch()
    (folder / "walks" / "walk_task.py").write_text(ENV)
    (folder / "experiment.py").write_text(EXPERIMENT.replace("PATH", repr(str(folder / "episodes.npz"))))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        for name, more in (("run", ()), ("bad", ("--config.algorithm.optimizer.learning_rate=1e-7",))):
            words = ["--config", str(folder / "experiment.py"), "--workdir", str(folder / name), "--skip-evaluation", *more]
            assert main(["train", *words]) == 0
        yield folder


def found(folder: Path) -> dict[str, str]:
    return {one["check"]: one["result"] for one in json.loads((folder / "diagnosis.json").read_text())["checks"]}


def test_a_run_that_is_well_passes(folder, capsys):
    assert main(["diagnose", str(folder / "run")]) == 0
    assert found(folder / "run") == {
        "overfit": "pass",
        "open_loop": "pass",
        "closed_loop": "pass",
        "modes": "pass",
        "copying": "pass",
        "heeding": "skipped",
    }
    told = capsys.readouterr().out
    assert "success, N = " in told and "held out" in told and "what to do" in told
    for name in ("diagnosis.png", "actions.png"):
        assert (folder / "run" / name).stat().st_size > 5_000


def test_one_that_has_learnt_nothing_fails(folder, capsys):
    assert main(["diagnose", str(folder / "bad"), "--updates", "50", "--checks", "overfit,open_loop,closed_loop"]) == 1
    results = found(folder / "bad")
    assert results["overfit"] == results["open_loop"] == "fail" and results.keys() == {"overfit", "open_loop", "closed_loop"}
    assert "learn 100 transitions by heart" in " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_a_config_alone_tells_whether_it_can_learn(folder, tmp_path, capsys):
    words = ["diagnose", "--config", str(folder / "experiment.py"), "--out", str(tmp_path)]
    assert main(words) == 0
    results = found(tmp_path)
    assert results["overfit"] == "pass" and results["open_loop"] == results["closed_loop"] == results["modes"] == "skipped"
    assert not (tmp_path / "actions.png").exists() and "there is no run yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["run", "--checks", "overfit,mode"],
            "there is no check 'mode'; there are overfit, open_loop, closed_loop, modes, copying, heeding",
        ),
        (["run", "--updates", "0"], "--updates is 0, but must be at least 1"),
        ([], "takes the folder of a run, or --config and an experiment file"),
        (["--config", "experiment.py", "--best"], "an experiment file has no checkpoints"),
    ],
)
def test_mistakes_on_the_command_line_are_named(words, said, capsys):
    with pytest.raises(SystemExit):
        main(["diagnose", *words])
    assert said in capsys.readouterr().err


def test_what_does_not_learn_from_data_is_refused(capsys):
    experiments = Path(__file__).parents[2] / "experiments"
    assert main(["diagnose", "--config", str(experiments / "ppo_cartpole_swingup.py")]) == 1
    assert "config.source.name: is jaxrl.rollout.rollout, but these checks are of what learns from recorded data" in capsys.readouterr().err


def test_two_runs_in_the_same_episodes(folder, tmp_path, capsys):
    assert main(["eval", str(folder / "run"), "--against", str(folder / "bad")]) == 0
    told = json.loads((folder / "run" / "comparison.json").read_text())
    assert told["nominal"]["success"]["first"]["value"] == 1.0 and told["nominal"]["success"]["difference"]["n"] == 30
    assert "nominal, difference" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["eval", str(folder / "run"), "--against", str(folder / "bad"), "--record", str(tmp_path / "x.npz")])
    assert "--against compares two runs" in capsys.readouterr().err
