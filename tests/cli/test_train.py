"""The command line: one clear line for each mistake, whole runs on small numbers."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jaxrl.cli.main import main
from jaxrl.training.checkpoint_folder import read_meta, saved_steps
from jaxrl_data.open import open_dataset

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
    assert all(0 < line["episode/return"] < 1000 and line["episode/length"] == 500 for line in evaluations)


def test_evaluation_from_the_checkpoint_alone_gives_the_same_figures(trained, capsys):
    before = json.loads((trained / "evaluation.json").read_text())
    assert run("eval", trained) == 0
    assert json.loads((trained / "evaluation.json").read_text()) == before


def test_the_figures_of_several_seeds(tmp_path, capsys):
    assert train(tmp_path, "--num_seeds", 2, "--config.training.total_updates=8") == 0
    told = capsys.readouterr().out
    results = json.loads((tmp_path / "evaluation.json").read_text())
    first, second = results["seeds"]["nominal"]["return"]["each"]
    assert first == results["nominal"]["return"]["value"] != second
    middle = results["seeds"]["nominal"]["return"]["interquartile_mean"]
    assert middle["n"] == 2 and middle["value"] == pytest.approx((first + second) / 2)
    assert f"each {first:.3f}, {second:.3f}" in told and "for each of 2 seeds" in told


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
        ("--config.hidden=('state/velocitty',)", "no state group state/velocitty to hide; did you mean state/velocity?"),
        ("--config.wrapper.name=jaxrl_envs.wrappers.pixel", "jaxrl_envs.wrappers has no such module; did you mean pixels?"),
        ("--config.wrapper.name=pixels", "config.wrapper.cameras: missing; expected"),
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


def test_an_interrupted_run_goes_on_with_the_command_that_it_names(tmp_path):
    """Ctrl-C in a real process; the resumed run has the overrides of the first and is complete."""
    workdir = tmp_path / "run"
    words = ["train", "--config", str(CONFIG), "--workdir", str(workdir), *SMALL, "--config.training.total_updates=4000"]
    words += ["--skip-evaluation"]
    environment = os.environ | {"JAXRL_CACHE": str(ROOT / ".cache" / "jax")}
    program = [sys.executable, "-m", "jaxrl.cli.main"]
    process = subprocess.Popen([*program, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    seen = ""
    for line in process.stdout:
        seen += line
        if line.startswith("update "):
            process.send_signal(2)
            break
    seen += process.communicate(timeout=120)[0]
    assert process.returncode == 130, seen
    stopped = saved_steps(workdir / "checkpoints")[-1]
    assert 0 < stopped < 4000
    again = shlex.split(seen.partition("go on with: ")[2].splitlines()[0])
    assert again == ["jaxrl", *words, "--resume"]
    assert main([*again[1:], f"--config.training.total_updates={stopped + 8}"]) == 1  # another config
    assert main([*again[1:], f"--config.training.total_updates={stopped + 8}", "--force"]) == 0
    updates = [json.loads(line)["update"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert updates == list(range(8, stopped + 16, 8))


def test_nothing_is_removed_for_a_run_that_cannot_begin(trained, tmp_path, capsys):
    workdir = tmp_path / "copy"
    shutil.copytree(trained, workdir)
    assert train(workdir, "--force", "--config.source.unroll_length=9") == 1
    assert "no multiple of num_minibatches" in capsys.readouterr().err
    assert saved_steps(workdir / "checkpoints") == saved_steps(trained / "checkpoints")
    assert (workdir / "metrics.jsonl").read_text() == (trained / "metrics.jsonl").read_text()


def test_starting_anew_leaves_nothing_of_the_old_run(trained, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(trained, workdir)
    assert train(workdir, "--force", "--skip-evaluation", "--config.training.total_updates=8") == 0
    assert saved_steps(workdir / "checkpoints") == [8]
    assert not (workdir / "evaluation.json").exists() and len(list((workdir / "tensorboard").iterdir())) == 1


def test_a_run_records_every_default_and_what_made_it(trained):
    config = json.loads((trained / "config.json").read_text())
    assert config["algorithm"]["clip"] == 0.2 and config["env"]["backend"] == "auto" and config["training"]["seed"] == 0
    made_by = json.loads((trained / "provenance.json").read_text())
    assert made_by["versions"]["jax"] and len(made_by["code_version"]) == 2


def test_render_and_the_best_checkpoint(trained, tmp_path):
    best = read_meta(trained / "checkpoints")["update"]
    assert best == 16
    output = tmp_path / "film.mp4"
    status = run("render", trained, "--best", "--seconds", "0.2", "--size", "64x48", "--output", output)
    assert (status == 0) == output.exists()


def test_a_policy_records_a_data_set(trained, tmp_path, capsys):
    folder = tmp_path / "set"
    words = ["--record", folder, "--format", "lerobot", "--instruction", "swing up"]
    assert run("eval", trained, *words) == 0
    assert f"{folder}: 4 episodes of cartpole_swingup" in capsys.readouterr().out
    assert [episode.texts["task"] for episode in open_dataset(str(folder)).read(0, 4)] == [["swing up"] * 500] * 4
    other = ["--config.evaluation.num_episodes=5", "--instruction", "balance"]
    assert run("eval", trained, *words, *other) == 1
    assert "tells of another data set" in capsys.readouterr().err


def test_a_policy_learns_from_the_recording_of_another(trained, tmp_path, capsys):
    episodes = tmp_path / "episodes.npz"
    assert run("eval", trained, "--record", episodes) == 0
    small = [f"--config.data.path={episodes}", *(word for word in SMALL if "training" in word or "evaluation" in word)]
    other = ROOT / "experiments" / "bc_go2_flat.py"
    assert run("train", "--config", other, "--workdir", tmp_path / "wrong", *small) == 1
    assert f"the recording {episodes} does not fit the environment go2_flat" in capsys.readouterr().err
    config = tmp_path / "bc_cartpole.py"
    env = '    config.env = ConfigDict({"name": "jaxrl_envs.tasks.cartpole", "task": "swingup", "action_repeat": 2})'
    lines = [env if line.startswith("    config.env = ") else line for line in other.read_text().splitlines()]
    config.write_text("\n".join(lines))
    assert run("train", "--config", config, "--workdir", tmp_path / "bc", *small) == 0
    results = json.loads((tmp_path / "bc" / "evaluation.json").read_text())
    assert results["env_steps"] == 0 and results["nominal"]["return"]["n"] == 4


@pytest.mark.filterwarnings("ignore:config.demonstrations. .* recorded actions lie outside")  # what has hardly learnt may act so
def test_a_memory_filled_by_another_policy_with_demonstrations_and_a_bonus(trained, tmp_path, capsys):
    episodes = tmp_path / "episodes.npz"
    assert run("eval", trained, "--record", episodes) == 0
    small = ["--config.env.name=jaxrl_envs.tasks.cartpole", "--config.env.task=swingup", "--config.networks.ensemble=2"]
    small += [
        f"--config.{part}=4"
        for part in ("replay.batch_size", "demonstrations.batch_size", "replay.initial_steps", "evaluation.num_episodes")
    ]
    small += ["--config.training.total_updates=2", "--config.training.updates_per_call=2", "--config.evaluation.video_seconds=0.2"]
    small += ["--config.networks.actor.width=8", "--config.networks.critic.width=8", "--config.bonus.name=jaxrl.bonuses.rnd"]
    variant = f"{ROOT / 'experiments' / 'sac_variants.py'}:rlpd"
    words = ["train", "--config", variant, "--workdir", tmp_path / "rlpd", f"--config.data.path={episodes}", *small]
    assert run(*words, "--config.filler=nowhere") == 1
    assert "nowhere: no run here" in capsys.readouterr().err
    assert run(*words, f"--config.filler={trained}") == 0
    metrics = [json.loads(line) for line in (tmp_path / "rlpd" / "metrics.jsonl").read_text().splitlines()]
    assert metrics[-1]["bonus"] > 0 and json.loads((tmp_path / "rlpd" / "evaluation.json").read_text())["env_steps"] == 6


def test_a_score_that_is_never_reported_is_refused(tmp_path, capsys):
    assert train(tmp_path / "run", "--skip-evaluation", "--config.evaluation.score=episode/retrun") == 1
    assert "the score is episode/retrun, which is not reported; choose among" in capsys.readouterr().err


def test_sections_without_effect_are_refused(tmp_path, capsys):
    assert train(tmp_path / "run", "--config.data.path=episodes.npz") == 1
    assert "config.data: has no effect with config.source.name=jaxrl.rollout.rollout" in capsys.readouterr().err


@pytest.mark.slow
def test_training_goes_on_without_opengl(tmp_path, monkeypatch, capsys):
    from jaxrl_envs.rendering import scene

    def broken(*_: object, **__: object) -> None:
        raise ImportError("no OpenGL: pip install what is missing")

    monkeypatch.setattr(scene, "frames", broken)
    assert train(tmp_path / "run") == 0
    told = capsys.readouterr().out
    assert "no video: no OpenGL" in told and (tmp_path / "run" / "evaluation.json").exists()
