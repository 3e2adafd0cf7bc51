"""Reading some columns alone: the rest is as it was, and what holds images is not touched, which is seen where it is damaged or gone."""

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from jaxrl.cli.main import main
from jaxrl_data.dataset import Dataset, only, without_images
from jaxrl_data.episode import BadEpisode, Episode
from jaxrl_data.open import open_dataset
from jaxrl_data.validate import validate
from tests.data import lerobot_sets
from tests.data.episodes import dataset as memory

CAMERA = np.random.default_rng(0).integers(0, 256, (6, 20, 20, 3), np.uint8)


def _lerobot(folder: Path, version: str) -> Callable[[], None]:
    lerobot_sets.write(folder, version)
    return lambda: [file.write_bytes(b"no video") for file in (folder / "videos").rglob("*.mp4")] and None


def _zarr(folder: Path) -> Callable[[], None]:
    group = zarr.open_group(str(folder), mode="w", zarr_format=2)
    for name, values in (("data/img", CAMERA), ("data/state", np.arange(12.0).reshape(6, 2)), ("meta/episode_ends", np.array([4, 6]))):
        group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=values.shape)[:] = values
    return lambda: (folder / "data/img/0.0.0.0").write_bytes(b"no chunk") and None


def _hdf5(folder: Path) -> Callable[[], None]:
    """Encoded images lie in the file among the rest; one that is cut is seen by who looks at it."""
    folder.mkdir()
    with h5py.File(folder / "episode_0.hdf5", "w") as file:
        file["action"], file["observations/qpos"] = np.ones((6, 2)), np.ones((6, 3))
        file["observations/images/top"] = np.tile(np.frombuffer(b"\xff\xd8\xff" + bytes(range(1, 99)) + b"\xff\xd9", np.uint8), (6, 1))
        file["observations/images/raw"] = CAMERA

    def damage() -> None:
        with h5py.File(folder / "episode_0.hdf5", "a") as file:
            file["observations/images/top"][2] = 0

    return damage


def _cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    from jaxrl_data.cache import prepare

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "open_dataset", lambda path, split=None: memory((3, 4)))
        prepare.prepare(prepare.plan("memory"), folder)
    return lambda: [file.unlink() for file in folder.rglob("image.*.bin")] and None


FORMATS = ("v2.1", "v3.0", "zarr", "hdf5", "cache")


@pytest.fixture(params=FORMATS)
def damaged(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[Episode]]:
    """A data set whose images have been damaged since it was written, and its episodes from before."""
    path = tmp_path / "set"
    makers: dict[str, Callable[[], Callable[[], None]]] = {
        "zarr": lambda: _zarr(path),
        "hdf5": lambda: _hdf5(path),
        "cache": lambda: _cache(path, monkeypatch),
    }
    if request.param == "hdf5":
        monkeypatch.setattr("jaxrl_data.importers.hdf5._decoded_spec", lambda image: memory(()).features.images["front"])
    damage = makers.get(request.param, lambda: _lerobot(path, request.param))()
    whole = open_dataset(str(path))
    before = list(whole.read(0, whole.size))
    damage()
    return path, before


def _assert_as_before(found: Dataset, before: list[Episode], arrays: set[str], texts: set[str]) -> None:
    for one, other in zip(found.read(0, found.size), before, strict=True):
        assert (one.name, one.metadata, one.images) == (other.name, other.metadata, {})
        assert one.arrays.keys() == arrays and one.texts.keys() == texts
        for name, array in one.arrays.items():
            np.testing.assert_array_equal(array, other.arrays[name])
        assert all(list(one.texts[name]) == list(other.texts[name]) for name in texts)


def test_what_holds_images_is_not_opened(damaged: tuple[Path, list[Episode]]) -> None:
    path, before = damaged
    dataset = open_dataset(str(path))
    with pytest.raises(BadEpisode):
        list(dataset.read(0, dataset.size))
    numbers = without_images(dataset)
    assert numbers.features.images == {} and numbers.features.rate == dataset.features.rate
    _assert_as_before(numbers, before, {*dataset.features.arrays}, {*dataset.features.texts})
    one = next(iter(dataset.features.arrays))
    _assert_as_before(only(dataset, [one]), before, {one}, set())
    with pytest.raises(ValueError, match="actoin: the data set has no such column"):
        only(dataset, ["actoin"])
    with pytest.raises(ValueError, match="no such column"):  # what was left out is not there any more
        numbers.read(0, 1, [*dataset.features.images])


def test_the_commands_that_need_numbers_alone(damaged: tuple[Path, list[Episode]], capsys: pytest.CaptureFixture[str]) -> None:
    path = str(damaged[0])
    for words in (["info"], ["stats", "--split", open_dataset(path).split]):
        assert main(["data", words[0], path, *words[1:]]) == 0, capsys.readouterr()
    faults = {one.fault for one in validate(path, images=False)}
    assert "unreadable" not in faults and "unreadable" in {one.fault for one in validate(path)}


def test_a_text_of_lerobot_without_any_array(tmp_path: Path) -> None:
    """Texts follow from index columns, which are read for them and not handed out."""
    lerobot_sets.write(tmp_path, "v3.0")
    for number, episode in enumerate(only(open_dataset(str(tmp_path)), ["task"]).read(0, 3)):
        assert episode.arrays == {} and episode.texts == {"task": [lerobot_sets.TASKS[number % 2]] * lerobot_sets.LENGTHS[number]}
    shutil.rmtree(tmp_path / "videos" / lerobot_sets.CAMERAS[0])  # gone before it is opened: the camera is told of as left out
    numbers = without_images(open_dataset(str(tmp_path)))
    assert next(numbers.read(0, 1)).metadata["left_out"].keys() == {lerobot_sets.CAMERAS[0]}
