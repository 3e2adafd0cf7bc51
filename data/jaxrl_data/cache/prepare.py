"""Makes a cache: shard after shard, in several processes, or on a cluster; a call that was cut goes on.

The shards follow from the data set alone, so whoever writes one writes the same bytes. A shard is there whole or not at all, hence nothing
is lost by a kill, and a second call has nothing to do.
"""

import multiprocessing
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl_data.cache.layout import CACHE, HASHES, INDEX, LENGTHS, PLAN, Plan, from_json, shard_folder, to_json
from jaxrl_data.cache.shard import LeftOut, kept, left_out_of, write_shard
from jaxrl_data.open import open_dataset
from jaxrl_data.pipeline import pipeline
from jaxrl_data.placing import put
from jaxrl_data.writer import local

_SHARDS = 2048  # at most, so that a large set is not a million files
_SMALLEST = 32  # episodes of a shard


class Prepared(NamedTuple):
    """What came of it."""

    episodes: int
    steps: int
    left_out: list[LeftOut]


def plan(path: str, split: str | None = None, without: Sequence[str] = (), episodes_per_shard: int | None = None) -> Plan:
    """What is to be prepared. Reads metadata only.

    Raises:
        ValueError: the path holds no data set, there is no such split or column, or the set has no episodes.
    """
    dataset = open_dataset(path, split)
    if dataset.size == 0:
        raise ValueError(f"{path}: split {dataset.split} has no episodes")
    if episodes_per_shard is not None and episodes_per_shard < 1:
        raise ValueError(f"episodes_per_shard is {episodes_per_shard}, but must be at least 1")
    size = episodes_per_shard or max(_SMALLEST, -(-dataset.size // _SHARDS))
    features = kept(dataset.features, without)
    return Plan(str(path), dataset.name, dataset.split, dataset.fingerprint, dataset.size, size, features, tuple(without))


def begin(plan: Plan, folder: Path) -> list[int]:
    """Puts the plan into the folder; the shards that are still missing.

    Raises:
        ValueError: the folder holds something else.
    """
    there = folder / PLAN
    if there.exists():
        found = from_json(there.read_text(), str(there))
        # The same data may have moved, and the shards of a cut call keep their size.
        if replace(found, path=plan.path, episodes_per_shard=plan.episodes_per_shard) != plan:
            raise ValueError(
                f"{folder}: holds {found.name}, split {found.split}, of other contents or columns; choose another folder or remove this one"
            )
        if found.episodes_per_shard != plan.episodes_per_shard:
            raise ValueError(f"{folder}: was begun with {found.episodes_per_shard} episodes in a shard; go on with these")
    elif folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder}: is not empty, and holds no cache; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    put(there, to_json(plan).encode())
    return [shard for shard in range(plan.shards) if not shard_folder(folder, shard).exists()]


def make_shard(plan: Plan, folder: Path, shard: int, quarantine: bool = False) -> tuple[int, list[LeftOut]]:
    """Writes one shard, in whatever process this is; its number, and what was left out."""
    dataset = open_dataset(plan.path, plan.split)
    if dataset.fingerprint != plan.fingerprint:
        raise ValueError(f"{plan.path}: has changed since the cache in {folder} was begun")
    return shard, write_shard(dataset, plan, folder, shard, quarantine)


def finish(plan: Plan, folder: Path) -> Prepared:
    """Makes the index of all shards and says that the cache is whole.

    Raises:
        ValueError: a shard is missing, or no episode could be used.
    """
    missing = [shard for shard in range(plan.shards) if not shard_folder(folder, shard).exists()]
    if missing:
        raise ValueError(f"{folder}: shard {missing[0]} of {plan.shards} is missing; prepare again")
    shards = [shard_folder(folder, shard) for shard in range(plan.shards)]
    lengths = [np.load(shard / LENGTHS) for shard in shards]
    hashes = [np.load(shard / HASHES) for shard in shards]
    left_out = [one for shard in shards for one in left_out_of(shard)]
    whole = np.concatenate(lengths)
    if not whole.size:
        raise ValueError(f"{folder}: no episode could be used; the first: {left_out[0].reason}")
    part = folder / f".{INDEX}"
    with part.open("wb") as file:
        np.savez(file, lengths=whole, hashes=np.concatenate(hashes), counts=np.array([len(one) for one in lengths], np.int64))
    part.replace(folder / INDEX)
    put(folder / CACHE, to_json(plan).encode())
    for killed in folder.glob(".shard-*"):
        shutil.rmtree(killed, ignore_errors=True)
    return Prepared(len(whole), int(whole.sum()), left_out)


def prepare(
    plan: Plan,
    folder: str | Path,
    processes: int = 1,
    quarantine: bool = False,
    progress: Callable[[int, int], None] = lambda ready, of: None,
) -> Prepared:
    """Makes the cache in `folder`, or what is missing of it; `progress` hears how many of how many shards are there.

    With `quarantine` bad episodes are left out and listed, else the first one ends it.

    Raises:
        BadEpisode: an episode cannot be used: the message names file, episode and key.
        ValueError: the folder holds something else, or lies in a cloud.
    """
    if processes < 1:
        raise ValueError(f"processes is {processes}, but must be at least 1")
    folder = local(folder)
    missing = begin(plan, folder)
    progress(plan.shards - len(missing), plan.shards)
    if processes == 1 or len(missing) < 2:
        for ready, shard in enumerate(missing, plan.shards - len(missing) + 1):
            make_shard(plan, folder, shard, quarantine)
            progress(ready, plan.shards)
        return finish(plan, folder)
    # Processes begin anew: what this one holds (JAX, TensorFlow) does not survive a fork.
    with ProcessPoolExecutor(min(processes, len(missing)), multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(make_shard, plan, folder, shard, quarantine) for shard in missing]
        try:
            for ready, job in enumerate(as_completed(jobs), plan.shards - len(missing) + 1):
                job.result()
                progress(ready, plan.shards)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return finish(plan, folder)


def prepare_on_beam(plan: Plan, folder: str | Path, quarantine: bool = False, options: Any = None) -> Prepared:
    """The same as an Apache Beam pipeline, whose runner and workers `options` choose; all of them must see `folder`.

    Raises:
        ImportError: Apache Beam is not installed.
        ValueError: the folder holds something else, or an episode cannot be used.
    """
    folder = local(folder)
    missing = begin(plan, folder)
    if missing:
        with pipeline("prepare", options) as running:
            import apache_beam as beam

            _ = (
                running
                | "shards" >> beam.Create(missing)
                | "spread" >> beam.Reshuffle()
                | "write" >> beam.Map(lambda shard: make_shard(plan, folder, shard, quarantine)[0])
            )
    return finish(plan, folder)
