"""A run on data is evaluated on episodes that it did not learn from, whether or not it has something to act in."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxrl.cli import run as runs
from jaxrl.cli.main import main
from jaxrl.replay.recording import Recording, load, part_of, save
from jaxrl.types import ArraySpec, PolicySpec
from tests.data.caches import made
from tests.data.episodes import dataset

LENGTH = 6
SPEC = PolicySpec({"state/a": ArraySpec((2,))}, ArraySpec((2,), names=("x", "y"), unit="m"), rate=10.0)
EXPERIMENT = """
from ml_collections import ConfigDict


def get_config(source):
    config = ConfigDict()
    if source == "memory":
        config.data = ConfigDict({"path": PATH})
        config.source = ConfigDict({"name": "jaxrl.replay.memory", "horizon": 3, "validation": 0.4})
    else:
        columns = {"state/pose": "state", "action": "action"}
        sets = {"made": {"path": PATH, "columns": columns}}
        config.source = ConfigDict({"name": "jaxrl_data.dataset_source", "sets": sets, "horizon": 3, "history": 2, "validation": 0.4})
    config.source.batch_size = 16
    network = {"name": "jaxrl.networks.state_mlp", "hidden": (8,)}
    config.objectives = ConfigDict({"bc": {"name": "jaxrl.objectives.bc", "network": network}})
    config.policies = ({"name": "receding_horizon", "executed_steps": 2},)
    config.algorithm = ConfigDict({"name": "jaxrl.algorithms.supervised"})
    config.training = ConfigDict({"total_updates": 20, "updates_per_call": 20})
    return config
"""


FLOW = '{"name": "jaxrl.objectives.flow", "weight": 0.5, "network": {"name": "jaxrl.networks.mlp_denoiser", "width": 8, "depth": 1}}'


def train(folder: Path, source: str, path: Path, *more: str) -> dict:
    (folder / "experiment.py").write_text(EXPERIMENT.replace("PATH", repr(str(path))))
    assert main(["train", "--config", f"{folder / 'experiment.py'}:{source}", "--workdir", str(folder / "run"), *more]) == 0
    return json.loads((folder / "run" / "evaluation.json").read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memory")
    draws = np.random.default_rng(0)
    seen = draws.normal(size=(30 * LENGTH, 2)).astype(np.float32)
    action = (2 * seen + 0.1 * draws.normal(size=seen.shape)).astype(np.float32)
    ends = LENGTH * np.arange(1, 31)
    save(folder / "episodes.npz", Recording({"state/a": seen}, action, np.zeros(len(seen), np.float32), ends, SPEC))
    train(folder, "memory", folder / "episodes.npz", "--config.training.evaluate_every=10", "--config.training.updates_per_call=10")
    return folder


def test_the_figures_are_those_of_episodes_held_out(trained, capsys):
    results = json.loads((trained / "run" / "evaluation.json").read_text())
    told = results["on_data"]
    out = part_of(load(trained / "episodes.npz"), "validation", 0.4)
    number = len(out.episode_ends)
    one = told["sets"]["recording"]
    assert told["part"] == "validation" and 5 < number < 20 and one["episodes"] == number and one["steps"] == number * LENGTH
    opened = runs.opened(trained / "run")
    chunks, _, _ = jax.jit(opened.algorithm.explore.act)(
        opened.params, {"state/a": out.observation["state/a"]}, (), jax.random.split(jax.random.key(0), len(out.action)), None
    )
    asked = np.arange(len(out.action)) // 2 * 2  # episodes are even: each begins with a question
    error = np.abs(np.asarray(chunks)[asked, np.arange(len(asked)) % 2] - out.action)
    np.testing.assert_allclose(one["dimensions"]["x"]["mean"], error[:, 0].mean(), rtol=1e-4)
    np.testing.assert_allclose(one["dimensions"]["y"]["median_relative"], np.median(error[:, 1]) / np.ptp(out.action[:, 1]), rtol=1e-4)
    assert one["dimensions"]["x"]["unit"] == "m" and 0 < told["loss"]["loss"] < 10 and results["latency"]["available"] == pytest.approx(0.2)
    assert (trained / "run" / "actions.png").stat().st_size > 5_000
    assert main(["eval", str(trained / "run")]) == 0
    said = capsys.readouterr().out
    assert "loss on episodes held out: " in said and f"open loop in recording, {number} episodes" in said and "latency: p50" in said
    again = json.loads((trained / "run" / "evaluation.json").read_text())
    assert again["on_data"] == told
    assert main(["info", str(trained / "run")]) == 0
    assert "median error" in capsys.readouterr().out


def test_it_is_evaluated_along_the_way_and_the_best_is_kept(trained, capsys):
    lines = [json.loads(line) for line in (trained / "run" / "metrics.jsonl").read_text().splitlines()]
    first, last = [line for line in lines if line["kind"] == "evaluation"]
    results = json.loads((trained / "run" / "evaluation.json").read_text())["on_data"]
    assert last["validation/error"] == pytest.approx(results["sets"]["recording"]["mean_relative"]["value"], rel=1e-4)
    assert last["validation/loss"] == pytest.approx(results["loss"]["loss"], rel=1e-4)
    assert first["validation/error"] > last["validation/error"] and main(["info", str(trained / "run")]) == 0
    assert "best: 20" in capsys.readouterr().out
    words = ["train", "--config", f"{trained / 'experiment.py'}:memory", "--workdir", str(trained / "other")]
    more = ["--config.source.validation=0.0", "--config.training.evaluate_every=20"]
    assert main([*words, *more]) == 1
    assert "the config has no env to act in, and no episodes held out" in capsys.readouterr().err


def test_fewer_episodes_or_all_of_another_recording(trained, tmp_path):
    other = load(trained / "episodes.npz")
    save(tmp_path / "other.npz", other._replace(action=other.action + 1))
    words = ["--config.evaluation.num_episodes=4", "--config.source.part=all", f"--config.data.path={tmp_path / 'other.npz'}"]
    before = (trained / "run" / "evaluation.json").read_text()
    try:
        assert main(["eval", str(trained / "run"), *words]) == 0
        told = json.loads((trained / "run" / "evaluation.json").read_text())["on_data"]
    finally:
        (trained / "run" / "evaluation.json").write_text(before)
    assert told["part"] == "all" and told["sets"]["recording"]["episodes"] == 4
    assert told["loss"]["loss"] > json.loads(before)["on_data"]["loss"]["loss"]


def test_data_that_do_not_fit_are_refused(trained, tmp_path, capsys):
    """In a run's evaluation, in training from it, and before there is a run."""
    run, recorded = str(trained / "run"), load(trained / "episodes.npz")
    assert main(["eval", run, "--config.source.horizon=5"]) == 1
    said = capsys.readouterr().err
    assert "what this run learnt does not fit the data:" in said and "action: needs shape ('batch', 3, 2), got ('batch', 5, 2)" in said
    feet = recorded.spec._replace(action=ArraySpec((2,), names=("x", "y"), unit="ft"))
    save(tmp_path / "feet.npz", recorded._replace(spec=feet))
    assert main(["eval", run, f"--config.data.path={tmp_path / 'feet.npz'}"]) == 1
    assert "action: needs the unit m, got ft" in capsys.readouterr().err
    words = ["train", "--config", f"{trained / 'experiment.py'}:memory", "--workdir", str(tmp_path / "run"), "--skip-evaluation"]
    assert main([*words, "--config.source.horizon=7"]) == 1
    assert "horizon is 7, but the longest episode has 6 steps" in capsys.readouterr().err
    still = recorded.action.copy()
    still[:, 1] = 0.3
    save(tmp_path / "still.npz", recorded._replace(action=still))
    words.append(f"--config.data.path={tmp_path / 'still.npz'}")
    assert main(words) == 1
    assert f"the recording {tmp_path / 'still.npz'}: action never changes in y" in capsys.readouterr().err
    assert not (tmp_path / "run").exists() and main([*words, "--config.source.constant_actions=True"]) == 0


def test_of_several_objectives_one_acts_by_name(trained, tmp_path, capsys):
    (tmp_path / "experiment.py").write_text(
        (trained / "experiment.py")
        .read_text()
        .replace('ConfigDict({"bc"', 'ConfigDict({"zeroth": FLOW, "bc"')
        .replace("\ndef", "\nFLOW = " + FLOW + "\n\n\ndef")
    )
    words = ["train", "--config", f"{tmp_path / 'experiment.py'}:memory", "--workdir", str(tmp_path / "run"), "--skip-evaluation"]
    assert main(words) == 1
    assert "config.algorithm.policy: missing; name which of the objectives acts, bc or zeroth" in capsys.readouterr().err
    assert main([*words, "--config.algorithm.policy=zeroth"]) == 0
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["loss"] == pytest.approx(last["loss/bc"] + 0.5 * last["loss/zeroth"], rel=1e-5)
    opened = runs.opened(tmp_path / "run")
    assert {"bc", "flow"} <= opened.params.params.keys() and opened.algorithm.policy.spec.executed_steps == 2


def test_where_the_data_are_gone_there_is_nothing_to_evaluate_on(trained, capsys):
    (trained / "episodes.npz").rename(trained / "elsewhere.npz")
    try:
        assert main(["eval", str(trained / "run")]) == 1
    finally:
        (trained / "elsewhere.npz").rename(trained / "episodes.npz")
    assert "episodes.npz: there is no such recording" in capsys.readouterr().err


def test_a_run_on_data_sets(tmp_path):
    results = train(tmp_path, "sets", made(tmp_path / "cache", (9, 5, 12, 7, 6, 8, 10)))
    told = results["on_data"]
    one = told["sets"]["made"]
    assert told["part"] == "validation" and 0 < one["episodes"] < 7 and one["dimensions"]["0"]["range"] <= 2.0
    assert one["mean_relative"]["n"] == one["episodes"] and "nominal" not in results


def test_data_sets_that_do_not_fit_are_refused(tmp_path, capsys):
    cache = made(tmp_path / "cache", (4, 5))
    (tmp_path / "experiment.py").write_text(EXPERIMENT.replace("PATH", repr(str(cache))))
    words = [
        "train",
        "--config",
        f"{tmp_path / 'experiment.py'}:sets",
        "--workdir",
        str(tmp_path / "run"),
        "--config.source.validation=0.0",
    ]
    assert main([*words, "--config.source.action_stride=3"]) == 1
    assert "horizon: a chunk of 3 reaches over 7 steps, but the longest episode has 5" in capsys.readouterr().err

    def still(first: int, last: int):
        for episode in dataset((4, 5)).read(first, last):
            yield episode._replace(arrays=episode.arrays | {"action": np.full_like(episode.arrays["action"], 0.3)})

    (tmp_path / "still.py").write_text(EXPERIMENT.replace("PATH", repr(str(made(tmp_path / "still", (4, 5), read=still)))))
    words[2] = f"{tmp_path / 'still.py'}:sets"
    assert main(words) == 1
    assert "config.source.sets.made: action never changes in action[0], action[1], so nothing" in capsys.readouterr().err
    assert main([*words, "--config.source.constant_actions=True", "--skip-evaluation"]) == 0
