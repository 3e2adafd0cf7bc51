"""Batches straight from data sets: the same whatever reads them, resumable in the middle of a block."""

import threading

import jax
import numpy as np
import pytest

from jaxrl.distributed.mesh import data_mesh
from jaxrl.ops.held_out import held_out
from jaxrl_data.cache.prepare import plan, prepare
from jaxrl_data.cache.store import open_store
from jaxrl_data.episode import BadEpisode
from jaxrl_data.stream_source import open_mixed, stream_source
from jaxrl_data.streaming.members import Streamed
from tests.data.batches import assert_rows, assert_same, counts
from tests.data.episodes import dataset, episode
from tests.data.streams import COLUMNS, LENGTHS, config, take


def test_rows_are_those_of_the_episodes_with_masks_at_their_ends(sets):
    for batch, _ in take(config(), 12):
        assert_rows(batch, LENGTHS)


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


def test_a_chunk_longer_than_every_episode_is_refused_once_that_is_known(sets):
    assert len(take(config(horizon=9), 12)) == 12  # one episode has 9 steps
    with pytest.raises(ValueError, match="horizon: a chunk of 10 reaches over 10 steps, but the longest episode has 9; shorten it"):
        take(config(horizon=10), 12)


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
    source, spec, normaliser, *_ = stream_source(config())
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
