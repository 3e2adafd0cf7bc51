"""Lanes of blocks: every step once in an epoch, well mixed, never more than two blocks held."""

import threading
import time
import weakref
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as some
from scipy.stats import spearmanr

from jaxrl_data.episode import Episode
from jaxrl_data.stream_source import Batches, open_mixed
from jaxrl_data.streaming import members
from jaxrl_data.streaming.lanes import cut, lane_of, samples_of_host
from jaxrl_data.streaming.members import Streamed, open_streams
from jaxrl_data.streaming.reading import Lanes, Reader
from tests.data.episodes import dataset
from tests.data.streams import EVERY, config, take


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
