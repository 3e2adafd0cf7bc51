"""Batches straight from data sets: the same whatever reads them, resumable in the middle of a block, never more than a few blocks held."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as some
from scipy.stats import spearmanr

from jaxrl.cli.main import main
from jaxrl.distributed.mesh import data_mesh
from jaxrl.training.checkpoint import open_checkpoints
from jaxrl.types import ArraySpec
from jaxrl_data import commands
from jaxrl_data.cache.prepare import plan, prepare
from jaxrl_data.cache.store import open_store
from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import BadEpisode, Episode, Features
from jaxrl_data.members import held_out
from jaxrl_data.mixture import Images
from jaxrl_data.open import Apart
from jaxrl_data.stream_source import Batches, Config, open_mixed, stream_source
from jaxrl_data.streaming import members
from jaxrl_data.streaming.lanes import cut, lane_of, samples_of_host
from jaxrl_data.streaming.members import Streamed, open_streams
from jaxrl_data.streaming.reading import Lanes, Reader
from tests.data.episodes import dataset, episode, picture, png

LENGTHS = (5, 3, 8, 1, 6, 4, 7, 2, 9)
EVERY = [1000 * episode + step for episode, length in enumerate(LENGTHS) for step in range(length)]
COLUMNS = {"state/pose": "state", "action": "action", "image/front": "front", "task/instruction": "task"}


@pytest.fixture
def sets(monkeypatch):
    """Data sets in memory, by path."""
    known = {"made": dataset(LENGTHS)}
    monkeypatch.setattr(members, "splits", lambda path: ("train",))
    monkeypatch.setattr(members, "open_apart", lambda asked: Apart({name: known[path] for name, (path, _) in asked.items()}, lambda: None))
    return known


def config(**changes):
    fields = {"sets": {"made": Streamed("made", columns=COLUMNS, block=2)}, "batch_size": 8, "horizon": 3, "lanes": 4, "threads": 2}
    return Config(**fields | {"images": Images(16, pad=False)} | changes)


def take(chosen, number, first=0, places=None, hosts=1, host=0):
    """Batches, and the places behind each."""
    mixed = open_mixed(chosen)
    if places is None:
        places = np.zeros((len(chosen.sets), chosen.lanes // hosts, 2), np.int32)
    found = Batches(chosen, mixed, first, places, hosts, host)
    try:
        return [next(found) for _ in range(number)]
    finally:
        found.close()
        mixed.close()


def counts(batch):
    """[B] which step each row is, from its state: x is the count that all else follows from."""
    return np.asarray(batch["observation"]["state/pose"])[:, 0].astype(int)


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


@given(some.lists(some.integers(0, 12), min_size=1, max_size=12), some.integers(1, 6))
def test_blocks_are_parts_of_files_or_whole_ones(files, block):
    ends = np.cumsum(files).tolist()
    if not ends[-1]:
        return
    edges = cut(ends[-1], block, ends)
    assert edges[0] == 0 and edges[-1] == ends[-1] and (np.diff(edges) > 0).all() and np.diff(edges).max() <= block
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        inside = [edge for edge in ends if start < edge < end]
        assert not inside or {start, end} <= {0, *ends}, "a block that ends in a file began there"


@given(some.integers(0, 2**50), some.integers(1, 32), some.sampled_from([1, 2, 4, 8]))
def test_hosts_share_every_batch_evenly_and_by_lanes(first, share, hosts):
    whole = samples_of_host(first, share * hosts, 8, 1, 0)
    parts = [samples_of_host(first, share * hosts, 8, hosts, host) for host in range(hosts)]
    assert sorted(whole) == list(range(first, first + share * hosts))
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    for host, part in enumerate(parts):
        assert set(lane_of(part, 8) * hosts // 8) == {host}


def test_rows_are_those_of_the_episodes_with_masks_at_their_ends(sets):
    for batch, _ in take(config(), 12):
        for row, count in enumerate(counts(batch)):
            number, step = divmod(int(count), 1000)
            left = LENGTHS[number] - step
            np.testing.assert_array_equal(batch["mask"][row], (np.arange(3) < left)[:, None] * np.ones((1, 2)))
            for k in range(min(3, left)):
                np.testing.assert_allclose(batch["action"][row, k], [np.cos(count + k), (count + k) / 7], rtol=1e-6)
            shown = batch["observation"]["image/front"][row]
            assert shown.shape == (16, 16, 3) and shown.dtype == np.uint8
            np.testing.assert_allclose(shown.mean((0, 1)), picture(count).mean((0, 1)), atol=12)


@pytest.mark.parametrize("changes", [{"threads": 1}, {"threads": 4, "readers": 3, "prefetch": 5}])
def test_what_reads_does_not_change_what_is_read(sets, changes):
    assert_same([batch for batch, _ in take(config(), 12)], [batch for batch, _ in take(config(**changes), 12)])


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_each_batch_and_read_for_their_own_lanes(sets, hosts):
    expected = take(config(), 8)
    parts = [take(config(), 8, hosts=hosts, host=host) for host in range(hosts)]
    for number, (whole, places) in enumerate(expected):
        assert_same(jax.tree.map(lambda *x: np.concatenate(x), *(part[number][0] for part in parts)), whole)
        np.testing.assert_array_equal(np.concatenate([part[number][1] for part in parts], axis=1), places)


def test_a_run_goes_on_anywhere_with_other_hosts_and_another_size(sets):
    whole = take(config(), 12)
    drawn = [counts(batch) for batch, _ in whole]
    for begun in (1, 4, 7):
        places = whole[begun - 1][1]
        np.testing.assert_array_equal(counts(take(config(), 1, 8 * begun, places)[0][0]), drawn[begun])
        expected = sorted(np.concatenate(drawn[begun : begun + 4]))
        larger = [counts(batch) for batch, _ in take(config(batch_size=16), 2, 8 * begun, places)]
        assert sorted(np.concatenate(larger)) == expected
        halves = [
            counts(take(config(batch_size=32), 1, 8 * begun, places[:, 2 * host : 2 * host + 2], hosts=2, host=host)[0][0])
            for host in (0, 1)
        ]
        assert sorted(np.concatenate(halves)) == expected
    large, small = take(config(batch_size=512), 1), take(config(batch_size=256), 2)  # many blocks of a lane in one batch
    assert sorted(counts(large[0][0])) == sorted(np.concatenate([counts(batch) for batch, _ in small]))
    np.testing.assert_array_equal(large[0][1], small[1][1])


def epochs(found, chosen, blocks, draws):
    """{epoch: steps as (block, item)} of so many draws of each lane."""
    seen: dict[int, list] = {}
    for lane in range(chosen.lanes):
        for _ in range(draws):
            draw = found.draw(0, lane, lambda: None)
            turn = lane + chosen.lanes * draw.found.number
            first, step = draw.found.block.at(int(draw.found.order[draw.place]))
            seen.setdefault(turn // blocks, []).append(int(first.arrays["state/pose"][step, 0]))
            found.made(draw)
    return seen


def opened_lanes(chosen, name="made"):
    (stream,) = open_streams(dict(chosen.sets)).streams.values()
    choice = members.Choice(chosen.part, chosen.validation)
    reader = Reader(
        name, stream.blocks, chosen.lanes, chosen.seed, lambda at: members.read_block(stream, at, choice, lambda *_: None), set()
    )
    return stream, Lanes({0: reader}, range(chosen.lanes), np.zeros((1, chosen.lanes, 2), np.int32), 1)


def test_every_step_is_drawn_once_in_an_epoch(sets):
    stream, found = opened_lanes(config())
    seen = epochs(found, config(), stream.blocks, 120)
    found.close()
    whole = [epoch for epoch, steps in seen.items() if len(steps) == len(EVERY)]
    assert len(whole) > 5
    for epoch in range(max(whole) - 2):
        assert sorted(seen[epoch]) == EVERY
    assert seen[0] != seen[1]


def test_stored_and_drawn_order_are_hardly_related_and_few_steps_of_an_episode_meet(sets):
    """400 episodes of 50 steps, blocks of 8, 16 lanes, batches of 256: 2 of an episode on average."""
    sets["made"] = bare(400, 50)
    chosen = config(sets={"made": Streamed("made", columns={"state/pose": "state", "action": "action"})}, lanes=16)
    stream, found = opened_lanes(chosen)
    drawn = np.zeros(20_000, np.int64)
    for sample in range(len(drawn)):
        draw = found.draw(0, int(lane_of(np.array([sample]), 16)[0]), lambda: None)
        which, step = draw.found.block.at(int(draw.found.order[draw.place]))
        drawn[sample] = which.arrays["state/pose"][step, 0]
        found.made(draw)
    found.close()
    assert abs(spearmanr(np.arange(len(drawn)), drawn).statistic) < 0.1
    most = [max(Counter(drawn[at : at + 256] // 1000).values()) for at in range(0, len(drawn) - 256, 256)]
    assert max(most) <= 10 and np.mean(most) < 8


def bare(episodes, steps):
    """Without images, which take long to make."""
    whole = dataset((steps,) * episodes)
    features = whole.features

    def read(first, last, columns=None):
        for number in range(first, last):
            state = np.repeat(1000 * number + np.arange(steps, dtype=np.float32)[:, None], 3, 1)
            arrays = {"state": state, "action": state[:, :2].copy(), "count": state[:, 0].astype(np.int64)}
            yield Episode(f"episode {number}", arrays, {"front": [b""] * steps}, {"task": [""] * steps})

    return whole._replace(read=read, features=features)


def test_never_more_than_two_blocks_of_a_lane_are_held(sets):
    alive, most, reads, lock = [0], [0], [], threading.Lock()
    plain = sets["made"]

    def gone():
        with lock:
            alive[0] -= 1

    def read(first, last, columns=None):
        reads.append((first, last))
        for one in plain.read(first, last):
            column = one.arrays["state"].copy()
            weakref.finalize(column, gone)
            with lock:
                alive[0] += 1
                most[0] = max(most[0], alive[0])
            yield one._replace(arrays=one.arrays | {"state": column})

    sets["made"] = plain._replace(read=read)
    chosen = config(prefetch=1)
    mixed = open_mixed(chosen)
    assert reads == [(0, 1)] and alive[0] == 0, "one episode tells the size"
    reads.clear()
    found = Batches(chosen, mixed, 0, np.zeros((1, 4, 2), np.int32))
    next(found)
    time.sleep(0.2)
    assert 4 <= len(reads) <= 4 * 2 + 4, "what waits is no more than a batch needs, and one block ahead"
    for _ in range(60):
        next(found)
    found.close()
    held = 2 * chosen.lanes * 2  # two blocks of two episodes
    assert held / 2 < most[0] <= held + chosen.threads + 2, "beside what a thread has at hand"
    del found
    reads.clear()
    take(chosen, 1, 8 * 50, take(chosen, 50)[-1][1])
    assert len(reads) < 400


def test_several_sets_are_mixed_by_their_weights(sets):
    sets["other"] = dataset((4,) * 40, name="other/1.0.0")
    both = {"made": Streamed("made", columns=COLUMNS), "other": Streamed("other", weight=3.0, columns=COLUMNS, block=4)}
    chosen = config(sets=both, temperature=float("inf"), batch_size=64)
    mixed = open_mixed(chosen)
    assert abs((mixed.order.sets(0, 64) == 1).sum() - 48) <= 2
    sizes = open_mixed(config(sets=both)).order.sets(0, 4096)
    assert np.mean(sizes == 1) == pytest.approx(3 * 40 / (3 * 40 + 9), abs=0.01), "by episodes, where steps are not known"
    halves = [take(chosen, 3, hosts=2, host=host) for host in (0, 1)]
    for number, (batch, _) in enumerate(take(chosen, 3)):
        assert_same(jax.tree.map(lambda *x: np.concatenate(x), *(half[number][0] for half in halves)), batch)


def test_what_is_held_out_is_what_a_cache_holds_out(sets, tmp_path, monkeypatch):
    from jaxrl_data.cache import prepare as preparing

    monkeypatch.setattr(preparing, "open_dataset", lambda path, split=None: sets["made"])
    prepare(plan("made"), tmp_path / "cache")
    out = set(np.flatnonzero(held_out(open_store(tmp_path / "cache").hashes, 0.4)))
    assert 0 < len(out) < len(LENGTHS)
    for part, need in (("train", set(range(len(LENGTHS))) - out), ("validation", out)):
        drawn = np.concatenate([counts(batch) for batch, _ in take(config(part=part, validation=0.4), 40)])
        assert set(drawn // 1000) == need, part
    sets["made"] = sets["made"]._replace(size=1)
    part = "validation" if 0 not in out else "train"
    with pytest.raises(ValueError, match="made: no episode is left to draw from"):
        take(config(part=part, validation=0.4), 1)


@pytest.mark.filterwarnings("ignore:sets.made. names no statistics")
def test_after_an_error_the_same_batch_is_asked_for_again(sets):
    sets["made"] = dataset(LENGTHS, bad=(4,))
    source = stream_source(config()).source
    state = source.init(jax.random.key(0), ())
    with pytest.raises(BadEpisode) as first:
        for _ in range(20):
            state, _ = source.next(state, (), jax.random.key(0))
    with pytest.raises(BadEpisode) as again:
        source.next(state, (), jax.random.key(0))
    assert str(first.value) == str(again.value)
    source.close()


def test_a_bad_episode_ends_it_or_is_counted(sets):
    sets["made"] = dataset(LENGTHS, bad=(4,))
    with pytest.raises(BadEpisode, match=r"made/1.0.0, episode 4: state is not there"):
        take(config(), 20)
    with pytest.warns(UserWarning, match="made/1.0.0, train, episode 4: left out, because .*state is not there"):
        drawn = np.concatenate([counts(batch) for batch, _ in take(config(quarantine=True), 40)])
    assert set(drawn // 1000) == set(range(len(LENGTHS))) - {4}


@pytest.mark.parametrize("block", [1, 3])
def test_a_bad_image_is_named_or_another_step_taken(sets, block):
    plain = sets["made"]

    def read(first, last, columns=None):
        for number, one in enumerate(plain.read(first, last), first):
            yield one._replace(images={"front": [b"\0"] * len(one.images["front"])}) if number == 2 else one

    sets["made"] = plain._replace(read=read)
    broken = {"made": Streamed("made", columns=COLUMNS, block=block)}
    with pytest.raises(ValueError, match="episode 2, step .: front"):
        take(config(sets=broken), 20)
    with pytest.warns(UserWarning, match="episode 2: left out, because"):
        once, again = (take(config(sets=broken, quarantine=True, threads=threads), 30) for threads in (1, 3))
    assert_same(once, again)
    assert 2 not in set(np.concatenate([counts(batch) for batch, _ in once]) // 1000)


@pytest.mark.filterwarnings("ignore:sets.made. names no statistics")
def test_the_source_keeps_its_place(sets):
    source, spec, normaliser, _ = stream_source(config())
    state, rows = source.init(jax.random.key(0), ()), []
    for _ in range(5):
        before = state
        state, batch = source.next(state, (), jax.random.key(0))
        rows.append(counts(batch))
    assert int(state.samples) == 40 and sum(leaf.nbytes for leaf in jax.tree.leaves(state)) == 8 + 4 + 4 * 8
    again, batch = source.next(before, (), jax.random.key(1))  # a rollback; the key is of no effect
    np.testing.assert_array_equal(counts(batch), rows[4])
    assert_same(again, state)
    other = stream_source(config()).source
    np.testing.assert_array_equal(counts(other.next(before, (), jax.random.key(2))[1]), rows[4])
    for name, one in source.spec.items():
        kind, _, rest = name.partition("/")
        found = batch[kind][rest] if rest else batch[kind]
        assert (found.shape, str(found.dtype)) == (one.shape, one.dtype), name
    blocks = np.asarray(state.places)[0, :, 0]
    assert source.metrics(state)["data/epochs/made"] == pytest.approx(blocks.sum() / 5), "in blocks that are drawn whole"
    assert spec.horizon == 3 and spec.rate == 10.0 and normaliser.mean["state/pose"].max() == 0
    first = episode(0, 5)
    size = sum(map(len, first.images["front"])) + first.arrays["state"].nbytes + first.arrays["action"].nbytes
    assert source.allocation["host/data/blocks"] == 4 * 2 * 2 * size
    held = 0.0
    for _ in range(20):
        state, _ = source.next(state, (), jax.random.key(0))
        held = max(held, float(source.metrics(state)["data/blocks_bytes"]))
    assert 0.3 * 16 * size < held < 3 * 16 * size, "what is held is told, and was foreseen if episodes are like the first"
    assert source.allocation["host/data/batches"] == 4 * 8 * (16 * 16 * 3 + 4 * (3 + 6 + 6 + 2))
    with pytest.raises(ValueError, match="drew from other data, or in another order"):
        stream_source(config(seed=1)).source.next(before, (), jax.random.key(0))
    threads = threading.active_count()
    source.close()
    other.close()
    assert threading.active_count() < threads


@pytest.mark.filterwarnings("ignore:sets.made. names no statistics")
def test_a_batch_on_a_mesh_is_one_array_with_the_rows_of_one_device(sets):
    whole, shared = stream_source(config()).source, stream_source(config(), data_mesh(4)).source
    (_, one), (_, four) = (source.next(source.init(jax.random.key(0), ()), (), jax.random.key(0)) for source in (whole, shared))
    assert_same(one, four)
    assert len(four["action"].sharding.device_set) == 4
    with pytest.raises(ValueError, match="batch_size is 6, which 4 devices"):
        stream_source(config(batch_size=6), data_mesh(4))
    whole.close()
    shared.close()


def test_statistics_are_named_and_fit_or_the_command_is_told(sets, tmp_path, monkeypatch):
    path = tmp_path / "statistics.json"
    monkeypatch.setattr(commands, "opened", lambda options: sets[options.path])

    def chosen(validation=0.0, **changes):
        return config(sets={"made": Streamed("made", columns=COLUMNS, **changes)}, normalise="bounds", validation=validation)

    with pytest.raises(ValueError, match=r"made: its statistics are needed.*`jaxrl data stats made --split train --out FILE` makes them"):
        open_mixed(chosen())
    with pytest.raises(ValueError, match=rf"there are no statistics of made; `jaxrl data stats made --split train --out {path}"):
        open_mixed(chosen(statistics=str(path)))
    assert commands.main(["stats", "made", "--out", str(path)]) == 0
    whole = np.concatenate([batch["action"][batch["mask"][..., 0] > 0] for batch, _ in take(chosen(statistics=str(path)), 40)])
    assert whole.min() == pytest.approx(-1, abs=1e-5) and whole.max() == pytest.approx(1, abs=1e-5)
    mixed = open_mixed(chosen(statistics=str(path)))
    assert mixed.statistics["made"].columns["state/pose"].max[0] == max(EVERY)
    with pytest.raises(ValueError, match="one share held out; `jaxrl data stats made .* --validation 0.4` makes them"):
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
    with pytest.raises(ValueError, match="of stored columns of bridge, .* --standard bridge_dataset` makes them"):
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


def test_what_does_not_fit_is_refused(sets):
    for make, message in (
        (lambda: Streamed("made"), "give either the name of its standard or its columns"),
        (lambda: Streamed("made", columns=COLUMNS, block=0), "made: block is 0"),
        (lambda: config(lanes=12), "lanes is 12, but must be a power of two"),
        (lambda: config(readers=0), "readers is 0"),
        (lambda: config(part="validation"), "validation is 0: no episode is held out"),
        (lambda: take(config(), 1, hosts=8), "lanes is 4, which 8 hosts do not divide"),
        (lambda: take(config(batch_size=3), 1, hosts=2), "batch_size is 3, which 2 hosts do not divide"),
        (lambda: open_mixed(config(sets={"made": Streamed("made", columns={"action": "acton"})})), "did you mean action?"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


CONFIG = """
from ml_collections import ConfigDict

def get_config():
    config = ConfigDict()
    columns = {{"state/scene": "state", "action": "action"}}
    config.source = ConfigDict(
        {{
            "name": "jaxrl_data.stream_source",
            "sets": {{"pushes": {{"path": "{path}", "columns": columns, "block": 3, "statistics": "{statistics}"}}}},
            "batch_size": 16, "horizon": 2, "lanes": 2,
        }}
    )
    config.algorithm = ConfigDict({{"name": "jaxrl.algorithms.supervised"}})
    network = {{"name": "jaxrl.networks.state_mlp", "hidden": (8,)}}
    config.objectives = ConfigDict({{"bc": {{"name": "jaxrl.objectives.bc", "network": network}}}})
    config.training = ConfigDict({{"total_updates": 4, "updates_per_call": 2}})
    return config
"""


def test_a_run_trains_from_a_config_and_goes_on_as_if_it_had_not_stopped(tmp_path, capsys):
    path, statistics = tmp_path / "pushes.zarr", tmp_path / "statistics.json"
    group, ends = zarr.open_group(str(path), mode="w", zarr_format=2), np.cumsum(LENGTHS)
    rows = np.random.default_rng(0).normal(size=(ends[-1], 3)).astype(np.float32)
    for name, values in {"data/state": rows, "data/action": rows[:, :2], "meta/episode_ends": ends}.items():
        group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=(8, *values.shape[1:]))[:] = values
    assert main(["data", "stats", str(path), "--out", str(statistics)]) == 0
    file = tmp_path / "bc.py"
    file.write_text(CONFIG.format(path=path, statistics=statistics))

    def run(folder, *more):
        assert main(["train", "--config", str(file), "--workdir", str(tmp_path / folder), *more]) == 0, capsys.readouterr().err
        return last(tmp_path / folder)

    whole = run("whole")
    run("cut", "--config.training.total_updates=2")
    assert run("cut", "--resume", "--force") == whole
    assert whole["update"] == 4 and np.isfinite(whole["loss"])


def last(folder):
    """The last line of the metrics, but for what tells of time."""
    told = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    return {name: value for name, value in told.items() if not name.endswith(("seconds", "bytes"))}


OF_TWO_PROCESSES = """
import contextlib, sys
import jax
import numpy as np
port, process, folder = sys.argv[1:]
jax.distributed.initialize(f"localhost:{port}", 2, int(process))
from jaxrl.distributed.mesh import data_mesh
from jaxrl.training.checkpoint import open_checkpoints
from jaxrl.training.checkpoint import open_checkpoints
from jaxrl_data.mixture import Images
from jaxrl_data.open import Apart
from jaxrl_data.stream_source import Config, stream_source
from jaxrl_data.streaming import members
from tests.data.episodes import dataset
lengths = (5, 3, 8, 1, 6, 4, 7, 2, 9)
columns = {"state/pose": "state", "action": "action", "image/front": "front"}
sets = {"made": members.Streamed("made", columns=columns, block=2)}
config = Config(sets=sets, batch_size=8, horizon=3, lanes=4, threads=2, images=Images(16, pad=False))
members.splits = lambda path: ("train",)
members.open_apart = lambda asked: Apart({"made": dataset(lengths)}, lambda: None)
source = stream_source(config, data_mesh(4)).source

def own(batch):
    pose = batch["observation"]["state/pose"]
    assert pose.shape == (8, 3) and len(pose.addressable_shards) == 2
    return np.concatenate([np.asarray(one.data) for one in pose.addressable_shards])

state, rows = source.init(jax.random.key(0), ()), []
for _ in range(3):
    state, batch = source.next(state, (), jax.random.key(0))
    rows.append(own(batch))
source.metrics(state)
with contextlib.closing(open_checkpoints(folder + "/checkpoints")) as checkpoints:
    checkpoints.save(3, {"source_state": state}, {})
    checkpoints.wait()
    like = source.init(jax.random.key(0), ())
    again = checkpoints.restore({"source_state": like})[0]["source_state"]
assert int(again.samples) == 24
_, batch = source.next(again, (), jax.random.key(0))
np.save(f"{folder}/{process}.npy", np.array([*rows, own(batch)]))
source.close()
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:sets.made. names no statistics")
def test_two_processes_and_then_one(sets, tmp_path):
    """A real run on two processes of two devices each: every one reads its lanes, and what they saved together is gone on with by one."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    environment = os.environ | flags | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-c", OF_TWO_PROCESSES, port]
    running = [subprocess.Popen([*command, str(process), str(tmp_path)], env=environment) for process in (0, 1)]
    assert [one.wait(120) for one in running] == [0, 0]
    whole = [np.asarray(batch["observation"]["state/pose"]) for batch, _ in take(config(), 4)]
    parts = [np.load(tmp_path / f"{process}.npy") for process in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    source = stream_source(config()).source
    with contextlib.closing(open_checkpoints(tmp_path / "checkpoints")) as checkpoints:
        state = checkpoints.restore({"source_state": source.init(jax.random.key(0), ())})[0]["source_state"]
    np.testing.assert_array_equal(source.next(state, (), jax.random.key(0))[1]["observation"]["state/pose"], whole[3])
    source.close()


IN_A_PROCESS = """
import sys
import numpy as np
from jaxrl_data.mixture import Images
from jaxrl_data.stream_source import Batches, Config, Streamed, open_mixed
columns = {"state/eef": "observation/state", "action": "action", "image/front": "observation/image_0"}
sets = {"bridge": Streamed(sys.argv[1], columns=columns, block=7)}
config = Config(sets=sets, batch_size=10, lanes=2, images=Images(32), threads=2)
mixed = open_mixed(config)
batches = Batches(config, mixed, 0, np.zeros((1, 2, 2), np.int32))
found = np.concatenate([next(batches)[0]["observation"]["state/eef"] for _ in range(25)])
every = np.concatenate([one.arrays["observation/state"] for one in mixed.streams["bridge"].dataset.read(0, 25)])
mixed.close()
batches.close()
assert "tensorflow" not in sys.modules, "a process that trains must not import it"
assert found.shape == every.shape == (250, 7)
seen = set(map(bytes, found))
assert seen <= set(map(bytes, every)) and len(seen) > 180, "an epoch, but for the lane that is ahead"
"""


def test_bridge_without_tensorflow_in_the_process_that_trains(test_data: Path) -> None:
    path = str(test_data / "bridge_debug/1.0.0")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry), "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", IN_A_PROCESS, path], env=environment, check=True)


def test_a_real_lerobot_set(test_data: Path) -> None:
    path = str(test_data / "g1_yellow_bottle")
    columns = {
        "state/joints": "observation.state",
        "action": "action",
        "image/high": "observation.images.cam_high",
    }
    chosen = Config(sets={"g1": Streamed(path, columns=columns, block=1)}, batch_size=16, lanes=1, images=Images(64), horizon=4)
    (batch, _), (_, places) = take(chosen, 2)
    assert batch["observation"]["image/high"].shape == (16, 64, 64, 3) and batch["observation"]["image/high"].std() > 10
    assert batch["action"].shape == (16, 4, 26) and places.tolist() == [[[0, 32]]]
    assert np.unique(batch["observation"]["state/joints"], axis=0).shape[0] == 16
