"""Statistics of data sets: against numpy, in any order and grouping, and what they refuse."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from jaxrl.types import ArraySpec
from jaxrl_data import sketch as sketches
from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import BadEpisode, Episode, Features
from jaxrl_data.statistics import QUANTILES, Summary, compare, load, merge, ranges, save, statistics, summarise
from jaxrl_data.transforms.interface import definition

NAMES = ("x", "y", "gripper")


def _episodes(number: int = 30, seed: int = 0) -> list[Episode]:
    random = np.random.default_rng(seed)
    result = []
    for index in range(number):
        steps = int(random.integers(5, 40))
        state = (random.normal(size=(steps, 3)) * [1, 0.01, 100] + [0, 1000, 0]).astype(np.float32)
        result.append(Episode(f"episode {index}", {"state": state, "count": np.arange(steps)}, {}, {}))
    return result


def _dataset(episodes: list[Episode], fingerprint: str = "abc") -> Dataset:
    features = Features(arrays={"state": ArraySpec((3,), "float32", NAMES, "m"), "count": ArraySpec((), "int64")})
    return Dataset("set", "train", features, len(episodes), lambda first, last: iter(episodes[first:last]), fingerprint)


def _rows(episodes: list[Episode]) -> np.ndarray:
    return np.concatenate([one.arrays["state"] for one in episodes]).astype(np.float64)


def _order(identity: str, length: int) -> np.ndarray:
    return sketches.priorities(np.full(length, sketches.seed(identity), np.uint64), np.arange(length))


def test_as_numpy_tells() -> None:
    episodes = _episodes()
    held, rows = statistics(summarise(_dataset(episodes))), _rows(episodes)
    column = held.columns["state"]
    assert list(held.columns) == ["state"] and column.names == NAMES and column.unit == "m"
    assert (held.episodes, held.steps, column.steps) == (30, len(rows), len(rows))
    for field in ("mean", "std", "min", "max"):
        np.testing.assert_allclose(getattr(column, field), getattr(rows, field)(axis=0), rtol=1e-12, atol=1e-12)
    for field, at in QUANTILES.items():  # exact: few rows
        np.testing.assert_array_equal(getattr(column, field), np.quantile(rows, at, axis=0))


def test_many_blocks_of_rows_far_from_zero_keep_their_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxrl_data.sketch.BLOCK", 50)
    episodes = _episodes()
    column = statistics(summarise(_dataset(episodes))).columns["state"]
    np.testing.assert_allclose(column.std, _rows(episodes).std(axis=0), rtol=1e-10)


def test_parts_in_any_order_and_grouping_are_the_whole() -> None:
    dataset = _dataset(_episodes())
    whole = statistics(summarise(dataset))
    parts = [summarise(dataset, first=first, last=last) for first, last in ((0, 3), (3, 3), (3, 20), (20, 30))]
    left = merge(merge(merge(parts[0], parts[1]), parts[2]), parts[3])
    right = merge(parts[3], merge(merge(parts[2], parts[1]), parts[0]))
    for grouped in (left, right):
        found = statistics(grouped)
        assert found._replace(columns={}) == whole._replace(columns={})
        for one, other in zip(found.columns["state"], whole.columns["state"], strict=True):
            if isinstance(one, np.ndarray):
                np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-13)
        for field in ("min", "max", *QUANTILES):
            np.testing.assert_array_equal(getattr(found.columns["state"], field), getattr(whole.columns["state"], field))


def test_a_sample_is_the_same_however_rows_were_shared_out() -> None:
    random = np.random.default_rng(0)
    pieces = [(random.normal(size=(500, 2)), _order(f"episode {index}", 500)) for index in range(40)]
    whole = sketches.empty(2, size=1000)
    for rows, order in pieces:
        whole = sketches.add(whole, rows, order)
    shares = [sketches.empty(2, size=1000) for _ in range(3)]
    for index in random.permutation(40):
        shares[index % 3] = sketches.add(shares[index % 3], *pieces[index])
    merged = sketches.merge_all(shares[::-1])
    np.testing.assert_array_equal(sketches.sample(merged), sketches.sample(whole))
    assert len(sketches.sample(whole)) == 1000 and sum(map(len, whole.rows)) <= 2000
    order = np.sort(np.concatenate([order for _, order in pieces]))[:1000]
    np.testing.assert_array_equal(sketches.thinned(whole).priorities[0], order)  # the lowest of all


@pytest.mark.parametrize("shape", ["sorted", "uniform", "heavy"])
def test_quantiles_lie_within_their_bound(shape: str) -> None:
    random = np.random.default_rng(1)
    count, size = 200_000, 4096
    values = {"sorted": np.arange(count) / count, "uniform": random.random(count), "heavy": random.standard_cauchy(count)}[shape]
    held = sketches.empty(1, size)
    for index, part in enumerate(np.split(values[:, None], 100)):
        held = sketches.add(held, part, _order(f"{shape} {index}", len(part)))
    found = sketches.quantiles(held, tuple(QUANTILES.values()))[:, 0]
    ranks = np.searchsorted(np.sort(values), found) / count
    errors = {at: abs(rank - at) for at, rank in zip(QUANTILES.values(), ranks, strict=True)}
    assert all(error <= sketches.rank_error(at, size, count) for at, error in errors.items()), errors
    assert max(errors.values()) > 1e-5  # a sample it is


def test_the_bound_is_of_use() -> None:
    assert sketches.rank_error(0.5, 100, 100) == 0
    wide = {at: sketches.rank_error(at, sketches.ROWS, 10**9) for at in QUANTILES.values()}
    assert wide[0.01] < 0.0011 and wide[0.99] < 0.0011 and wide[0.1] < 0.0033 and wide[0.9] < 0.0033 and wide[0.5] < 0.0053
    # ten thousand samples, hence at a risk of 1e-2 a hundred at most should be worse; were the bound half as wide, there would be more
    shares = np.random.default_rng(0).binomial(1000, 0.1, size=10_000) / 1000
    assert (abs(shares - 0.1) > sketches.rank_error(0.1, 1000, 10**9, risk=1e-2)).sum() <= 100
    assert (abs(shares - 0.1) > sketches.rank_error(0.1, 1000, 10**9, risk=1e-2) / 2).sum() > 100


def test_memory_does_not_grow_with_rows() -> None:
    assert sketches.empty(7).size == sketches.ROWS
    assert sketches.empty(512).size * 512 * 8 == sketches.BYTES


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_by_name(value: float) -> None:
    episodes = _episodes(5)
    episodes[3].arrays["state"][2, 1] = value
    with pytest.raises(BadEpisode, match=rf"set, episode 3: state is {value} in dimension 1 of row 2") as refused:
        summarise(_dataset(episodes))
    assert refused.value.episode == 3


def test_masked_rows_are_left_out_even_if_they_are_not_finite() -> None:
    episodes = _episodes(4)

    def of(episode: Episode) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        padded = np.concatenate([episode.arrays["state"][:-2], np.full((2, 3), np.nan, np.float32)])
        return {"state": (padded, np.arange(len(padded)) < len(padded) - 2)}

    held = statistics(summarise(_dataset(episodes), of, "padded"))
    rows = np.concatenate([one.arrays["state"][:-2] for one in episodes]).astype(np.float64)
    assert held.columns["state"].steps == len(rows) and held.definition == "padded"
    np.testing.assert_allclose(held.columns["state"].mean, rows.mean(axis=0), rtol=1e-12)
    with pytest.raises(ValueError, match="state: has no rows that are not masked"):
        statistics(summarise(_dataset(episodes), lambda one: {"state": (one.arrays["state"], np.zeros(len(one.arrays["state"])))}))


def test_an_episode_that_is_counted_twice_is_told() -> None:
    dataset = _dataset(_episodes())
    with pytest.raises(ValueError, match="counted twice"):
        statistics(merge(summarise(dataset, last=20), summarise(dataset, first=19)))


def test_only_what_belongs_together_merges() -> None:
    one = summarise(_dataset(_episodes()))
    with pytest.raises(ValueError, match="other transforms"):
        merge(one, one._replace(definition="else"))
    with pytest.raises(ValueError, match="state are not the same"):
        merge(one, one._replace(specs={"state": dataclasses.replace(one.specs["state"], unit="mm")}))
    other = summarise(_dataset(_episodes(seed=1), fingerprint="xyz"))
    assert statistics(merge(other, one)).fingerprint == "abc+xyz"


def test_columns_are_the_same_in_all_episodes() -> None:
    episodes = _episodes(3)
    episodes[2] = episodes[2]._replace(arrays={"state": episodes[2].arrays["state"][:, :2]})
    with pytest.raises(BadEpisode, match="episode 2: state has 2 values a step, but 3"):
        summarise(_dataset(episodes))
    episodes[2] = episodes[2]._replace(arrays={"other": episodes[1].arrays["state"]})
    with pytest.raises(BadEpisode, match="episode 2: other, state is not in all episodes"):
        summarise(_dataset(episodes))


def test_more_axes_and_scalars_get_names() -> None:
    episodes = [Episode("one", {"grid": np.ones((4, 2, 2), np.float32), "time": np.arange(4.0)}, {}, {})]
    columns = statistics(summarise(_dataset(episodes))).columns
    assert columns["grid"].names == ("grid[0]", "grid[1]", "grid[2]", "grid[3]") and columns["time"].names == ("time",)
    assert columns["grid"].constant == columns["grid"].names and not columns["time"].constant
    assert (columns["grid"].std == 0).all()


def test_a_constant_is_one_exactly() -> None:
    episodes = [Episode(str(index), {"state": np.full((7, 3), 0.1, np.float32)}, {}, {}) for index in range(9)]
    column = statistics(summarise(_dataset(episodes))).columns["state"]
    assert (column.std == 0).all() and (column.mean == np.float64(np.float32(0.1))).all() and column.constant == NAMES


def test_ranges_have_a_floor() -> None:
    column = statistics(summarise(_dataset(_episodes()))).columns["state"]
    low, high, floored = ranges(column, floor=0.5)
    assert floored == ("y",)  # its deviation is 0.01
    np.testing.assert_allclose([low[1], high[1]], [(column.q01 + column.q99)[1] / 2 - 0.25, (column.q01 + column.q99)[1] / 2 + 0.25])
    np.testing.assert_array_equal([low[0], high[2]], [column.q01[0], column.q99[2]])
    np.testing.assert_array_equal(ranges(column, 1e-9, "bounds")[:2], [column.min, column.max])
    np.testing.assert_array_equal(ranges(column, 1e-9, "z_score").high, column.mean + column.std)
    with pytest.raises(ValueError, match="must be positive"):
        ranges(column, 0.0)
    with pytest.raises(ValueError, match="there are quantile, bounds, z_score"):
        ranges(column, 1.0, "minmax")


def test_saved_and_loaded_without_loss(tmp_path: Path) -> None:
    held = statistics(summarise(_dataset(_episodes()), definition="abc"))
    path = str(tmp_path / "run" / "statistics.json")
    save(path, held)
    back = load(path)
    assert back._replace(columns={}) == held._replace(columns={})
    for one, other in zip(back.columns["state"], held.columns["state"], strict=True):
        assert np.array_equal(one, other)
    compare(back, held)
    text = json.loads(Path(path).read_text())
    del text["columns"]["state"]["q50"]
    Path(path).write_text(json.dumps(text))
    with pytest.raises(ValueError, match=r"statistics\.json.*'q50' is missing"):
        load(path)


def test_a_checkpoint_with_others_is_refused_by_dimension() -> None:
    held = statistics(summarise(_dataset(_episodes())))
    episodes = _episodes()
    for one in episodes:
        one.arrays["state"][:, 2] *= np.float32(1.001)
    found = statistics(summarise(_dataset(episodes, "changed")))
    with pytest.raises(ValueError, match=r"state, dimension gripper: (mean|std) is .* but was .* \(the data are others\)"):
        compare(found, held)
    compare(found._replace(columns=held.columns), held)  # other files, the same numbers
    column = held.columns["state"]
    with pytest.raises(ValueError, match="state: dimension 1 is z, but was y"):
        compare(held._replace(columns={"state": column._replace(names=("x", "z", "gripper"))}), held)
    with pytest.raises(ValueError, match="in 'mm', but was in 'm'"):
        compare(held._replace(columns={"state": column._replace(unit="mm")}), held)
    with pytest.raises(ValueError, match="action is in one of them only .*the transforms are others"):
        compare(held._replace(columns={"action": column}, definition="new"), held)


def test_another_definition_is_another_key() -> None:
    @dataclasses.dataclass(frozen=True)
    class Scale:
        by: float

    assert definition([Scale(1.0)]) == definition([Scale(1.0)]) != definition([Scale(2.0)])


def test_one_pass_over_few_episodes_at_a_time() -> None:
    episodes, alive = _episodes(), []

    def read(first: int, last: int) -> Iterator[Episode]:
        for index in range(first, last):
            alive.append(index)
            yield episodes[index]

    told: list[int] = []
    summary = summarise(_dataset(episodes)._replace(read=read), advance=told.append)
    assert alive == list(range(30)) and sum(told) == 30
    assert isinstance(summary, Summary)
