"""`jaxrl plan`, and what `jaxrl train` tells of its speed, end to end."""

import json

import numpy as np
import pytest

from jaxrl.cli.main import main
from jaxrl.replay.recording import Recording, save
from jaxrl.types import ArraySpec, PolicySpec

SPEC = PolicySpec({"state/a": ArraySpec((2,))}, ArraySpec((2,)))
EXPERIMENT = """
from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.data = ConfigDict({"path": "episodes.npz"})
    config.source = ConfigDict({"name": "jaxrl.replay.memory", "batch_size": 8, "horizon": 3})
    network = {"name": "jaxrl.networks.state_mlp", "hidden": (64, 64)}
    config.objectives = ConfigDict({"bc": {"name": "jaxrl.objectives.bc", "network": network}})
    config.algorithm = ConfigDict({"name": "jaxrl.algorithms.supervised"})
    config.training = ConfigDict({"total_updates": 4, "updates_per_call": 2})
    return config
"""
NUMBERS = 2 * 64 + 64 * 64 + 64 * 6


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("plan")
    draws = np.random.default_rng(0)
    seen, action = (draws.normal(size=(9, 2)).astype(np.float32) for _ in range(2))
    save(folder / "episodes.npz", Recording({"state/a": seen}, action, np.zeros(9, np.float32), np.array([4, 9]), SPEC))
    (folder / "imitate.py").write_text(EXPERIMENT)
    return ["--config", str(folder / "imitate.py"), f"--config.data.path={folder / 'episodes.npz'}"]


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["plan", *words]) == 0
    return capsys.readouterr().out


def test_a_plan_as_json(words, capsys):
    found = json.loads(told(capsys, *words, "--json", "--compile"))
    assert found["trained"] == NUMBERS + 64 + 64 + 6 and found["batch_size"] == 8 and found["tokens_per_sample"] == 1
    assert found["flops_per_sample"] == 2 * (3 * NUMBERS - 2 * 64)  # what is seen has no gradient
    assert abs(found["memory"]["total"] / found["compiled"]["total"] - 1) < 0.1


def test_a_plan_as_a_table_for_devices_that_are_not_here(words, capsys):
    devices = ("--config.devices=16", "--config.mesh.fsdp=4", "--config.mesh.smallest=1000", "--config.source.batch_size=64")
    lines = told(capsys, *words, *devices, "--device=h200").splitlines()
    assert lines[0] == "parameters: 4.742 k trained, 0 frozen"
    assert "memory of each of 16 device(s) (data 4, fsdp 4, tensor 1), batches of 64:" in lines
    assert any(line.startswith("a step on H200: ") for line in lines)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--device=abacus", "device is 'abacus', but known are H200"),
        ("--config.devices=3", "batch_size is 8, which 3 devices in 1 parts do not divide"),
        ("--config.mesh.fsdp=2", "devices is 1, but must be a multiple of mesh.fsdp"),
        ("--config.source.name=jaxrl.rollout.rollout", "a plan is of what learns from jaxrl.replay.memory or"),
    ],
)
def test_what_cannot_be_planned(words, capsys, more, message):
    assert main(["plan", *words, more]) == 1
    assert message in capsys.readouterr().err


def test_training_in_parts_tells_its_speed(words, capsys, tmp_path):
    more = ["--config.devices=4", "--config.mesh.fsdp=2", "--config.mesh.smallest=1000", "--config.peak_tflops=1e-3"]
    assert main(["train", *words, "--workdir", str(tmp_path / "run"), "--skip-evaluation", *more]) == 0
    assert "mesh data 2, fsdp 2, tensor 1: of the train state's" in capsys.readouterr().out
    flops = 2 * (3 * NUMBERS - 2 * 64)
    for line in map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()):
        assert line["speed/mfu"] == pytest.approx(line["speed/samples_per_second"] * flops / 4e9) and line["speed/mfu"] > 0


def test_parts_are_for_stored_data(words, capsys, tmp_path):
    more = ["--config.source.name=jaxrl.rollout.rollout", "--config.devices=4", "--config.mesh.fsdp=2"]
    assert main(["train", *words, "--workdir", str(tmp_path / "run"), *more]) == 1
    assert "config.mesh: is for what learns from stored data" in capsys.readouterr().err
