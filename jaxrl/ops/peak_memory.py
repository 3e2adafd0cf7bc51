"""The memory that a program needs beside its arguments, from its jaxpr: an estimate of what XLA plans, in the time of a trace.

Arrays live from where they are made to where they are last read. What XLA fuses, elementwise work and copies, makes no array unless
something that is not fused reads it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jax.extend.core import Jaxpr, Literal, jaxprs_in_params

from jaxrl.ops.counting import opened

Size = Callable[[Any], int]  # shape and type -> bytes on a device

# What makes arrays, and reads arrays. All else is elementwise, or another view of something.
_APART = ("dot_general", "conv_general_dilated", "scan", "while", "cond", "sort", "scatter", "cum", "dynamic_update_slice", "fft", "top_k")
_REDUCING = ("reduce_", "argmax", "argmin")  # which make arrays, and are fused with what they read
_CALLS = ("jit", "pjit", "remat", "remat2", "checkpoint", "custom_jvp_call", "custom_vjp_call", "closed_call", "core_call")


class _Op(NamedTuple):
    name: str
    ins: tuple[int, ...]
    outs: tuple[int, ...]
    params: dict[str, Any]


class _Flat(NamedTuple):
    """A program without calls; arrays are numbers."""

    ops: list[_Op]
    avals: list[Any]
    ins: tuple[int, ...]
    outs: tuple[int, ...]


def _flat(jaxpr: Jaxpr) -> _Flat:
    ops: list[_Op] = []
    avals: list[Any] = []

    def new(variable: Any) -> int:
        avals.append(variable.aval)
        return len(avals) - 1

    def within(jaxpr: Jaxpr, ins: Sequence[int]) -> list[int]:
        numbers = dict(zip(jaxpr.invars, ins, strict=True)) | {variable: new(variable) for variable in jaxpr.constvars}
        number = lambda v: -1 if isinstance(v, Literal) else numbers[v]  # noqa: E731
        for equation in jaxpr.eqns:
            given = tuple(number(v) for v in equation.invars)
            inner = list(jaxprs_in_params(equation.params)) if equation.primitive.name in _CALLS else []
            if len(inner) == 1:
                numbers |= dict(zip(equation.outvars, within(opened(inner[0]), given), strict=True))
                continue
            numbers |= {variable: new(variable) for variable in equation.outvars}
            ops.append(_Op(equation.primitive.name, given, tuple(number(v) for v in equation.outvars), equation.params))
        return [number(v) for v in jaxpr.outvars]

    ins = tuple(new(variable) for variable in jaxpr.invars)
    outs = tuple(within(jaxpr, ins))
    return _Flat(ops, avals, ins, outs)


def _makes(op: _Op) -> bool:
    return op.name.startswith(_APART) or op.name.startswith(_REDUCING)


def _arrays(flat: _Flat, kept: set[int]) -> set[int]:
    """Those that lie in memory: what is not fused makes, or reads, and what is `kept`."""
    found = set(kept)
    for op in flat.ops:
        if _makes(op):
            found |= set(op.outs)
        if op.name.startswith(_APART):
            found |= set(op.ins)
    return found - {-1}


def peak(jaxpr: Jaxpr, size: Size, returned: Sequence[bool] | None = None, turned: bool = False) -> int:
    """Bytes. `returned` says of each result whether it needs room of its own; by default none does: it takes the place of an argument.

    `turned`, what products sum over other axes than the last is copied first, as on a CPU.
    """
    flat = _flat(jaxpr)
    return _peak(flat, size, {out for out, own in zip(flat.outs, returned or (), strict=False) if own}, set(flat.ins), turned)


def _peak(flat: _Flat, size: Size, kept: set[int], elsewhere: set[int], turned: bool) -> int:
    """`elsewhere` are arrays that others have made room for."""
    arrays = _arrays(flat, kept)
    views = elsewhere & set(flat.ins)
    roots: dict[int, frozenset[int]] = {number: frozenset((number,)) for number in views}
    last: dict[int, int] = {}
    for place, op in enumerate(flat.ops):
        read = frozenset().union(*(roots.get(number, frozenset()) for number in op.ins))
        for out in op.outs:
            roots[out] = frozenset((out,)) if out in arrays else read
        if any(out in arrays for out in op.outs) or op.name.startswith(_APART):
            last |= dict.fromkeys(read, place)
    end = len(flat.ops)
    for out in flat.outs:
        last |= dict.fromkeys(roots.get(out, frozenset()), end)

    def own(number: int) -> int:
        return 0 if number in elsewhere else size(flat.avals[number])

    ending: dict[int, list[int]] = {}
    for number, place in last.items():
        ending.setdefault(place, []).append(number)
    now = most = 0
    for place, op in enumerate(flat.ops):
        made = [out for out in op.outs if out in arrays]
        free = [number for number in ending.get(place, ()) if number not in elsewhere]
        unread = sum(own(out) for out in made if out not in last)
        reused = _reused(op, made, free, flat.avals, size)
        inside = _inside(op, size, turned)
        if turned and op.name == "dot_general":
            inside = _copied(op, flat.avals, size)
        most = max(most, now + sum(map(own, made)) - reused + inside)
        now += sum(map(own, made)) - unread - sum(map(own, free))
    return most


def _reused(op: _Op, made: list[int], free: list[int], avals: list[Any], size: Size) -> int:
    """What is written over something that is read for the last time: by elementwise work, and what a loop carries."""
    if op.name.startswith(_APART) and op.name not in ("scan", "while", "dynamic_update_slice"):
        return 0
    left, total = list(free), 0
    for out in made:
        alike = next((one for one in left if avals[one].shape == avals[out].shape and avals[one].dtype == avals[out].dtype), None)
        if alike is not None:
            left.remove(alike)
            total += size(avals[out])
    return total


def _copied(op: _Op, avals: list[Any], size: Size) -> int:
    """Of a product's left side all that is not summed over comes first, of its right side what is; axes of both stand in front."""
    (sum_left, sum_right), (both, _) = op.params["dimension_numbers"]
    left, right = (avals[number] for number in op.ins)
    last = tuple(range(len(left.shape) - len(sum_left), len(left.shape)))
    first = tuple(range(len(both), len(both) + len(sum_right)))
    return (0 if tuple(sum_left) == last else size(left)) + (0 if tuple(sum_right) == first else size(right))


def _inside(op: _Op, size: Size, turned: bool) -> int:
    """What a turn of a loop, or a branch, needs beside what goes in and comes out."""
    if op.name == "scan":
        body = op.params["jaxpr"].jaxpr
        constants, carried = op.params["num_consts"], op.params["num_carry"]
        flat = _flat(body)
        stacked = set(flat.ins[constants + carried :])  # of which a slice lies apart where something reads it that is not fused
        slices = sum(size(flat.avals[number]) for number in stacked & _arrays(flat, set()))
        return slices + _peak(flat, size, set(flat.outs[:carried]), set(flat.ins), turned)
    inner = [opened(one) for one in jaxprs_in_params(op.params)]
    return max((peak(one, size, [True] * len(one.outvars), turned) for one in inner), default=0)
