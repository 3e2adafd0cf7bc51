"""The batches of a run are the same over 1, 2 and 4 hosts, each a process, with 0, 1 and 4 workers, and after a change of their number."""

import os
import pickle
import socket
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jaxrl_data.cache import prepare as preparing
from jaxrl_data.cache.prepare import plan, prepare
from jaxrl_data.dataset_source import batches
from tests.data.batches import assert_rows, assert_same, counts
from tests.data.caches import made
from tests.data.episodes import dataset
from tests.data.hosts import BATCH, BATCHES, CUT, config, where

LENGTHS = (5, 3, 8, 1, 6, 4, 5)  # 32 steps: four batches are an epoch
EPOCH = sum(LENGTHS) // BATCH
EVERY = [1000 * number + step for number, length in enumerate(LENGTHS) for step in range(length)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data") / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparing, "open_dataset", lambda path, split=None: dataset(LENGTHS))
        prepare(plan("memory", episodes_per_shard=3), folder)
    return str(folder)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def expected(cache: str) -> list[Any]:
    """By this process alone: each step once in the epoch, each row as its episode tells."""
    found = batches(config(cache, 0))
    whole = [next(found) for _ in range(BATCHES)]
    assert sorted(np.concatenate([counts(batch) for batch in whole[:EPOCH]])) == EVERY
    for batch in whole:
        assert_rows(batch, LENGTHS)
    return whole


def command(*words: object) -> subprocess.Popen[bytes]:
    """Of `tests.data.hosts`, with one device."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry), "XLA_FLAGS": ""}
    return subprocess.Popen([sys.executable, "-m", "tests.data.hosts", *map(str, words)], env=environment, cwd=Path(__file__).parents[2])


def assert_shared(out: Path, hosts: int, workers: int, first: int, expected: list[Any]) -> None:
    """The parts of all hosts, one behind the other, are the batches; in an epoch no two hosts see the same step, and together all."""
    parts = [pickle.loads(where(out, hosts, workers, first, host).read_bytes()) for host in range(hosts)]
    for number, whole in enumerate(expected[first // BATCH :]):
        assert_same(jax.tree.map(lambda *leaves: np.concatenate(leaves), *(part[number] for part in parts)), whole)
    if not first:
        seen = [{*np.concatenate([counts(batch) for batch in part[:EPOCH]]).tolist()} for part in parts]
        assert sum(map(len, seen)) == len(EVERY) and set().union(*seen) == {*EVERY}


def test_hosts_that_are_processes(cache: str, expected: list[Any], tmp_path: Path) -> None:
    """Each worker takes a second to start, so not all pairs of numbers are here."""
    runs = ((1, 0, 0), (2, 0, 0), (4, 0, 0), (1, 1, 0), (1, 0, CUT), (2, 1, CUT), (4, 0, CUT))
    assert command("forked", cache, tmp_path, *(",".join(map(str, run)) for run in runs)).wait(120) == 0
    for run in runs:
        assert_shared(tmp_path, *run, expected)


def test_hosts_that_hold_different_data_are_told(cache: str, tmp_path: Path) -> None:
    other = made(tmp_path / "cache", (*LENGTHS[:-1], 6))
    port = free_port()
    running = [command("differing", tmp_path, port, host, cache, other) for host in range(2)]
    assert [one.wait(120) for one in running] == [0, 0]
    for host in "01":
        assert (tmp_path / host).read_text().splitlines() == [
            "sets.made: host 1 holds other data or statistics than host 0; give all hosts the same"
        ] * 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_runs_of_jax_over_hosts_and_workers(cache: str, expected: list[Any], tmp_path: Path) -> None:
    """As `fit` runs, with gloo between the hosts. Each number of hosts goes on from what another one saved."""
    every = ("0", "1", "4")
    for hosts, runs in ((1, every), (2, (*every, "0@1")), (4, (*every, "0@2")), (1, ("0@4",))):
        port = free_port()
        running = [command("distributed", cache, tmp_path, port, hosts, host, *runs) for host in range(hosts)]
        assert [one.wait(300) for one in running] == [0] * hosts
    for hosts, workers in product((1, 2, 4), (0, 1, 4)):
        assert_shared(tmp_path, hosts, workers, 0, expected)
    for hosts in (1, 2, 4):
        assert_shared(tmp_path, hosts, 0, CUT, expected)
