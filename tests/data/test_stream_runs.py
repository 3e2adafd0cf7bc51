"""Runs that train straight from data sets: from a config, over processes, without TensorFlow, on real sets."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import zarr

from jaxrl.cli.main import main
from jaxrl.training.checkpoint import open_checkpoints
from jaxrl_data.mixture import Images
from jaxrl_data.stream_source import Config, stream_source
from jaxrl_data.streaming.members import Streamed
from tests.data.streams import LENGTHS, config, take

CONFIG = """
from ml_collections import ConfigDict

def get_config():
    config = ConfigDict()
    columns = {{"state/scene": "state", "action": "action"}}
    config.source = ConfigDict(
        {{
            "name": "jaxrl_data.stream_source",
            "sets": {{"pushes": {{"path": "{path}", "columns": columns, "block": 3, "statistics": "{statistics}"}}}},
            "batch_size": 16, "horizon": 2, "lanes": 2,
        }}
    )
    config.algorithm = ConfigDict({{"name": "jaxrl.algorithms.supervised"}})
    network = {{"name": "jaxrl.networks.state_mlp", "hidden": (8,)}}
    config.objectives = ConfigDict({{"bc": {{"name": "jaxrl.objectives.bc", "network": network}}}})
    config.training = ConfigDict({{"total_updates": 4, "updates_per_call": 2}})
    return config
"""


def test_a_run_trains_from_a_config_and_goes_on_as_if_it_had_not_stopped(tmp_path, capsys):
    path, statistics = tmp_path / "pushes.zarr", tmp_path / "statistics.json"
    group, ends = zarr.open_group(str(path), mode="w", zarr_format=2), np.cumsum(LENGTHS)
    rows = np.random.default_rng(0).normal(size=(ends[-1], 3)).astype(np.float32)
    for name, values in {"data/state": rows, "data/action": rows[:, :2], "meta/episode_ends": ends}.items():
        group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=(8, *values.shape[1:]))[:] = values
    assert main(["data", "stats", str(path), "--out", str(statistics)]) == 0
    file = tmp_path / "bc.py"
    file.write_text(CONFIG.format(path=path, statistics=statistics))

    def run(folder, *more):
        assert main(["train", "--config", str(file), "--workdir", str(tmp_path / folder), *more]) == 0, capsys.readouterr().err
        return last(tmp_path / folder)

    whole = run("whole")
    run("cut", "--config.training.total_updates=2")
    assert run("cut", "--resume", "--force") == whole
    assert whole["update"] == 4 and np.isfinite(whole["loss"])
    told = json.loads((tmp_path / "whole" / "data.json").read_text())["pushes"]
    assert told["statistics"]["columns"]["action"]["steps"] == ends[-1]
    held = json.loads(statistics.read_text())
    held["columns"]["action"]["mean"][1] += 0.5
    statistics.write_text(json.dumps(held))
    assert main(["train", "--config", str(file), "--workdir", str(tmp_path / "whole"), "--resume"]) == 1
    assert "sets.pushes: statistics do not fit the checkpoint's: action, dimension" in capsys.readouterr().err


def last(folder):
    """The last line of the metrics, but for what tells of time and of this process."""
    told = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    return {
        name: value
        for name, value in told.items()
        if not name.endswith(("seconds", "bytes")) and not name.startswith(("speed/", "memory/"))
    }


OF_TWO_PROCESSES = """
import contextlib, sys
import jax
import numpy as np
port, process, folder = sys.argv[1:]
jax.distributed.initialize(f"localhost:{port}", 2, int(process))
from jaxrl.distributed.mesh import data_mesh
from jaxrl.training.checkpoint import open_checkpoints
from jaxrl.training.checkpoint import open_checkpoints
from jaxrl_data.mixture import Images
from jaxrl_data.open import Apart
from jaxrl_data.stream_source import Config, stream_source
from jaxrl_data.streaming import members
from tests.data.episodes import dataset
lengths = (5, 3, 8, 1, 6, 4, 7, 2, 9)
columns = {"state/pose": "state", "action": "action", "image/front": "front"}
sets = {"made": members.Streamed("made", columns=columns, block=2)}
config = Config(sets=sets, batch_size=8, horizon=3, lanes=4, threads=2, images=Images(16, pad=False))
members.splits = lambda path: ("train",)
members.open_apart = lambda asked: Apart({"made": dataset(lengths)}, lambda: None)
source = stream_source(config, data_mesh(4)).source

def own(batch):
    pose = batch["observation"]["state/pose"]
    assert pose.shape == (8, 3) and len(pose.addressable_shards) == 2
    return np.concatenate([np.asarray(one.data) for one in pose.addressable_shards])

state, rows = source.init(jax.random.key(0), ()), []
for _ in range(3):
    state, batch = source.next(state, (), jax.random.key(0))
    rows.append(own(batch))
source.metrics(state)
with contextlib.closing(open_checkpoints(folder + "/checkpoints")) as checkpoints:
    checkpoints.save(3, {"source_state": state}, {})
    checkpoints.wait()
    like = source.init(jax.random.key(0), ())
    again = checkpoints.restore({"source_state": like})[0]["source_state"]
assert int(again.samples) == 24
_, batch = source.next(again, (), jax.random.key(0))
np.save(f"{folder}/{process}.npy", np.array([*rows, own(batch)]))
source.close()
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:sets.made. names no statistics")
def test_two_processes_and_then_one(sets, tmp_path):
    """A real run on two processes of two devices each: every one reads its lanes, and what they saved together is gone on with by one."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    environment = os.environ | flags | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-c", OF_TWO_PROCESSES, port]
    running = [subprocess.Popen([*command, str(process), str(tmp_path)], env=environment) for process in (0, 1)]
    assert [one.wait(120) for one in running] == [0, 0]
    whole = [np.asarray(batch["observation"]["state/pose"]) for batch, _ in take(config(), 4)]
    parts = [np.load(tmp_path / f"{process}.npy") for process in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    source = stream_source(config()).source
    with contextlib.closing(open_checkpoints(tmp_path / "checkpoints")) as checkpoints:
        state = checkpoints.restore({"source_state": source.init(jax.random.key(0), ())})[0]["source_state"]
    np.testing.assert_array_equal(source.next(state, (), jax.random.key(0))[1]["observation"]["state/pose"], whole[3])
    source.close()


IN_A_PROCESS = """
import sys
import numpy as np
from jaxrl_data.mixture import Images
from jaxrl_data.stream_source import Batches, Config, Streamed, open_mixed
columns = {"state/eef": "observation/state", "action": "action", "image/front": "observation/image_0"}
sets = {"bridge": Streamed(sys.argv[1], columns=columns, block=7)}
config = Config(sets=sets, batch_size=10, lanes=2, images=Images(32), threads=2)
mixed = open_mixed(config)
batches = Batches(config, mixed, 0, np.zeros((1, 2, 2), np.int32))
found = np.concatenate([next(batches)[0]["observation"]["state/eef"] for _ in range(25)])
every = np.concatenate([one.arrays["observation/state"] for one in mixed.streams["bridge"].dataset.read(0, 25)])
mixed.close()
batches.close()
assert "tensorflow" not in sys.modules, "a process that trains must not import it"
assert found.shape == every.shape == (250, 7)
seen = set(map(bytes, found))
assert seen <= set(map(bytes, every)) and len(seen) > 180, "an epoch, but for the lane that is ahead"
"""


def test_bridge_without_tensorflow_in_the_process_that_trains(test_data: Path) -> None:
    path = str(test_data / "bridge_debug/1.0.0")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry), "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", IN_A_PROCESS, path], env=environment, check=True)


def test_a_real_lerobot_set(test_data: Path) -> None:
    path = str(test_data / "g1_yellow_bottle")
    columns = {
        "state/joints": "observation.state",
        "action": "action",
        "image/high": "observation.images.cam_high",
    }
    chosen = Config(sets={"g1": Streamed(path, columns=columns, block=1)}, batch_size=16, lanes=1, images=Images(64), horizon=4)
    (batch, _), (_, places) = take(chosen, 2)
    assert batch["observation"]["image/high"].shape == (16, 64, 64, 3) and batch["observation"]["image/high"].std() > 10
    assert batch["action"].shape == (16, 4, 26) and places.tolist() == [[[0, 32]]]
    assert np.unique(batch["observation"]["state/joints"], axis=0).shape[0] == 16
