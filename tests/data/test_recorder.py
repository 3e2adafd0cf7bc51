"""Episodes written while they are played: the same as a recording that is converted, few in memory, gone on with, safe from kill -9."""

import fcntl
import gc
import json
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxrl.types import ArraySpec, PolicySpec
from jaxrl_data.dataset import Dataset
from jaxrl_data.open import open_dataset
from jaxrl_data.recorder import INSTRUCTION, played, recorder, write
from jaxrl_data.rlds import writer_apart
from jaxrl_data.rlds.writer_apart import rlds_writer_apart
from tests.data.oracles import lerobot_episodes, pixels, rlds_episodes
from tests.golden.lerobot_written import CAMERA, FEATURES, episode

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # TensorFlow's and tensorflow-datasets' own
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
SPEC = PolicySpec(
    {"state/joints": ArraySpec((2,), names=("a", "b"), unit="rad"), "image/front": ArraySpec((16, 16, 3), "uint8")},
    ArraySpec((1,), names=("slide",), unit="N"),
    rate=20.0,
)
READ = {"rlds": rlds_episodes, "lerobot": lerobot_episodes}


def arrays(number: int) -> dict[str, np.ndarray]:
    """What a recording holds of episode `number`, of 3 + number steps; the even ones terminate."""
    random, steps = np.random.default_rng(number), 3 + number
    shade = np.full((steps + 1, 16, 16, 3), 20 * number + np.arange(steps + 1)[:, None, None, None], np.uint8)
    joints = random.normal(size=(steps + 1, 2)).astype(np.float32)
    return {
        "observation/state/joints": joints[:-1],
        "observation/image/front": shade[:-1],
        "action": random.normal(size=(steps, 1)).astype(np.float32),
        "reward": random.normal(size=steps).astype(np.float32),
        "final_observation/state/joints": joints[-1:],
        "final_observation/image/front": shade[-1:],
        "terminated": np.array([number % 2 == 0]),
        "episode_ends": np.array([steps]),
    }


class Playing:
    """Counts what is asked for, and stops before an episode with an error if it is told to."""

    def __init__(self, stops_before: int = 100) -> None:
        self.asked: list[tuple[int, int]] = []
        self.stops_before = stops_before

    def __call__(self, first: int, last: int) -> Iterator[dict[str, np.ndarray]]:
        self.asked.append((first, last))
        for number in range(first, last):
            if number == self.stops_before:
                raise ValueError("the simulator fell over")
            yield arrays(number)


def playing(play: Any, size: int = 4, fingerprint: str = "of the policy") -> Dataset:
    return played("reach", SPEC, size, play, fingerprint, "reach for it")


@pytest.fixture(scope="module", params=READ)
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four episodes, of which the first call wrote two."""
    folder = tmp_path_factory.mktemp("recorded") / request.param
    options = {"codec": "libx264"} if request.param == "lerobot" else {}
    with pytest.raises(ValueError, match="the simulator fell over"):
        write(playing(Playing(stops_before=2)), str(folder), request.param, **options)
    assert len(READ[request.param](folder)) == 2
    play = Playing()
    assert write(playing(play), str(folder), request.param, **options) == 2
    assert play.asked == [(2, 4)]  # what is there is not played again
    return folder


def test_values_names_and_how_episodes_ended_are_kept(recorded: Path) -> None:
    names = {"rlds": ("observation/state/joints", "reward", "observation/image/front", INSTRUCTION)}
    names["lerobot"] = ("observation.state.joints", "next.reward", "observation.images.front", "task")
    joints, reward, camera, text = names[recorded.name]
    for number, found in enumerate(READ[recorded.name](recorded)):
        given = arrays(number)
        np.testing.assert_array_equal(found.arrays[joints], given["observation/state/joints"])
        np.testing.assert_array_equal(found.arrays["action"].reshape(-1, 1), given["action"])
        np.testing.assert_array_equal(found.arrays[reward].ravel(), given["reward"])
        assert found.texts[text] == ["reach for it"] * (3 + number)
        for image, array in zip(found.images[camera], given["observation/image/front"], strict=True):
            assert np.abs(pixels(image).astype(int) - array).max() <= (2 if recorded.name == "lerobot" else 0)
        if recorded.name == "rlds":
            assert found.arrays["is_terminal"].tolist() == [False] * (2 + number) + [number % 2 == 0]
            assert found.arrays["is_last"].tolist() == [False] * (2 + number) + [True]
    data = open_dataset(str(recorded))
    assert (data.split, data.size, data.features.rate) == ("train", 4, 20.0)
    assert (data.features.arrays[joints].names, data.features.arrays[joints].unit) == (("a", "b"), "rad")
    assert (data.features.arrays["action"].names, data.features.arrays["action"].unit) == (("slide",), "N")
    for number, found in enumerate(data.read(0, 4)):
        assert (found.name, found.metadata["terminated"]) == (f"reach/{number}", number % 2 == 0)
        final = arrays(number)["final_observation/state/joints"][0]
        np.testing.assert_allclose(found.metadata["final_observation"]["state/joints"], final)


def test_another_policy_and_fewer_episodes_are_refused(recorded: Path) -> None:
    with pytest.raises(ValueError, match="jaxrl.json tells of another data set"):
        write(playing(Playing(), fingerprint="of another"), str(recorded), recorded.name)
    if recorded.name == "lerobot":  # by what both formats share
        with pytest.raises(ValueError, match="has 3 episodes, but its copy 4 already"):
            write(playing(Playing(), size=3), str(recorded), "lerobot", codec="libx264")
        assert write(playing(Playing()), str(recorded), "lerobot", codec="libx264") == 0


def test_a_folder_of_another_format_is_left_alone(recorded: Path) -> None:
    """Readers would find one of the two."""
    before, other = sorted(recorded.rglob("*")), next(name for name in READ if name != recorded.name)
    with pytest.raises(ValueError, match=r"is not empty \(.*\), and holds no .* data set; choose another folder"):
        write(playing(Playing()), str(recorded), other)
    assert sorted(recorded.rglob("*")) == before


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    for path, message in (
        (tmp_path, r"is not empty \(notes.txt\), and holds no LeRobot"),
        (tmp_path / "notes.txt", "is a file, and should"),
    ):
        with pytest.raises(ValueError, match=message):
            write(playing(Playing()), str(path), "lerobot")
    assert [path.name for path in tmp_path.rglob("*")] == ["notes.txt"]


def test_episodes_are_let_go_as_soon_as_they_are_written(tmp_path: Path) -> None:
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0

    def play(first: int, last: int) -> Iterator[dict[str, np.ndarray]]:
        nonlocal most
        for number in range(first, last):
            gc.collect()
            most = max(most, sum(one() is not None for one in alive))
            made = arrays(number % 5)
            alive.append(weakref.ref(made["action"]))
            yield made
            del made

    write(playing(play, size=8), str(tmp_path / "set"), "lerobot", codec="image")
    assert len(alive) == 8 and most <= 1


def test_episodes_of_a_recording_that_do_not_fit_are_named(tmp_path: Path) -> None:
    def play(first: int, last: int) -> Iterator[dict[str, np.ndarray]]:
        yield arrays(0)
        yield arrays(1) | {"action": np.zeros((4, 2), np.float32)}

    with pytest.raises(ValueError, match=r"reach: reach/1: action is float32 \(2,\), but should be float32 \(1,\)"):
        write(playing(play), str(tmp_path / "set"), "lerobot", codec="image")
    assert open_dataset(str(tmp_path / "set")).size == 1


def test_step_by_step_by_the_names_of_a_robot(tmp_path: Path) -> None:
    features = playing(Playing()).features
    writer = recorder(str(tmp_path), "rlds", features, "MyRobot-v1", fingerprint="x")
    given = arrays(0)
    for ended in (True, False):
        writer.begin(f"episode that ended: {ended}")
        for step in range(3):
            row = {name: given[name][step] for name in ("observation/state/joints", "action", "reward")}
            writer.step(row, {"observation/image/front": given["observation/image/front"][step]}, {INSTRUCTION: "go"})
        writer.end(ended)
    assert writer.size() == 2
    writer.close()
    found = rlds_episodes(tmp_path)
    assert [one.arrays["is_terminal"][-1] for one in found] == [True, False]
    np.testing.assert_array_equal(found[1].arrays["observation/state/joints"], given["observation/state/joints"])
    assert json.loads((tmp_path / "dataset_info.json").read_text())["name"] == "my_robot_v1"
    assert open_dataset(str(tmp_path)).features.rate == 20
    with pytest.raises(ValueError, match="'hdf5' is no format to record"):
        recorder(str(tmp_path), "hdf5", features, "robot")


def test_the_process_that_writes_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children = []
    start = writer_apart.start
    monkeypatch.setattr(writer_apart, "start", lambda module: children.append(start(module)) or children[-1])
    with pytest.raises(ValueError, match="'Bad-Name' is no name for a TFDS data set"):
        rlds_writer_apart(str(tmp_path / "bad"), "Bad-Name", FEATURES)
    assert children[0].returncode is not None
    writer = rlds_writer_apart(str(tmp_path / "set"), "good", FEATURES)
    writer.add(episode(0))
    one = episode(1)
    with pytest.raises(ValueError, match="episode 1: observation.images.top, step 1: is neither JPEG nor PNG"):
        writer.add(one._replace(images={CAMERA: [one.images[CAMERA][0], *[b"BM6"] * 4]}))
    writer.add(one)
    assert writer.size() == 2
    children[1].kill()
    with pytest.raises(RuntimeError, match="the process that writes ended with exit code -9"):
        writer.add(episode(2))
    writer.close()


@pytest.mark.slow
def test_a_killed_player_loses_at_most_the_open_episode(tmp_path: Path) -> None:
    """The one that plays is killed; the one that writes ends by itself, and leaves the folder whole."""
    command = [sys.executable, "-m", "tests.data.killed", "apart", str(tmp_path), "0"]
    player = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
    told = tmp_path / "0.added"
    while player.poll() is None and (not told.exists() or int(told.read_text() or 0) < 4):
        time.sleep(0.05)
    player.kill()
    player.wait()
    added = int(told.read_text() or 0)
    with (tmp_path / "0/.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # waits for the writer's end
    found = rlds_episodes(tmp_path / "0")
    assert added <= len(found) <= added + 1 and added >= 4
    for place, one in enumerate(found):
        np.testing.assert_array_equal(one.arrays["action"], episode(place % 50).arrays["action"])
