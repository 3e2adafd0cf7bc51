"""Zarr replay buffers and HDF5 demonstrations in, beside zarr and h5py themselves, and faults made from good data."""

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import zarr

from jaxrl_data.episode import BadEpisode, length
from jaxrl_data.importers import columns, hdf5
from jaxrl_data.open import open_dataset, splits

LENGTHS = (5, 12, 3)
ROWS, ENDS = sum(LENGTHS), np.cumsum(LENGTHS)
CHUNK = 4  # rows: no episode ends where a chunk does, but the last


def _pixels(episode: int, steps: int, size: int = 20) -> np.ndarray:
    return np.random.default_rng(episode).integers(0, 256, (steps, size, size, 3), dtype=np.uint8)


def _decoded(images: Any) -> np.ndarray:
    return np.stack([cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR)[..., ::-1] for one in images])


def _write_zarr(path: Path, version: int) -> dict[str, np.ndarray]:
    rows = {
        "img": _pixels(0, ROWS).astype(np.float32),
        "depth": np.random.default_rng(1).random((ROWS, 20, 20, 1)).astype(np.float32),
        "state": np.arange(ROWS * 2, dtype=np.float32).reshape(ROWS, 2) + 1,
        "keypoint": np.random.default_rng(2).random((ROWS, 3, 2)).astype(np.float32),
        "reward": np.ones(ROWS),
    }
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    for name, values in rows.items():
        array = group.create_array(f"data/{name}", shape=values.shape, dtype=values.dtype, chunks=(CHUNK, *values.shape[1:]))
        array[:] = values
    ends = group.create_array("meta/episode_ends", shape=ENDS.shape, dtype="int64")
    ends[:] = ENDS
    score = group.create_array("meta/score", shape=ENDS.shape, dtype="float64")
    score[:] = np.arange(len(ENDS)) / 2
    return rows


@pytest.fixture(scope="module", params=[2, 3])
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    path = tmp_path_factory.mktemp("zarr") / "buffer.zarr"
    return path, _write_zarr(path, request.param)


def test_zarr_rows_of_every_episode(stored: tuple[Path, dict[str, np.ndarray]]) -> None:
    path, rows = stored
    dataset = open_dataset(str(path))
    assert (dataset.size, dataset.split, splits(str(path))) == (3, "all", ("all",))
    assert list(dataset.features.images) == ["img"] and set(dataset.features.arrays) == {"depth", "state", "keypoint", "reward"}
    for place, episode in enumerate(dataset.read(0, 3)):
        part = slice(ENDS[place] - LENGTHS[place], ENDS[place])
        for name in dataset.features.arrays:
            np.testing.assert_array_equal(episode.arrays[name], rows[name][part])
        np.testing.assert_array_equal(_decoded(episode.images["img"]), rows["img"][part])
        assert episode.metadata == {"score": place / 2} and length(episode) == LENGTHS[place]
    np.testing.assert_array_equal(next(dataset.read(2, 3)).arrays["state"], rows["state"][-3:])


def test_zarr_reads_each_chunk_once(stored: tuple[Path, dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a block of memory holds but one chunk."""
    monkeypatch.setattr(columns, "BLOCK", 1)
    dataset = open_dataset(str(stored[0]))
    asked: list[str] = []
    get = zarr.storage.LocalStore.get

    async def counted(self: Any, key: str, *arguments: Any, **settings: Any) -> Any:
        asked.append(key)
        return await get(self, key, *arguments, **settings)

    monkeypatch.setattr(zarr.storage.LocalStore, "get", counted)
    list(dataset.read(0, 3))
    chunks = [key for key in asked if key.startswith("data/img/")]
    assert len(chunks) == len(set(chunks)) == ROWS // CHUNK
    assert asyncio.iscoroutinefunction(zarr.storage.LocalStore.get)  # the count above was of what is called


def _chunks(path: Path, name: str) -> list[Path]:
    """Files of chunks, by their first row."""
    folder = path / "data" / name
    files = [file for file in folder.rglob("*") if file.is_file() and not file.name.startswith(".z") and file.name != "zarr.json"]
    return sorted(files, key=lambda file: [int(part) for part in re.findall(r"\d+", file.relative_to(folder).as_posix())])


def test_zarr_chunk_that_is_cut_or_gone(stored: tuple[Path, dict[str, np.ndarray]], tmp_path: Path) -> None:
    """One cut: the episodes that touch it are bad, others are read. One gone: zarr reads zeros, and the metadata say so."""
    path = Path(shutil.copytree(stored[0], tmp_path / "copy.zarr"))
    mark = open_dataset(str(path)).fingerprint
    first = _chunks(path, "state")[0]
    first.write_bytes(first.read_bytes()[:5])
    dataset = open_dataset(str(path))
    assert dataset.fingerprint != mark
    with pytest.raises(BadEpisode, match="data/state: episode 0, rows 0 to 4") as caught:
        next(dataset.read(0, 3))
    assert caught.value.episode == 0
    assert len(list(dataset.read(1, 3))) == 2
    _chunks(path, "state")[-1].unlink()
    (last,) = open_dataset(str(path)).read(2, 3)
    assert last.metadata["chunks_not_stored"] == {"state": [16]} and not last.arrays["state"].any()


def test_zarr_images_that_are_no_whole_numbers(tmp_path: Path) -> None:
    path = tmp_path / "buffer.zarr"
    rows = _write_zarr(path, 2)
    zarr.open_group(str(path), mode="a")["data/img"][:] = rows["img"] / 255
    with pytest.raises(BadEpisode, match="data/img: episode 1.*images of float32 from 0 to 1, but whole numbers from 0 to 255"):
        next(open_dataset(str(path)).read(1, 2))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda group: group.create_array("data/short", shape=(ROWS - 1,), dtype="float32"),
            "data/short has the shape .19,., but .* row 20",
        ),
        (lambda group: group["meta/episode_ends"].__setitem__(1, 2), "numbers of rows that rise"),
        (lambda group: group["meta"].__delitem__("episode_ends"), "data/. and meta/episode_ends were expected"),
    ],
)
def test_zarr_that_does_not_agree(damage: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "buffer.zarr"
    _write_zarr(path, 2)
    damage(zarr.open_group(str(path), mode="a"))
    with pytest.raises(ValueError, match=message):
        open_dataset(str(path))


def test_push_t_beside_zarr(test_data: Path) -> None:
    path = test_data / "pusht_human/pusht_cchi_v7_replay.zarr"
    dataset = open_dataset(str(path))
    group = zarr.open_group(str(path), mode="r")
    ends = group["meta/episode_ends"][:]
    assert dataset.size == 206 and list(dataset.features.images) == ["img"]
    for place, episode in zip((1, 2, 205), (*dataset.read(1, 3), *dataset.read(205, 206)), strict=True):
        part = slice(int(ends[place - 1]), int(ends[place]))
        for name in ("action", "state", "keypoint", "n_contacts"):
            np.testing.assert_array_equal(episode.arrays[name], group[f"data/{name}"][part])
        np.testing.assert_array_equal(_decoded(episode.images["img"]), group["data/img"][part])


def _write_robomimic(file: Path, demos: int = 12) -> None:
    with h5py.File(file, "w") as opened:
        data = opened.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": 20}})
        data.attrs["problem_info"] = json.dumps({"language_instruction": "lift the cube"})
        for number in range(demos):
            steps = 3 + number % 3
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = steps
            demo["actions"] = np.full((steps, 7), number, np.float64)
            demo["rewards"] = np.zeros(steps)
            demo["obs/eef"] = np.arange(steps * 3, dtype=np.float64).reshape(steps, 3) + number
            demo["obs/view"] = _pixels(number, steps)
            demo["next_obs/view"] = _pixels(number, steps)
        opened["mask/train"] = np.array([b"demo_0", b"demo_2", b"demo_10"])
        opened["mask/20_percent"] = np.array([b"demo_0"])


def test_robomimic(tmp_path: Path) -> None:
    file = tmp_path / "low_dim.hdf5"
    _write_robomimic(file)
    assert splits(str(file)) == ("train", "20_percent", "all")
    dataset = open_dataset(str(file), "all")
    assert dataset.size == 12 and dataset.features.rate == 20
    assert set(dataset.features.arrays) == {"actions", "rewards", "obs/eef"} and list(dataset.features.images) == ["obs/view"]
    for number, episode in enumerate(dataset.read(0, 12)):  # demo_2 before demo_10
        assert episode.name == f"low_dim.hdf5/demo_{number}" and (episode.arrays["actions"] == number).all()
        np.testing.assert_array_equal(_decoded(episode.images["obs/view"]), _pixels(number, length(episode)))
        assert set(episode.texts["language_instruction"]) == {"lift the cube"}
        assert episode.metadata["num_samples"] == length(episode) and list(episode.metadata["left_out"]) == ["next_obs"]
    train = open_dataset(str(file))
    assert [int(episode.arrays["actions"][0, 0]) for episode in train.read(0, 3)] == [0, 2, 10]
    assert train.fingerprint != dataset.fingerprint
    with pytest.raises(ValueError, match="has no split 'trian'; did you mean train?"):
        open_dataset(str(file), "trian")


def test_robomimic_faults(tmp_path: Path) -> None:
    file = tmp_path / "demos.hdf5"
    _write_robomimic(file, 3)
    with h5py.File(file, "a") as opened:
        del opened["data/demo_1/obs/eef"]
        del opened["data/demo_2/rewards"]
        opened["data/demo_2/rewards"] = np.zeros(2)
        opened["mask/train"][2] = b"demo_9"
    dataset = open_dataset(str(file), "all")
    assert len(list(dataset.read(0, 1))) == 1
    with pytest.raises(BadEpisode, match="demos.hdf5: data/demo_1: obs/eef: is missing") as caught:
        list(dataset.read(0, 3))
    assert caught.value.episode == 1
    with pytest.raises(BadEpisode, match="demos.hdf5/demo_2: rewards has 2 rows"):
        list(dataset.read(2, 3))
    with pytest.raises(ValueError, match="mask/train names demo_9, which data/ does not hold"):
        open_dataset(str(file), "train")
    file.write_bytes(file.read_bytes()[:-4000])
    with pytest.raises(ValueError, match="demos.hdf5: is damaged or no HDF5 file"):
        open_dataset(str(file))


def _jpegs(episode: int, steps: int) -> list[bytes]:
    smooth = [cv2.GaussianBlur(image, (0, 0), 3) for image in _pixels(episode, steps, 24)]
    return [cv2.imencode(".jpg", image)[1].tobytes() for image in smooth]


def _write_act(folder: Path, episodes: int = 3) -> None:
    """Episodes as ACT records them: one camera raw, one compressed and padded; the lengths are not in the order of names."""
    folder.mkdir()
    for number in range(episodes):
        steps = 4 + number
        images = _jpegs(number, steps)
        width = max(map(len, images)) + 7
        with h5py.File(folder / f"episode_{number}.hdf5", "w") as opened:
            opened.attrs["sim"] = False
            opened["action"] = np.full((steps, 14), number, np.float32)
            opened["observations/qpos"] = np.full((steps, 14), number + 0.5, np.float32)
            opened["observations/images/top"] = _pixels(number, steps)
            padded = np.stack([np.frombuffer(image.ljust(width, b"\0"), np.uint8) for image in images])
            opened["observations/images/left_wrist"] = padded
            opened["compress_len"] = np.array([[width] * steps, [len(image) for image in images]])


def test_act_folder(tmp_path: Path) -> None:
    folder = tmp_path / "transfer"
    _write_act(folder, 12)
    dataset = open_dataset(str(folder))
    assert dataset.size == 12 and dataset.split == "all"
    assert dataset.features.images["observations/images/left_wrist"].shape == (24, 24, 3)
    for number, episode in enumerate(dataset.read(0, 12)):  # episode_2 before episode_10
        assert episode.name == f"episode_{number}.hdf5" and (episode.arrays["observations/qpos"] == number + 0.5).all()
        assert episode.images["observations/images/left_wrist"] == _jpegs(number, 4 + number)
        np.testing.assert_array_equal(_decoded(episode.images["observations/images/top"]), _pixels(number, 4 + number))
        assert episode.metadata == {"sim": False}


def test_act_faults(tmp_path: Path) -> None:
    """A cut file is bad, even the first; so is a cut image, and one that is not as long as the file says."""
    folder = tmp_path / "transfer"
    _write_act(folder, 4)
    first = folder / "episode_0.hdf5"
    first.write_bytes(first.read_bytes()[:2000])
    name = "observations/images/left_wrist"
    with h5py.File(folder / "episode_1.hdf5", "a") as opened:
        opened[name][3, 200:] = 0
    with h5py.File(folder / "episode_2.hdf5", "a") as opened:
        opened["compress_len"][1, 0] += 1
    dataset = open_dataset(str(folder))
    assert dataset.size == 4
    messages = ("is damaged or no HDF5", f"{name}: row 3 is no whole JPEG", f"{name}: has images .* no row of compress_len")
    for place, message in enumerate(messages):
        with pytest.raises(BadEpisode, match=f"episode_{place}.hdf5.*{message}") as caught:
            next(dataset.read(place, 4))
        assert caught.value.episode == place
    assert len(list(dataset.read(3, 4))) == 1


def test_hdf5_of_another_layout(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "what.h5", "w") as opened:
        opened["x"] = np.zeros(3)
    with pytest.raises(ValueError, match="what.h5: holds x, but data/demo_. of robomimic, or observations and action of ACT"):
        open_dataset(str(tmp_path / "what.h5"))
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="holds no file that ends with"):
        hdf5.read(str(tmp_path / "none"), "all")
