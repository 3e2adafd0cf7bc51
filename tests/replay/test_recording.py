import numpy as np
import pytest

from jaxrl.replay.recording import Recording, episodes, load, part_of, save, statistics
from jaxrl.types import ArraySpec, PolicySpec

SPEC = PolicySpec({"state/x": ArraySpec((3,), names=("x", "y", "z"), unit="m")}, ArraySpec((2,)), rate=50.0)


def record(lengths=(4, 1, 6), **changes) -> Recording:
    steps, generator = sum(lengths), np.random.default_rng(0)
    x, action, reward = (generator.normal(size=shape).astype(np.float32) for shape in ((steps, 3), (steps, 2), (steps,)))
    return Recording({"state/x": x}, action, reward, np.cumsum(lengths, dtype=np.int64), SPEC)._replace(**changes)


def spoilt(array: np.ndarray, row: int) -> np.ndarray:
    array = array.copy()
    array[row] = np.nan
    return array


def test_round_trip(tmp_path):
    recording = record()
    save(tmp_path / "episodes.npz", recording)
    again = load(tmp_path / "episodes.npz")
    assert again.spec == SPEC
    for a, b in zip(again[:-1], recording[:-1], strict=True):
        np.testing.assert_equal(a, b)
    assert [p.name for p in tmp_path.iterdir()] == ["episodes.npz"]


def test_statistics_against_numpy():
    recording = record(lengths=(50, 70))
    stored = statistics(recording)
    for name, array in (recording.observation | {"action": recording.action}).items():
        np.testing.assert_allclose(stored.mean[name], array.mean(0), atol=1e-6)
        np.testing.assert_allclose(stored.variance[name], array.var(0), rtol=1e-5)


@pytest.mark.parametrize(
    ("recording", "message"),
    [
        (record(observation={}), "lacks observation/state/x, which its spec names"),
        (record(observation=record().observation | {"state/y": np.zeros(11)}), "holds observation/state/y, which its spec does not name"),
        (record(episode_ends=np.zeros(0, np.int64)), "holds no steps"),
        (record(lengths=(0,)), "holds no steps"),
        (record(episode_ends=np.array([4, 4, 11])), "episode_ends must ascend"),
        (record(episode_ends=np.array([4, 5, 9])), r"observation/state/x has the shape \(11, 3\), but .* ask for \(9, 3\)"),
        (record(action=record().action[:-1]), r"action has the shape \(10, 2\), but .* ask for \(11, 2\)"),
        (record(reward=record().reward.astype(np.float64)), "reward is float64, but its spec says float32"),
        (record(action=spoilt(record().action, 4)), "action is not finite at row 4, in episode 1"),
        (record(observation={"state/x": spoilt(record().observation["state/x"], 10)}), "state/x is not finite at row 10, in episode 2"),
    ],
)
def test_faulty_recordings_are_neither_written_nor_read(tmp_path, recording, message):
    path = tmp_path / "bad.npz"
    with pytest.raises(ValueError, match=f"bad.npz: .*{message}"):
        save(path, recording)
    assert not list(tmp_path.iterdir())
    save(path, record())
    with np.load(path) as file:
        good = dict(file)
    faulty = {f"observation/{k}": v for k, v in recording.observation.items()} | {
        "action": recording.action,
        "reward": recording.reward,
        "episode_ends": recording.episode_ends,
    }
    np.savez(path, **faulty, spec=good["spec"])
    with pytest.raises(ValueError, match=f"bad.npz: .*{message}"):
        load(path)


@pytest.mark.parametrize("key", ["action", "episode_ends", "spec"])
def test_missing_keys_are_named(tmp_path, key):
    path = tmp_path / "episodes.npz"
    save(path, record())
    with np.load(path) as file:
        np.savez(path, **{name: array for name, array in file.items() if name != key})
    with pytest.raises(ValueError, match=f"episodes.npz: lacks {key}; it holds"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut short"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "episodes.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="episodes.npz: is no whole .npz file"):
        load(path)


def test_cut_file_is_refused(tmp_path):
    path = tmp_path / "episodes.npz"
    save(path, record())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="episodes.npz: is no whole .npz file"):
        load(path)


def test_lone_array_is_refused(tmp_path):
    path = tmp_path / "episodes.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match="is no whole .npz file"):
        load(path)


def test_damaged_spec_is_refused(tmp_path):
    path = tmp_path / "episodes.npz"
    save(path, record())
    with np.load(path) as file:
        np.savez(path, **dict(file) | {"spec": np.array("{}")})
    with pytest.raises(ValueError, match="episodes.npz: this is no policy spec"):
        load(path)


def test_absent_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="jaxrl eval <workdir> --record"):
        load(tmp_path / "episodes.npz")


def test_episodes_alone():
    found = episodes(record(), [2, 0])
    np.testing.assert_array_equal(found.action, np.concatenate([record().action[5:], record().action[:4]]))
    np.testing.assert_array_equal(found.observation["state/x"][:6], record().observation["state/x"][5:])
    np.testing.assert_array_equal(found.episode_ends, [6, 10])


def test_what_is_held_out_is_no_part_of_the_rest_and_follows_the_contents():
    whole = record(lengths=(3,) * 400)
    train, out = (part_of(whole, part, 0.3) for part in ("train", "validation"))
    assert len(train.episode_ends) + len(out.episode_ends) == 400 and 90 <= len(out.episode_ends) <= 150
    held = {one.tobytes() for one in out.action.reshape(-1, 3, 2)}
    assert held.isdisjoint(one.tobytes() for one in train.action.reshape(-1, 3, 2))
    turned = part_of(episodes(whole, list(range(399, -1, -1))), "validation", 0.3)
    assert {one.tobytes() for one in turned.action.reshape(-1, 3, 2)} == held
    np.testing.assert_array_equal(part_of(out, "validation", 0.3).action, out.action)
    assert part_of(whole, "all", 0.3) is whole and part_of(whole, "train", 0.0) is whole
    with pytest.raises(ValueError, match="no episode is left for validation; a share of 0.0 of 3 episodes is held out"):
        part_of(record(), "validation", 0.0)
