"""`jaxrl data` on a small data set in memory, and on the real ones where they are."""

import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxrl.cli.main import main
from jaxrl.types import ArraySpec
from jaxrl_data import commands
from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import Episode, Features
from jaxrl_data.open import open_dataset
from jaxrl_data.statistics import load
from tests.data.oracles import dataset

FEATURES = Features(
    arrays={"action": ArraySpec((2,), "float32", ("x", "gripper"), "m")},
    images={"front": ArraySpec((8, 8, 3), "uint8")},
    texts=("instruction",),
    rate=10.0,
)


def _image(shade: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(file, "PNG")
    return file.getvalue()


def _dataset(split: str, shade: int = 100) -> Dataset:
    episodes = []
    for index in range(13):
        steps, place = 4 + index % 3, 100 * ("train", "val").index(split) + index
        rows = np.random.default_rng(place).normal(size=(steps, 2)).astype(np.float32)
        images = {"front": [_image(shade)] * steps}
        episodes.append(Episode(f"episode {place}", {"action": rows}, images, {"instruction": ["go"] * steps}))
    return dataset("set/1", FEATURES, episodes)._replace(split=split, fingerprint=f"of {split}")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder with two files that is taken for a data set with the splits val and train."""
    (tmp_path / "set" / "inner").mkdir(parents=True)
    (tmp_path / "set" / "a").write_bytes(bytes(1500))
    (tmp_path / "set" / "inner" / "b").write_bytes(bytes(500))
    for module in ("jaxrl_data.commands", "jaxrl_data.console", "jaxrl_data.validate"):
        monkeypatch.setattr(f"{module}.splits", lambda path: ("val", "train"))
        monkeypatch.setattr(f"{module}.open_dataset", lambda path, split=None: _dataset(split or "val"))
    return str(tmp_path / "set")


def test_info_tells_sizes_rate_units_and_bytes(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "info", path]) == 0
    told = capsys.readouterr().out
    for word in ("train", "val", "13", "64", "x, gripper", "m", "8 x 8 x 3", "image, uint8", "instruction", "10 steps per second", "2 kB"):
        assert word in told, told
    assert main(["data", "info", path, "--quick"]) == 0
    assert "64" not in capsys.readouterr().out  # steps are not counted


def test_stats_are_of_the_train_split_and_saved(path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "stats", path, "--out", str(tmp_path / "statistics.json"), "--floor", "100"]) == 0
    told = capsys.readouterr().out
    assert "action (m): 64 steps" in told and "gripper" in told and "quantiles are exact" in told and "below 100" in told
    held, rows = load(str(tmp_path / "statistics.json")), [one.arrays["action"] for one in _dataset("train").read(0, 13)]
    assert held.fingerprint == "of train" and held.episodes == 13
    np.testing.assert_allclose(held.columns["action"].mean, np.concatenate(rows).mean(axis=0, dtype=np.float64))


def test_workers_come_to_the_same(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "ProcessPoolExecutor", lambda workers, mp_context: ThreadPoolExecutor(workers))
    for workers in ("1", "3"):
        assert main(["data", "stats", path, "--workers", workers, "--out", str(tmp_path / workers)]) == 0
    one, other = (json.loads((tmp_path / workers).read_text()) for workers in ("1", "3"))
    for field in ("q01", "q50", "q99", "min", "max", "steps"):
        assert one["columns"]["action"][field] == other["columns"]["action"][field]
    np.testing.assert_allclose(one["columns"]["action"]["std"], other["columns"]["action"]["std"], rtol=1e-13)
    assert main(["data", "stats", path, "--workers", "0"]) == 1


def test_validate_returns_one_for_errors_only(path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "validate", path]) == 0
    assert "nothing found" in capsys.readouterr().out
    monkeypatch.setattr("jaxrl_data.validate.open_dataset", lambda path, split: _dataset(split, shade=0))
    assert main(["data", "validate", path]) == 0
    told = capsys.readouterr().out
    assert "black camera" in told and "errors: 0, warnings: 2" in told
    monkeypatch.setattr("jaxrl_data.validate.open_dataset", lambda path, split: _dataset("train")._replace(split=split))
    assert main(["data", "validate", path]) == 1
    assert "13 of 13 episodes" in capsys.readouterr().out


def test_view_draws_what_was_asked_for(path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "drawn"
    assert main(["data", "view", path, "--split", "val", "--episodes", "2:4", "--out", str(out)]) == 0
    names = [f"set_1_val_00000{number}.{ending}" for number in (2, 3) for ending in ("png", "mp4")]
    assert capsys.readouterr().out.split() == [str(out / name) for name in names]
    assert sorted(one.name for one in out.iterdir()) == sorted(names)


@pytest.mark.parametrize(
    "words, message",
    [
        (["view", "--episodes", "13"], "has the episodes 0 to 12"),
        (["view", "--episodes", "5:5"], "has the episodes 0 to 12"),
        (["view", "--episodes", "last"], "should be a number"),
        (["view", "--frames", "0"], "must be at least 1"),
        (["view", "--out", __file__], "is a file, and should be a folder"),
        (["stats", "--out", "."], "is a folder, and should be the file"),
        (["info", "--hosts", "2"], "--hosts: has no effect without --plan"),
        (["convert", "--to", "rlds", "--out", "new", "--fps", "5"], "--fps: has no effect with --to rlds"),
        (["convert", "--to", "lerobot", "--out", "new", "--name", "new"], "--name: has no effect with --to lerobot"),
        (["prepare", "--out", "new", "--beam", "--processes", "2"], "--processes: has no effect with --beam"),
    ],
)
def test_what_cannot_be_is_one_line(path: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", words[0], path, *words[1:]]) == 1
    told = capsys.readouterr().err.strip()
    assert told.startswith("jaxrl data: ") and message in told and "\n" not in told


def test_columns_are_left_out_one_by_one_too(test_data: Path, tmp_path: Path) -> None:
    words = ["data", "prepare", str(test_data / "pusht_human" / "pusht_cchi_v7_replay.zarr"), "--processes", "1", "--out", str(tmp_path)]
    assert main([*words, "--without", "img", "keypoint", "--without", "n_contacts"]) == 0
    assert open_dataset(str(tmp_path)).features.names == ("action", "state")


def test_a_path_without_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in commands.COMMANDS:
        if command in ("info", "stats", "validate", "view"):
            assert main(["data", command, str(tmp_path / "none")]) == 1
            assert "there is no such file or folder" in capsys.readouterr().err


HIDDEN = """
import sys
class Hide:
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] == "{0}":
            raise ModuleNotFoundError("No module named '{0}'", name="{0}")
sys.meta_path.insert(0, Hide)
from jaxrl.cli.main import main
sys.exit(main(["data", "info", "."]))
"""


@pytest.mark.parametrize("package", ["jaxrl_data", "etils"])
def test_without_the_extra_it_says_what_to_install(package: str) -> None:
    ran = subprocess.run([sys.executable, "-c", HIDDEN.format(package)], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (1, f"jaxrl data: {package} is not installed: pip install 'jaxrl[data]'\n")


def test_no_tensorflow_is_loaded() -> None:
    words = "import sys, jaxrl_data.commands, jaxrl_data.view; assert not {'tensorflow', 'tensorflow_datasets'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", words], check=True)


def test_the_real_sets(test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zarr = str(test_data / "pusht_human" / "pusht_cchi_v7_replay.zarr")
    assert main(["data", "stats", zarr, "--out", str(tmp_path / "statistics.json")]) == 0
    assert load(str(tmp_path / "statistics.json")).columns["state"].steps == 25_650
    capsys.readouterr()
    assert main(["data", "validate", str(test_data / "bridge_debug" / "1.0.0")]) == 1
    told = capsys.readouterr().out
    for word in ("splits overlap", "(100 %)", "black camera", "flag against pixels", "step flags", "errors: 1"):
        assert word in told
