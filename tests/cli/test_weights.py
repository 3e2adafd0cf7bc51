"""A run with factors and averages, as a file, and a network that begins with it."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algorithms import supervised
from jaxrl.cli import info, weights
from jaxrl.cli import run as runs
from jaxrl.cli.main import main
from jaxrl.networks.vla import pi0
from jaxrl.objectives import flow
from jaxrl.ops import running_statistics
from jaxrl.ops.low_rank import LowRank
from jaxrl.ops.paths import flatten_names
from jaxrl.replay.recording import Recording, save
from jaxrl.types import ArraySpec, PolicySpec
from tests.networks.vla.small import ACTION, KEY, OBSERVATION, SEEING

META = {"config": {}, "spec": "{}", "versions": {}, "code_version": None, "update": 2}
LORA = {"text/layers/(query|value)/kernel$": LowRank(1, 2.0, apart=True)}


def learner(weights: str = "", **fields):
    network = pi0.pi0(pi0.Config(SEEING, ACTION, 4, weights=weights), OBSERVATION, (3, 2))
    spec = PolicySpec(OBSERVATION, ArraySpec((2,)), horizon=3)
    objective = flow.flow(flow.Config(), spec, network)
    config = supervised.Config(frozen=("vision/",), ema_decay=0.9, **fields)
    return supervised.supervised(config, {"flow": objective}, {"flow": 1.0}, running_statistics.init({"action": ArraySpec((2,))}))


def test_what_is_deployed_is_what_a_network_begins_with(tmp_path: Path):
    adapted = learner(lora=LORA, frozen_dtype="bfloat16")
    state = jax.jit(adapted.init)(KEY)
    averages = jax.tree.map(lambda x: x + 0.1, state.extra.ema)
    deployed = adapted.deployable(state._replace(extra=supervised.Extra(averages)))
    file = tmp_path / "learnt.safetensors"
    weights.write(file, weights.arrays(deployed), META)
    assert file.stat().st_mode & 0o777 == 0o644
    begun = jax.jit(learner(str(file)).init)(KEY)
    params = flatten_names(begun.params) | flatten_names(begun.frozen)
    assert params.keys() == (flatten_names(deployed.params) | flatten_names(deployed.frozen)).keys()
    for path, x in flatten_names(averages).items():
        if "/kernel/" not in path:
            np.testing.assert_array_equal(params[path], x)
    base, of = flatten_names(state.frozen), flatten_names(averages)
    query = "flow/text/layers/query/kernel"
    summed = np.asarray(base[query], np.float32) + 2.0 * np.einsum("lir,lro->lio", of[f"{query}/a"], of[f"{query}/b"])
    np.testing.assert_allclose(params[query], summed, rtol=1e-6)
    vision = "flow/vision/patches/kernel"
    np.testing.assert_array_equal(params[vision], base[vision].astype(jnp.float32))


EXPERIMENT = """
from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.data = ConfigDict({"path": "episodes.npz"})
    config.source = ConfigDict({"name": "jaxrl.replay.memory", "batch_size": 4, "horizon": 3})
    layers = {"width": 16, "depth": 2, "heads": 2, "kv_heads": 1, "head_dim": 8, "mlp": 24}
    seeing = {"vision": {"image": 16, "patch": 8, "width": 8, "depth": 1, "heads": 2, "mlp": 16}, "text": {**layers, "vocabulary": 12}}
    network = {"name": "jaxrl.networks.vla.pi0", "seeing": seeing, "action": {**layers, "vocabulary": 0}, "action_dim": 4}
    config.objectives = ConfigDict({"flow": {"name": "jaxrl.objectives.flow", "inference_steps": 2, "network": network}})
    config.policies = ({"name": "receding_horizon", "executed_steps": 3},)
    config.algorithm = ConfigDict({"name": "jaxrl.algorithms.supervised"})
    config.training = ConfigDict({"total_updates": 2, "updates_per_call": 2})
    return config
"""


@pytest.mark.slow
def test_a_run_is_rounded_written_and_begun_with(tmp_path: Path):
    draws = np.random.default_rng(0)
    spec = {"image/a": ArraySpec((16, 16, 3), "uint8"), "task/instruction": ArraySpec((3,), "int32")}
    seen = {name: draws.integers(0, 12, (9, *one.shape)).astype(one.dtype) for name, one in spec.items()}
    action = draws.normal(size=(9, 2)).astype(np.float32)
    save(tmp_path / "episodes.npz", Recording(seen, action, np.zeros(9, np.float32), np.array([4, 9]), PolicySpec(spec, ArraySpec((2,)))))
    (tmp_path / "small_pi0.py").write_text(EXPERIMENT)
    words = ["--config", str(tmp_path / "small_pi0.py"), f"--config.data.path={tmp_path / 'episodes.npz'}", "--skip-evaluation"]
    run, file = tmp_path / "run", tmp_path / "run.safetensors"
    assert main(["train", *words, "--workdir", str(run)]) == 0
    assert main(["eval", str(run), "--int8"]) == 0
    told = json.loads((run / "int8.json").read_text())
    assert 0 < told["sets"]["recording"]["error"] < 0.01 and told["bytes"]["after"] < told["bytes"]["before"]
    assert told["latency"]["after"]["p50"] > 0
    assert main(["weights", str(run), "--out", str(file)]) == 0
    still = ["--config.algorithm.optimizer.learning_rate=1e-30", f"--config.objectives.flow.network.weights={file}"]
    assert main(["train", *words, "--workdir", str(tmp_path / "next"), *still]) == 0
    first, second = (flatten_names(runs.learnt(folder).params) for folder in (run, tmp_path / "next"))
    for path, x in first.items():
        np.testing.assert_allclose(second[path], x, atol=1e-20)


def test_rounding_is_for_a_run_alone(tmp_path: Path, capsys):
    with pytest.raises(SystemExit):
        main(["eval", str(tmp_path), "--int8", "--record", str(tmp_path / "more.npz")])
    assert "--int8 evaluates a run, and does nothing else" in capsys.readouterr().err


def test_weights_that_cannot_be_read_are_one_message(tmp_path: Path, capsys, monkeypatch):
    """What is raised while a program runs arrives as the text of another fault."""
    init = learner(str(tmp_path / "nowhere")).init
    monkeypatch.setattr(info, "main", lambda words: jax.block_until_ready(jax.jit(init)(KEY)))
    assert main(["info"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"jaxrl info: weights {tmp_path}/nowhere: expected a checkpoint's folder of")
    monkeypatch.setattr(
        info, "main", lambda words: jax.block_until_ready(jax.jit(lambda: jax.pure_callback(lambda: 1 / 0, jnp.zeros(())))())
    )
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):  # which is no fault of the user's
        main(["info"])
