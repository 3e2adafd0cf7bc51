"""Batches for `fit` from prepared data sets: exact, resumable, and of each host its share.

The whole state is the number of samples drawn so far: batch k holds the same rows whatever the number of hosts, processes and threads,
and whenever it is made. Grain reads ahead.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import grain
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrl.ops.cores import cores
from jaxrl.ops.running_statistics import RunningStatistics
from jaxrl.ops.running_statistics import init as no_statistics
from jaxrl.types import ArraySpec, Key, Metrics, Params, PolicySpec, Source, Spec
from jaxrl_data.episode import Features
from jaxrl_data.kept_samples import row_bytes
from jaxrl_data.members import statistics_of
from jaxrl_data.mixture import Mixture
from jaxrl_data.order import rows_of_host
from jaxrl_data.samples import Samples, open_mixture, over_time
from jaxrl_data.statistics import Statistics, compare, from_json, ranges, to_json
from jaxrl_data.transforms import stored
from jaxrl_data.transforms.interface import Transform
from jaxrl_data.transforms.keys import ACTION

_BATCHES = 2**40  # that there are: none is the last
_EPISODE = 4 + 16 + 4 * 8  # bytes of the index: length and hash, and places of the episode among its set's and the part's steps
_PROCESS = 250_000_000  # bytes of a worker process before it reads anything: Python, NumPy, JAX and Grain (243 MB measured, 2026-11-27)
_NARROWEST = 1e-6  # range by which a policy divides; `running_statistics` has a floor of its own
DEVICE_BATCHES = 2  # one that is learnt from, and the next


@dataclass(frozen=True)
class Config(Mixture):
    """A mixture, and how it is read: `batch_size` samples in a batch, those of all hosts together.

    Batches are made by `threads` of this process, or by so many `processes` with as many threads each; 0 threads are as many as there are
    cores. Up to `prefetch` batches of each wait in memory.
    """

    batch_size: int = 256
    processes: int = 0
    threads: int = 0
    prefetch: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("batch_size", 1), ("processes", 0), ("threads", 0), ("prefetch", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least {least}")


class DataState(NamedTuple):
    """What a checkpoint keeps: the data are no part of it."""

    samples: np.ndarray  # [] int64, drawn so far by all hosts together


class Loaded(NamedTuple):
    """A source, and what a policy needs to know of its data."""

    source: Source
    spec: PolicySpec
    normaliser: RunningStatistics  # for the policy; of no effect where samples are normalised already
    history: int  # of what a policy reads
    observation: dict[str, dict[str, int | None]]  # of each set: its states, with their width, and images, of which a policy reads
    transforms: dict[str, tuple[Transform, ...]]  # of each set, between an episode and what a policy reads
    fingerprints: dict[str, str]  # of the data of each set
    statistics: dict[str, Statistics]  # of each set, where samples or the policy are normalised by them

    def kept(self) -> dict[str, Any]:
        """What a checkpoint keeps of each set: plain JSON. `serving` makes of it what a robot needs."""
        return {
            name: {
                "fingerprint": mark,
                "statistics": to_json(self.statistics[name]) if name in self.statistics else None,
                "history": self.history,
                "observation": self.observation[name],
                "transforms": stored.to_json(self.transforms[name]),
            }
            for name, mark in self.fingerprints.items()
        }

    def check(self, kept: Mapping[str, Any]) -> None:
        """Raises ValueError that names set, column and dimension in which data or statistics are not those that a checkpoint kept."""
        if odd := sorted(kept.keys() ^ self.fingerprints.keys()):
            raise ValueError(f"sets.{odd[0]}: is in {'the checkpoint' if odd[0] in kept else 'this config'} only")
        for name, mark in self.fingerprints.items():
            before, now = kept[name]["statistics"], self.statistics.get(name)
            if before is not None and now is not None:
                try:
                    compare(now, from_json(before))
                except ValueError as error:
                    raise ValueError(f"sets.{name}: {error}") from error
            if kept[name]["fingerprint"] != mark:
                raise ValueError(f"sets.{name}: the data have changed, so other steps would come next; set them back, or begin a new run")


class _Batches:
    """This host's part of the batches from a sample on, by number: what Grain reads from. Other processes open the mixture themselves."""

    def __init__(self, config: Config, first: int, hosts: int, host: int, samples: Samples | None = None) -> None:
        self._given, self._samples = (config, first, hosts, host), samples

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._given

    def __len__(self) -> int:
        return _BATCHES

    def __getitem__(self, number: int) -> dict[str, Any]:
        config, first, hosts, host = self._given
        if self._samples is None:
            self._samples = open_mixture(mixture_of(config))
        return self._samples.batch(rows_of_host(first + number * config.batch_size, config.batch_size, hosts, host))

    def __repr__(self) -> str:  # Grain shows it
        return f"batches of {self._given[0].batch_size}"


def mixture_of(config: Config) -> Mixture:
    """The part of a config that says what is drawn."""
    return Mixture(**{one.name: getattr(config, one.name) for one in fields(Mixture)})


def batches(config: Config, first: int = 0, hosts: int = 1, host: int = 0, samples: Samples | None = None) -> Iterator[dict[str, Any]]:
    """This host's part of all batches from sample `first` on, as numpy arrays, read ahead.

    Raises:
        ValueError: the hosts do not divide the batch, or a sample cannot be made.
    """
    rows_of_host(first, config.batch_size, hosts, host)
    threads = config.threads or cores()
    read = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(threads, config.prefetch))
    found = grain.MapDataset.source(_Batches(config, first, hosts, host, samples)).to_iter_dataset(read)
    if config.processes:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain looks at one of its own, which only a program of absl's would have parsed
        found = found.mp_prefetch(grain.MultiprocessingOptions(config.processes, per_worker_buffer_size=config.prefetch))
    return iter(found)


def policy_spec(config: Mixture, told: Spec, rates: set[float]) -> PolicySpec:
    """What a policy reads and writes that learns from samples of the spec `told`; `rates` are those of the sets."""
    observation: dict[str, ArraySpec] = {}
    for name, spec in told.items():
        if name.startswith("observation/"):
            shape = spec.shape[1:] if config.history == 1 and over_time(name) else spec.shape
            observation[name.removeprefix("observation/")] = ArraySpec(shape, spec.dtype, spec.names, spec.unit)
    action = told[ACTION]
    rate = next(iter(rates)) / config.action_stride if len(rates) == 1 else 0.0
    return PolicySpec(observation, ArraySpec(action.shape[1:], action.dtype, action.names, action.unit), config.horizon, rate=rate)


def _statistics(config: Config, samples: Samples) -> Statistics | None:
    """Of the only set's train part; None where samples are normalised, or several sets have no common ones."""
    if config.normalise or len(samples.fed) > 1:
        return None
    (only,) = samples.fed.values()
    return statistics_of(only.member, config.validation, only.measured)


def normaliser(spec: PolicySpec, held: Statistics | None, scale: str = "z_score") -> RunningStatistics:
    """For a policy, the middle of what `scale` maps to [-1, 1], and the square of half its width; without effect where there are no
    statistics.
    """
    whole = no_statistics({**spec.observation, ACTION: spec.action})
    if held is None:
        return whole
    mean, variance = dict(whole.mean), dict(whole.variance)
    for name in mean.keys() & held.columns.keys():  # a mask has none
        low, high, _ = ranges(held.columns[name], _NARROWEST, scale)
        mean[name] = jnp.broadcast_to(jnp.asarray((low + high) / 2, jnp.float32), mean[name].shape)
        variance[name] = jnp.broadcast_to(jnp.asarray(((high - low) / 2) ** 2, jnp.float32), mean[name].shape)
    return RunningStatistics(jnp.float32(held.steps), mean, variance)


def dataset_source(config: Config, mesh: Mesh | None = None) -> Loaded:
    """A host source of batches `observation` {name: [B, ...]}, `present`, `action` [B, horizon, A], `mask` [B, horizon, A].

    On a mesh the batch is one array over all processes, shared out over the axis `data`; each process reads its own rows.

    Raises:
        ValueError: sets do not fit together, hosts hold different data, or hosts or devices do not divide the batch.
    """
    samples = open_mixture(mixture_of(config))
    hosts, host = (1, 0) if mesh is None else (jax.process_count(), jax.process_index())
    rows_of_host(0, config.batch_size, hosts, host)
    place = placing(config.batch_size, mesh)
    live: dict[str, Any] = {}

    def init(key: Key, behaviour: Params) -> DataState:
        del key, behaviour
        return DataState(np.int64(0))  # type: ignore[arg-type]

    def advance(state: DataState, behaviour: Params, key: Key) -> tuple[DataState, Any]:
        del behaviour, key
        now = int(state.samples)
        if live.get("next") != now:
            live["batches"] = batches(config, now, hosts, host, samples)
        found = next(live["batches"])
        live["next"] = now + config.batch_size
        return DataState(np.int64(live["next"])), place(found)  # type: ignore[arg-type]

    def metrics(state: DataState) -> Metrics:
        epochs = samples.order.epochs(int(state.samples))
        told = {f"data/epochs/{name}": jnp.float32(epoch) for name, epoch in epochs.items()}
        return told | left(config, len(samples.bad), samples.cut)

    spec = policy_spec(config, samples.spec, samples.rates)
    of_batches, common = batch_spec(config, config.batch_size, samples.spec), _statistics(config, samples)
    source = Source(of_batches, init, advance, pure=False, allocation=memory(config, samples, hosts), metrics=metrics, close=live.clear)
    held = {name: common for name in samples.fed} if common else samples.statistics
    seen = {name: reads(one.member.features, samples.spec) for name, one in samples.fed.items()}
    changes = {name: one.transforms for name, one in samples.fed.items()}
    marks = {name: one.member.store.fingerprint for name, one in samples.fed.items()}
    check_hosts(marks, hosts)
    return Loaded(source, spec, normaliser(spec, common, config.scale), config.history, seen, changes, marks, held)


def left(config: Mixture, bad: int, cut: int) -> Metrics:
    """What of the data was left out so far: episodes, and ends of instructions; each where a config allows it."""
    told = {"data/quarantined": jnp.float32(bad)} if config.quarantine else {}
    return told | ({"data/cut_instructions": jnp.float32(cut)} if config.tokens is not None and config.tokens.cut else {})


def check_hosts(marks: Mapping[str, str], hosts: int) -> None:
    """Raises ValueError, on every host, that names a set of which they hold different data: one batch would be made of both."""
    if hosts == 1:
        return
    own = [np.frombuffer(hashlib.sha256(mark.encode()).digest()[:8], np.uint32) for mark in marks.values()]
    every = np.asarray(multihost_utils.process_allgather(np.stack(own)))  # [hosts, sets, 2]
    for name, held in zip(marks, np.moveaxis(every, 1, 0), strict=True):
        if odd := np.flatnonzero((held != held[0]).any(-1)).tolist():
            raise ValueError(f"sets.{name}: host {odd[0]} holds other data or statistics than host 0; give all hosts the same")


def reads(features: Features, told: Spec) -> dict[str, int | None]:
    """What of a set's steps goes into observations of samples of the spec `told`: states with their width, and images."""
    states = {name: int(spec.shape[-1]) for name, spec in features.arrays.items() if name.startswith("state/") and spec.shape}
    return states | {name: None for name in features.images if f"observation/{name}" in told}


def placing(batch_size: int, mesh: Mesh | None) -> Callable[[Any], Any]:
    """A function from this process's rows of a batch to arrays of all, on a mesh shared out over its axis `data`.

    Raises ValueError where its devices do not divide the batch.
    """
    if mesh is None:
        return lambda batch: jax.tree.map(jnp.asarray, batch)
    if batch_size % mesh.shape["data"]:
        raise ValueError(f"batch_size is {batch_size}, which {mesh.shape['data']} devices on the mesh axis `data` do not divide")
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    return lambda batch: jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def batch_spec(config: Mixture, batch_size: int, told: Spec) -> dict[str, ArraySpec]:
    """Of batches of samples of the spec `told`."""
    out = {}
    for name, one in told.items():
        shape = one.shape[1:] if config.history == 1 and over_time(name) else one.shape
        out[name] = ArraySpec((batch_size, *shape), one.dtype, one.names, one.unit)
    return out


def memory(config: Config, samples: Samples, hosts: int = 1) -> dict[str, int]:
    """Bytes that reading holds on one of the hosts, whatever the size of the data sets' contents: their indices, batches, processes.

    Batches are those that wait, those that are made, and the one that is handed out.
    """
    threads = config.threads or cores()
    waiting = max(threads, config.prefetch) + threads + (config.prefetch + 1 if config.processes else 0)
    index = _EPISODE * sum(len(one.member.lengths) for one in samples.fed.values())
    held = row_bytes(samples.spec) * config.batch_size // hosts * waiting * max(config.processes, 1)
    found = {"host/data/index": index * (config.processes + 1), "host/data/batches": held}
    if samples.kept_bytes:
        found["host/data/samples"] = samples.kept_bytes * (config.processes or 1)
    return found | ({"host/data/processes": config.processes * _PROCESS} if config.processes else {})
