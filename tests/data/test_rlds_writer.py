"""What the RLDS writer writes, read by tensorflow-datasets alone."""

import contextlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxrl.types import ArraySpec
from jaxrl_data.episode import Episode, Features
from jaxrl_data.open import open_dataset
from jaxrl_data.rlds.schema import metadata_of
from jaxrl_data.rlds.writer import rlds_writer
from jaxrl_data.writer import encoded
from tests.data.killed import writer as killed_writer
from tests.data.oracles import rlds_episodes
from tests.golden.lerobot_written import episode as golden

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # TensorFlow's and tensorflow-datasets' own
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
TYPES = ("float64", "float32", "float16", "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
FEATURES = Features(
    arrays={
        "observation/state": ArraySpec((3,)),
        "observation/pose": ArraySpec((2, 2), "float64"),
        "observation/points": ArraySpec(("points", 2), "float32"),
        "observation/cloud": ArraySpec(("points", "axes"), "float64"),
        "action": ArraySpec((2,), "float64"),
        "reward": ArraySpec(()),
    }
    | {f"typed/{dtype}": ArraySpec((2,), dtype) for dtype in TYPES},
    images={"observation/image": ArraySpec(("height", "width", 3), "uint8"), "observation/depth": ArraySpec((4, 6, 1), "uint16")},
    texts=("language_instruction",),
)


def extremes(dtype: str) -> list[object]:
    kind = np.dtype(dtype).kind
    if kind == "b":
        return [True, False]
    return [np.iinfo(dtype).min, np.iinfo(dtype).max] if kind in "iu" else [np.finfo(dtype).tiny, np.pi]


def episode(place: int, steps: int = 4) -> Episode:
    random = np.random.default_rng(place)
    arrays = {
        "observation/state": random.normal(size=(steps, 3)).astype(np.float32),
        "observation/pose": random.normal(size=(steps, 2, 2)) * 1e-12,
        "observation/points": random.normal(size=(steps, place + 1, 2)).astype(np.float32),
        "observation/cloud": random.normal(size=(steps, place + 1, 3)),
        "action": random.normal(size=(steps, 2)),
        "reward": np.array([0.0, np.nan, np.inf, 1.0], np.float32)[:steps],
    }
    arrays |= {f"typed/{dtype}": np.array([extremes(dtype)] * steps, dtype) for dtype in TYPES}
    images = {
        "observation/image": [encoded(random.integers(0, 256, (6, 8, 3), dtype=np.uint8)) for _ in range(steps)],
        "observation/depth": [encoded(random.integers(0, 65536, (4, 6, 1), dtype=np.uint16)) for _ in range(steps)],
    }
    metadata = {"file_path": "/data/ü", "number": place, "share": 1e-12, "ok": True, "camera/top": "real"}
    return Episode(f"episode {place}", arrays, images, {"language_instruction": ["lift it"] * steps}, metadata)


def written(folder: Path, episodes: list[Episode], features: Features = FEATURES, **options: object) -> list[Episode]:
    with contextlib.closing(rlds_writer(str(folder), "made", features, **options)) as writer:  # type: ignore[arg-type]
        for one in episodes:
            writer.add(one)
    return rlds_episodes(folder)


def assert_same(found: Episode, given: Episode) -> None:
    for name, array in given.arrays.items():
        assert found.arrays[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)
    assert found.images == given.images
    assert found.texts == given.texts
    assert metadata_of(found.metadata) == (given.name, given.metadata)


def test_every_value_of_every_type_comes_back(tmp_path: Path) -> None:
    given = [episode(place) for place in range(3)]
    found = written(tmp_path, given)
    assert len(found) == 3
    for one, other in zip(found, given, strict=True):
        assert_same(one, other)
        assert one.arrays["is_first"].tolist() == [True, False, False, False]
        assert one.arrays["is_last"].tolist() == [False, False, False, True]
        assert not one.arrays["is_terminal"].any()


def test_images_decode_and_rlds_has_its_flags(tmp_path: Path) -> None:
    import tensorflow_datasets as tfds

    written(tmp_path, [episode(0)])
    step = next(iter(next(iter(tfds.builder_from_directory(str(tmp_path)).as_dataset(split="train")))["steps"]))
    assert step["observation"]["image"].shape == (6, 8, 3)
    assert step["observation"]["depth"].dtype == "uint16"
    assert set(step) == {"observation", "action", "reward", "typed", "language_instruction", "is_first", "is_last", "is_terminal"}


def test_metadata_that_differ_from_those_of_the_first_episode(tmp_path: Path) -> None:
    odd = [{"number": "five"}, {"number": 5, "more": [1, {"a": None}]}, {}, {"number": 2**70}]
    given = [episode(0), *(episode(1)._replace(metadata=metadata, name=str(metadata)) for metadata in odd)]
    for one, other in zip(written(tmp_path, given), given, strict=True):
        assert metadata_of(one.metadata) == (other.name, other.metadata)


def test_metadata_of_an_rlds_data_set_are_not_wrapped_twice(tmp_path: Path) -> None:
    given = episode(0)._replace(metadata={"numbers": [1, 2]})
    written(tmp_path / "first", [given])
    (found,) = open_dataset(str(tmp_path / "first")).read(0, 1)
    (again,) = written(tmp_path / "second", [found._replace(arrays=given.arrays)])
    assert metadata_of(again.metadata) == (found.name, found.metadata) == (given.name, given.metadata)


def test_flags_that_the_data_have_stay_as_they_are(tmp_path: Path) -> None:
    features = Features({"action": ArraySpec((1,)), "is_last": ArraySpec((), "bool")})
    given = Episode("lying", {"action": np.zeros((2, 1), np.float32), "is_last": np.zeros(2, bool)}, {}, {})
    (found,) = written(tmp_path, [given], features)
    assert not found.arrays["is_last"].any()
    assert found.arrays["is_first"].tolist() == [True, False]


def test_streamed_steps(tmp_path: Path) -> None:
    features = Features({"action": ArraySpec((1,))}, {"observation/image": ArraySpec((2, 2, 3), "uint8")}, ("text",))
    state = np.zeros(1, np.float32)
    with contextlib.closing(rlds_writer(str(tmp_path), "made", features)) as writer:
        writer.begin("first", {"robot": "a"})
        for step in range(3):
            state += 1  # the same array each time, as simulators do
            writer.step({"action": state}, {"observation/image": np.full((2, 2, 3), step, np.uint8)}, {"text": f"step {step}"})
        with pytest.raises(ValueError, match=r"first: action is float64 \(1,\), but should be float32"):
            writer.step({"action": np.zeros(1)}, {"observation/image": b""}, {"text": ""})
        with pytest.raises(ValueError, match="first: actoin is none of the arrays; did you mean action|first: action is missing"):
            writer.step({"actoin": state}, {"observation/image": b""}, {"text": ""})
        with pytest.raises(ValueError, match="second: the episode first is still open"):
            writer.begin("second")
        writer.end(True)
        with pytest.raises(ValueError, match="end: no episode has begun"):
            writer.end(True)
        assert writer.size() == 1
    (found,) = rlds_episodes(tmp_path)
    assert found.arrays["action"].tolist() == [[1], [2], [3]]
    assert found.arrays["is_terminal"].tolist() == [False, False, True]
    assert found.texts == {"text": ["step 0", "step 1", "step 2"]}
    assert metadata_of(found.metadata) == ("first", {"robot": "a", "terminated": True})


def test_an_open_episode_is_dropped_with_a_warning(tmp_path: Path) -> None:
    writer = rlds_writer(str(tmp_path), "made", Features({"action": ArraySpec(())}))
    writer.begin("half")
    with pytest.warns(RuntimeWarning, match="half: was still open"):
        writer.close()


def test_shards_splits_and_more_behind_them(tmp_path: Path) -> None:
    import tensorflow_datasets as tfds

    given = [episode(place) for place in range(5)]
    written(tmp_path, given[:3], shard_bytes=1)
    written(tmp_path, given[3:], shard_bytes=2**30)
    with contextlib.closing(rlds_writer(str(tmp_path), "made", FEATURES, split="val")) as writer:
        writer.add(given[0])
    info = tfds.builder_from_directory(str(tmp_path)).info
    assert info.splits["train"].shard_lengths == [1, 1, 1, 2]
    assert info.splits["val"].shard_lengths == [1]
    assert info.splits["train"].num_bytes == sum(file.stat().st_size - 16 for file in tmp_path.glob("made-train*")) - 16
    for one, other in zip(rlds_episodes(tmp_path), given, strict=True):
        assert_same(one, other)
    assert not [file.name for file in tmp_path.glob(".*") if file.name != ".lock"]


def test_what_does_not_fit_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    good = episode(0)
    with contextlib.closing(rlds_writer(str(tmp_path), "made", FEATURES)) as writer:
        with pytest.raises(ValueError, match="episode 0: action is float32"):
            writer.add(good._replace(arrays=good.arrays | {"action": good.arrays["action"].astype(np.float32)}))
        with pytest.raises(ValueError, match="episode 0: observation/image, step 1: is neither JPEG nor PNG"):
            writer.add(
                good._replace(images=good.images | {"observation/image": [*good.images["observation/image"][:1], b"GIF89a", b"", b""]})
            )
        assert [file.name for file in tmp_path.iterdir()] == [".lock"]
        with pytest.raises(ValueError, match="another writer is at work there"):
            rlds_writer(str(tmp_path), "made", FEATURES)
        writer.add(good)
    other = Features(FEATURES.arrays | {"action": ArraySpec((3,), "float64")}, FEATURES.images, FEATURES.texts)
    with pytest.raises(ValueError, match=r"holds .*\(2,\).* as action, but the writer is to add .*\(3,\)"):
        rlds_writer(str(tmp_path), "made", other)
    with pytest.raises(ValueError, match="holds made 1.0.0, not other 1.0.0"):
        rlds_writer(str(tmp_path), "other", FEATURES)
    with pytest.raises(ValueError, match="is no name for a TFDS data set"):
        rlds_writer(str(tmp_path), "not a name", FEATURES)
    with pytest.raises(ValueError, match="gs://bucket/set: writers write to a local folder"):
        rlds_writer("gs://bucket/set", "made", FEATURES)
    with contextlib.closing(rlds_writer(str(tmp_path), "made", FEATURES)) as writer:  # a refused one does not keep the lock
        assert writer.size() == 1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"observation": ArraySpec(()), "observation/state": ArraySpec(())}, "observation/state: lies inside observation"),
        ({"action": ArraySpec((0,))}, "action: has the shape"),
        ({"action": ArraySpec((2,), "complex64")}, "action: is complex64"),
    ],
)
def test_columns_without_a_place(tmp_path: Path, arrays: dict[str, ArraySpec], message: str) -> None:
    columns = {name: np.zeros((2, *spec.shape), spec.dtype) for name, spec in arrays.items()}  # type: ignore[arg-type]
    writer = rlds_writer(str(tmp_path), "made", Features(arrays))
    with pytest.raises(ValueError, match=message):
        writer.add(Episode("one", columns, {}, {}))
    writer.close()


def test_a_journal_that_is_damaged_before_its_end_is_not_cut(tmp_path: Path) -> None:
    features = Features({"action": ArraySpec(())})
    writer = rlds_writer(str(tmp_path), "made", features)
    for place in range(3):
        writer.add(Episode(str(place), {"action": np.zeros(4, np.float32)}, {}, {}))
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("features.json", ".made-train.journal"):
        (copy / name).write_bytes((tmp_path / name).read_bytes())
    writer.close()
    journal = bytearray((copy / ".made-train.journal").read_bytes())
    journal[40] ^= 1
    (copy / ".made-train.journal").write_bytes(journal)
    with pytest.raises(ValueError, match="the record at byte 0 is damaged, and more follows"):
        rlds_writer(str(copy), "made", features)


def test_a_killed_process_loses_at_most_the_open_episode(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.data.killed", "rlds", str(tmp_path), "0"]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
    count = wait_for(tmp_path / "0.added", 4, child)
    child.kill()
    child.wait()
    assert_goes_on(tmp_path / "0", count)


@pytest.mark.slow
def test_killed_before_each_file_takes_its_place(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.data.killed", "rlds", str(tmp_path)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
    folders = [folder for folder in tmp_path.iterdir() if folder.is_dir()]
    assert len(folders) > 4
    for folder in folders:
        told = folder.with_suffix(".added")
        if (folder / "dataset_info.json").exists():  # what a reader sees is whole, before anyone has put it right
            for place, one in enumerate(rlds_episodes(folder)):
                assert_golden(one, place)
        assert_goes_on(folder, int(told.read_text()) if told.exists() else 0)


def wait_for(file: Path, count: int, child: subprocess.Popen[bytes]) -> int:
    """Until `file` holds at least `count`. The number that it held."""
    import time

    while child.poll() is None:
        told = file.read_text() if file.exists() else ""
        if told and int(told) >= count:
            return int(told)
        time.sleep(0.05)
    raise AssertionError("the child ended")


def assert_goes_on(folder: Path, added: int) -> None:
    writer = killed_writer("rlds", folder)
    kept = writer.size()
    assert kept >= added
    writer.add(golden(kept % 50))
    writer.close()
    found = rlds_episodes(folder)
    assert len(found) == kept + 1
    for place, one in enumerate(found):
        assert_golden(one, place)


def assert_golden(found: Episode, place: int) -> None:
    given = golden(place % 50)
    assert_same(found, given)


def test_names_and_units_are_kept_beside_the_data(tmp_path: Path) -> None:
    from jaxrl_data.origin import read_origin

    spec = replace(FEATURES.arrays["observation/state"], names=("x", "y", "z"), unit="m")
    written(tmp_path, [episode(0)], Features(FEATURES.arrays | {"observation/state": spec}, FEATURES.images, FEATURES.texts))
    told = read_origin(str(tmp_path))
    assert told is not None
    assert next(one for one in told.columns if one.name == "observation/state").spec == spec
