"""Lanes that are read ahead: each of a host's holds the block that it draws from and the one behind it, never more."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np

from jaxrl_data.streaming.lanes import block_of, steps_of
from jaxrl_data.streaming.members import Block

AHEAD = 2  # blocks of a lane in memory


class Reader(NamedTuple):
    """The blocks of one set, in the order of its lanes."""

    name: str
    blocks: int
    lanes: int
    seed: int
    read: Callable[[int], Block]  # place -> its episodes
    empty: set[int]  # places of blocks that hold nothing; they are not read again


class Found(NamedTuple):
    """A lane's block `number`, or the next one behind it that holds something."""

    number: int
    block: Block
    order: np.ndarray  # [steps] in which they are drawn


class Draw(NamedTuple):
    """A step that is to be made into a sample: entry `place` of the order of what was found."""

    of: int
    lane: int
    found: Found
    place: int


def find(reader: Reader, lane: int, number: int) -> Found:
    """Reads on until there is something. Raises ValueError where no block of the set holds anything, and as `reader.read`."""
    while True:
        place = block_of(lane, number, reader.lanes, reader.blocks, reader.seed, reader.name)
        block = None if place in reader.empty else reader.read(place)
        if block is not None and block.steps:
            return Found(number, block, steps_of(lane, number, reader.lanes, block.steps, reader.seed, reader.name))
        reader.empty.add(place)
        if len(reader.empty) == reader.blocks:
            raise ValueError(f"{reader.name}: no episode is left to draw from: all are held out for another part, or cannot be used")
        number += 1


class _Lane:
    """One lane of one set. What is read waits in a queue; reading goes on as soon as a block is spent."""

    def __init__(self, reader: Reader, of: int, lane: int, begin: Sequence[int], submit: Callable[..., Any]) -> None:
        self.reader, self.of, self.lane = reader, of, lane
        number, place = begin
        self.next = (number, place)  # which is drawn next: block and place in its order
        self._found: Found | None = None
        self._ready: SimpleQueue = SimpleQueue()
        self._submit, self._lock = submit, threading.Lock()
        self._to_read, self._held, self._reads = number, 0, False
        self._left: dict[int, int] = {}  # of each block in memory, the steps that are no samples yet
        self._bytes: dict[int, int] = {}
        self._first = place
        self._read_on()

    def _read_on(self) -> None:
        with self._lock:
            if self._reads or self._held == AHEAD:
                return
            self._reads, self._held = True, self._held + 1
        self._submit(self._read)

    def _read(self) -> None:
        try:
            found = find(self.reader, self.lane, self._to_read)
        except BaseException as error:
            self._ready.put(error)
            return
        with self._lock:
            begun, self._first = self._first, 0
            self._to_read, self._reads = found.number + 1, False
            self._left[found.number] = found.block.steps - begun
            self._bytes[found.number] = found.block.size
        self._ready.put(found)
        self._read_on()

    def size(self) -> int:
        """Bytes of the blocks in memory."""
        with self._lock:
            return sum(self._bytes.values())

    def stop(self) -> None:
        """Wakes who waits for a block."""
        self._ready.put(RuntimeError("reading was ended"))

    def draw(self, before_waiting: Callable[[], None]) -> Draw:
        """The next step; waits for its block. Raises what reading it raised."""
        number, place = self.next
        if self._found is None or self._found.number < number:
            self._found = None  # goes as soon as its samples are made
            if self._ready.empty():
                before_waiting()
            ready = self._ready.get()
            if isinstance(ready, BaseException):
                raise ready
            if place and (place >= ready.block.steps or ready.number != number):
                raise ValueError(f"{self.reader.name}: the run stopped at step {place} of a block that has less now; the data have changed")
            self._found = ready
        found = self._found
        ends = place + 1 == found.block.steps
        self.next = (found.number + 1, 0) if ends else (found.number, place + 1)
        if ends:
            self._found = None
        return Draw(self.of, self.lane, found, place)

    def made(self, number: int) -> None:
        """Tells that a step of a block has become a sample, and needs it no more."""
        with self._lock:
            self._left[number] -= 1
            if self._left[number]:
                return
            del self._left[number], self._bytes[number]
            self._held -= 1
        self._read_on()


class Lanes:
    """The lanes of a host, read from `places` [sets, lanes, 2] on: of each the number of its block, and the place in it."""

    def __init__(self, readers: Mapping[int, Reader], lanes: range, places: np.ndarray, readers_at_once: int) -> None:
        self._pool = ThreadPoolExecutor(readers_at_once, thread_name_prefix="reads")
        self._own = lanes
        self._closed = threading.Event()
        self._lanes = [
            [_Lane(reader, of, lane, places[of, row].tolist(), self._submit) for row, lane in enumerate(lanes)]
            for of, reader in readers.items()
        ]

    def _submit(self, work: Callable[[], None]) -> None:
        if not self._closed.is_set():
            try:
                self._pool.submit(work)
            except RuntimeError:  # it is being shut down
                return

    def draw(self, of: int, lane: int, before_waiting: Callable[[], None]) -> Draw:
        """The next step of one of these lanes. What was drawn must be on its way to `made` when this waits: `before_waiting` sees to it."""
        return self._lanes[of][lane - self._own.start].draw(before_waiting)

    def made(self, draw: Draw) -> None:
        """To be called once for each draw, when its block is needed no more."""
        self._lanes[draw.of][draw.lane - self._own.start].made(draw.found.number)

    def places(self) -> np.ndarray:
        """[sets, lanes, 2] int32: where the next draws are."""
        return np.array([[lane.next for lane in row] for row in self._lanes], np.int32)

    def size(self) -> int:
        """Bytes of the blocks in memory."""
        return sum(lane.size() for row in self._lanes for lane in row)

    def close(self) -> None:
        """Ends reading; who waits for a block is told."""
        self._closed.set()
        for row in self._lanes:
            for lane in row:
                lane.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)
