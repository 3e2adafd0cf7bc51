"""What `jaxrl data info --plan` tells before training, against what is drawn and held."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jaxrl.cli.main import main
from jaxrl_data.dataset_source import Config, dataset_source
from jaxrl_data.members import Set
from jaxrl_data.mixture import Images
from jaxrl_data.planning import padded
from jaxrl_data.samples import open_mixture
from tests.data.caches import made
from tests.data.episodes import FEATURES

COLUMNS = {"state/pose": "state", "action": "action", "image/front": "front"}
EXPERIMENT = """
from ml_collections import ConfigDict

def get_config():
    columns = {columns}
    source = {{"name": "jaxrl_data.dataset_source", "sets": {{"made": {{"path": {path!r}, "columns": columns}}}}, "batch_size": 8,
              "horizon": 3, "images": {{"size": 16}}, "threads": 2, "prefetch": 2}}
    network = {{"name": "jaxrl.networks.state_mlp", "hidden": (4,)}}
    return ConfigDict({{
        "source": source, "algorithm": {{"name": "jaxrl.algorithms.supervised"}},
        "objectives": {{"bc": {{"name": "jaxrl.objectives.bc", "network": network}}}},
        "training": {{"total_updates": 20, "updates_per_call": 10}},
    }})
"""


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "experiment.py").write_text(EXPERIMENT.format(columns=COLUMNS, path=str(made(folder / "cache"))))
    return folder / "experiment.py"


def test_a_plan_tells_what_is_drawn_and_held(experiment, capsys):
    assert main(["data", "info", "--plan", str(experiment), "--config.training.total_updates=40"]) == 0
    told = capsys.readouterr().out
    batch = 8 * (16 * 16 * 3 + 4 * (3 + 6 + 6 + 2))  # an image; pose, action and mask, two entries of presence
    parameters = 4 * (3 * 4 + 4 + 4 * 6 + 6)
    for word in (
        "40 updates of 8 samples, 320 in all",
        "7 ",
        "34",
        "9.41",
        "nothing",
        f"{4 * batch / 1000:.4g} kB",
        "364 bytes",
        "16 x 16 x 3",
    ):
        assert word in told, (word, told)
    assert f"{2 * batch / 1000:.4g} kB" in told
    state = float(told.split("device/train_state │")[1].split()[0])
    assert 3 * parameters <= state <= 3 * parameters + 200  # Adam has two moments; the rest are counters and the normaliser
    assert "its statistics are not there yet" in told
    assert main(["data", "info", "--plan", str(experiment), "--hosts", "2"]) == 0
    assert f"{2 * batch / 1000:.4g} kB" in (told := capsys.readouterr().out) and "reads 4 of a batch" in told


def test_what_cannot_be_planned_is_said(experiment, tmp_path, capsys):
    other = tmp_path / "other.py"
    other.write_text(experiment.read_text().replace("jaxrl_data.dataset_source", "jaxrl.replay.memory"))
    for words, message in (
        (["--plan", str(other)], "config.source.name is 'jaxrl.replay.memory', but data sets are read by jaxrl_data.dataset_source or"),
        (["--plan", str(experiment), "--hosts", "3"], "batch_size is 8, which 3 hosts do not divide"),
        (["--plan", str(experiment), "--hosts", "0"], "hosts is 0, but must be at least 1"),
        (["--plan", str(experiment), "--config.devices=3"], "batch_size is 8, which 3 devices do not divide"),
        (["--plan", str(experiment), str(tmp_path)], "takes the path of a data set, or --plan"),
        ([], "takes the path of a data set, or --plan"),
    ):
        assert main(["data", "info", *words]) == 1
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["data", "info", str(tmp_path), "--config.devices=3"])


def test_padding_is_told_by_name(tmp_path):
    from dataclasses import replace

    def features(names):
        spec = replace(FEATURES.arrays["action"], names=names, unit="rad")
        return replace(FEATURES, arrays=FEATURES.arrays | {"action": spec})

    sets = {
        name: Set(str(made(tmp_path / name, features=features(names))), columns={one: of for one, of in COLUMNS.items() if one != unseen})
        for name, names, unseen in (("one", ("elbow", "wrist"), ""), ("other", ("gripper", "elbow"), "image/front"))
    }
    samples = open_mixture(Config(sets=sets, images=Images(8, cameras=("front",))))
    assert padded(samples.fed["one"]) == ["action: gripper (1 of 3)"]
    assert padded(samples.fed["other"]) == ["action: wrist (1 of 3)", "images: front (1 of 1)"]


MEASURED = """
import json, sys, time
import jax
from jaxrl_data.dataset_source import Config, dataset_source
from jaxrl_data.members import Set
from jaxrl_data.mixture import Images

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024

fields = json.loads(sys.argv[1])
columns = {"state/pose": "state", "action": "action", "image/front": "front"}
config = Config(sets={"made": Set(fields["path"], columns=columns)}, batch_size=64, images=Images(512), threads=2, prefetch=3)
source = dataset_source(config).source
state, key = source.init(jax.random.key(0), ()), jax.random.key(0)
jax.block_until_ready(jax.numpy.zeros(3))
before = peak()
for _ in range(12):
    state, batch = source.next(state, (), key)
    time.sleep(0.1)  # a training step that is slower than the loader: all that may wait does
print(json.dumps({"grown": peak() - before}))
source.close()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell what a process holds")
def test_no_more_is_held_than_was_told(tmp_path):
    """Within a factor of 1.5 of the plan, on either side; on a CPU the device's batches are in the same memory."""
    folder = made(tmp_path / "cache")
    chosen = Config(sets={"made": Set(str(folder), columns=COLUMNS)}, batch_size=64, images=Images(512), threads=2, prefetch=3)
    allocation = dataset_source(chosen).source.allocation
    batch = 64 * (512 * 512 * 3 + 4 * (3 + 2 + 2 + 2))
    assert allocation["host/data/batches"] == 5 * batch
    ran = subprocess.run([sys.executable, "-c", MEASURED, json.dumps({"path": str(folder)})], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    grown, expected = json.loads(ran.stdout)["grown"], sum(allocation.values()) + 2 * batch
    assert expected / 1.5 < grown < expected * 1.5, (grown, expected)
