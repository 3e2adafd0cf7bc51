"""What a run on data needs of its devices, and how long a step takes, worked out from shapes: nothing is allocated and nothing compiled."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from jaxrl.distributed import mesh as meshes
from jaxrl.distributed.sharding import axes_of, bytes_each
from jaxrl.ops import counting
from jaxrl.ops.counting import Product
from jaxrl.ops.paths import flatten_names, map_with_path
from jaxrl.ops.peak_memory import peak
from jaxrl.training.devices import Device
from jaxrl.types import Algorithm, PyTree, TrainState

EFFICIENCY = 0.7  # of a device's peak, which large products of matrices reach
_WIDE = ("float32", "float64")  # which devices multiply at half the rate of bfloat16, or less


class Work(NamedTuple):
    """Of one update, on all devices together. Recomputation is left out: what the method asks for."""

    samples: int
    tokens: int  # rows through the parameter that most of the work goes to
    flops: int


class Layout(NamedTuple):
    """How a run is shared out."""

    config: meshes.Config
    sizes: Mapping[str, int]  # of the mesh's axes

    @property
    def rows(self) -> int:
        """Into how many parts a batch is cut."""
        return self.sizes["data"] * self.sizes["fsdp"]


def _state(algorithm: Algorithm) -> TrainState:
    shapes: TrainState = jax.eval_shape(algorithm.init, jax.random.key(0))
    return shapes


def _named(state: TrainState) -> dict[str, Any]:
    """Parameters and what is frozen, by paths; a base and its factors have different ones."""
    return flatten_names(state.frozen) | flatten_names(state.params)


def multiplied(algorithm: Algorithm, batch: PyTree, forward: bool = False) -> list[Product]:
    """All products of an update on batches of these shapes, or of its losses alone."""
    state = _state(algorithm)
    tree = jax.tree.structure((state.frozen, state.params))

    def update(leaves: list[Any], state: TrainState, batch: PyTree, key: Any) -> Any:
        frozen, params = jax.tree.unflatten(tree, leaves)
        after, metrics, _ = algorithm.update(state._replace(frozen=frozen, params=params), batch, key)
        return metrics["loss"] if forward else (after, metrics)

    return counting.products(update, _named(state), state, batch, jax.random.key(0))


def work(algorithm: Algorithm, batch: PyTree) -> Work:
    """Of an algorithm that recomputes nothing, on batches of these shapes."""
    samples = jax.tree.leaves(batch)[0].shape[0]
    sizes = {path: math.prod(leaf.shape) for path, leaf in _named(_state(algorithm)).items()}
    tokens = counting.tokens(multiplied(algorithm, batch, forward=True), sizes)
    return Work(samples, tokens, counting.flops(multiplied(algorithm, batch)))


def _parts(tree: PyTree) -> dict[str, int]:
    """Numbers of parameters by the first two words of their paths."""
    found: dict[str, int] = {}
    for path, leaf in flatten_names(tree).items():
        part = "/".join(path.split("/")[:2]) if path.count("/") > 1 else path.split("/")[0]
        found[part] = found.get(part, 0) + math.prod(leaf.shape)
    return found


def memory(algorithm: Algorithm, batch: PyTree, layout: Layout, turned: bool = False) -> dict[str, int]:
    """Bytes on each device, whose part of a batch has these shapes; `turned` as for `ops.peak_memory.peak`."""
    state = _state(algorithm)
    axes = axes_of(layout.config, layout.sizes, state)
    held = {field: bytes_each(layout.sizes, getattr(state, field), getattr(axes, field)) for field in state._fields}
    shares: dict[tuple[int, ...], int] = {}
    over = lambda own: math.prod(layout.sizes[axis] for axis in own if axis is not None)  # noqa: E731
    map_with_path(lambda _, x, own: shares.update({tuple(x.shape): over(own)}), state.params, axes.params)

    def size(aval: Any) -> int:
        return counting.nbytes(aval) // shares.get(tuple(aval.shape), 1)

    program = counting.program(algorithm.update, state, batch, jax.random.key(0))
    inside = peak(program.jaxpr, size, turned=turned)
    gradients = min(inside, held["params"])
    return {
        "weights": held["params"],
        "frozen": held["frozen"],
        "optimizer": held["opt_state"],
        "average and statistics": held["extra"] + held["statistics"] + held["step"],
        "batch": sum(map(counting.nbytes, jax.tree.leaves(batch))),
        "gradients": gradients,
        "activations": inside - gradients,
    }


def communication(state: TrainState, found: list[Product], layout: Layout, parts: int = 1) -> dict[str, int]:
    """Bytes that each device sends in an update, by axis, in rings; `found` are the products of its part of a batch, in `parts` pieces.

    Over `fsdp` parameters are gathered twice, for the way there and the way back, and gradients summed. Over `data` what is left of
    gradients is. Over `tensor` results are, of products that sum over an axis that lies over it.
    """
    sizes, axes = layout.sizes, axes_of(layout.config, layout.sizes, state)
    ring = lambda number: (number - 1) / number  # noqa: E731
    sent = {"fsdp": 0.0, "data": 0.0, "tensor": 0.0}
    lies: dict[str, tuple[str | None, ...]] = {}

    def leaf(path: str, x: Any, own: tuple[str | None, ...], learns: bool) -> None:
        lies[path] = own
        whole = counting.nbytes(x) / (sizes["tensor"] if "tensor" in own else 1)
        if "fsdp" in own:
            sent["fsdp"] += parts * ring(sizes["fsdp"]) * whole * (3 if learns else 2)
            sent["data"] += parts * learns * 2 * ring(sizes["data"]) * whole / sizes["fsdp"]
        elif learns:
            sent["data"] += parts * 2 * ring(layout.rows) * whole

    map_with_path(lambda path, x, own: leaf(path, x, own, False), state.frozen, axes.frozen)
    map_with_path(lambda path, x, own: leaf(path, x, own, True), state.params, axes.params)
    for one in found:
        if one.weight is not None and any(lies[one.weight][axis] == "tensor" for axis in one.summed):
            sent["tensor"] += 2 * ring(sizes["tensor"]) * one.result * one.times
    return {axis: round(size) for axis, size in sent.items()}


def _seconds(found: list[Product], lies: Mapping[str, tuple[str | None, ...]], layout: Layout, device: Device) -> float:
    """Of all products on a device: each takes as long as its arithmetic, or as its reading and writing."""
    total = 0.0
    for one in found:
        shared = layout.sizes["tensor"] if one.weight is None or "tensor" in lies[one.weight] else 1
        rate = EFFICIENCY * device.flops / (2 if one.dtype in _WIDE else 1)
        total += one.times * max(one.flops / rate, one.bytes / device.bandwidth) / shared
    return total


def plan(
    algorithm: Algorithm, bare: Algorithm, batch: PyTree, layout: Layout, parts: int = 1, device: Device | None = None
) -> dict[str, Any]:
    """Everything about a run, as plain JSON; `batch` is shapes of a whole one, `bare` the algorithm without recomputation.

    Raises ValueError where the devices do not divide the batch, or `parts` pieces of an update not what a device has of it.
    """
    state = _state(algorithm)
    rows = jax.tree.leaves(batch)[0].shape[0]
    if rows % (layout.rows * parts):
        raise ValueError(f"batch_size is {rows}, which {layout.rows} devices in {parts} parts do not divide")
    own = jax.tree.map(lambda x: jax.ShapeDtypeStruct((x.shape[0] // layout.rows, *x.shape[1:]), x.dtype), batch)
    found, asked = multiplied(algorithm, own), work(bare, own)
    held = memory(algorithm, own, layout, turned=device is None)
    sent = communication(state, found, layout, parts)
    told: dict[str, Any] = {
        "mesh": dict(layout.sizes),
        "parameters": _parts(state.frozen) | _parts(state.params),
        "trained": sum(_parts(state.params).values()),
        "frozen": sum(_parts(state.frozen).values()),
        "batch_size": rows,
        "tokens_per_sample": asked.tokens / asked.samples,
        "flops_per_sample": asked.flops / asked.samples,
        "recomputed": counting.flops(found) / max(asked.flops, 1) - 1.0,
        "memory": held | {"total": sum(held.values())},
        "communication": sent,
    }
    return told | ({} if device is None else _timed(state, found, held, told, layout, device))


def _timed(
    state: TrainState, found: list[Product], held: Mapping[str, int], told: Mapping[str, Any], layout: Layout, device: Device
) -> dict[str, Any]:
    """How long a step takes where sums and gathers over `fsdp` and `data` happen meanwhile, and those over `tensor` do not."""
    axes = axes_of(layout.config, layout.sizes, state)
    lies = dict[str, Any]()
    for tree, own in ((state.frozen, axes.frozen), (state.params, axes.params)):
        map_with_path(lambda path, _, places: lies.update({path: places}), tree, own)
    sent = told["communication"]
    compute = _seconds(found, lies, layout, device)
    apart = sent["tensor"] / device.link
    beside = (sent["fsdp"] + sent["data"]) / device.link
    written = 2 * (held["weights"] + held["optimizer"] + held["average and statistics"]) + held["gradients"]
    step = max(compute, beside) + apart + written / device.bandwidth
    flops = told["flops_per_sample"] * told["batch_size"] / math.prod(layout.sizes.values())
    seconds = {"products": compute, "communication": beside + apart, "optimizer": written / device.bandwidth, "step": step}
    return {
        "device": device.name,
        "fits": told["memory"]["total"] <= device.memory,
        "seconds": seconds,
        "mfu": flops / step / device.flops,
        "samples_per_second": told["batch_size"] / step,
        "tokens_per_second": told["batch_size"] * told["tokens_per_sample"] / step,
    }
