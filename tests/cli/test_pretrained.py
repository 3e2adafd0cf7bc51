"""A run that begins with what another has learnt: the two stages of VQ-BeT, a teacher and its student."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors import safe_open

from jaxrl import config as configs
from jaxrl.cli import run as runs
from jaxrl.cli.assemble import assemble
from jaxrl.cli.main import main
from jaxrl.cli.settings import Settings
from jaxrl.ops.paths import flatten_names
from jaxrl.replay.recording import Recording, save
from jaxrl.types import ArraySpec, PolicySpec

SPEC = PolicySpec({"state/a": ArraySpec((2,))}, ArraySpec((2,)))
EXPERIMENT = """
from ml_collections import ConfigDict


def get_config(stage):
    config = ConfigDict()
    config.data = ConfigDict({"path": "episodes.npz"})
    config.source = ConfigDict({"name": "jaxrl.replay.memory", "batch_size": 4, "horizon": 3})
    network = {"name": "jaxrl.networks.state_mlp", "hidden": (4,)}
    codebooks = {"codes": 3, "size": 4}
    own = {"name": "jaxrl.objectives.vqbet", "stage": stage, "hidden": (4,), "codebooks": codebooks, "network": network}
    denoiser = {"name": "jaxrl.networks.transformer_denoiser", "layers": 1, "heads": 2, "size": 8}
    flow = {"name": "jaxrl.objectives.flow", "network": denoiser}
    consistency = {"name": "jaxrl.objectives.consistency", "teacher": "flow", "network": denoiser}
    own = {"flow": flow, "consistency": consistency}.get(stage, own)
    config.objectives = ConfigDict({"own": own})
    config.algorithm = ConfigDict({"name": "jaxrl.algorithms.supervised"})
    config.training = ConfigDict({"total_updates": 2, "updates_per_call": 2})
    return config
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment, a recording that it learns from, and the run of its first stage."""
    folder = tmp_path_factory.mktemp("stages")
    draws = np.random.default_rng(0)
    seen, action = (draws.normal(size=(9, 2)).astype(np.float32) for _ in range(2))
    save(folder / "episodes.npz", Recording({"state/a": seen}, action, np.zeros(9, np.float32), np.array([4, 9]), SPEC))
    (folder / "two_stages.py").write_text(EXPERIMENT)
    assert train(folder, "codes") == 0
    return folder


def train(folder: Path, stage: str, *more: str) -> int:
    words = [f"--config.data.path={folder / 'episodes.npz'}", "--skip-evaluation", *more]
    return main(["train", "--config", f"{folder / 'two_stages.py'}:{stage}", "--workdir", str(folder / stage), *words])


def made(folder: Path, **changes: Any) -> Any:
    config = configs.load(f"{folder / 'two_stages.py'}:policy", (f"--config.data.path={folder / 'episodes.npz'}",))
    return assemble(configs.build(Settings, configs.plain(config) | changes))


def test_the_second_stage_has_what_the_first_has_learnt(folder, capsys):
    assert train(folder, "policy", f"--config.pretrained={folder / 'codes'}") == 0
    first, second = runs.learnt(folder / "codes"), runs.learnt(folder / "policy")
    given = flatten_names(first.params) | flatten_names(first.statistics.objectives)
    kept = flatten_names(second.statistics.objectives)
    assert given and given.keys() <= kept.keys() and not any(name.startswith("codes/") for name in flatten_names(second.params))
    for name, x in given.items():
        np.testing.assert_array_equal(kept[name], x)
    # A run that goes on has its own parameters: the other one is no longer needed.
    (folder / "codes").rename(folder / "elsewhere")
    try:
        resumed = ("--resume", "--force", "--config.training.total_updates=4")
        assert train(folder, "policy", f"--config.pretrained={folder / 'codes'}", *resumed) == 0
    finally:
        (folder / "elsewhere").rename(folder / "codes")


def test_what_does_not_fit_is_refused_by_name(folder):
    where = str(folder / "codes")
    wrong = made(folder, pretrained=where, source={"name": "jaxrl.replay.memory", "batch_size": 4, "horizon": 2})
    with pytest.raises(ValueError, match=r"pretrained codes/decoder/output/bias has the shape \(6,\), but this model has \(4,\)"):
        jax.eval_shape(wrong.algorithm.init, jax.random.key(0))
    bc = {"bc": {"name": "jaxrl.objectives.bc", "network": {"name": "jaxrl.networks.state_mlp"}}}
    with pytest.raises(ValueError, match=r"pretrained codes/.* but this model has no such parameter; there are bc/"):
        jax.eval_shape(made(folder, pretrained=where, objectives=bc).algorithm.init, jax.random.key(0))


def test_other_scales_are_told_of(folder):
    with pytest.warns(UserWarning, match="scaled otherwise than here: mean/action, mean/state/a, variance/action, variance/state/a differ"):
        made(
            folder,
            pretrained=str(folder / "codes"),
            source={"name": "jaxrl.replay.memory", "batch_size": 4, "horizon": 3, "scale": "bounds"},
        )


def test_where_there_is_no_run_or_nothing_to_begin_with(folder):
    with pytest.raises(FileNotFoundError, match="nowhere: no run here"):
        made(folder, pretrained="nowhere")
    with pytest.raises(ValueError, match=r"config.pretrained: is for what learns from data"):
        made(folder, pretrained=str(folder / "codes"), objectives={})


# A teacher and its student


@pytest.fixture(scope="module")
def teacher(folder: Path) -> Path:
    assert train(folder, "flow") == 0
    return folder / "flow"


def test_a_student_begins_as_its_teacher_and_keeps_it(folder, teacher):
    assert train(folder, "consistency", f"--config.pretrained={teacher}", "--config.algorithm.optimizer.learning_rate=1e-30") == 0
    first, second = runs.learnt(teacher), runs.learnt(folder / "consistency")
    given, kept = flatten_names(first.params), flatten_names(second.statistics.objectives)
    assert given and all(name.startswith("flow/") for name in given)
    assert {name for name in kept if name.startswith("flow/")} == given.keys()
    student = flatten_names(second.params)
    assert len(student) == len(given)
    for name, x in given.items():
        np.testing.assert_array_equal(kept[name], x)
        np.testing.assert_allclose(student[name.replace("flow/", "consistency/")], x, atol=1e-20)


def test_a_student_without_a_teacher_is_refused(folder, teacher, capsys):
    assert train(folder, "consistency", "--force") != 0
    assert "config.pretrained: missing; config.objectives.own learns from a run that is there" in capsys.readouterr().err
    with pytest.raises(
        ValueError, match=r"codes, for config.objectives.own: consistency learns from jaxrl.objectives.flow, but that run has"
    ):
        config = configs.load(f"{folder / 'two_stages.py'}:consistency", (f"--config.data.path={folder / 'episodes.npz'}",))
        assemble(configs.build(Settings, configs.plain(config) | {"pretrained": str(folder / "codes")}))


# Factors of low rank


def test_a_run_with_factors_is_evaluated_and_begins_another_one(folder, teacher):
    lora = "--config.algorithm.lora={'(query|key)/kernel$': {'rank': 1}}"
    words = (lora, "--config.algorithm.frozen_dtype=bfloat16")
    assert train(folder, "flow", f"--workdir={folder / 'adapted'}", f"--config.pretrained={teacher}", *words) == 0
    assert main(["eval", str(folder / "adapted")]) == 0
    told = json.loads((folder / "adapted" / "evaluation.json").read_text())
    assert np.isfinite(told["on_data"]["loss"]["loss"])
    learnt = runs.learnt(folder / "adapted")
    assert not any(name.endswith("kernel/a") for name in flatten_names(learnt.params))
    begun = made(folder, pretrained=str(folder / "adapted"), objectives=of_stage(folder, "flow")).algorithm
    state = jax.jit(begun.init)(jax.random.key(3))
    for name, x in flatten_names(state.params).items():
        np.testing.assert_array_equal(x, flatten_names(learnt.params)[name])


def test_a_run_becomes_a_file(folder, teacher, capsys):
    out = folder / "teacher.safetensors"
    assert main(["weights", str(teacher), "--out", str(out)]) == 0
    assert "of update 2" in capsys.readouterr().out
    learnt = runs.learnt(teacher)
    with safe_open(str(out), "numpy") as file:
        told = {name: json.loads(text) for name, text in file.metadata().items() if name != "format"}
        for name, x in flatten_names({"params": learnt.params, "statistics": learnt.statistics}).items():
            np.testing.assert_array_equal(file.get_tensor(name), x)
    assert told["config"]["objectives"]["own"]["name"] == "jaxrl.objectives.flow" and told["spec"]["horizon"] == 3
    assert told["versions"]["jax"] == jax.__version__ and told["update"] == 2
    with pytest.raises(SystemExit):
        main(["weights", str(teacher), "--out", "teacher.npz"])
    assert "must end in .safetensors" in capsys.readouterr().err


def of_stage(folder: Path, stage: str) -> Any:
    return configs.plain(configs.load(f"{folder / 'two_stages.py'}:{stage}"))["objectives"]
