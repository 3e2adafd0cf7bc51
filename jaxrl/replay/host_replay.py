"""`replay` whose images stay in this machine's memory, compressed: for methods that learn from pixels, and for single robots.

What the device keeps of an image is its number; the rest of a step is there as always, and so is what draws steps.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxrl.ops.cores import cores
from jaxrl.replay import replay
from jaxrl.replay._collected import ReplayState
from jaxrl.replay.frames import Frames, FramesOf, frames, used
from jaxrl.replay.ring import Ring
from jaxrl.replay.store import parts
from jaxrl.types import Array, ArraySpec, Key, Metrics, Observation, Params, PyTree, Replayed, Source, Spec, Transition

_NUMBER = "frame"  # the observation that stands for the images


@dataclass(frozen=True)
class Config(replay.Config):
    """Images may fill `image_gib`; what is oldest goes when these are full, or `capacity` is. `compression` is zlib's level, 0 for none."""

    image_gib: float = 8.0
    compression: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_gib <= 0:
            raise ValueError(f"image_gib is {self.image_gib}, but must be above 0")
        if not 0 <= self.compression <= 9:
            raise ValueError(f"compression is {self.compression}, but must lie between 0 and 9")


class HostReplayState(NamedTuple):
    replay: ReplayState
    frames: Frames  # on the host, changed in place


class _Live:
    """What the collectors of one source write into."""

    frames: Frames
    lost: bool = False  # images that the ring does not know yet to be gone


def host_replay(config: Config, collector: Source, num_worlds: int, filler: Source | None = None, mesh: Mesh | None = None) -> Source:
    """A host source of the `Replayed` batches of `replay`, step by step the same ones for as long as all images find room.

    Checkpoints hold the images too, and while one is written the machine holds up to three times `image_gib`.

    Raises:
        ValueError: there is no image, or a mesh, or too little memory for images; else as `replay`.
    """
    if mesh is not None:
        raise ValueError("host_replay keeps images on one host and learns on one device; take replay, or leave out the mesh")
    images = {name: part for name, part in parts(collector.spec, "observation/").items() if name.startswith("image/")}
    if not images:
        offered = ", ".join(sorted(parts(collector.spec, "observation/")))
        raise ValueError(f"host_replay needs an image/<camera> observation; offered are {offered}. Without, take replay")
    if wrong := [f"{name} {part.dtype}" for name, part in images.items() if part.dtype != "uint8"]:
        raise ValueError(f"host_replay keeps images of uint8, but there is {wrong[0]}")
    slots = -(-config.capacity // num_worlds) + 1
    unroll = (collector.steps_per_batch // num_worlds, num_worlds)
    threads = ThreadPoolExecutor(cores())  # which end when nobody holds this source any more
    store = frames(images, int(config.image_gib * 2**30), slots * num_worlds, unroll, config.compression, threads)
    live = _Live()
    inner = replay.replay(config, _numbered(collector, images, store, live), num_worlds, filler and _numbered(filler, images, store, live))
    forget = jax.jit(_forget, donate_argnums=0)

    def settled(state: ReplayState) -> HostReplayState:
        """Room for the next unroll is made now, before steps are drawn whose images it would take the place of."""
        live.frames, went = store.make_room(live.frames)
        if went or live.lost:
            live.lost = False
            state = state._replace(ring=forget(state.ring, jnp.asarray(live.frames.alive)))
        return HostReplayState(state, live.frames)

    def init(key: Key, behaviour: Params) -> HostReplayState:
        live.frames, live.lost = store.init(), False
        return settled(inner.init(key, behaviour))

    def empty(key: Key, behaviour: Params) -> HostReplayState:
        live.frames, live.lost = store.init(), False
        return HostReplayState((inner.empty or inner.init)(key, behaviour), live.frames)

    def advance(state: HostReplayState, behaviour: Params, key: Key) -> tuple[HostReplayState, Replayed]:
        live.frames = state.frames
        after, batch = inner.next(state.replay, behaviour, key)
        seen = {"observation": batch.observation, "next_observation": batch.next_observation}
        batch = batch._replace(**{name: _with_images(store, live.frames, observation) for name, observation in seen.items()})
        return settled(after), batch

    def observe(state: HostReplayState, feedback: PyTree) -> HostReplayState:
        return state._replace(replay=inner.observe(state.replay, feedback))

    def metrics(state: HostReplayState) -> Metrics:
        number, size = used(state.frames)
        raw = number * state.frames.latest.shape[1]
        return inner.metrics(state.replay) | {"replay/compression": jnp.float32(raw / max(size, 1))}

    return inner._replace(
        spec=replay.replayed_from(collector.spec, config),
        init=init,
        next=advance,
        observe=observe,
        allocation={**inner.allocation, "host/replay/images": store.allocation},
        metrics=metrics,
        empty=empty,
    )


def _forget(ring: Ring, alive: Array) -> Ring:
    """Without the steps of each world whose images are gone: it has `alive` [B] of them, one for each row at most.

    One row less is kept, for after the end of an episode the head holds none.
    """
    slots = ring.is_step.shape[0]
    number = jnp.minimum(ring.used, alive - 1)
    age = (ring.head[None] - jnp.arange(slots, dtype=jnp.int32)[:, None]) % slots
    return ring._replace(used=number, is_step=ring.is_step & (age < number[None]))


def _numbered(collector: Source, images: Mapping[str, ArraySpec], store: FramesOf, live: _Live) -> Source:
    """`collector` with a number in place of the images, which go into `live.frames`."""
    advance: Any = jax.jit(collector.next) if collector.pure else collector.next

    def rest(observation: Observation, numbers: Any) -> Observation:
        return {name: x for name, x in observation.items() if name not in images} | {_NUMBER: jnp.asarray(numbers)}

    def step(state: PyTree, behaviour: Params, key: Key) -> tuple[PyTree, Transition]:
        state, batch = advance(state, behaviour, key)
        now, later = ({name: x[name] for name in images} for x in (batch.observation, batch.next_observation))
        now, later, discount, truncation = jax.device_get((now, later, batch.discount, batch.truncation))
        room, lost = store.make_room(live.frames)
        live.lost |= lost
        live.frames, before, after = store.write(room, now, later, (discount == 0) | (truncation > 0))
        return state, batch._replace(observation=rest(batch.observation, before), next_observation=rest(batch.next_observation, after))

    spec: Spec = {name: part for name, part in collector.spec.items() if name.partition("/")[2] not in images}
    for end in ("observation", "next_observation"):
        spec = {**spec, f"{end}/{_NUMBER}": ArraySpec(("time", "world"), "int32")}
    return collector._replace(spec=spec, next=step, pure=False)


def _with_images(store: FramesOf, kept: Frames, observation: Observation) -> Observation:
    numbers = jax.device_get(observation[_NUMBER])
    rest = {name: x for name, x in observation.items() if name != _NUMBER}
    return rest | {name: jnp.asarray(x) for name, x in store.fetch(kept, numbers).items()}
