"""Each fault that validation finds, made from a good data set; and a good one has none."""

import dataclasses
import io
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image

from jaxrl.types import ArraySpec
from jaxrl_data import outliers
from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import BadEpisode, Episode, Features
from jaxrl_data.findings import LISTED, collect, error, failed, table, warning
from jaxrl_data.validate import validate

RATE = 10.0
STEPS = 20
FEATURES = Features(
    arrays={
        "action": ArraySpec((2,), "float32", ("x", "gripper"), "m, 1"),
        "timestamp": ArraySpec((), "float32"),
        "is_first": ArraySpec((), "bool"),
        "is_last": ArraySpec((), "bool"),
        "reward": ArraySpec((), "float32"),
    },
    images={"image_0": ArraySpec((8, 12, 3), "uint8")},
    texts=("instruction", "instruction_2"),
    rate=RATE,
)


def _image(random: np.random.Generator, shape: tuple[int, ...] = (8, 12, 3), high: int = 255) -> bytes:
    file = io.BytesIO()
    Image.fromarray(random.integers(0, high, shape, dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


def _episode(index: int) -> Episode:
    random = np.random.default_rng(index)
    steps = STEPS + int(random.integers(5))
    return Episode(
        f"episode {index}",
        {
            "action": random.normal(size=(steps, 2)).astype(np.float32),
            "timestamp": (np.arange(steps) / RATE).astype(np.float32),
            "is_first": np.arange(steps) == 0,
            "is_last": np.arange(steps) == steps - 1,
            "reward": np.zeros(steps, np.float32),
        },
        {"image_0": [_image(random)] * steps},
        {"instruction": [f"put {index % 3} away"] * steps, "instruction_2": [f"store {index % 3}"] * steps},
        {"has_image_0": True},
    )


def _dataset(episodes: list[Episode], features: Features = FEATURES, split: str = "train") -> Dataset:
    return Dataset("set", split, features, len(episodes), lambda first, last: iter(episodes[first:last]), "abc")


@pytest.fixture
def episodes() -> list[Episode]:
    return [_episode(index) for index in range(24)]


def _kinds(*datasets: Dataset) -> list[tuple[str, str]]:
    return sorted({(one.severity, one.fault) for one in validate(datasets)})


def test_a_good_set_has_no_finding(episodes: list[Episode]) -> None:
    held_out = [_episode(index) for index in range(100, 112)]
    told: list[int] = []
    assert validate((_dataset(episodes), _dataset(held_out, split="val")), told.append) == ()
    assert sum(told) == 36


def _set(column: str, place: object, value: object) -> Callable[[Episode], None]:
    def change(episode: Episode) -> None:
        episode.arrays[column][place] = value

    return change


def _nan(episode: Episode) -> None:
    episode.arrays["action"][3, 1] = np.nan


def _black(episode: Episode) -> None:
    episode.images["image_0"] = [_image(np.random.default_rng(0), high=2)] * len(episode.images["image_0"])


def _damaged(episode: Episode) -> None:
    episode.images["image_0"][0] = episode.images["image_0"][0][:40]


def _missing(episode: Episode) -> None:
    episode.images["image_0"] = list(episode.images["image_0"][:-1]) + [b""]


def _other_size(episode: Episode) -> None:
    episode.images["image_0"] = [_image(np.random.default_rng(0), (9, 12, 3))] * len(episode.images["image_0"])


def _slower(episode: Episode) -> None:
    episode.arrays["timestamp"][:] *= 2


def _jump(episode: Episode) -> None:
    episode.arrays["timestamp"][5:] += 0.3


def _jitter(episode: Episode) -> None:
    episode.arrays["timestamp"][5] += 0.002


def _back(episode: Episode) -> None:
    episode.arrays["timestamp"][5] = 0


def _late(episode: Episode) -> None:
    episode.arrays["timestamp"][:] += 0.05


def _no_text(episode: Episode) -> None:
    episode.texts["instruction"] = [""] * len(episode.texts["instruction"])


def _lacks_a_row(episode: Episode) -> None:
    episode.arrays["action"] = episode.arrays["action"][1:]


@pytest.mark.parametrize(
    "change, severity, fault, words",
    [
        (_nan, "error", "not finite", "nan in dimension 1 of step 3"),
        (_set("action", (2, 0), -np.inf), "error", "not finite", "-inf in dimension 0 of step 2"),
        (_lacks_a_row, "error", "columns", "but action"),
        (_damaged, "error", "damaged image", "step 0"),
        (_missing, "error", "missing image", "none at step"),
        (_other_size, "error", "image shape", "(9, 12, 3)"),
        (_black, "warning", "black in an episode", "black"),
        (_black, "warning", "flag against pixels", "it is black in 1 of 24 episodes that flag it as present"),
        (lambda one: one.metadata.update(has_image_0=0), "warning", "flag against pixels", "has pixels in 1 of 24"),
        (_slower, "error", "rate", "5"),
        (_jump, "error", "timestamps", "0.4 s before step 5"),
        (_back, "error", "timestamps", "not so at step 5"),
        (_jitter, "warning", "timestamps", "2 ms off at step 5"),
        (_late, "warning", "first timestamp", "0.05 s"),
        (_set("is_last", -1, False), "warning", "step flags", "not so in 1 of 24"),
        (_set("is_first", 1, True), "warning", "step flags", "not so in 1 of 24"),
        (_no_text, "warning", "no text", "none in 1 of 24"),
        (_set("action", (4, 0), 1000), "warning", "outlier: value", "1000"),
        (_set("action", (4, 0), -1000), "warning", "outlier: value", "-1000"),
    ],
)
def test_a_fault_in_one_episode(episodes: list[Episode], change: Callable[[Episode], None], severity: str, fault: str, words: str) -> None:
    change(episodes[7])
    found = [one for one in validate(_dataset(episodes)) if one.fault == fault]
    assert len(found) == 1 and found[0].severity == severity
    assert words in found[0].found and ("episode 7" in found[0].where + found[0].found or fault in ("step flags", "no text"))
    assert failed(validate(_dataset(episodes))) == (severity == "error")


def test_an_episode_much_longer_than_the_others(episodes: list[Episode]) -> None:
    long = _episode(7)
    copies = 20
    times = np.arange(copies * len(long.arrays["action"])) / RATE
    arrays = {name: np.concatenate([array] * copies) for name, array in long.arrays.items()} | {"timestamp": times.astype(np.float32)}
    arrays["is_first"], arrays["is_last"] = times == 0, times == times[-1]
    longer = {name: list(column) * copies for name, column in (*long.images.items(), *long.texts.items())}
    episodes[7] = long._replace(arrays=arrays, images={"image_0": longer["image_0"]}, texts={name: longer[name] for name in FEATURES.texts})
    (found,) = validate(_dataset(episodes))
    assert found.fault == "outlier: length" and "episode 7" in found.where


def test_outliers_are_few_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outliers, "KEPT", 4)
    held = outliers.Outliers()
    for index in range(300):
        held.add("action", np.array([[index % 7, 0.0]]) if index % 30 else np.array([[900.0 + index, 0.0]]), index, f"episode {index}")
    found = list(held.findings(Features()))
    assert sorted(one.where for one in found) == sorted(f"episode {index}" for index in (270, 240, 210, 180))


def test_a_dimension_that_hardly_moves(episodes: list[Episode]) -> None:
    for one in episodes:
        one.arrays["action"][:, 1] *= 1e-5
    (found,) = validate(_dataset(episodes))
    assert (found.severity, found.fault, found.key) == ("warning", "hardly moves", "action") and "in gripper (1 of 2" in found.found
    for one in episodes:
        one.arrays["action"][:, 1] = 0
    (found,) = validate(_dataset(episodes))
    assert found.fault == "constant" and "in gripper (1 of 2" in found.found


def test_a_camera_that_is_always_black(episodes: list[Episode]) -> None:
    for one in episodes:
        _black(one)
        one.metadata.clear()
    (found,) = validate(_dataset(episodes))
    assert (found.fault, found.key) == ("black camera", "image_0") and "all 24 episodes" in found.found


def test_a_camera_that_is_flagged_as_missing_may_be(episodes: list[Episode]) -> None:
    for one in episodes[:3]:
        one.images["image_0"] = [b""] * len(one.images["image_0"])
        one.metadata["has_image_0"] = False
    assert _kinds(_dataset(episodes)) == [("warning", "black in an episode")]


def test_an_episode_that_is_there_twice(episodes: list[Episode]) -> None:
    episodes[9] = _episode(3)._replace(name="another name")
    (found,) = validate(_dataset(episodes))
    assert (found.severity, found.fault) == ("warning", "duplicate episode")
    assert "another name" in found.where and "episode 3" in found.found


def test_a_duplicate_may_be_counted_otherwise(episodes: list[Episode]) -> None:
    features = dataclasses.replace(FEATURES, arrays={**FEATURES.arrays, "index": ArraySpec((), "int64")})
    start = 0
    for place in range(len(episodes)):
        source = _episode(3 if place == 9 else place)
        steps = len(source.arrays["action"])
        episodes[place] = source._replace(arrays={**source.arrays, "index": start + np.arange(steps)})
        start += steps
    assert _kinds(_dataset(episodes, features)) == [("warning", "duplicate episode")]


def test_splits_that_share_episodes(episodes: list[Episode]) -> None:
    held_out = [_episode(index) for index in (0, 200, 5, 201)]
    (found,) = validate((_dataset(episodes), _dataset(held_out, split="val")))
    assert (found.severity, found.fault) == ("error", "splits overlap")
    assert "2 of 4 episodes of val (50 %) are in train" in found.found
    (found,) = validate((_dataset(episodes), _dataset(episodes[::-1], split="val")))
    assert "24 of 24" in found.found and "100 %" in found.found


def test_texts_that_are_promised_to_differ(episodes: list[Episode]) -> None:
    for one in episodes:
        one.texts["instruction_2"] = one.texts["instruction"]
    (found,) = validate(_dataset(episodes))
    assert (found.fault, found.key) == ("constant text", "instruction_2")


@pytest.mark.parametrize(
    "spec, fault",
    [
        (ArraySpec((2,), "float32", ("x", "y", "gripper")), ("error", "names")),
        (ArraySpec((2,), "float32", ("x", "x")), ("error", "names")),
        (ArraySpec((2,), "float32", ("x", "y"), "m, rad, rad"), ("error", "units")),
    ],
)
def test_names_that_do_not_fit_the_shape(episodes: list[Episode], spec: ArraySpec, fault: tuple[str, str]) -> None:
    features = dataclasses.replace(FEATURES, arrays={**FEATURES.arrays, "action": spec})
    assert _kinds(_dataset(episodes, features)) == [fault]


def test_a_rate_that_nobody_tells(episodes: list[Episode]) -> None:
    assert _kinds(_dataset(episodes, dataclasses.replace(FEATURES, rate=0.0))) == [("warning", "rate unknown")]


def test_fewer_episodes_than_promised(episodes: list[Episode]) -> None:
    assert _kinds(_dataset(episodes)._replace(size=30)) == [("error", "episode count")]
    assert _kinds(_dataset([])) == [("error", "no episodes")]


def test_what_lies_behind_an_unreadable_episode_is_looked_at(episodes: list[Episode]) -> None:
    _nan(episodes[20])

    def read(first: int, last: int) -> Iterator[Episode]:
        for index in range(first, last):
            if index in (4, 5, 23):
                raise BadEpisode(index, f"file 3: episode {index}: image_0 is cut")
            yield episodes[index]

    told: list[int] = []
    found = validate(_dataset(episodes)._replace(read=read), told.append)
    assert [one.where for one in found if one.fault == "unreadable"] == [f"set train, episode {index}" for index in (4, 5, 23)]
    assert "file 3: episode 4: image_0 is cut" in found[0].found and sum(told) == 24
    assert [one.fault for one in found if one.fault != "unreadable"] == ["not finite"]


def test_findings_of_one_kind_are_counted_not_kept() -> None:
    many = (error("not finite", f"episode {index}", "action", "finite", "nan") for index in range(1000))
    found = collect((*[warning("rate unknown", "set", "", "", "")], *many))
    assert len(found) == LISTED + 2 and found[0].severity == "error" and found[-1].severity == "warning"
    assert found[LISTED].where == "and 980 more"
    assert table(found).row_count == LISTED + 2
