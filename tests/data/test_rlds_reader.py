"""RLDS in: the reader beside plain tensorflow-datasets, its faults, and the child process."""

import importlib.util
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxrl_data.episode import BadEpisode, Episode, Features, length
from jaxrl_data.open import open_dataset, splits
from jaxrl_data.rlds import beside, features, reader, stream
from jaxrl_data.rlds.writer import rlds_writer
from tests.data.rlds_sets import EPISODES, SHARDS, write

tfds = pytest.importorskip("tensorflow_datasets")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small builder directory with every feature that comes to mind, in several files."""
    return write(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def records(tmp_path: Path, plain_records: Path) -> Path:
    """A copy to damage."""
    import shutil

    return Path(shutil.copytree(plain_records, tmp_path / "copy"))


@pytest.fixture(scope="module")
def plain_records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("plain"), "tfrecord")


def _oracle(path: Path, split: str) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Every step as tfds itself decodes it."""
    import tensorflow as tf

    builder = tfds.builder_from_directory(path)
    if builder.info.file_format.value == "array_record":
        raw = tf.data.Dataset.from_tensor_slices(
            list(builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES))
        )
        source = raw.map(builder.info.features.deserialize_example)
    else:
        source = builder.as_dataset(split, shuffle_files=False, read_config=tfds.ReadConfig(interleave_cycle_length=1))
    for record in source:
        steps = [tf.nest.map_structure(lambda leaf: leaf.numpy(), step) for step in record.pop("steps")]
        yield record, steps


def test_names_are_those_of_rlds() -> None:
    found = importlib.util.find_spec("rlds")
    if found is None or not found.submodule_search_locations:
        pytest.skip("rlds is not installed")
    spec = importlib.util.spec_from_file_location("rlds_types", Path(found.submodule_search_locations[0]) / "rlds_types.py")
    assert spec is not None and spec.loader is not None
    types = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(types)  # alone: the package needs dm-reverb
    for name in ("STEPS", "OBSERVATION", "ACTION", "REWARD", "DISCOUNT", "IS_FIRST", "IS_LAST", "IS_TERMINAL"):
        assert getattr(features, name) == getattr(types, name)


def test_every_kind_of_feature_as_tfds_decodes_it(written: Path) -> None:
    import tensorflow as tf

    dataset = open_dataset(str(written), "train")
    assert (dataset.name, dataset.size) == ("odd/1.2.3", EPISODES)
    seen = set()
    pairs = zip(dataset.read(0, EPISODES), _oracle(written, "train"), strict=True)
    for place, (episode, (record, steps)) in enumerate(pairs):
        tag = int(record["tag"])
        seen.add(tag)
        assert length(episode) == len(steps) == 3 + tag and episode.name == f"odd/1.2.3/train/{place}"
        assert episode.metadata["source"] == f"file {tag}" and episode.metadata["tag"] == tag
        assert episode.metadata["numbers"] == list(range(tag)) and episode.metadata["raw"] == {"base64": "//4="}
        assert list(episode.metadata["left_out"]) == ["observation/any"]
        json.dumps(episode.metadata)
        for t, step in enumerate(steps):
            for name in ("action", "raw", "zipped", "wide", "kind", "is_last"):
                np.testing.assert_array_equal(episode.arrays[name][t], step[name])
                assert episode.arrays[name].dtype == step[name].dtype
            seen_from = step["observation"]
            np.testing.assert_array_equal(episode.arrays["observation/distance"][t], seen_from["distance"])
            for name in ("points", "scan"):
                rows, columns = episode.arrays[f"observation/{name}/shape"][t]
                np.testing.assert_array_equal(episode.arrays[f"observation/{name}"][t, :rows, :columns], seen_from[name])
                assert not episode.arrays[f"observation/{name}"][t, rows:].any()
            np.testing.assert_array_equal(tf.io.decode_jpeg(episode.images["observation/camera"][t]), seen_from["camera"])
            np.testing.assert_array_equal(tf.io.decode_png(episode.images["observation/depth"][t], dtype=tf.uint16), seen_from["depth"])
            for entry in range(2):
                assert episode.texts[f"words/{entry}"][t] == step["words"][entry].decode()
            assert episode.texts["instruction"][t] == step["instruction"].decode() == f"go {tag} \N{SNOWMAN}"
    assert seen == set(range(EPISODES))


def test_some_columns_alone_here_and_over_the_pipe(plain_records: Path) -> None:
    """Of a padded column its sizes may be left out; one that cannot be made of the record's bytes is not looked at."""
    whole = list(reader.read(str(plain_records), "train").read(0, 2))
    wanted = ("action", "observation/points", "observation/scan/shape", "observation/depth", "words/1")
    for module in (reader, stream):
        found = list(module.read(str(plain_records), "train").read(0, 2, wanted))
        for one, other in zip(found, whole, strict=True):
            assert {*one.arrays, *one.images, *one.texts} == {*wanted} and one.metadata == other.metadata
            assert all(np.array_equal(array, other.arrays[name]) for name, array in one.arrays.items())
            assert one.images["observation/depth"] == other.images["observation/depth"] and one.texts["words/1"] == other.texts["words/1"]


def test_any_slice_in_stored_order(written: Path) -> None:
    dataset = reader.read(str(written), "train")
    tags = [episode.metadata["tag"] for episode in dataset.read(0, EPISODES)]
    assert [episode.metadata["tag"] for episode in dataset.read(1, 5)] == tags[1:5]
    assert list(dataset.read(3, 3)) == []
    with pytest.raises(ValueError, match="episodes 0 to 7 were asked for"):
        next(dataset.read(0, EPISODES + 1))


def test_fingerprint_follows_content_and_not_the_path(records: Path, plain_records: Path) -> None:
    mark = reader.read(str(records), "train").fingerprint
    assert mark == reader.read(str(plain_records), "train").fingerprint != reader.read(str(records), "val").fingerprint
    _shard(records, 1).write_bytes(_shard(records, 1).read_bytes() + b"0")
    assert mark != reader.read(str(records), "train").fingerprint


def _shard(path: Path, shard: int) -> Path:
    return path / f"odd-train.tfrecord-{shard:05d}-of-{SHARDS:05d}"


def _ends(file: Path) -> list[int]:
    """Where the records of a TFRecord file end."""
    data, found, at = file.read_bytes(), [], 0
    while at < len(data):
        at += 8 + 4 + int.from_bytes(data[at : at + 8], "little") + 4
        found.append(at)
    return found


def _bad(path: Path, first: int, last: int) -> tuple[list[Episode], BadEpisode]:
    """What was read before the first bad episode, and its error."""
    found = []
    with pytest.raises(BadEpisode) as caught:
        for episode in reader.read(str(path), "train").read(first, last):
            found.append(episode)
    return found, caught.value


def test_cut_file(records: Path) -> None:
    """The last of a file's records is cut: those before and in the other files are read."""
    file = _shard(records, 0)
    lengths = _lengths(records)
    file.write_bytes(file.read_bytes()[:-100])
    found, error = _bad(records, 0, EPISODES)
    assert len(found) == error.episode == lengths[0] - 1
    assert file.name in str(error) and f"episode {error.episode}" in str(error)
    assert len(list(reader.read(str(records), "train").read(error.episode + 1, EPISODES))) == EPISODES - lengths[0]


def _lengths(path: Path) -> list[int]:
    told = json.loads((path / "dataset_info.json").read_text())
    return [int(one) for one in next(split for split in told["splits"] if split["name"] == "train")["shardLengths"]]


def test_flipped_byte(records: Path) -> None:
    file = _shard(records, 1)
    first = _lengths(records)[0]
    data = bytearray(file.read_bytes())
    data[_ends(file)[0] // 2] ^= 255
    file.write_bytes(bytes(data))
    found, error = _bad(records, 0, EPISODES)
    assert len(found) == error.episode == first and file.name in str(error)
    assert len(list(reader.read(str(records), "train").read(first + 1, EPISODES))) == EPISODES - first - 1


def test_record_that_is_not_there_moves_no_episode(records: Path) -> None:
    file, last = _shard(records, 0), _lengths(records)[0]
    file.write_bytes(file.read_bytes()[: ([0] + _ends(file))[last - 1]])
    found, error = _bad(records, 0, EPISODES)
    assert len(found) == error.episode == last - 1 and file.name in str(error)


def test_record_that_metadata_do_not_tell_of(records: Path) -> None:
    """At the end of a file; where that is not reached, nothing is known of it."""
    file, lengths = _shard(records, 1), _lengths(records)
    data, ends = file.read_bytes(), _ends(file)
    file.write_bytes(data + data[: ends[0]])
    found, error = _bad(records, 0, EPISODES)
    assert lengths[0] <= len(found) <= error.episode == sum(lengths[:2]) and f"{lengths[1]} records" in str(error)
    assert len(list(reader.read(str(records), "train").read(0, lengths[0] + 1))) == lengths[0] + 1


def test_missing_file(records: Path) -> None:
    _shard(records, 2).unlink()
    found, error = _bad(records, 0, EPISODES)
    assert len(found) == error.episode == sum(_lengths(records)[:2]) and _shard(records, 2).name in str(error)
    for shard in range(2):
        _shard(records, shard).unlink()
    with pytest.raises(ValueError, match="none of the 3 files of split 'train' is there"):
        reader.read(str(records), "train")


def test_feature_that_the_records_lack(records: Path) -> None:
    told = json.loads((records / "features.json").read_text())
    _steps(told)["torque"] = _steps(told)["action"]
    (records / "features.json").write_text(json.dumps(told))
    found, error = _bad(records, 0, EPISODES)
    assert not found and "torque" in str(error) and error.episode == 0 and _shard(records, 0).name in str(error)


def _steps(told: dict[str, Any]) -> Any:
    return told["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]


def _points(told: dict[str, Any]) -> Any:
    return _steps(told)["observation"]["featuresDict"]["features"]["points"]["sequence"]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("dataset_info.json", lambda told: told.pop("splits"), "is damaged .KeyError: 'splits'"),
        ("dataset_info.json", lambda told: told.update(fileFormat="tfrecords"), "did you mean tfrecord?"),
        ("features.json", lambda told: told["featuresDict"]["features"].pop("steps"), "the data set is not RLDS"),
        ("features.json", lambda told: _steps(told)["action"]["tensor"].update(shape={"dimensions": ["0"]}), "action: .* without values"),
        ("features.json", lambda told: _points(told).update(length="2"), "observation/points: .* sequence of fixed length"),
    ],
)
def test_damaged_metadata(records: Path, name: str, change: Any, message: str) -> None:
    told = json.loads((records / name).read_text())
    change(told)
    (records / name).write_text(json.dumps(told))
    with pytest.raises(ValueError, match=message):
        open_dataset(str(records))


def test_splits(plain_records: Path) -> None:
    assert set(splits(str(plain_records))) == {"train", "val"}
    with pytest.raises(ValueError, match="did you mean train?"):
        open_dataset(str(plain_records), "trian")


def test_bridge_beside_tfds(test_data: Path) -> None:
    """Flags that lie end no episode: is_last is False on every step."""
    import tensorflow as tf

    path = test_data / "bridge_debug/1.0.0"
    dataset = open_dataset(str(path), "train")
    assert (dataset.name, dataset.size, dataset.features.texts) == ("bridge_dataset/1.0.0", 25, ("language_instruction",))
    for episode, (record, steps) in zip(dataset.read(0, 25), _oracle(path, "train"), strict=True):
        assert length(episode) == len(steps) == 10 and not episode.arrays["is_last"].any()
        assert episode.metadata["file_path"] == record["episode_metadata"]["file_path"].numpy().decode()
        for name in dataset.features.arrays:
            key = name.removeprefix("observation/")
            want = np.stack([step["observation"][key] if key != name else step[key] for step in steps])
            np.testing.assert_array_equal(episode.arrays[name], want)
        for name, column in episode.images.items():
            np.testing.assert_array_equal(tf.io.decode_jpeg(column[7]), steps[7]["observation"][name.removeprefix("observation/")])


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry), "JAX_PLATFORMS": "cpu"}


def test_stream_without_tensorflow(records: Path) -> None:
    """In a process of its own: every episode before a bad one, then its error, and no TensorFlow."""
    file, lengths = _shard(records, 2), _lengths(records)
    whole = list(reader.read(str(records), "train").read(0, EPISODES))
    file.write_bytes(file.read_bytes()[:-100])
    code = """
import pickle, sys
from jaxrl_data.episode import BadEpisode
from jaxrl_data.rlds import stream
dataset, found, error = stream.read(sys.argv[1], "train"), [], None
try:
    for episode in dataset.read(0, dataset.size):
        found.append(episode)
except BadEpisode as caught:
    error = caught
assert "tensorflow" not in sys.modules
sys.stdout.buffer.write(pickle.dumps((found, error)))
"""
    told = subprocess.run([sys.executable, "-c", code, str(records)], env=_environment(), stdout=subprocess.PIPE, check=True)
    found, error = pickle.loads(told.stdout)
    assert isinstance(error, BadEpisode) and error.episode == EPISODES - 1 == len(found) and file.name in str(error)
    assert sum(lengths) == EPISODES
    for one, other in zip(found, whole, strict=False):
        assert (one.name, one.images, one.texts, one.metadata) == (other.name, other.images, other.texts, other.metadata)
        assert all(np.array_equal(one.arrays[name], other.arrays[name]) for name in other.arrays)


@pytest.mark.slow
def test_stream_ends_with_its_reader_and_with_its_parent(plain_records: Path) -> None:
    """A parent closes one stream, whose child is gone then, and is killed while it holds another."""
    code = """
import subprocess, sys, time
from jaxrl_data.rlds import stream
children, popen = [], subprocess.Popen
def start(*arguments, **settings):
    children.append(popen(*arguments, **settings))
    return children[-1]
subprocess.Popen = start
episodes = stream.stream(sys.argv[1], "train", 0, 6)
next(episodes)
episodes.close()
assert children[0].returncode is not None
other = stream.start("jaxrl_data.rlds.stream")
print(other.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code, str(plain_records)], env=_environment(), stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until = time.monotonic() + 60
    while _lives(child):
        assert time.monotonic() < until, "the child outlived its parent"
        time.sleep(0.1)


def _lives(process: int) -> bool:
    """Whether it runs: one that has ended may wait for somebody to ask how."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_where_mesa_has_drawn_it_is_refused_before_it_crashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And only there, and only if TensorFlow is not loaded yet."""
    maps = tmp_path / "maps"
    monkeypatch.setattr(beside, "_MAPPED", maps)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    beside.check()
    maps.write_text("7f70-7f71 r-xp 00000000 fe:00 99 /usr/lib/x86_64-linux-gnu/libc.so.6\n")
    beside.check()
    with maps.open("a") as file:
        file.write("7f72-7f73 r-xp 00000000 fe:00 99 /usr/lib/x86_64-linux-gnu/libLLVM-15.so.1\n")
    with pytest.raises(RuntimeError, match="where Mesa's software OpenGL has drawn: both bring LLVM. Do one of the two in another process"):
        rlds_writer(str(tmp_path), "made", Features())
    monkeypatch.setitem(sys.modules, "tensorflow", pytest)
    beside.check()
