"""Batches for `fit` straight from data sets as they lie, without a cache: exact, resumable, in bounded memory, each host reading its share.

The state is how many samples were drawn, and for each lane of each set the number of its block and the place in it
(`streaming/lanes.py`): batch k holds the same samples whatever the number of hosts, readers and threads, and whenever it is made. One
thread plans batches, some read blocks ahead, others make samples.
"""

import json
import queue
import threading
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrl.ops.cores import cores
from jaxrl.types import Key, Metrics, Params, Source, Spec
from jaxrl_data.dataset_source import Loaded, batch_spec, check_hosts, left, normaliser, placing, policy_spec, reads
from jaxrl_data.episode import length
from jaxrl_data.kept_samples import row_bytes
from jaxrl_data.mixture import Making, Mixture, check_reach, making, measured_of
from jaxrl_data.order import Order, Share, hashed, order, weights
from jaxrl_data.samples import begun, fill, nested, note, random_of, room_for
from jaxrl_data.statistics import Statistics, to_json
from jaxrl_data.streaming.lanes import check_lanes, lane_of, lanes_of_host, samples_of_host
from jaxrl_data.streaming.members import Block, Choice, Opened, Stream, Streamed, episode_bytes, open_streams, read_block
from jaxrl_data.streaming.reading import AHEAD, Draw, Lanes, Reader, find
from jaxrl_data.streaming.statistics import statistics_of
from jaxrl_data.transforms.interface import Sample, apply
from jaxrl_data.transforms.keys import CUT

_TASKS = 4  # that each thread gets of a batch


@dataclass(frozen=True)
class Config(Mixture):
    """A mixture, and how it is read: `batch_size` samples in a batch, those of all hosts together.

    `lanes` blocks of each set are drawn from at a time. They are part of the order, and shared out to the hosts; as many blocks again are
    read ahead, `readers` at a time. Samples are made in `threads`, 0 for as many as there are cores; `prefetch` batches wait in memory.
    Sizes of sets are told by their statistics where all sets have some, or else counted in episodes.
    """

    sets: Mapping[str, Streamed] = field(default_factory=dict)
    batch_size: int = 256
    lanes: int = 16
    readers: int = 1
    threads: int = 0
    prefetch: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("batch_size", 1), ("readers", 1), ("threads", 0), ("prefetch", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least {least}")
        check_lanes(self.lanes)
        if self.part == "validation" and not self.validation:
            raise ValueError("part is validation, but validation is 0: no episode is held out; give the share, or name a split")


class StreamState(NamedTuple):
    """What a checkpoint keeps: the data are no part of it."""

    samples: np.ndarray  # [] int64, drawn so far by all hosts together
    places: Any  # [sets, lanes, 2] int32: of each lane the number of its block, and the place in it; on several hosts a shared jax.Array
    mixture: np.ndarray  # [] uint32, a hash of what decides the order


class Mixed(NamedTuple):
    """A mixture, opened; made by `open_mixed`."""

    streams: dict[str, Stream]
    making: Making
    order: Order
    choice: Choice
    statistics: dict[str, Statistics]
    episode_bytes: dict[str, int]
    mixture: int  # a hash of what decides the order
    bad: dict[str, str]  # episodes that could not be used, with the reason
    cut: list[int]  # of one number: samples whose instruction was cut off
    close: Callable[[], None]

    @property
    def spec(self) -> Spec:
        """Of the samples."""
        return self.making.spec

    def note(self, episode: str, reason: str) -> None:
        """An episode is left out."""
        note(self.bad, episode, reason)


def open_mixed(config: Config) -> Mixed:
    """The mixture, opened. Reads one episode of each set, to know how large they are.

    Raises:
        ValueError: a set cannot be opened, lacks statistics that are needed, or sets do not fit together.
    """
    opened = open_streams(dict(config.sets))
    try:
        return _mixed(config, opened)
    except BaseException:
        opened.close()
        raise


def _mixed(config: Config, opened: Opened) -> Mixed:
    streams = opened.streams
    named = {name for name, one in config.sets.items() if one.statistics}
    needed = set(streams) if config.normalise else named
    measured = {name: measured_of(config, one) for name, one in config.sets.items()}
    held = {name: statistics_of(stream, measured[name], config.validation) for name, stream in streams.items() if name in needed}
    made = making(config, streams, held if config.normalise else {})
    counted = len(held) == len(streams)
    sizes = {name: float(held[name].steps if counted else stream.dataset.size) for name, stream in streams.items()}
    shared = weights(sizes, config.temperature)
    shares = {name: Share(stream.blocks, config.sets[name].weight * shared[name]) for name, stream in streams.items()}
    choice = Choice(config.part, config.validation, made.cameras, config.quarantine)
    decides = [(name, stream.dataset.fingerprint, stream.edges.tolist(), shares[name].weight) for name, stream in streams.items()]
    mark = hashed(config.seed, config.lanes, config.part, config.validation, decides) % 2**32
    size = {name: episode_bytes(stream, choice) for name, stream in streams.items()}
    return Mixed(streams, made, order(shares, config.seed), choice, held, size, mark, {}, [0], opened.close)


class Batches:
    """A host's part of all batches from a state on, as numpy arrays, made ahead; `next` gives one and the places behind it."""

    def __init__(self, config: Config, mixed: Mixed, first: int, places: np.ndarray, hosts: int = 1, host: int = 0) -> None:
        samples_of_host(first, config.batch_size, config.lanes, hosts, host)
        self._config, self._mixed, self._first, self._hosts = config, mixed, first, (hosts, host)
        self._longest = dict[tuple[str, int], int]()  # of the episodes of each block that has been read
        self._readers = {of: self._reader(name) for of, name in enumerate(mixed.streams)}
        self._lanes = Lanes(self._readers, lanes_of_host(config.lanes, hosts, host), places, config.readers)
        self._threads = config.threads or cores()
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="samples")
        self._ready: queue.Queue = queue.Queue(config.prefetch)
        self._closed = threading.Event()
        self._planner = threading.Thread(target=self._plan, name="plans batches", daemon=True)
        self._planner.start()

    def _reader(self, name: str) -> Reader:
        mixed, stream = self._mixed, self._mixed.streams[name]

        def read(place: int) -> Block:
            found = read_block(stream, place, mixed.choice, mixed.note)
            self._longest[name, place] = max(map(length, found.episodes), default=0)
            longest = max(self._longest.values())
            if longest and len(self._longest) == sum(one.blocks for one in mixed.streams.values()):  # not known before
                check_reach(self._config, longest)
            return found

        return Reader(name, stream.blocks, self._config.lanes, self._config.seed, read, set())

    def _plan(self) -> None:
        try:
            while not self._closed.is_set():
                self._ready.put(self._planned())
                self._first += self._config.batch_size
        except BaseException as error:  # goes to who asks for the batch
            self._ready.put(error)

    def _planned(self) -> tuple[dict[str, np.ndarray], list[Future], np.ndarray]:
        """Arrays of a batch, what fills them, and the places behind it."""
        config = self._config
        samples = samples_of_host(self._first, config.batch_size, config.lanes, *self._hosts)
        sets = self._mixed.order.sets(self._first, config.batch_size)[samples - self._first]
        rows = len(samples)
        arrays = room_for(self._mixed.spec, rows)
        lanes = lane_of(samples, config.lanes).tolist()
        share, tasks, drawn = -(-rows // (self._threads * _TASKS)), list[Future](), deque[tuple[int, int, Draw]]()

        def hand_on() -> None:
            nonlocal drawn
            if drawn:
                tasks.append(self._pool.submit(self._fill, arrays, drawn))
                drawn = deque()

        for row, (number, of, lane) in enumerate(zip(samples.tolist(), sets.tolist(), lanes, strict=True)):
            draw = self._lanes.draw(of, lane, hand_on)  # may put another deque in the place of `drawn`
            drawn.append((row, number, draw))
            if len(drawn) == share:
                hand_on()
        hand_on()
        return arrays, tasks, self._lanes.places()

    def _fill(self, arrays: Mapping[str, np.ndarray], drawn: deque[tuple[int, int, Draw]]) -> None:
        while drawn:
            row, number, draw = drawn.popleft()
            try:
                fill(arrays, row, partial(self._sample, number, draw))
            finally:
                self._lanes.made(draw)

    def _sample(self, number: int, draw: Draw, room: Mapping[str, np.ndarray]) -> Sample:
        """A bad one raises ValueError, or is told of and the next one of its lane taken instead, which is not drawn by that."""
        found, place, reader, reason = draw.found, draw.place, self._readers[draw.of], ""
        for _ in range(reader.blocks + 1):
            order = np.roll(found.order, -place)
            for item in order.tolist():
                episode, step = found.block.at(item)
                random = random_of(self._config.seed, number)
                try:
                    of = self._mixed.making
                    made = apply(of.transforms[reader.name], begun(of.window, episode, step, random, self._config, room), random)
                    self._mixed.cut[0] += CUT in made
                    return made
                except ValueError as error:
                    if not self._config.quarantine:
                        raise
                    reason = str(error)
                    self._mixed.note(episode.name, reason)
            found, place = find(reader, draw.lane, found.number + 1), 0  # once more than the lane does: there is nothing good in the block
        raise ValueError(f"{reader.name}: none of {reader.blocks + 1} blocks has a step that can be used; the last: {reason}")

    def __next__(self) -> tuple[dict[str, Any], np.ndarray]:
        ready = self._ready.get()
        if isinstance(ready, BaseException):
            self._ready.put(ready)  # for who asks again
            raise ready
        arrays, tasks, places = ready
        for task in tasks:
            task.result()
        return nested(arrays, self._config.history), places

    def size(self) -> int:
        """Bytes of the blocks in memory."""
        return self._lanes.size()

    def close(self) -> None:
        """Ends all threads."""
        self._closed.set()
        self._lanes.close()
        while self._planner.is_alive():
            try:
                self._ready.get(timeout=0.05)
            except queue.Empty:
                continue
        self._pool.shutdown(wait=True, cancel_futures=True)


def _whole(own: np.ndarray, hosts: int) -> Any:
    """The places of all hosts: one array, of which each host holds its lanes; of a single host its own."""
    if hosts == 1:
        return own
    devices = sorted(jax.devices(), key=lambda one: (one.process_index, one.id))
    mesh = Mesh(np.array(devices).reshape(hosts, -1), ("host", "own"))
    return jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec(None, "host")), own)


def _own(places: Any, config: Config, hosts: int, host: int) -> np.ndarray:
    """[sets, own lanes, 2] of this host."""
    own = lanes_of_host(config.lanes, hosts, host)
    if isinstance(places, jax.Array) and not places.is_fully_addressable:
        return np.asarray(places.addressable_shards[0].data)
    return np.asarray(places)[:, own.start : own.stop]


def stream_source(config: Config, mesh: Mesh | None = None) -> Loaded:
    """A host source of batches `observation` {name: [B, ...]}, `present`, `action` [B, horizon, A], `mask` [B, horizon, A].

    On a mesh the batch is one array over all processes, shared out over the axis `data`; each process reads its own lanes.

    Raises:
        ValueError: a set cannot be opened, sets do not fit together, statistics are missing, or hosts or devices do not divide the batch.
    """
    hosts, host = (1, 0) if mesh is None else (jax.process_count(), jax.process_index())
    samples_of_host(0, config.batch_size, config.lanes, hosts, host)
    place = placing(config.batch_size, mesh)
    mixed = open_mixed(config)
    marks = {name: stream.dataset.fingerprint for name, stream in mixed.streams.items()}
    try:
        check_hosts({name: f"{mark} {_contents(mixed.statistics.get(name))}" for name, mark in marks.items()}, hosts)
    except ValueError:
        mixed.close()
        raise
    live: dict[str, Any] = {}

    def state(samples: int, own: np.ndarray) -> StreamState:
        return StreamState(np.int64(samples), _whole(own, hosts), np.uint32(mixed.mixture))  # type: ignore[arg-type]

    def init(key: Key, behaviour: Params) -> StreamState:
        del key, behaviour
        return state(0, np.zeros((len(mixed.streams), len(lanes_of_host(config.lanes, hosts, host)), 2), np.int32))

    def stop() -> None:
        live.pop("samples", None)
        if "batches" in live:
            live.pop("batches").close()

    def advance(now: StreamState, behaviour: Params, key: Key) -> tuple[StreamState, Any]:
        del behaviour, key
        own = _own(now.places, config, hosts, host)
        if live.get("samples") != int(now.samples) or not np.array_equal(live["places"], own):
            _check_same(mixed, now)
            stop()
            live["batches"] = Batches(config, mixed, int(now.samples), own, hosts, host)
        try:
            found, live["places"] = next(live["batches"])
        except BaseException:
            stop()  # who asks again begins anew
            raise
        live["samples"] = int(now.samples) + config.batch_size
        return state(live["samples"], live["places"]), place(found)

    def metrics(now: StreamState) -> Metrics:
        blocks = _own(now.places, config, hosts, host)[:, :, 0].mean(1) * config.lanes
        counts = [stream.blocks for stream in mixed.streams.values()]
        told = {f"data/epochs/{name}": jnp.float32(epoch) for name, epoch in zip(mixed.streams, blocks / counts, strict=True)}
        told["data/blocks_bytes"] = jnp.float32(live["batches"].size() if "batches" in live else 0)
        return told | left(config, len(mixed.bad), mixed.cut[0])

    def close() -> None:
        mixed.close()  # so that nobody waits for what is read
        stop()
        live.clear()

    spec = policy_spec(config, mixed.spec, {stream.features.rate for stream in mixed.streams.values()})
    source = Source(
        batch_spec(config, config.batch_size, mixed.spec),
        init,
        advance,
        pure=False,
        allocation=memory(config, mixed, hosts),
        metrics=metrics,
        close=close,
    )
    common = _common(config, mixed)
    seen = {name: reads(stream.features, mixed.spec) for name, stream in mixed.streams.items()}
    held = mixed.statistics if config.normalise or common else {}
    return Loaded(source, spec, normaliser(spec, common, config.scale), config.history, seen, mixed.making.transforms, marks, held)


def _contents(held: Statistics | None) -> str:
    return json.dumps(to_json(held), sort_keys=True) if held else ""


def _common(config: Config, mixed: Mixed) -> Statistics | None:
    """For the policy, of the only set; without a file of them it sees numbers as they are, which is said."""
    if config.normalise or len(mixed.streams) > 1:
        return None
    ((name, held),) = mixed.statistics.items() if mixed.statistics else ((next(iter(mixed.streams)), None),)
    if held is None:
        warnings.warn(
            f"sets.{name}: names no statistics, so the policy sees numbers in their own units; `jaxrl data stats --out` makes them",
            stacklevel=3,
        )
    return held


def _check_same(mixed: Mixed, state: StreamState) -> None:
    if int(state.mixture) != mixed.mixture and int(state.samples):
        raise ValueError(
            "the run to go on with drew from other data, or in another order: sets, their files, split, block, weights or statistics, or "
            "lanes, part, validation, temperature or seed have changed; set them back, or begin a new run from its parameters"
        )


def memory(config: Config, mixed: Mixed, hosts: int = 1) -> dict[str, int]:
    """Bytes that reading holds on this host: blocks, if all episodes are as large as the first, and batches that wait."""
    blocks = AHEAD * config.lanes // hosts
    held = sum(blocks * min(config.sets[name].block, one.dataset.size) * mixed.episode_bytes[name] for name, one in mixed.streams.items())
    batches = row_bytes(mixed.spec) * (config.batch_size // hosts) * (config.prefetch + 2)
    return {"host/data/blocks": held, "host/data/batches": batches}
