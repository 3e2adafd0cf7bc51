"""The prepared cache: what comes out is what went in, a kill loses no shard, and damage is told of."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxrl.types import ArraySpec
from jaxrl_data.cache import prepare as module
from jaxrl_data.cache.prepare import Prepared, plan, prepare, prepare_on_beam
from jaxrl_data.cache.reader import episode_of
from jaxrl_data.cache.shard import content_hash
from jaxrl_data.cache.store import _header, open_store
from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import BadEpisode, Features
from jaxrl_data.open import open_dataset, splits
from tests.data.episodes import FEATURES, dataset, episode, picture

LENGTHS = (5, 3, 8, 1, 6, 4, 7)


def from_memory(monkeypatch, made: Dataset) -> None:
    monkeypatch.setattr(module, "open_dataset", lambda path, split=None: made)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        from_memory(patch, dataset(LENGTHS))
        prepare(plan("memory", episodes_per_shard=3), tmp_path / "cache")
    return tmp_path / "cache"


def assert_same(one, other):
    assert (one.name, one.metadata, one.texts) == (other.name, other.metadata, other.texts)
    assert one.images == other.images and one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name])
        assert array.dtype == other.arrays[name].dtype


def test_whole_episodes_come_out_as_they_went_in(cache):
    store = open_store(cache)
    assert store.features == FEATURES and store.lengths.tolist() == list(LENGTHS)
    for number, length in enumerate(LENGTHS):
        assert_same(episode_of(store, number), episode(number, length))
        assert store.hashes[number].tobytes() == content_hash(episode(number, length))
    again = open_dataset(str(cache))
    assert splits(str(cache)) == ("train",) and again.size == len(LENGTHS)
    for number, found in enumerate(again.read(2, 5), 2):
        assert_same(found, episode(number, LENGTHS[number]))


def test_single_steps_are_read_by_themselves(cache):
    store = open_store(cache)
    expected = episode(4, 6)
    assert store.images(4, "front", [5, 0, 5]) == [expected.images["front"][step] for step in (5, 0, 5)]
    assert store.texts(4, "task", [1]) == ["task 1"] and store.told(4) == {"name": "episode 4", "metadata": {"operator": 0}}
    assert store.arrays(4, ["count"])["count"].tolist() == [4000, 4001, 4002, 4003, 4004, 4005]
    assert picture(4005).any()
    for wrong in (lambda: store.images(4, "front", [6]), lambda: store.arrays(7, ["count"]), lambda: store.told(-1)):
        with pytest.raises(IndexError, match="has no"):
            wrong()


def test_several_processes_write_the_bytes_of_one(cache, tmp_path):
    one = plan(str(cache), episodes_per_shard=2)
    told = []
    alone = prepare(one, tmp_path / "alone", progress=lambda ready, of: told.append((ready, of)))
    assert alone == Prepared(7, sum(LENGTHS), []) and told == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    prepare(one, tmp_path / "both", processes=2)
    assert files(tmp_path / "alone") == files(tmp_path / "both")


def test_a_second_call_has_nothing_to_do_and_a_cut_one_is_gone_on_with(cache, tmp_path, monkeypatch):
    one = plan(str(cache), episodes_per_shard=2)
    prepare(one, tmp_path / "a")
    whole = files(tmp_path / "a")
    monkeypatch.setattr(module, "write_shard", lambda *_: pytest.fail("a shard was written again"))
    assert prepare(one, tmp_path / "a").steps == sum(LENGTHS)
    monkeypatch.undo()
    for name in ("shard-00001", "cache.json", "index.npz"):
        path = tmp_path / "a" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ValueError, match="this cache is not whole yet; go on with"):
        open_store(tmp_path / "a")
    (tmp_path / "a" / ".shard-00001.12345").mkdir()  # what a killed process leaves
    prepare(one, tmp_path / "a")
    assert {name: data for name, data in files(tmp_path / "a").items()} == whole


KILLED = """
import sys, time
from jaxrl_data.cache import prepare as module, shard
write = module.write_shard
def slowly(*given):
    print("writes", flush=True)
    out = write(*given)
    time.sleep(0.3)
    return out
module.write_shard = slowly
module.prepare(module.plan(sys.argv[1], episodes_per_shard=1), sys.argv[2])
"""


def test_a_killed_call_is_gone_on_with(cache, tmp_path):
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(cache), str(tmp_path / "b")], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for _ in range(3):
        assert child.stdout.readline() == "writes\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    there = len(list((tmp_path / "b").glob("shard-*")))
    assert 2 <= there < 7
    one = plan(str(cache), episodes_per_shard=1)
    began = time.time()
    prepare(one, tmp_path / "b")
    prepare(one, tmp_path / "c")
    assert files(tmp_path / "b") == files(tmp_path / "c")
    assert sum(path.stat().st_mtime < began for path in (tmp_path / "b").glob("shard-*/lengths.npy")) == there


def test_bad_episodes_end_it_or_are_listed(tmp_path, monkeypatch):
    from_memory(monkeypatch, dataset(LENGTHS, bad=(1, 2, 6)))
    one = plan("memory", episodes_per_shard=3)
    with pytest.raises(BadEpisode, match="made/1.0.0, episode 1: state is not there"):
        prepare(one, tmp_path / "a")
    for _ in range(2):  # the second call reads what the first had to say
        found = prepare(one, tmp_path / "a", quarantine=True)
        assert (found.episodes, [left.episode for left in found.left_out]) == (4, [1, 2, 6])
        assert found.left_out[0].reason == "made/1.0.0, episode 1: state is not there"
    assert open_store(tmp_path / "a").lengths.tolist() == [5, 1, 6, 4]
    from_memory(monkeypatch, dataset(LENGTHS, bad=(2, 6))._replace(fingerprint=one.fingerprint))
    prepare(one, tmp_path / "better", quarantine=True)  # the same files, one of which can be read now
    assert open_store(tmp_path / "better").fingerprint != open_store(tmp_path / "a").fingerprint
    from_memory(monkeypatch, dataset((3, 3), bad=(0, 1)))
    with pytest.raises(ValueError, match="no episode could be used; the first: made/1.0.0, episode 0"):
        prepare(plan("memory"), tmp_path / "b", quarantine=True)


def test_metadata_may_hold_what_is_no_number(tmp_path, monkeypatch):
    """As RLDS and LeRobot bring it."""

    def read(first, last, columns=None):
        return (one._replace(metadata={"score": float("nan"), "best": float("inf")}) for one in dataset(LENGTHS).read(first, last, columns))

    from_memory(monkeypatch, dataset(LENGTHS)._replace(read=read))
    prepare(plan("memory"), tmp_path)
    kept = next(open_dataset(str(tmp_path)).read(0, 1)).metadata
    assert np.isnan(kept["score"]) and kept["best"] == float("inf")


def test_a_set_that_ends_too_soon_is_told_of(tmp_path, monkeypatch):
    short = dataset(LENGTHS)
    from_memory(monkeypatch, short._replace(read=lambda first, last: dataset(LENGTHS).read(first, min(last, 4))))
    with pytest.raises(ValueError, match="ends at episode 4, before episode 6, although its metadata tell of it"):
        prepare(plan("memory", episodes_per_shard=3), tmp_path / "a")


def test_damaged_files_are_named(cache):
    (bin_file,) = (cache / "shard-00001").glob("image.front.bin")
    bin_file.write_bytes(bin_file.read_bytes()[:-5])
    reader = open_dataset(str(cache))
    with pytest.raises(BadEpisode, match=r"made/1.0.0, episode 5: .*image.front.bin: ends before byte"):
        list(reader.read(5, 7))
    assert [found.name for found in reader.read(6, 7)] == ["episode 6"]


def test_another_data_set_or_folder_is_refused(cache, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(ValueError, match="is not empty, and holds no cache"):
        prepare(plan(str(cache)), tmp_path / "other")
    for path, message in (("other/file", "other/file: is a file, and should be a folder"), ("gs://robots/x", "to a local folder")):
        with pytest.raises(ValueError, match=message):
            prepare(plan(str(cache)), tmp_path / path if "://" not in path else path)
    with pytest.raises(ValueError, match="processes is 0"):
        prepare(plan(str(cache)), tmp_path / "new", processes=0)
    assert not (tmp_path / "new").exists(), "or the next call would find a cache that was begun"
    with pytest.raises(ValueError, match=r"holds made/1.0.0, split train, of other contents or columns"):
        prepare(plan(str(cache), without=("front",)), cache)
    with pytest.raises(ValueError, match="was begun with 3 episodes in a shard"):
        prepare(_as_begun(cache, 4), cache)
    with pytest.raises(ValueError, match="there is no column side to leave out; there are state, action"):
        plan(str(cache), without=("side",))
    with pytest.raises(FileNotFoundError, match="there is no cache"):
        open_store(tmp_path / "nowhere")


def _as_begun(cache, size):
    """The plan of the cache with another size of shards."""
    from dataclasses import replace

    from jaxrl_data.cache.layout import from_json

    return replace(from_json((cache / "plan.json").read_text(), "here"), episodes_per_shard=size)


def test_columns_may_be_left_out_and_odd_ones_have_to(cache, tmp_path, monkeypatch):
    prepare(plan(str(cache), without=("front", "count")), tmp_path / "a")
    assert open_store(tmp_path / "a").features.names == ("state", "action", "task")
    odd = Features(FEATURES.arrays | {"cloud": ArraySpec(("points", 3))}, FEATURES.images, FEATURES.texts)
    from_memory(monkeypatch, dataset(LENGTHS)._replace(features=odd))
    with pytest.raises(ValueError, match=r"the rows of cloud differ in size, .* \(--without cloud\)"):
        plan("memory")


def test_a_pipeline_writes_the_same(cache, tmp_path):
    pytest.importorskip("apache_beam")
    one = plan(str(cache), episodes_per_shard=2)
    assert prepare_on_beam(one, tmp_path / "beam").steps == sum(LENGTHS)
    prepare(one, tmp_path / "alone")
    assert files(tmp_path / "beam") == files(tmp_path / "alone")


def test_a_bad_episode_ends_a_pipeline_with_one_line(cache, tmp_path, caplog):
    pytest.importorskip("apache_beam")
    shutil.copytree(cache, tmp_path / "damaged")
    (file,) = (tmp_path / "damaged/shard-00001").glob("image.*.bin")
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ValueError, match="^made/1.0.0, episode 5: .*ends before byte.*; what is done stays, so repeat the command"):
        prepare_on_beam(plan(str(tmp_path / "damaged"), episodes_per_shard=2), tmp_path / "beam")
    assert "Traceback" not in caplog.text


def test_a_million_episodes_open_at_once(tmp_path, cache):
    """The index of a set that large: what is opened, and no shard."""
    shutil.copytree(cache, tmp_path / "large")
    size = 10**6
    with (tmp_path / "large" / "index.npz").open("wb") as file:
        np.savez(file, lengths=np.full(size, 100, np.int32), hashes=np.zeros((size, 16), np.uint8), counts=np.full(2000, 500))
    store = open_store(tmp_path / "large")
    assert len(store.lengths) == size and store.lengths.nbytes + store.hashes.nbytes == 20 * size


def test_headers_are_those_that_numpy_reads(tmp_path):
    for number, array in enumerate((np.zeros((3, 2, 4), np.float32), np.arange(5), np.zeros((0, 7), np.uint16), np.zeros((2, 1), bool))):
        path = tmp_path / f"{number}.npy"
        np.save(path, array)
        begin, dtype, row = _header(path)
        assert (dtype, row) == (array.dtype, array.shape[1:]) and path.stat().st_size - begin == array.nbytes
    (tmp_path / "0.npy").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"0.npy: is no numpy file of a cache, it begins with b'nothing of the k'"):
        _header(tmp_path / "0.npy")
