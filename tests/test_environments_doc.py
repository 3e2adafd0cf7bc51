"""docs/environments.md is true: its code is taken out of it and run, in a folder of its own."""

import json
import re
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from jaxrl import config as configs
from jaxrl.cli.main import main

TEXT = (Path(__file__).parents[1] / "docs" / "environments.md").read_text()
BLOCKS = [(match[1], match[2]) for match in re.finditer(r"^```python (\S+)\n(.*?)^```$", TEXT, re.M | re.S)]
SMALL = [
    "--config.source.num_worlds=8",
    "--config.source.unroll_length=8",
    "--config.training.total_updates=2",
    "--config.training.updates_per_call=2",
    "--config.evaluation.num_episodes=2",
    "--config.networks.actor_hidden=(8,)",
    "--config.networks.critic_hidden=(8,)",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of the user's, with the files of the document in it; `jaxrl` is started there."""
    path = tmp_path_factory.mktemp("mine")
    for name, code in BLOCKS:
        if name.endswith(".py"):
            (path / name).parent.mkdir(exist_ok=True)
            (path / name).write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setattr(sys, "path", [str(path), *sys.path])
        yield path
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_robots"]:
        del sys.modules[name]


def test_a_task_is_written_in_under_80_lines(folder):
    assert len((folder / "my_robots" / "push.py").read_text().splitlines()) < 80


def test_the_task_is_trained_and_evaluated_from_its_own_folder(folder):
    assert main(["train", "--config", "my_experiment.py", "--workdir", "runs/push", *SMALL]) == 0
    results = json.loads((folder / "runs" / "push" / "evaluation.json").read_text())
    assert results["randomised"]["length"]["value"] == 100 and results["by_parameter"].keys() == {"friction", "link_mass/block"}


def test_the_sections_of_the_wrapper_are_accepted():
    config = ConfigDict()
    (code,) = (code for name, code in BLOCKS if name == "pixels")
    exec(code, {"ConfigDict": ConfigDict, "config": config})
    assert configs.part(config.wrapper, "wrapper", "config.wrapper")[1].visual.recolour == 0.5
    configs.part(config.networks, "network", "config.networks")


@pytest.mark.parametrize("code", [code for name, code in BLOCKS if name == "adapters"])
def test_the_sections_of_the_adapters_are_accepted(code):
    config = ConfigDict()
    exec(code, {"ConfigDict": ConfigDict, "config": config})
    try:
        make, chosen = configs.part(config.env, "task", "config.env")
    except ImportError as error:
        pytest.skip(str(error))
    assert callable(make) and (chosen.task if hasattr(chosen, "task") else chosen.id)
    configs.part(config.source, "source", "config.source")


def test_our_worlds_step_for_gymnasium(folder):
    pytest.importorskip("gymnasium", reason="gymnasium is not installed")
    found: dict = {}
    exec(next(code for name, code in BLOCKS if name == "vector_env"), found)
    assert found["observation"].shape == (64, 2) and found["reward"].shape == (64,)
