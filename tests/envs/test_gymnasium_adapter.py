"""gymnasium's environments as worlds on the host, trained and evaluated in from the command line."""

import json

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="gymnasium is not installed")

from jaxrl.cli.main import main  # noqa: E402
from jaxrl.ops.specs import choice  # noqa: E402
from jaxrl.types import ArraySpec  # noqa: E402
from jaxrl_envs.adapters.gymnasium import Config, gymnasium  # noqa: E402
from tests.envs.gym_envs import LENGTH  # noqa: E402

PATH = "tests.envs.gym_envs"
WORLDS = 2
EVERY = np.ones(WORLDS, bool)


def config(**more):
    return Config(**({"make": f"{PATH}.Counting", "episode_length": 100, "metrics": ("force",)} | more))


@pytest.mark.parametrize("vectorisation", ["sync", "async"])
def test_worlds_on_the_host(vectorisation):
    env = gymnasium(config(vectorisation=vectorisation))
    worlds = env.open(WORLDS)
    try:
        first = worlds.reset(EVERY, 7)
        expected = [np.random.default_rng(np.random.SeedSequence(7 + i)).uniform() for i in range(WORLDS)]
        np.testing.assert_allclose(first["state/count"][:, 0], expected, rtol=1e-6)
        for name, part in env.spec.observation.items():
            assert first[name].shape == (WORLDS, *part.shape) and str(first[name].dtype) == part.dtype
        np.testing.assert_array_equal(worlds.reset(EVERY, 7)["state/count"], first["state/count"])
        for step in range(LENGTH):
            result = worlds.step(np.array([[0.5, -1.0], [5.0 if step == 2 else 0.0, 0.0]], np.float32))
            if step == 2:  # the second terminates, the first goes on
                np.testing.assert_array_equal(result.discount, [1, 0])
                np.testing.assert_array_equal(result.observation["state/count"], first["state/count"] + 3)
                begun = worlds.reset(np.array([False, True]))
                np.testing.assert_array_equal(begun["state/count"][0], result.observation["state/count"][0])
                assert 0 <= begun["state/count"][1, 0] < 1 and begun["state/count"][1] != first["state/count"][1]
        np.testing.assert_array_equal(result.truncation, [1, 0])
        np.testing.assert_array_equal(result.reward, [5, 2])
        np.testing.assert_allclose(result.observation["state/count"][0], first["state/count"][0] + LENGTH)
        np.testing.assert_allclose(result.observation["state/force"], [[1.0, 0.0], [0.0, 0.5]], atol=1e-6)
        np.testing.assert_allclose(result.metrics["force"], [1, 0], atol=1e-6)
        assert (result.observation["image/front"][0] == LENGTH).all()
    finally:
        worlds.close()


def test_spec_of_gymnasiums_own():
    env = gymnasium(Config(id="Pendulum-v1"))
    assert env.spec.observation == {"state/observation": ArraySpec((3,))}
    assert env.spec.action == ArraySpec((1,), low=-1.0, high=1.0)
    assert env.spec.episode_length == 200 and env.spec.dt == 0.05 and env.spec.name == "Pendulum-v1"


def test_discrete_actions_are_choices_counted_from_zero():
    assert gymnasium(Config(id="CartPole-v1")).spec.action == choice(2)
    env = gymnasium(config(make=f"{PATH}.Discrete", metrics=()))
    assert env.spec.action == choice(3)
    worlds = env.open(2)
    try:
        worlds.reset(EVERY, 0)
        result = worlds.step(np.array([0, 2], np.int32))
        np.testing.assert_array_equal(result.observation["state/force"], [[-1, 0], [1, 0]])  # its own choices begin at -1
    finally:
        worlds.close()


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"id": "Pendulum-v11", "make": "", "metrics": ()}, "env.id: .*did you mean Pendulum-v1?"),
        (
            {"make": f"{PATH}.Switches"},
            r"Switches takes actions of MultiBinary\(2\), but only boxes of floats, and Discrete, are supported",
        ),
        ({"make": f"{PATH}.Told"}, "its observation is a Text, but .*FlattenObservation"),
        ({"episode_length": None}, "no limit of its own on the length of an episode: set env.episode_length"),
        ({"make": f"{PATH}.Countin"}, "env.make: no function 'tests.envs.gym_envs.Countin'"),
        ({"make": ""}, "name either id"),
        ({"id": "Pendulum-v1", "make": "", "metrics": (), "options": {"x": 1}}, r"env.options: Pendulum-v1 does not take \{'x': 1\}"),
        ({"episode_length": 0}, "episode_length is 0"),
    ],
)
def test_mistakes_are_named(chosen, said):
    with pytest.raises(ValueError, match=said):
        gymnasium(config(**chosen))


def test_metrics_that_are_not_told_at_every_step_are_named():
    for more, said in (
        ({"metrics": ("forc",)}, "'forc' is not .*did you mean force?"),
        ({"options": {"late": True}}, "'force' is not in the"),
    ):
        worlds = gymnasium(config(**more)).open(1)
        worlds.reset(EVERY[:1], 0)
        with pytest.raises(ValueError, match=f"env.metrics: {said}"):
            worlds.step(np.zeros((1, 2)))
        worlds.close()


OURS = '"name": "jaxrl_envs.tasks.cartpole"'
EXPERIMENT = """
from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.env = ConfigDict({"name": "jaxrl_envs.adapters.gymnasium", "id": "Pendulum-v1", "episode_length": 8})
    config.networks = ConfigDict({"name": "jaxrl.networks.actor_critic", "actor_hidden": (8,), "critic_hidden": (8,)})
    config.algorithm = ConfigDict({"name": "jaxrl.algorithms.ppo", "num_epochs": 1, "num_minibatches": 2})
    config.source = ConfigDict({"name": "jaxrl.rollout.host_rollout", "num_worlds": 3, "unroll_length": 16})
    config.training = ConfigDict({"total_updates": 2, "updates_per_call": 1, "evaluate_every": 2})
    config.evaluation = ConfigDict({"num_episodes": 4})
    return config
"""


def test_a_run_from_the_command_line(tmp_path, capsys):
    file, workdir = tmp_path / "experiment.py", tmp_path / "run"
    file.write_text(EXPERIMENT)
    train = ["train", "--config", str(file), "--workdir", str(workdir)]
    assert main(train) == 0
    results = json.loads((workdir / "evaluation.json").read_text())
    assert results["nominal"]["length"]["value"] == 8 and results["env_steps"] == 96 and "randomised" not in results
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert all(line["episode/length"] == 8 and line["episode/return"] < 0 for line in lines)
    capsys.readouterr()
    more = ["--config.training.total_updates=4", "--resume", "--force", "--skip-evaluation"]
    with pytest.warns(UserWarning, match="the simulators of Pendulum-v1 are not where this state left them"):
        assert main([*train, *more]) == 0
    for words, said in (
        (["--config.source.name=jaxrl.rollout.rollout"], "Pendulum-v1 is stepped on the host, which needs jaxrl.rollout.host_rollout"),
        (["--config.devices=2"], "config.devices: simulators on the host are stepped for one device; set it to 1"),
        (["--config.training.num_seeds=2"], "num_seeds above 1 needs a pure source"),
    ):
        assert main(["train", "--config", str(file), "--workdir", str(tmp_path / "other"), *words]) == 1
        assert said in capsys.readouterr().err


def test_ours_is_refused_by_the_source_for_the_host(tmp_path, capsys):
    file = tmp_path / "experiment.py"
    file.write_text(EXPERIMENT.replace('"name": "jaxrl_envs.adapters.gymnasium", "id": "Pendulum-v1", "episode_length": 8', OURS))
    assert main(["train", "--config", str(file), "--workdir", str(tmp_path / "run")]) == 1
    assert "is stepped inside the compiled program, which needs jaxrl.rollout.rollout, not" in capsys.readouterr().err
