"""What a program multiplies, from its jaxpr: exact, loops by their lengths, without an array. XLA's own count has a loop's body once."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxprs_in_params
from jax.interpreters.partial_eval import dce_jaxpr

from jaxrl.types import PyTree


class Product(NamedTuple):
    """A product of arrays, or a convolution, that is computed `times` times."""

    flops: int  # of one of them
    bytes: int  # that it reads and writes
    dtype: str  # of what is multiplied
    times: int
    weight: str | None  # the parameter that is one of both, by its path
    summed: tuple[int, ...]  # the parameter's axes that are summed over
    result: int  # bytes


class _Weight(NamedTuple):
    """An array that is a parameter, or a slice of it along its first axes."""

    path: str
    axes: tuple[int, ...]  # of the parameter, for each axis of the array


Known = dict[Any, _Weight]


def nbytes(aval: Any) -> int:
    """0 for what holds no numbers, such as keys."""
    return math.prod(aval.shape) * getattr(aval.dtype, "itemsize", 0)


def program(function: Callable[..., Any], *arguments: PyTree) -> ClosedJaxpr:
    """Of a function on shapes, without what its results do not need."""
    traced = jax.make_jaxpr(function)(*arguments)
    needed, kept = dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars), instantiate=True)
    assert all(kept)
    return ClosedJaxpr(needed, traced.consts)


def products(function: Callable[..., Any], named: Mapping[str, Any], *arguments: PyTree) -> list[Product]:
    """All that `function(leaves, *arguments)` multiplies; `named` are parameters by their paths, the leaves theirs, in this order."""
    found: list[Product] = []
    jaxpr = program(function, list(named.values()), *arguments).jaxpr
    known: Known = {}
    for variable, (path, leaf) in zip(jaxpr.invars, named.items(), strict=False):
        known[variable] = _Weight(path, tuple(range(len(leaf.shape))))
    _walk(jaxpr, known, 1, found)
    return found


def flops(found: Iterable[Product]) -> int:
    """Of all of them; an addition and a multiplication are two."""
    return sum(one.flops * one.times for one in found)


def _of(known: Known, variable: Any) -> _Weight | None:
    return None if isinstance(variable, Literal) else known.get(variable)


def _walk(jaxpr: Jaxpr, known: Known, times: int, found: list[Product]) -> None:
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "dot_general":
            found.append(_dot(equation, known, times))
        elif name == "conv_general_dilated":
            found.append(_convolution(equation, known, times))
        elif name == "scan":
            _scan(equation, known, times, found)
        elif name == "cond":
            _branches(equation, known, times, found)
        elif inner := list(jaxprs_in_params(equation.params)):
            for one in inner:
                _call(equation, one, known, times, found)
        else:
            _follow(equation, known)


def opened(jaxpr: Any) -> Jaxpr:
    """A program, closed or not, that another one has among its parameters."""
    return jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr


def _call(equation: Any, inner: Any, known: Known, times: int, found: list[Product]) -> None:
    """Of a program within: its arguments are known where it has as many."""
    inner = opened(inner)
    own: Known = {}
    if len(inner.invars) == len(equation.invars):
        own = {new: weight for new, old in zip(inner.invars, equation.invars, strict=True) if (weight := _of(known, old)) is not None}
    _walk(inner, own, times, found)
    if len(inner.outvars) == len(equation.outvars):
        known |= {new: w for new, old in zip(equation.outvars, inner.outvars, strict=True) if (w := _of(own, old)) is not None}


def _scan(equation: Any, known: Known, times: int, found: list[Product]) -> None:
    inner, constants, carried = equation.params["jaxpr"].jaxpr, equation.params["num_consts"], equation.params["num_carry"]
    own: Known = {}
    for place, (new, old) in enumerate(zip(inner.invars, equation.invars, strict=True)):
        weight = _of(known, old)
        if weight is not None and place < constants:
            own[new] = weight
        elif weight is not None and place >= constants + carried:
            own[new] = weight._replace(axes=weight.axes[1:])
    _walk(inner, own, times * equation.params["length"], found)
    for new, old in list(zip(equation.outvars, inner.outvars, strict=True))[carried:]:
        weight = _of(own, old)
        if weight is not None and 0 not in weight.axes:  # kept for the way back, stacked as it was
            known[new] = weight._replace(axes=(0, *weight.axes))


def _branches(equation: Any, known: Known, times: int, found: list[Product]) -> None:
    """Of several branches the longest."""
    each: list[list[Product]] = []
    for branch in equation.params["branches"]:
        own = {new: w for new, old in zip(branch.jaxpr.invars, equation.invars[1:], strict=True) if (w := _of(known, old)) is not None}
        each.append([])
        _walk(branch.jaxpr, own, times, each[-1])
    found += max(each, key=flops)


_SAME = {"convert_element_type", "copy", "sharding_constraint", "stop_gradient", "reduce_precision", "optimization_barrier", "name"}


def _follow(equation: Any, known: Known) -> None:
    """What becomes of a parameter, as long as it stays one."""
    name, weights = equation.primitive.name, [_of(known, variable) for variable in equation.invars]
    alike = [variable.aval.shape == equation.outvars[0].aval.shape for variable in equation.invars]
    if name in _SAME and weights[0] is not None:
        known[equation.outvars[0]] = weights[0]
    elif name == "transpose" and weights[0] is not None:
        known[equation.outvars[0]] = weights[0]._replace(axes=tuple(weights[0].axes[place] for place in equation.params["permutation"]))
    elif name == "add" and all(alike) and sum(weight is not None for weight in weights) == 1:  # a base and its factors
        known[equation.outvars[0]] = next(weight for weight in weights if weight is not None)


def _dot(equation: Any, known: Known, times: int) -> Product:
    left, right, result = equation.invars[0], equation.invars[1], equation.outvars[0].aval
    (sum_left, sum_right), _ = equation.params["dimension_numbers"]
    number = 2 * math.prod(result.shape) * math.prod(left.aval.shape[axis] for axis in sum_left)
    moved = nbytes(left.aval) + nbytes(right.aval) + nbytes(result)
    own, summed = next(((w, axes) for side, axes in ((left, sum_left), (right, sum_right)) if (w := _of(known, side))), (None, ()))
    over = tuple(own.axes[axis] for axis in summed) if own else ()
    return Product(number, moved, str(left.aval.dtype), times, own.path if own else None, over, nbytes(result))


def _convolution(equation: Any, known: Known, times: int) -> Product:
    left, right, result = equation.invars[0].aval, equation.invars[1].aval, equation.outvars[0].aval
    outputs = right.shape[equation.params["dimension_numbers"].rhs_spec[0]]
    number = 2 * math.prod(result.shape) * math.prod(right.shape) // outputs
    own = _of(known, equation.invars[1])
    moved = nbytes(left) + nbytes(right) + nbytes(result)
    return Product(number, moved, str(left.dtype), times, own.path if own else None, (), nbytes(result))


def tokens(forward: Sequence[Product], sizes: Mapping[str, int]) -> int:
    """The rows through the parameter that most of the work goes to, of a program without its way back; 0 where none is multiplied."""
    work: dict[str, int] = {}
    for one in forward:
        if one.weight is not None:
            work[one.weight] = work.get(one.weight, 0) + one.flops * one.times
    if not work:
        return 0
    busiest = max(work, key=lambda path: work[path])
    return work[busiest] // (2 * sizes[busiest])
