"""Hosts that read one data set: each is a process. Run as `python -m tests.data.hosts COMMAND ...`, by test_hosts.py.

What each host has read lies in OUT/<hosts>-<workers>-<first sample>/<host>.pickle: its parts of the batches, with all that they hold.
"""

import contextlib
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl_data.dataset_source import Config, batches, dataset_source
from jaxrl_data.members import Set
from jaxrl_data.mixture import Images

BATCH, BATCHES, CUT = 8, 6, 16  # samples; batches that are read; samples behind which a run is gone on with
COLUMNS = {"state/pose": "state", "action": "action", "image/front": "front", "task/instruction": "task"}


def config(cache: str, workers: int) -> Config:
    """No workers: threads of the host itself read."""
    sets = {"made": Set(cache, columns=COLUMNS)}
    return Config(sets=sets, batch_size=BATCH, horizon=3, images=Images(16, pad=False), processes=workers, threads=1 if workers else 2)


def where(out: str | Path, hosts: int, workers: int, first: int, host: int) -> Path:
    """The file of one host."""
    path = Path(out) / f"{hosts}-{workers}-{first}" / f"{host}.pickle"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def forked(cache: str, out: str, *runs: str) -> None:
    """Runs `hosts,workers,first`: hosts are processes that share nothing but what they have imported, because that takes seconds."""
    for run in runs:
        hosts, workers, first = map(int, run.split(","))
        children = []
        for host in range(hosts):
            if child := os.fork():
                children.append(child)
                continue
            found = batches(config(cache, workers), first, hosts, host)
            rows = [jax.tree.map(np.array, next(found)) for _ in range(BATCHES - first // BATCH)]  # out of memory that workers share
            where(out, hosts, workers, first, host).write_bytes(pickle.dumps(rows))
            os._exit(0)
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * hosts


def distributed(cache: str, out: str, port: str, hosts: str, host: str, *runs: str) -> None:
    """One host of a JAX run with each number of workers; `workers@hosts` goes on from the checkpoint that so many hosts left.

    Without workers it leaves one behind CUT samples.
    """
    jax.config.update("jax_platforms", "cpu")
    if int(hosts) > 1:
        jax.distributed.initialize(f"localhost:{port}", int(hosts), int(host))
    from jaxrl.distributed.mesh import data_mesh
    from jaxrl.training.checkpoint import open_checkpoints

    def own(leaf: jax.Array) -> Any:
        """This host's rows of an array that is shared out over all of them."""
        assert leaf.shape[0] == BATCH and len(leaf.sharding.device_set) == int(hosts)
        return np.concatenate([np.asarray(one.data) for one in leaf.addressable_shards])

    for run in runs:
        workers, _, folder = run.partition("@")
        source = dataset_source(config(cache, int(workers)), data_mesh(int(hosts))).source
        state, rows, first = source.init(jax.random.key(0), ()), [], 0
        if folder:
            with contextlib.closing(open_checkpoints(Path(out) / f"checkpoints-{folder}")) as checkpoints:
                state = checkpoints.restore({"source_state": state})[0]["source_state"]
            first = int(state.samples)
            assert first == CUT
        for number in range(first // BATCH, BATCHES):
            if number * BATCH == CUT and run == "0":
                with contextlib.closing(open_checkpoints(Path(out) / f"checkpoints-{hosts}")) as checkpoints:
                    checkpoints.save(1, {"source_state": state}, {})
                    checkpoints.wait()
            state, batch = source.next(state, (), jax.random.key(0))
            rows.append(jax.tree.map(own, batch))
        where(out, int(hosts), int(workers), first, int(host)).write_bytes(pickle.dumps(rows))
        source.close()


def differing(out: str, port: str, host: str, *caches: str) -> None:
    """One host of two, each of which has a cache of its own; what it is told, of caches and of streams, lies in OUT/<host>."""
    jax.config.update("jax_platforms", "cpu")
    jax.distributed.initialize(f"localhost:{port}", len(caches), int(host))
    from jaxrl.distributed.mesh import data_mesh
    from jaxrl_data.stream_source import Config as Stream
    from jaxrl_data.stream_source import stream_source
    from jaxrl_data.streaming.members import Streamed

    own, mesh, said = caches[int(host)], data_mesh(len(caches)), []
    streams = Stream(sets={"made": Streamed(own, columns=COLUMNS)}, batch_size=BATCH, lanes=4, images=Images(16, pad=False))
    for make in (lambda: dataset_source(config(own, 0), mesh), lambda: stream_source(streams, mesh)):
        try:
            make()
        except ValueError as error:
            said.append(str(error))
    (Path(out) / host).write_text("\n".join(said))


if __name__ == "__main__":
    {"forked": forked, "distributed": distributed, "differing": differing}[sys.argv[1]](*sys.argv[2:])
