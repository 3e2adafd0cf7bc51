"""Statistics of data sets that are not prepared: named by the config, and those of the right data."""

import numpy as np
import pytest

from jaxrl.types import ArraySpec
from jaxrl_data import commands
from jaxrl_data.configured import statistics_needed
from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import BadEpisode, Episode, Features
from jaxrl_data.stream_source import open_mixed
from jaxrl_data.streaming.members import Streamed
from tests.data.episodes import dataset, picture, png
from tests.data.streams import COLUMNS, EVERY, LENGTHS, config, take


def test_statistics_are_named_and_fit_or_the_command_is_told(sets, tmp_path, monkeypatch):
    path = tmp_path / "statistics.json"
    monkeypatch.setattr(commands, "opened", lambda options: sets[options.path])

    def chosen(validation=0.0, **changes):
        return config(sets={"made": Streamed("made", columns=COLUMNS, **changes)}, normalise="bounds", validation=validation)

    with pytest.raises(ValueError, match=r"made: its statistics are needed.*`jaxrl data stats --config FILE.py` makes them"):
        open_mixed(chosen())
    with pytest.raises(ValueError, match="there are no statistics of made; `jaxrl data stats --config FILE.py`"):
        open_mixed(chosen(statistics=str(path)))
    assert commands.main(["stats", "made", "--out", str(path)]) == 0
    whole = np.concatenate([batch["action"][batch["mask"][..., 0] > 0] for batch, _ in take(chosen(statistics=str(path)), 40)])
    assert whole.min() == pytest.approx(-1, abs=1e-5) and whole.max() == pytest.approx(1, abs=1e-5)
    mixed = open_mixed(chosen(statistics=str(path)))
    assert mixed.statistics["made"].columns["state/pose"].max[0] == max(EVERY)
    with pytest.raises(ValueError, match="one share held out; `jaxrl data stats --config FILE.py` makes them"):
        open_mixed(chosen(0.4, statistics=str(path)))
    assert commands.main(["stats", "made", "--validation", "0.4", "--out", str(path)]) == 0
    assert open_mixed(chosen(0.4, statistics=str(path))).statistics["made"].steps < len(EVERY)
    sets["made"] = dataset(LENGTHS[1:])
    with pytest.raises(ValueError, match="holds statistics of other data than made"):
        open_mixed(chosen(0.4, statistics=str(path)))


def bridge(lengths):
    """Episodes of the layout of `bridge_dataset`."""
    numbers = {name: ArraySpec((7,)) for name in ("observation/state", "action")}
    images = {f"observation/image_{place}": ArraySpec((8, 12, 3), "uint8") for place in (0, 1)}

    def read(first, last, columns=None):
        for number in range(first, last):
            random, steps = np.random.default_rng(number), lengths[number]
            arrays = {name: random.uniform(-1, 1, (steps, 7)).astype(np.float32) for name in numbers}
            texts = {"language_instruction": ["put carrot on plate"] * steps}
            yield Episode(f"bridge {number}", arrays, {name: [png(picture(0))] * steps for name in images}, texts)

    features = Features(numbers, images, ("language_instruction",), 5.0)
    return Dataset("bridge_dataset/1.0.0", "train", features, len(lengths), read, f"bridge {lengths}")


def test_a_set_of_the_table_is_normalised_by_what_its_row_makes_of_it(sets, tmp_path, monkeypatch):
    sets["bridge"], path = bridge((6, 9, 4)), str(tmp_path / "statistics.json")
    monkeypatch.setattr(commands, "opened", lambda options: sets[options.path])
    one = Streamed("bridge", standard="bridge_dataset", statistics=path)
    chosen = config(sets={"bridge": one}, normalise="bounds", lanes=1)
    assert commands.main(["stats", "bridge", "--out", path]) == 0
    with pytest.raises(ValueError, match="of stored columns of bridge, .*`jaxrl data stats --config FILE.py` makes them"):
        open_mixed(chosen)
    assert commands.main(["stats", "bridge", "--standard", "bridge_dataset", "--out", path]) == 0
    action = np.concatenate([batch["action"][:, 0] for batch, _ in take(chosen, 2)])  # 16 steps: an epoch, the last ones dropped
    np.testing.assert_allclose([action[:, :6].min(0), action[:, :6].max(0)], [[-1] * 6, [1] * 6], atol=1e-5)
    assert set(np.unique(action[:, 6])) <= {0.0, 1.0}, "the gripper stays as it is"
    assert open_mixed(chosen).statistics["bridge"].steps == 16


def test_sizes_are_steps_where_all_sets_tell_them(sets, tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "opened", lambda options: sets[options.path])
    sets["long"], sets["short"] = dataset((30, 30)), dataset((5, 5))
    both = {name: Streamed(name, columns=COLUMNS, statistics=str(tmp_path / name)) for name in ("long", "short")}
    for name, one in both.items():
        assert commands.main(["stats", name, "--out", one.statistics]) == 0
    assert np.mean(open_mixed(config(sets=both)).order.sets(0, 7000)) == pytest.approx(1 / 7, abs=0.01)
    both["short"] = Streamed("short", columns=COLUMNS)
    assert np.mean(open_mixed(config(sets=both)).order.sets(0, 7000)) == pytest.approx(1 / 2, abs=0.01)


def test_bad_episodes_are_left_out_where_the_config_says_so(sets, tmp_path):
    path = tmp_path / "made.json"
    plain = sets["made"]

    def read(first, last, columns=None):
        for number, one in enumerate(plain.read(first, last, columns), first):
            if number == 2:
                one.arrays["action"][3] = np.inf
            yield one

    sets["made"] = plain._replace(read=read)
    named = {"made": Streamed("made", columns=COLUMNS | {"state/count": "count"}, statistics=str(path))}
    (_, _, strict) = next(statistics_needed(config(sets=named, normalise="bounds")))
    with pytest.raises(BadEpisode, match="episode 2: action is inf in dimension 0 of step 3"):
        strict(lambda episodes: None)
    (_, size, make) = next(statistics_needed(config(sets=named, normalise="bounds", quarantine=True)))
    with pytest.warns(UserWarning, match="episode 2: left out, because .*action is inf"):
        held, _ = make(lambda episodes: None)
    assert (size, held.episodes) == (len(LENGTHS), len(LENGTHS) - 1)
    assert held.columns["state/count"].max == max(EVERY)
    with pytest.warns(UserWarning, match="episode 2: left out"):
        drawn = [batch for batch, _ in take(config(sets=named, normalise="bounds", quarantine=True), 40)]
    assert all(np.isfinite(batch["action"]).all() for batch in drawn)
    assert max(batch["observation"]["state/count"].max() for batch in drawn) == 1


def test_statistics_of_stored_columns_lack_whole_numbers(sets, tmp_path, monkeypatch):
    path = tmp_path / "stored.json"
    monkeypatch.setattr(commands, "opened", lambda options: sets[options.path])
    assert commands.main(["stats", "made", "--out", str(path)]) == 0
    named = {"made": Streamed("made", columns=COLUMNS | {"state/count": "count"}, statistics=str(path))}
    with pytest.raises(ValueError, match="holds no statistics of state/count of made; `jaxrl data stats --config FILE.py` makes them"):
        open_mixed(config(sets=named, normalise="bounds"))
