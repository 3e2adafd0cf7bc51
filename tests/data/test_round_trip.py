"""A data set goes to the other format and comes back through our own readers: every value, name, unit, text and metadata is as it was."""

import io
import json
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxrl.types import ArraySpec
from jaxrl_data.convert import to_lerobot, to_rlds
from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import Episode, Features
from jaxrl_data.lerobot.columns import DERIVED
from jaxrl_data.lerobot.encode import picture
from jaxrl_data.open import open_dataset
from jaxrl_data.origin import read_origin
from jaxrl_data.writer import encoded
from tests.data import lerobot_sets
from tests.data.oracles import dataset

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # TensorFlow's and tensorflow-datasets' own
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
CODEC_LOSS = 8  # grey levels, on average over a picture
ODD = (0.0, -0.0, np.nan, np.inf, -np.inf, 5e-324, 1e-45, 65504.0)
RLDS = Features(
    arrays={
        "observation/state": ArraySpec((3,), names=("x", "y", "grip"), unit="m,m,1", low=-1.0, high=(1.0, 2.0, 3.0)),
        "observation/arm/left/joint": ArraySpec((2, 3), "float64", unit="rad"),
        "observation/touch": ArraySpec((3, 2), "uint8"),
        "observation/cube": ArraySpec((2, 2, 2), "int16"),
        "action": ArraySpec((2,), "float64", ("a", "b")),
        "half": ArraySpec((1,), "float16"),
        "count": ArraySpec((), "int64"),
        "wide": ArraySpec((), "uint64"),
        "byte": ArraySpec((), "uint8"),
        "pair": ArraySpec((2,), "bool"),
        "index": ArraySpec((), "int32"),
        "timestamp": ArraySpec((), "float64", unit="s"),
        "reward": ArraySpec(()),
        "discount": ArraySpec(()),
        "is_first": ArraySpec((), "bool"),
        "is_last": ArraySpec((), "bool"),
        "is_terminal": ArraySpec((), "bool"),
    },
    images={"observation/image_0": ArraySpec((32, 48, 3), "uint8"), "observation/image/front": ArraySpec((16, 16, 3), "uint8")},
    texts=("language_instruction", "observation/comment", "task"),
    rate=5.0,
)


def _values(random: np.random.Generator, steps: int, spec: ArraySpec) -> np.ndarray:
    """Any bits that the type can have; of floats some of the odd ones."""
    shape, dtype = (steps, *map(int, spec.shape)), np.dtype(spec.dtype)
    if dtype.kind == "b":
        return random.random(shape) < 0.5
    if dtype.kind in "iu":
        return random.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    values = np.asarray(random.normal(size=shape) * 10.0 ** random.integers(-4, 4, shape))
    with np.errstate(over="ignore"):
        return np.where(random.random(shape) < 0.2, random.choice(ODD, shape), values).astype(dtype)


def _text(random: np.random.Generator) -> str:
    return "".join(random.choice([*string.printable, *"äß\N{SNOWMAN}\N{PILE OF POO}\u2028 \0"], random.integers(0, 9)))


def _image(random: np.random.Generator, shape: tuple[Any, ...], kind: str) -> bytes:
    """Smooth, so that a codec loses little."""
    row, column = np.mgrid[: shape[0], : shape[1]]
    array = (np.stack([3 * row, 3 * column, 0 * row], -1) + random.integers(0, 90, 3)).astype(np.uint8)
    if kind == "PNG":
        return encoded(array)
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


def _metadata(random: np.random.Generator, number: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "file_path": f"/raw/{number}\N{SNOWMAN}.npy",
        "success": bool(random.random() < 0.5),
        "number": int(random.integers(-(2**62), 2**62)),
        "large": 2**70,
        "gain": float(random.normal()),
        "nothing": None,
        "tags": ["a", 1, [True, None]],
        "scene": {"table": {"height": 0.1}, "größe": 3},
        "from/where": _text(random),
        "episode_index": 17,
        "tasks": ["as they were"],
    }
    return {key: value for key, value in found.items() if number == 0 or random.random() < 0.8}


def _awkward(seed: int) -> Dataset:
    random, episodes = np.random.default_rng(seed), []
    for number in range(3):
        steps = int(random.integers(1, 6))
        arrays = {name: _values(random, steps, spec) for name, spec in RLDS.arrays.items()}
        kinds = dict(zip(RLDS.images, ("JPEG", "PNG"), strict=True))
        images = {name: [_image(random, spec.shape, kinds[name]) for _ in range(steps)] for name, spec in RLDS.images.items()}
        texts = {name: [_text(random) for _ in range(steps)] for name in RLDS.texts}
        episodes.append(Episode(f"made {seed}/{number} é", arrays, images, texts, _metadata(random, number)))
    return dataset("awkward", RLDS, episodes)


def _assert_same(found: Dataset, given: Dataset, *, lossless: bool, but: tuple[str, ...] = ()) -> None:
    """Everything but the columns `but`; the sizes of images may be known where they were not."""
    for kind in ("arrays", "images"):
        assert getattr(found.features, kind).keys() == getattr(given.features, kind).keys()
    assert found.features.arrays == given.features.arrays
    assert [one.dtype for one in found.features.images.values()] == [one.dtype for one in given.features.images.values()]
    assert {*found.features.texts} == {*given.features.texts} and found.features.rate == (given.features.rate or found.features.rate)
    assert found.size == given.size
    for one, other in zip(found.read(0, found.size), given.read(0, given.size), strict=True):
        assert one.name == other.name
        assert json.dumps(one.metadata, sort_keys=True) == json.dumps(other.metadata, sort_keys=True)
        for name, array in other.arrays.items():
            if name not in but:
                assert (one.arrays[name].dtype, one.arrays[name].shape) == (array.dtype, array.shape), name
                assert one.arrays[name].tobytes() == np.ascontiguousarray(array).tobytes(), name  # also the sign of 0, and NaN
        assert {name: list(column) for name, column in one.texts.items()} == {name: list(column) for name, column in other.texts.items()}
        for name, images in other.images.items():
            if lossless:
                assert list(one.images[name]) == list(images)
            for left, right in zip(one.images[name], images, strict=True):
                assert np.abs(picture(left).astype(int) - picture(right)).mean() < CODEC_LOSS


def _there_and_back(first: str, folder: Path, codec: str, fps: int) -> tuple[Dataset, Dataset]:
    """RLDS in the folder `first` to LeRobot and to RLDS again."""
    middle, last = str(folder / "middle"), str(folder / "last")
    source = open_dataset(first)
    to_lerobot(source, middle, "arm", fps=fps, origin=read_origin(first), codec=codec)
    between = open_dataset(middle)
    to_rlds(between, last, "again", origin=read_origin(middle))
    return between, open_dataset(last)


@pytest.mark.parametrize(("seed", "codec"), [(0, "image"), (1, "libx264"), (2, "image")])
def test_awkward_columns_from_rlds_and_back(tmp_path: Path, seed: int, codec: str) -> None:
    given, first = _awkward(seed), str(tmp_path / "first")
    to_rlds(given, first, "awkward")
    _assert_same(open_dataset(first), given, lossless=True)
    between, last = _there_and_back(first, tmp_path, codec, fps=0)
    assert between.features.arrays["observation.state"].unit == "m,m,1" and between.features.rate == 5
    for one, other in zip(between.read(0, 3), given.read(0, 3), strict=True):
        assert (one.name, one.metadata) == (other.name, other.metadata)
        assert (one.texts["task"], one.texts["language_instruction"]) == (other.texts["task"], other.texts["language_instruction"])
    _assert_same(last, given, lossless=codec == "image")


@pytest.mark.parametrize(("seed", "codec"), [(3, "image"), (4, "libx264")])
def test_awkward_columns_from_lerobot_and_back(tmp_path: Path, seed: int, codec: str) -> None:
    first, middle, last = (str(tmp_path / name) for name in ("first", "middle", "last"))
    to_lerobot(_awkward(seed), first, "arm", codec=codec)
    given = open_dataset(first)
    to_rlds(given, middle, "middle", origin=read_origin(first))
    to_lerobot(open_dataset(middle), last, "arm", origin=read_origin(middle), codec=codec)
    _assert_same(open_dataset(last), given, lossless=codec == "image")


@pytest.mark.parametrize("version", ["v2.0", "v3.0"])
def test_lerobot_of_another_writer_and_back(tmp_path: Path, version: str) -> None:
    """Its steps begin at row 0, so that what LeRobot counts is the same again."""
    first, middle, last = (str(tmp_path / name) for name in ("first", "middle", "last"))
    lerobot_sets.write(tmp_path / "first", version)
    given = open_dataset(first)
    to_rlds(given, middle, "middle")
    to_lerobot(open_dataset(middle), last, "arm", origin=read_origin(middle), codec="image")
    there = open_dataset(last)
    _assert_same(there, given, lossless=True)
    assert next(there.read(2, 3)).metadata == {"episode_index": 2, "tasks": [lerobot_sets.TASKS[0]]}


def test_without_text_rate_or_metadata(tmp_path: Path) -> None:
    """What a format needs and the other has not is added on the way there and gone on the way back."""
    features = Features({"action": ArraySpec((2,)), "observation/state": ArraySpec((1,), "float64", unit="m")})
    episodes = [Episode(str(n), {"action": np.ones((2, 2), np.float32), "observation/state": np.ones((2, 1))}, {}, {}) for n in (0, 1)]
    given, first = dataset("bare", features, episodes), str(tmp_path / "first")
    to_rlds(given, first, "bare")
    assert {*open_dataset(first).features.arrays} == {"action", "observation/state", "is_first", "is_last", "is_terminal"}
    between, last = _there_and_back(first, tmp_path, "image", fps=10)
    assert between.features.texts == () and {*DERIVED} <= {*between.features.arrays}
    _assert_same(last, open_dataset(first), lossless=True)
    to_lerobot(open_dataset(first), str(tmp_path / "other"), "arm", fps=10)  # as if RLDS had had the flags from the beginning
    assert {"is_first", "is_last"} <= {*open_dataset(str(tmp_path / "other")).features.arrays}


def test_bridge_there_and_back(test_data: Path, tmp_path: Path) -> None:
    first = str(test_data / "bridge_debug/1.0.0")
    between, last = _there_and_back(first, tmp_path, "libx264", fps=5)
    given = open_dataset(first)
    assert between.size == 25 and between.features.texts == ("task",)
    _assert_same(last, given, lossless=False)
    told = json.loads((tmp_path / "last/features.json").read_text())["featuresDict"]["features"]
    assert {"file_path", "has_image_0"} <= told["episode_metadata"]["featuresDict"]["features"].keys()  # as features, not as JSON


def test_features_are_completed_where_they_have_a_gap_alone(tmp_path: Path) -> None:
    """A name that the data set itself tells stays; a width that changed makes names of other dimensions."""
    features = replace(RLDS, arrays={"action": ArraySpec((2,), "float32", ("left", "right"))}, images={}, texts=("task",))
    steps = {"action": np.zeros((3, 2), np.float32)}
    to_lerobot(dataset("named", features, [Episode("0", steps, {}, {"task": ["go"] * 3})]), str(tmp_path), "arm")
    told = json.loads((tmp_path / "meta/jaxrl.json").read_text())
    column = next(one for one in told["columns"] if one["name"] == "action")
    column["spec"] |= {"names": ["other", "names"], "unit": "N"}
    (tmp_path / "meta/jaxrl.json").write_text(json.dumps(told))
    spec = open_dataset(str(tmp_path)).features.arrays["action"]
    assert (spec.names, spec.unit) == (("left", "right"), "N")
