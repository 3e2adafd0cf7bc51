"""From ranges to draws: what of a model's physics varies between episodes, and how."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.ops.suggestion import suggestion
from jaxrl.types import Array, Key, Space
from jaxrl_envs.physics import Physics
from jaxrl_envs.randomization.model_fields import compiled_field, model_fields
from jaxrl_envs.randomization.parameters import QUANTITIES, Parameters, Ranges, entries, own_values, tables
from jaxrl_envs.randomization.ranges import Range, correlation_matrix, coupling, place, quantile


class Randomised(NamedTuple):
    """The fields of `Env` that say what its physics parameters are."""

    nominal: Parameters
    sample: Callable[[Key], Parameters]
    space: Space | None  # None where nothing varies


class _Block(NamedTuple):
    """Numbers of one parameter with one range."""

    name: str
    where: np.ndarray  # their places in the parameter's flat array
    labels: list[str]  # by which a report tells them apart: "base/x"; [""] for the only number of a world's parameter
    range: Range


_NOTHING = Ranges()


def randomised(physics: Physics, ranges: Ranges = _NOTHING, reads: frozenset[str] = frozenset()) -> Randomised:
    """The parameters of the model as it is, and how `ranges` draws them; derived constants follow the drawn values.

    `reads` names the parameters that the task reads itself; what neither the task reads nor the model holds would have no effect.

    Raises:
        ValueError: a range without effect, an unknown body, joint or motor, or correlations that cannot be.
    """
    model = physics.model
    own = own_values(model)
    blocks = _blocks(model, ranges, reads)
    drawn = sorted({block.name for block in blocks})
    touched = sorted({field for name in drawn for field in QUANTITIES[name].touches})
    nominal = own._replace(fields=physics.derive({name: compiled_field(model, name) for name in touched}))

    fixed = [block for block in blocks if block.range.bounds[0] == block.range.bounds[1]]
    varying = [block for block in blocks if block.range.bounds[0] < block.range.bounds[1]]
    ends = np.cumsum([block.where.size for block in varying])
    own = _with(own, [(block, jnp.full(block.where.shape, block.range.bounds[0], jnp.float32)) for block in fixed])

    def at(point: Array) -> Parameters:
        parts = jnp.split(point, ends[:-1]) if varying else []
        parameters = _with(own, [(block, quantile(block.range, part)) for block, part in zip(varying, parts, strict=True)])
        return parameters._replace(fields=physics.derive(model_fields(model, parameters, drawn)))

    if not varying:
        settled = jax.jit(at)(jnp.zeros(0))
        return Randomised(nominal, lambda key: settled, None)
    space = _space(model, varying, ranges, at)
    return Randomised(nominal, lambda key: at(space.draw(key)), space)


def _space(model: mujoco.MjModel, varying: list[_Block], ranges: Ranges, at: Callable[[Array], Parameters]) -> Space:
    names = tuple(dict.fromkeys(block.name for block in varying))
    group = [names.index(block.name) for block in varying for _ in block.where]
    nominal = {name: np.ravel(getattr(own_values(model), name)) for name in names}
    center = [place(block.range, float(nominal[block.name][k])) for block in varying for k in block.where]
    ends = np.cumsum([block.where.size for block in varying])

    def values(point: Array) -> Array:
        return jnp.concatenate([quantile(block.range, part) for block, part in zip(varying, jnp.split(point, ends[:-1]), strict=True)])

    def summary(parameters: Parameters) -> dict[str, np.ndarray]:
        """Up to three numbers of a block each by its own name, more of them by their mean."""
        found: dict[str, np.ndarray] = {}
        for block in varying:
            array = np.asarray(getattr(parameters, block.name))
            chosen = array.reshape(len(array), -1)[:, block.where]
            if len(block.labels) > 3:
                found[f"{block.name}/mean"] = chosen.mean(1)
            else:
                found |= {f"{block.name}/{label}".rstrip("/"): chosen[:, k] for k, label in enumerate(block.labels)}
        return found

    draw = _draw(varying, names, group, ranges)
    units = tuple(QUANTITIES[name].unit for name in names)
    return Space(names, units, tuple(group), tuple(center), draw, at, values, summary)


def _draw(varying: list[_Block], names: tuple[str, ...], group: list[int], ranges: Ranges) -> Callable[[Key], Array]:
    within = [block.range.correlation for block in varying for _ in block.where]
    between = {(names.index(a), names.index(b)): c for a, b, c in ranges.correlations if a in names and b in names}
    if not any(within) and not between:
        return lambda key: jax.random.uniform(key, (len(group),))
    coupled = coupling(correlation_matrix(group, within, between))
    return lambda key: coupled(jax.random.normal(key, (len(group),)))


def _with(parameters: Parameters, values: Sequence[tuple[_Block, Array]]) -> Parameters:
    for block, new in values:
        old = getattr(parameters, block.name)
        changed = jnp.ravel(old).at[block.where].set(new, unique_indices=True)
        changes: dict[str, Any] = {block.name: jnp.reshape(changed, old.shape)}
        parameters = parameters._replace(**changes)
    return parameters


def _blocks(model: mujoco.MjModel, ranges: Ranges, reads: frozenset[str]) -> list[_Block]:
    out = []
    for name, table in tables(ranges).items():
        quantity = QUANTITIES[name]
        if (quantity.is_read or not quantity.touches) and name not in reads:
            raise ValueError(f"{name}: this task does not read it, so a range has no effect; it reads {', '.join(sorted(reads)) or 'none'}")
        known = entries(model, quantity.of)
        if quantity.of == "world" and set(table) != {""}:
            raise ValueError(f"{name}: is one for the whole world; give its range itself, not one by name ({', '.join(table)})")
        if quantity.must_be_named and "" in table:
            raise ValueError(f'{name}: belongs to one body or a few; name them, such as {name}={{"{known[1]}": (low, high)}}')
        for entry in table:
            if entry and entry not in known:
                raise ValueError(f"{name}: the model has no {quantity.of} {entry!r}; {suggestion(entry, known)}")
        for entry, one in table.items():
            chosen = [k for k, other in enumerate(known) if entry in ("", other)] if known else [0]
            if quantity.of == "body":
                chosen = [k for k in chosen if model.body_mass[k] > 0]
            _check_effect(model, name, [known[k] for k in chosen] if known else [], chosen)
            parts = quantity.parts or ("",)
            where = np.array([k * len(parts) + j for k in chosen for j in range(len(parts))])
            labels = ["/".join(word for word in (known[k] if known else "", part) if word) for k in chosen for part in parts]
            out.append(_Block(name, where, labels, one))
        _check_contact(model, name, table)
    return out


def _check_effect(model: mujoco.MjModel, name: str, chosen: list[str], index: list[int]) -> None:
    """Raises ValueError where a factor would multiply nothing but zeros, or the compiler has settled what is to change."""
    if not index:
        raise ValueError(f"{name}: the model has nothing that it could change")
    if set(QUANTITIES[name].touches) & {"body_ipos", "body_iquat"}:
        simple = [model.body(k).name for k in index if model.body_simple[k]]
        if simple:
            raise ValueError(
                f"{name}: MuJoCo has compiled these bodies as simple ones, with their mass about their origin: {', '.join(simple)}; "
                'give them the attribute simple="false"'
            )
    fields = {
        "joint_damping": (model.dof_damping, model.dof_jntid),
        "joint_friction": (model.dof_frictionloss, model.dof_jntid),
        "armature": (model.dof_armature, model.dof_jntid),
        "motor_strength": (np.abs(model.actuator_forcerange).max(1) * model.actuator_forcelimited, np.arange(model.nu)),
    }
    muscles = (model.actuator_gaintype == mujoco.mjtGain.mjGAIN_MUSCLE) | (model.actuator_biastype == mujoco.mjtBias.mjBIAS_MUSCLE)
    if name == "motor_gain" and muscles[index].any():
        raise ValueError(
            f"motor_gain: is for motors, and these are muscles: {', '.join(np.array(chosen)[muscles[index]])}; name the others"
        )
    if name in fields:
        values, of = fields[name]
        if not values[np.isin(of, index)].any():
            raise ValueError(f"{name}: is a factor on the model's own value, which is zero for {', '.join(chosen)}; give the model one")


def _check_contact(model: mujoco.MjModel, name: str, table: dict[str, Range]) -> None:
    """Raises ValueError where nothing collides, or MuJoCo would not take a contact's time constant as it is."""
    collides = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
    fields = QUANTITIES[name].touches
    if fields and fields[0] in ("geom_friction", "geom_solref", "geom_solimp") and not collides.any():
        raise ValueError(f"{name}: has no effect, for no geom of the model collides by its own contype and conaffinity")
    if fields and fields[0] in ("geom_friction", "geom_solref", "geom_solimp") and model.npair:
        pairs = ", ".join(model.pair(k).name or f"pair {k}" for k in range(model.npair))
        raise ValueError(
            f"{name}: contacts of explicit pairs have numbers of their own, which it would not reach: {pairs}; leave out the pairs"
        )
    if fields == ("geom_solref",) and (model.geom_solref[collides, 0] <= 0).any():
        raise ValueError(f"{name}: has no meaning where a geom's solref is stiffness and damping themselves (negative numbers)")
    shortest = 2 * model.opt.timestep
    if name == "contact_time" and table[""].bounds[0] < shortest:
        raise ValueError(f"contact_time: the lower bound {table[''].bounds[0]} s is below two time steps of the physics, {shortest} s")
