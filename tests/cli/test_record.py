"""A policy that somebody wrote, recorded as a newcomer does it, and what `jaxrl data` makes of the folder. No data are needed for it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from jaxrl.cli.main import main
from jaxrl.replay.recording import load
from jaxrl_data.open import open_dataset
from jaxrl_envs.rendering import open_gl

CONFIG = Path(__file__).parents[2] / "experiments" / "scripted_cartpole.py"
EPISODES = 3
SMALL = [f"--config.evaluation.num_episodes={EPISODES}", "--config.env.backend=native"]


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set that the project records itself."""
    folder = tmp_path_factory.mktemp("data") / "cartpole"
    assert run("eval", "--config", CONFIG, "--record", folder, "--format", "lerobot", *SMALL) == 0
    return folder


def test_it_is_a_data_set_without_a_fault(own, capsys):
    assert run("data", "validate", own) == 0
    assert "nothing found" in capsys.readouterr().out
    assert run("data", "info", own) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "50 steps per second" in told and "cart, pole_cosine, pole_sine" in told and "10 N" in told and f"{500 * EPISODES:,}" in told
    assert pq.read_table(own / "meta/tasks.parquet")["task"].to_pylist() == ["swing the pole up and balance it"]


def test_its_policy_succeeds(own):
    for episode in open_dataset(str(own)).read(0, EPISODES):
        assert episode.metadata["terminated"] is False
        place = episode.arrays["observation.state.position"]
        assert place[0, 1] < -0.99 and (place[-100:, 1] > 0.995).all() and (np.abs(place[-100:, 0]) < 0.25).all()
        assert 600 < episode.arrays["next.reward"].sum() < 1000
    first, second = (one.arrays["action"] for one in open_dataset(str(own)).read(0, 2))
    assert np.abs(first - second).max() > 0.1


def test_it_is_looked_at_and_prepared(own, tmp_path, capsys):
    assert run("data", "view", own, "--out", tmp_path / "pictures", "--no-video") == 0
    (picture,) = (tmp_path / "pictures").iterdir()
    assert picture.suffix == ".png" and picture.stat().st_size > 10_000
    assert run("data", "prepare", own, "--out", tmp_path / "cache", "--processes", 1) == 0
    cache, first = open_dataset(str(tmp_path / "cache")), open_dataset(str(own))
    assert cache.size == EPISODES
    for one, other in zip(cache.read(0, EPISODES), first.read(0, EPISODES), strict=True):
        np.testing.assert_array_equal(one.arrays["action"], other.arrays["action"])
        assert one.texts["task"] == other.texts["task"]


def test_the_same_command_again_plays_nothing_and_another_seed_is_refused(own, capsys):
    assert run("eval", "--config", CONFIG, "--record", own, "--format", "lerobot", *SMALL) == 0
    assert f"{EPISODES} episodes of cartpole_swingup, {EPISODES} of which were there" in capsys.readouterr().out
    assert run("eval", "--config", CONFIG, "--record", own, "--format", "lerobot", *SMALL, "--config.evaluation.seed=1") == 1
    assert "tells of another data set" in capsys.readouterr().err


def test_an_npz_holds_the_same_episodes(own, tmp_path):
    file = tmp_path / "episodes.npz"
    assert run("eval", "--config", CONFIG, "--record", file, *SMALL) == 0
    recording = load(file)
    assert recording.spec.rate == 50 and recording.spec.action.unit == "10 N"
    starts = [0, *recording.episode_ends[:-1]]
    for episode, first, last in zip(open_dataset(str(own)).read(0, EPISODES), starts, recording.episode_ends, strict=True):
        np.testing.assert_array_equal(episode.arrays["observation.state.position"], recording.observation["state/position"][first:last])
        np.testing.assert_array_equal(episode.arrays["action"], recording.action[first:last])


@pytest.mark.slow
def test_a_camera_goes_into_rlds(tmp_path):
    """In a process of its own: a TensorFlow that comes behind OpenGL, as in tests of data, ends it."""
    try:
        open_gl()
    except RuntimeError as error:
        pytest.skip(str(error))
    camera = ["--config.wrapper.name=jaxrl_envs.wrappers.pixels", "--config.wrapper.cameras=('side',)", "--config.wrapper.width=96"]
    folder = str(tmp_path / "set")
    command = [sys.executable, "-m", "jaxrl.cli.main"]
    record = [*command, "eval", "--config", str(CONFIG), "--record", folder, "--format", "rlds", *SMALL, *camera]
    subprocess.run(record, check=True, cwd=CONFIG.parents[1])
    info = json.loads((tmp_path / "set/dataset_info.json").read_text())
    assert info["splits"][0]["shardLengths"] == [str(EPISODES)]
    said = subprocess.run([*command, "data", "info", folder], check=True, cwd=CONFIG.parents[1], stdout=subprocess.PIPE).stdout.decode()
    assert "observation/image/side" in said and "64 x 96 x 3" in said and "language_instruction" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config", CONFIG, "--record", "folder"], "give --format rlds or lerobot for a folder, or a path that ends in .npz"),
        (["--config", CONFIG, "--record", "a.npz", "--format", "rlds"], "belong together, but --format is rlds"),
        (["--config", CONFIG, "--record", "folder", "--format", "npz"], "belong together, but --format is npz"),
        (["--config", CONFIG, "--record", "a.npz", "--instruction", "go"], "an .npz has no place for it"),
        (["--config", CONFIG], "give --record alone"),
        (["--config", CONFIG, "--record", "gs://robots/set", "--format", "rlds"], "--record gs://robots/set: lies in a cloud"),
        (["--config", CONFIG, "--record", "a.npz", "--best"], "has no checkpoints: leave out --best and --step"),
        (["--config", CONFIG, "--record", "folder", "--format", "rlds", "--codec", "libx264"], "--codec is for --format lerobot"),
        (["--record", "a.npz"], "takes the folder of a run, or --config and an experiment file"),
        (["run", "--config", CONFIG, "--record", "a.npz"], "takes the folder of a run, or --config and an experiment file"),
    ],
)
def test_arguments_that_do_not_fit(words, said, capsys):
    with pytest.raises(SystemExit):
        run("eval", *words)
    assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("--config.policy.name=jaxrl_envs.scripted.cartpole_swing", "did you mean cartpole_swingup?"),
        ("--config.policy.noise=-1.0", "noise is -1.0, but must not be negative"),
        ("--config.policy.push=2.0", "push is 2.0, but must be above 0 and at most 1"),
        ("--config.hidden=('state/velocity',)", "the policy jaxrl_envs.scripted.cartpole_swingup"),
        ("--config.algorithm.name=ppo", "config.algorithm: unknown"),
    ],
)
def test_configs_that_do_not_fit(override, said, tmp_path, capsys):
    assert run("eval", "--config", CONFIG, "--record", tmp_path / "set", "--format", "lerobot", override) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "set").exists()
