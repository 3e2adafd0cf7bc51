"""A conversion in parts is that of one process, value by value, whatever fails or is done twice on the way."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from etils.epath import backend, gpath
from fsspec.implementations.memory import MemoryFileSystem

from jaxrl_data import parts
from jaxrl_data.commands import main
from jaxrl_data.convert import PARTS, to_lerobot
from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import BadEpisode, Episode, Features
from jaxrl_data.findings import failed
from jaxrl_data.open import open_dataset
from jaxrl_data.parts import FORMATS, Job, begin, convert_on_beam, finish, job, place_part, shares, write_part
from jaxrl_data.rlds.metadata import information
from jaxrl_data.validate import validate
from tests.data import episodes as made
from tests.data.oracles import episode_rows, lerobot_episodes, rlds_episodes

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # TensorFlow's and tensorflow-datasets' own, and Beam's
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
LENGTHS = (5, 3, 8, 2, 6, 4, 7)
RLDS = {"name": "made"}
LEROBOT = {"robot_type": "arm", "fps": 10, "codec": "image"}
OPTIONS: dict[str, dict[str, Any]] = {"rlds": RLDS, "lerobot": LEROBOT}
READ: dict[str, Callable[[Path], list[Episode]]] = {"rlds": rlds_episodes, "lerobot": lerobot_episodes}
SHAPE = (16, 24)


def episode(number: int) -> Episode:
    """Its tasks come in another order in each, its metadata have other types than those of the first, and its rows are 0.8 kB each."""
    found = made.episode(number, LENGTHS[number])
    tasks = [f"task {(7 * number + step // 2) % 5}" for step in range(LENGTHS[number])]
    images = [made.png(np.full((*SHAPE, 3), 10 * number + step, np.uint8)) for step in range(LENGTHS[number])]
    metadata = {"operator": number if number < 4 else f"person {number}", **({"late": [1]} if number > 4 else {})}
    arrays = found.arrays | {"wide": np.random.default_rng(number).normal(size=(LENGTHS[number], 100))}
    return found._replace(arrays=arrays, images={"front": images}, texts={"task": tasks}, metadata=metadata)


def source(bad: tuple[int, ...] = ()) -> Dataset:
    like = made.FEATURES
    arrays = dict(like.arrays) | {"wide": made.ArraySpec((100,), "float64")}
    features = Features(arrays, {"front": made.ArraySpec(("height", "width", 3), "uint8")}, like.texts, like.rate)

    def read(first: int, last: int, columns: Any = None) -> Any:
        for number in range(first, last):
            if number in bad:
                raise BadEpisode(number, f"made/1.0.0, episode {number}: state is not there")
            yield made.with_columns(episode(number), made.chosen(features, columns))

    return Dataset("made/1.0.0", "train", features, len(LENGTHS), read, "fingerprint")


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The path "memory" is the data set above, in which the listed episodes cannot be read."""
    bad: list[int] = []
    opened = parts.open_dataset
    monkeypatch.setattr(parts, "open_dataset", lambda path, split=None: source(tuple(bad)) if path == "memory" else opened(path, split))
    return bad


def alone(to: str, out: Path, **options: Any) -> Path:
    FORMATS[to].write(source(), str(out), **OPTIONS[to] | options)
    return out


def run(one: Job, out: str | Path) -> None:
    """What the pipeline does, in another order."""
    assert begin(one, str(out))
    written = [write_part(part, one, str(out)) for part in reversed(range(one.parts))]
    for placed in reversed(shares(one, written)):
        place_part(placed, one, str(out))
    finish(one, str(out))


def assert_same(found: Episode, given: Episode) -> None:
    assert (found.name, found.metadata, found.texts) == (given.name, given.metadata, given.texts)
    assert found.arrays.keys() == given.arrays.keys() and found.images.keys() == given.images.keys()
    for name, array in given.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)
        assert found.arrays[name].dtype == array.dtype
    for name, images in given.images.items():
        assert list(found.images[name]) == list(images), name


def assert_as_alone(to: str, out: Path, expected: Path) -> None:
    """By the formats' own libraries and by our reader; nothing is left over, and `validate` finds no error."""
    for read in (READ[to], lambda path: list((one := open_dataset(str(path))).read(0, one.size))):
        found, given = read(out), read(expected)
        assert len(found) == len(given) == len(LENGTHS)
        for one, other in zip(found, given, strict=True):
            assert_same(one, other)
    assert open_dataset(str(out)).features == open_dataset(str(expected)).features
    assert not [path for path in out.rglob(".*") if path.name != ".lock"]
    findings = [[one._replace(where=one.where.replace(path.name, "")) for one in validate(str(path))] for path in (out, expected)]
    assert findings[0] == findings[1] and not failed(findings[0])


@pytest.mark.parametrize("to", FORMATS)
def test_a_pipeline_writes_what_one_process_does(tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the command. From a path, because the runner may work in other processes."""
    pytest.importorskip("apache_beam")
    monkeypatch.setattr(parts, "_SMALLEST", 2)
    first, out, expected = alone("lerobot", tmp_path / "first"), tmp_path / "beam", tmp_path / "alone"
    own = {"rlds": ["--name", "made"], "lerobot": ["--codec", "libx264"]}[to]
    words = ["convert", str(first), "--to", to, *own, "--without", "wide", "--out"]
    assert main([*words, str(expected)]) == 0
    for _ in range(2):  # the second time there is nothing to do
        assert main([*words, str(out), "--beam", "direct_num_workers=1"]) == 0
        assert_as_alone(to, out, expected)
    assert "wide" not in open_dataset(str(out)).features.names


def test_rlds_parts_of_several_shards_behind_one_another(memory: list[int], tmp_path: Path) -> None:
    expected, out = alone("rlds", tmp_path / "alone"), tmp_path / "out"
    run(job("memory", "rlds", RLDS | {"shard_bytes": 5_000}, episodes_per_part=3), out)
    assert_as_alone("rlds", out, expected)
    (split,), (whole,) = information(str(out))["splits"], information(str(expected))["splits"]
    shards = [int(length) for length in split["shardLengths"]]
    assert sum(shards) == 7 and len(shards) > 3 and split["numBytes"] == whole["numBytes"]
    names = sorted(path.name for path in out.iterdir())
    tables = ["dataset_info.json", "features.json", "jaxrl.json"]
    assert names == [*tables, *(f"made-train.tfrecord-{number:05d}" for number in range(len(shards)))]
    for name in tables[1:]:
        assert (out / name).read_bytes() == (expected / name).read_bytes()


def test_lerobot_parts_of_several_files_and_chunks_behind_one_another(
    memory: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxrl_data.lerobot.writer.FILES_PER_CHUNK", 2)
    expected, out = alone("lerobot", tmp_path / "alone", codec="libx264"), tmp_path / "out"
    run(job("memory", "lerobot", LEROBOT | {"codec": "libx264", "data_mb": 0.01}, episodes_per_part=3), out)
    assert_as_alone("lerobot", out, expected)
    found, whole = episode_rows(out), episode_rows(expected)
    moved = ("chunk_index", "file_index", "_timestamp")
    for row, other in zip(found, whole, strict=True):
        assert row.keys() == other.keys()
        for key, value in other.items():
            assert key.endswith(moved) or row[key] == value, key  # statistics of the numbers of rows too
    places = [(row["data/chunk_index"], row["data/file_index"]) for row in found]
    assert sorted(set(places)) == [divmod(number, 2) for number in range(len(set(places)))] and len(set(places)) > 3
    index = [pq.read_table(file)["index"].to_pylist() for file in sorted((out / "data").glob("*/*.parquet"))]
    assert sum(index, []) == list(range(sum(LENGTHS)))
    for name in ("meta/jaxrl.json", "meta/tasks.parquet"):
        assert (out / name).read_bytes() == (expected / name).read_bytes()
    infos = [json.loads((path / "meta/info.json").read_text()) for path in (out, expected)]
    assert infos[0] | {"data_files_size_in_mb": 100} == infos[1]
    tables = [json.loads((path / "meta/stats.json").read_text()) for path in (out, expected)]
    assert tables[0].keys() == tables[1].keys()
    for name, one in tables[1].items():
        for key in ("min", "max", "mean", "std", "count"):
            np.testing.assert_allclose(tables[0][name][key], one[key], rtol=1e-12, atol=1e-12, err_msg=f"{name} {key}")
        width = np.asarray(one["max"]) - one["min"]
        assert (np.abs(np.asarray(tables[0][name]["q50"]) - one["q50"]) <= 0.15 * width).all(), name  # merged twice, of few numbers


class ObjectStore(MemoryFileSystem):
    """A cloud: a folder is there as long as something lies in it."""

    store: dict[str, Any] = {}
    pseudo_dirs = [""]

    def mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        pass

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        pass


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """What s3:// leads to."""
    monkeypatch.setattr(ObjectStore, "store", {})
    there = ObjectStore(skip_instance_cache=True)
    monkeypatch.setattr(type(backend.fsspec_backend), "_get_filesystem", lambda self, name: there)
    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)
    return there


@pytest.mark.parametrize("to", FORMATS)
def test_into_a_cloud(memory: list[int], tmp_path: Path, cloud: ObjectStore, to: str) -> None:
    one, expected = job("memory", to, OPTIONS[to], episodes_per_part=3), alone(to, tmp_path / "alone")
    run(one, "s3://bucket/made")
    assert not [name for name in cloud.store if PARTS in name]
    out = tmp_path / "out"
    for name, file in cloud.store.items():
        path = out / name.partition("bucket/made/")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.getvalue())
    assert_as_alone(to, out, expected)


@pytest.mark.parametrize("to", FORMATS)
def test_a_part_that_fails_is_done_again_and_what_is_done_twice_changes_nothing(memory: list[int], tmp_path: Path, to: str) -> None:
    out, one = tmp_path / "out", job("memory", to, OPTIONS[to], episodes_per_part=3)
    memory.append(4)  # the second one of its part
    begin(one, str(out))
    written = {0: write_part(0, one, str(out))}
    with pytest.raises(BadEpisode, match="episode 4: state is not there"):
        write_part(1, one, str(out))
    assert {path.name for path in (out / PARTS).iterdir() if path.is_dir()} == {"seed", written[0]["folder"]}
    memory.clear()
    begin(one, str(out))  # as a second call does
    written[1] = write_part(1, one, str(out))
    assert write_part(1, one, str(out)) == written[1]
    (out / PARTS / "00001.written.json").unlink()  # two at once, of which neither saw the other
    assert write_part(1, one, str(out))["folder"] != written[1]["folder"]
    written[2] = write_part(2, one, str(out))
    numbered = shares(one, written.values())
    for part in numbered:
        place_part(part, one, str(out))
    for entry in (out / PARTS).glob("*.placed.json"):  # killed just before it said so
        entry.unlink()
        place_part(numbered[int(entry.name[:5])], one, str(out))
    with pytest.raises(FileNotFoundError):
        finish(Job(**{**vars(one), "episodes": 10}), str(out))  # a part of episodes 7 to 9 is not there
    assert begin(one, str(out)), "it is not whole yet"
    finish(one, str(out))
    assert_as_alone(to, out, alone(to, tmp_path / "alone"))
    (out / PARTS / "seed").mkdir(parents=True)  # killed while it cleared away
    assert not begin(one, str(out)) and not (out / PARTS).exists()


@pytest.mark.parametrize("to", FORMATS)
def test_a_damaged_part_is_named_and_can_be_written_anew(memory: list[int], tmp_path: Path, to: str) -> None:
    out, one = tmp_path / "out", job("memory", to, OPTIONS[to], episodes_per_part=3)
    begin(one, str(out))
    written = [write_part(part, one, str(out)) for part in range(one.parts)]
    for file in (out / PARTS / written[1]["folder"]).rglob("*" if to == "lerobot" else "*tfrecord*"):
        if file.is_file():
            file.unlink()
    with pytest.raises(ValueError, match=r"^part 1, .*cannot be put in its place \(.*\); if it is damaged, remove .*00001.written.json"):
        for placed in shares(one, written):
            place_part(placed, one, str(out))
    (out / PARTS / "00001.written.json").unlink()
    for placed in shares(one, [write_part(part, one, str(out)) for part in range(one.parts)]):
        place_part(placed, one, str(out))
    finish(one, str(out))
    assert_as_alone(to, out, alone(to, tmp_path / "alone"))


def test_a_pipeline_that_failed_goes_on(memory: list[int], tmp_path: Path) -> None:
    pytest.importorskip("apache_beam")
    from apache_beam.options.pipeline_options import PipelineOptions

    here = PipelineOptions(["--runner=DirectRunner", "--direct_running_mode=in_memory"])
    out, one = tmp_path / "out", job("memory", "lerobot", LEROBOT, episodes_per_part=2)
    memory.append(5)
    with pytest.raises(ValueError, match="^made/1.0.0, episode 5: state is not there; what is done stays, so repeat the command"):
        convert_on_beam(one, str(out), here)
    kept = sorted((out / PARTS).glob("*.written.json"))
    assert not (out / "meta").exists()
    memory.clear()
    with pytest.raises(ValueError, match="a conversion on Beam was begun there; go on with --beam"):
        to_lerobot(source(), str(out), "arm")
    before = [path.stat().st_mtime_ns for path in kept]
    times: list[int] = []
    cleared = parts.finish

    def watched(*given: Any) -> None:
        times.extend(path.stat().st_mtime_ns for path in kept)
        cleared(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "finish", watched)
        convert_on_beam(one, str(out), here)
    assert times == before, "what was written stays"
    assert_as_alone("lerobot", out, alone("lerobot", tmp_path / "alone"))


def test_what_does_not_fit_is_refused(memory: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, three = (job("memory", "lerobot", LEROBOT, episodes_per_part=size) for size in (2, 3))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    begin(one, str(tmp_path / "begun"))
    alone("lerobot", tmp_path / "whole", fps=5)
    short = source()._replace(read=lambda first, last, columns=None: source().read(first, min(last, 3)))
    for call, message in (
        (lambda: begin(one, str(tmp_path / "other")), "other: is not empty, and holds no conversion that Beam began"),
        (
            lambda: begin(three, str(tmp_path / "begun")),
            "with episodes_per_part 2, and not 3",
        ),
        (lambda: begin(job("memory", "rlds", RLDS, episodes_per_part=2), str(tmp_path / "begun")), "begun with options"),
        (lambda: begin(job("memory", "lerobot", {"robot_type": "arm", "codec": "gif"}), str(tmp_path / "new")), "codec must be one of"),
        (lambda: begin(one, str(tmp_path / "whole")), "fps is 5, but the writer is to add 10"),
        (lambda: job("memory", "rlds", RLDS, episodes_per_part=0), "episodes_per_part is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    monkeypatch.setattr(parts, "open_dataset", lambda path, split=None: short)
    with pytest.raises(ValueError, match="memory: ends at episode 3, before episode 4, although its metadata tell of it"):
        write_part(1, one, str(tmp_path / "begun"))
