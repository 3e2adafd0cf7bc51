"""Images on the host, compressed, in the order in which they were seen: what a memory of steps holds in place of them are their numbers.

The oldest go when room is needed. The arrays are changed in place.
"""

import math
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any, NamedTuple

import numpy as np

from jaxrl.types import ArraySpec

Images = Mapping[str, Any]  # uint8 [..., height, width, channels], by observation name


class Frames(NamedTuple):
    """Those numbered `first` to `end` - 1, each all images of an observation; entry i % N of the tables is that of number i."""

    data: Any  # [bytes] uint8
    offset: Any  # [N] int64, where in `data`
    length: Any  # [N] int32
    world: Any  # [N] int32, who saw it
    alive: Any  # [B] int32, how many of each world's there are
    latest: Any  # [B, raw bytes] uint8, what each world saw last
    latest_number: Any  # [B] int32, of that, modulo N; -1 at first
    head: Any  # [] int64, where in `data` the next one goes
    first: Any  # [] int64
    end: Any  # [] int64


class FramesOf(NamedTuple):
    """The functions of a store of images."""

    init: Callable[[], Frames]
    make_room: Callable[[Frames], tuple[Frames, bool]]  # for an unroll; whether images went
    write: Callable[[Frames, Images, Images, Any], tuple[Frames, Any, Any]]
    # (frames with room, observations [T, B, ...], those that follow, ended [T, B]) -> frames, their numbers modulo N, [T, B] each
    fetch: Callable[[Frames, Any], Images]  # numbers modulo N, [...] -> images [..., height, width, channels]
    allocation: int  # bytes


def frames(images: Mapping[str, ArraySpec], size: int, rows: int, unroll: tuple[int, int], level: int, threads: Executor) -> FramesOf:
    """For unrolls [T, B] of uint8 `images`, in `size` bytes or `rows` images, whichever is less, compressed at a zlib `level`.

    Raises:
        ValueError: `size` is too small to be sure of four unrolls.
    """
    length, worlds = unroll
    sizes = [math.prod(int(length) for length in spec.shape) for spec in images.values()]
    raw = sum(sizes)
    most = 2 * length * worlds  # images of an unroll
    room = most * (raw + raw // 1000 + 64)  # bytes of it, at worst
    number = rows + 2 * most
    if size < 4 * room:
        raise ValueError(f"{size:,} bytes for images hold less than four unrolls of {most} images, {4 * room:,}; allow for more")

    def init() -> Frames:
        table, none = np.zeros(number, np.int32), np.int64(0)
        return Frames(
            data=np.zeros(size, np.uint8),
            offset=np.zeros(number, np.int64),
            length=table,
            world=table.copy(),
            alive=np.zeros(worlds, np.int32),
            latest=np.zeros((worlds, raw), np.uint8),
            latest_number=np.full(worlds, -1, np.int32),
            head=none,
            first=none,
            end=none,
        )

    def make_room(state: Frames) -> tuple[Frames, bool]:
        head, first, end = int(state.head), int(state.first), int(state.end)

        def where() -> int:
            return int(state.offset[first % number]) if first < end else -1

        def drop() -> None:
            nonlocal first
            state.alive[state.world[first % number]] -= 1
            first += 1

        if head + room > size:  # on from the beginning; what lies behind is the oldest
            while where() >= head:
                drop()
            head = 0
        if head <= where() < head + room or end - first > number - most:
            stop = head + room + size // 64  # more than is needed now, so that it need not be done again at once
            while head <= where() < stop or end - first > number - most:
                drop()
        return state._replace(head=np.int64(head), first=np.int64(first)), first > int(state.first)

    def _packed(observation: Images) -> Any:
        """[T, B, raw bytes]"""
        return np.concatenate([np.asarray(observation[name]).reshape(length, worlds, -1) for name in images], -1)

    def write(state: Frames, observation: Images, following: Images, ended: Any) -> tuple[Frames, Any, Any]:
        now, later = _packed(observation), _packed(following)
        known = (state.latest_number >= 0) & (now[0] == state.latest).all(-1)
        fresh = np.concatenate([~known[None], np.asarray(ended, bool)[:-1]])  # [T, B], what no step before ended in
        # In the order of time: the observation where it is new, and what follows it.
        new = np.stack([fresh, np.ones_like(fresh)], 1)  # [T, 2, B]
        numbers = int(state.end) + np.cumsum(new.reshape(-1)).reshape(new.shape) - 1
        t, which, world = np.nonzero(new)
        blobs = list(threads.map(lambda i: zlib.compress((later if which[i] else now)[t[i], world[i]], level), range(len(t))))
        lengths = np.array([len(blob) for blob in blobs], np.int64)
        starts = int(state.head) + np.cumsum(lengths) - lengths
        for start, blob in zip(starts, blobs, strict=True):
            state.data[start : start + len(blob)] = np.frombuffer(blob, np.uint8)
        entries = (int(state.end) + np.arange(len(blobs))) % number
        state.offset[entries], state.length[entries], state.world[entries] = starts, lengths, world
        np.add.at(state.alive, world, 1)
        numbers = (numbers % number).astype(np.int32)
        after = numbers[:, 1]
        before = np.where(fresh, numbers[:, 0], np.concatenate([state.latest_number[None], after[:-1]]))
        state.latest[:], state.latest_number[:] = later[-1], after[-1]
        end = state.end + np.int64(len(blobs))
        return state._replace(head=state.head + np.int64(lengths.sum()), end=end), before, after

    def fetch(state: Frames, numbers: Any) -> Images:
        wanted, place = np.unique(np.asarray(numbers), return_inverse=True)
        out = np.empty((len(wanted), raw), np.uint8)

        def unpack(row: int) -> None:
            start = int(state.offset[wanted[row]])
            out[row] = np.frombuffer(zlib.decompress(state.data[start : start + int(state.length[wanted[row]])]), np.uint8)

        list(threads.map(unpack, range(len(wanted))))
        whole = out[place.reshape(-1)]
        parts = np.split(whole, np.cumsum(sizes)[:-1], -1)
        return {name: part.reshape(*np.shape(numbers), *spec.shape) for (name, spec), part in zip(images.items(), parts, strict=True)}

    allocation = size + number * 16 + worlds * raw
    return FramesOf(init, make_room, write, fetch, allocation)


def used(state: Frames) -> tuple[int, int]:
    """(images, bytes) that are there."""
    kept = np.arange(int(state.first), int(state.end)) % state.length.shape[0]
    return len(kept), int(state.length[kept].sum())
