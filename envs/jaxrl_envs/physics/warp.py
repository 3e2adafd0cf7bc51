"""MuJoCo Warp: physics in CUDA kernels that JAX calls, for NVIDIA GPUs. It runs on a CPU too, where it is no faster than `mjx`.

All worlds of a call share one buffer of contacts, and each has room for some rows of constraints. What does not fit would be undefined
behaviour, so the worlds that it concerns come back as NaN; by default there is room for all that can touch, or plenty (`capacity`).
One call handles all rows of a `vmap`, nested ones too. Not differentiable. On a GPU sums are taken in any order: runs differ by rounding.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import warp as wp
from mujoco.mjx.warp.types import _BATCH_DIM

from jaxrl.ops.worlds import by_rows
from jaxrl.types import Array
from jaxrl_envs import xla_flags
from jaxrl_envs.physics._engine import engine
from jaxrl_envs.physics._shared import (
    IGNORED,
    Features,
    checked,
    derivation,
    float_fields,
    refuse,
    replaced,
    strong,
    unsupported,
    without_energy,
)
from jaxrl_envs.physics.fields import FLUID, OPTION, check_fields, without
from jaxrl_envs.physics.interface import INTEGRATED, Fields, Physics, PhysicsState, at_rest, late_sensors

_BACKEND = "warp"
_IGNORED: Features = IGNORED | {"flexible bodies": lambda m: m.nflex > 0}
_SWITCHES = ("body_gravcomp", *FLUID)  # decided by the compiled values
_PLENTY = 128  # contacts of one world; a humanoid that lies on the ground has about thirty
_UNFINISHED = 0b110_0000_0000  # bits of `overflow` that are no overflow: a solver or a line search that used all its iterations
_EQUALITY_ROWS = {"CONNECT": 3, "WELD": 6, "JOINT": 1, "TENDON": 1}


class Capacity(NamedTuple):
    """Room in the buffers, which are as large as this all the time."""

    contacts: int  # and pairs that come near, of one world, averaged over the worlds of a call
    constraints: int  # rows of one world: friction losses, limits, equalities and, for each contact, two to ten
    convex: int  # pairs, one of a mesh, cylinder, ellipsoid, height field or two boxes, of one world, averaged


def _most_contacts(model: mujoco.MjModel, pair: tuple[int, int]) -> int:
    """How many contacts two geoms can have at most."""
    kinds = {mujoco.mjtGeom(model.geom_type[geom]).name.removeprefix("mjGEOM_") for geom in pair}
    if kinds & {"HFIELD", "SDF"}:
        return max(mujoco.mjMAXCONPAIR, model.opt.sdf_initpoints)
    if kinds & {"SPHERE", "ELLIPSOID"}:
        return 1
    return 2 if "CAPSULE" in kinds and kinds <= {"CAPSULE", "PLANE", "BOX"} else 8


def _is_convex(model: mujoco.MjModel, pair: tuple[int, int]) -> bool:
    kinds = {mujoco.mjtGeom(model.geom_type[geom]).name.removeprefix("mjGEOM_") for geom in pair}
    return not kinds <= {"SPHERE", "CAPSULE", "BOX", "PLANE"} or kinds == {"BOX"}


def _pairs(compiled: engine.Model) -> Iterator[tuple[tuple[int, int], int]]:
    """Pairs of geoms that are looked at, with the index of the explicit pair, or -1."""
    for pair, (explicit, _) in zip(compiled._impl.nxn_geom_pair_filtered, compiled._impl.nxn_pairid_filtered, strict=True):
        yield (int(pair[0]), int(pair[1])), max(int(explicit), -1)


def _most(model: mujoco.MjModel, compiled: engine.Model) -> Capacity:
    """What the buffers hold where all touches that can touch."""
    elliptic = model.opt.cone == mujoco.mjtCone.mjCONE_ELLIPTIC
    contacts = convex = 0
    rows = model.nv + model.ntendon + int(model.jnt_limited.sum()) + int(model.tendon_limited.sum())
    rows += sum(_EQUALITY_ROWS[mujoco.mjtEq(kind).name.removeprefix("mjEQ_")] for kind in model.eq_type)
    for pair, explicit in _pairs(compiled):
        most = _most_contacts(model, pair)
        condim = int(model.pair_dim[explicit] if explicit >= 0 else model.geom_condim[list(pair)].max())
        contacts += most
        rows += most * (condim if elliptic or condim == 1 else 2 * (condim - 1))
        convex += _is_convex(model, pair)
    return Capacity(contacts, rows, convex)


def _chosen(model: mujoco.MjModel, most: Capacity) -> Capacity:
    """Room for all, but for `_PLENTY` contacts at most."""
    widest = max([1, *(2 * (int(condim) - 1) for condim in (*model.geom_condim, *model.pair_dim))])
    fixed = model.nv + model.ntendon + model.njnt + 6 * model.neq
    return Capacity(min(most.contacts, _PLENTY), min(most.constraints, fixed + widest * _PLENTY), min(most.convex, _PLENTY))


def capacity(model: mujoco.MjModel) -> Capacity:
    """The room that `warp` makes for a model by default. Raises ValueError where it cannot simulate the model."""
    return _chosen(model, _most(model, _compile(model)))


def _compile(model: mujoco.MjModel) -> engine.Model:
    """Raises ValueError that names the feature which MuJoCo Warp lacks."""
    wp.config.log_level = max(wp.config.log_level, wp.LOG_WARNING)  # else a line for each kernel
    refuse(model, _BACKEND, _IGNORED)
    own = without_energy(model)
    own.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)  # it never resets a world, and does not know the flag
    try:
        compiled = engine.put_model(own, impl="warp")
    except (NotImplementedError, ValueError) as error:
        raise unsupported(_BACKEND, error) from None
    return compiled.tree_replace({"opt._impl.warn_overflow": 0})  # it would print at each step


def _varying(model: mujoco.MjModel, compiled: engine.Model) -> frozenset[str]:
    """The floats of the model that the kernels read for each world."""
    batched = {name for name, per_world in _BATCH_DIM["Model"].items() if per_world}
    batched |= {f"{OPTION}{name}" for name, per_world in _BATCH_DIM["Option"].items() if per_world}
    folded = {"dof_damping"} if model.actuator_damping.any() else set()  # holds the damping of actuators too
    return float_fields(model, compiled) & batched - folded


def _constant(leaf: np.ndarray) -> Array:
    """`leaf` in a program: buffers hold the same number throughout, and need not be part of it."""
    uniform = leaf.size > 16 and bool((leaf == leaf.flat[0]).all())
    return jnp.full(leaf.shape, leaf.flat[0], leaf.dtype) if uniform else jnp.asarray(leaf)


def _overflown(data: engine.Data, room: Capacity) -> Array:
    """[n] bool: worlds whose contacts or constraints did not fit, or may have been pushed out by those of others."""
    told = (data._impl.overflow & ~_UNFINISHED) != 0
    shared = data._impl.contact__dist.shape[0]
    return told | (data._impl.nefc > room.constraints) | (data._impl.nacon[0] > shared) | (data._impl.ncollision[0] > shared)


def warp(model: mujoco.MjModel, current_sensors: bool = False, room: Capacity | None = None) -> Physics:
    """Physics in the kernels of MuJoCo Warp (`mujoco.mjx`, impl="warp"), on an NVIDIA GPU or a CPU.

    The model is read once, here. Fields may hold what is an array of floats to MuJoCo Warp and varies there. `room` is that of the
    buffers, by default `capacity(model)`; a step that needs more makes NaN of the worlds concerned.

    Raises:
        ValueError: MuJoCo Warp lacks something that the model uses; on a CPU, XLA_FLAGS lacks what the derived constants need (see
            `jaxrl_envs.xla_flags`).
    """
    xla_flags.check(f"physics backend {_BACKEND}")
    compiled = _compile(model)
    varying, left_out = _varying(model, compiled), without(model, _SWITCHES)
    compiled = jax.tree.map(np.asarray, compiled)
    most = _most(model, compiled)
    chosen = _chosen(model, most) if room is None else room
    late = late_sensors(model)
    stages = model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4 and model.nsensor > 0

    @functools.cache
    def fresh(size: int) -> engine.Data:
        # Beside the average, room for one world gone wild, in which everything seems to touch.
        contacts, convex = size * chosen.contacts + most.contacts, size * chosen.convex + most.convex
        with jax.ensure_compile_time_eval():
            made = engine.make_data(model, impl="warp", naconmax=contacts, naccdmax=convex, njmax=chosen.constraints)
            return jax.tree.map(np.asarray, made)

    def data(**state: Array) -> engine.Data:
        """Of rows; `state` is [n, ...]."""
        empty = jax.tree.map(_constant, fresh(len(state["qpos"])))
        return jax.vmap(lambda row: empty.replace(**row))(state)

    def check(fields: Fields) -> None:
        check_fields(model, _BACKEND, varying, left_out, fields)

    def on_rows(stage: Callable[..., engine.Data], fields: Fields, rows: engine.Data) -> engine.Data:
        return jax.vmap(lambda f, d: stage(replaced(compiled, f, left_out), d))(fields, rows)

    def forward_rows(qpos: Array, qvel: Array, fields: Fields) -> PhysicsState:
        rows = on_rows(engine.forward, fields, data(qpos=qpos, qvel=qvel))
        start = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(qpos), *x.shape)), at_rest(model))
        state = start._replace(qpos=qpos, qvel=qvel, sensordata=rows.sensordata)
        return jax.vmap(checked)(state, _overflown(rows, chosen))

    def step_rows(state: PhysicsState, ctrl: Array, fields: Fields) -> PhysicsState:
        def substep(carry: tuple[engine.Data, Array], now: Array) -> tuple[tuple[engine.Data, Array], None]:
            before = carry[0].replace(ctrl=now)
            after = on_rows(engine.step, fields, before)
            # The stages of Runge-Kutta overwrite the sensors of the state before the step.
            sensors = (on_rows(engine.forward, fields, before) if stages else after).sensordata
            return (after, sensors), None

        begun = data(**{name: getattr(state, name) for name in INTEGRATED}, ctrl=ctrl[:, 0])
        (after, sensors), _ = jax.lax.scan(substep, (begun, begun.sensordata), jnp.swapaxes(ctrl, 0, 1))
        if current_sensors:
            sensors = jnp.where(late[None, :], sensors, on_rows(engine.forward, fields, after).sensordata)
        later = PhysicsState(**{name: getattr(after, name) for name in INTEGRATED}, sensordata=sensors)
        return jax.vmap(checked)(later, _overflown(after, chosen))

    on_forward, on_step = by_rows(forward_rows), by_rows(step_rows)

    def forward(qpos: Array, qvel: Array, fields: Fields) -> PhysicsState:
        check(fields)
        with jax.numpy_rank_promotion("allow"):
            return on_forward(qpos, qvel, fields)

    def step(state: PhysicsState, ctrl: Array, fields: Fields) -> PhysicsState:
        check(fields)
        with jax.numpy_rank_promotion("allow"):
            return on_step(strong(state), jnp.asarray(ctrl, jnp.float32), fields)

    return Physics(model, forward, step, derivation(model, _BACKEND, check))
