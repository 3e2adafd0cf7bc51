"""MuJoCo's own engine: `mujoco.batch.Batch`, a C++ thread pool, behind a callback that is pure.

State rows go in, state rows come out. All that a batch remembers between calls is which model fields its rows hold, and a call rewrites
the rows whose fields differ from those it was given. So XLA may drop, repeat or reorder calls, and two runs are equal bit for bit.

The callback works on XLA's own buffers (`buffer_callback`). `jax.pure_callback` would copy its arguments on the threads of XLA's pool, and
wait for ever where a callback occupies the last of them.
"""

import functools
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax.experimental.buffer_callback import buffer_callback
from mujoco.batch import MODEL_FIELDS, Batch, SimulationError

from jaxrl.ops.cores import cores
from jaxrl.types import Array
from jaxrl_envs.physics.fields import check_fields, own_value
from jaxrl_envs.physics.interface import INTEGRATED, Fields, Physics, PhysicsState, at_rest, late_sensors
from jaxrl_envs.physics.marked import Marked, marked

_HostFields = dict[str, np.ndarray]  # [rows, ...] float32
_Advance = Callable[[Batch, np.ndarray], np.ndarray]  # (batch, ctrl [rows, substeps, nu]) -> sensordata [rows, nsensordata]


class _Rows:
    """A batch with its live state arrays and the fields that its rows hold."""

    def __init__(self, model: mujoco.MjModel, size: int, threads: int):
        self.batch = Batch(model, size, nthread=threads)
        self.batch.bind("sensordata")
        self._state = {name: self.batch.bind(name) for name in INTEGRATED}
        self._held: _HostFields | None = None  # rows left as compiled hold float64 values, not float32 ones, so they equal no fields
        self._marks: np.ndarray | None = None  # of what is held, if all of it had one

    def differing(self, fields: _HostFields, marks: np.ndarray | None = None) -> np.ndarray:
        """The rows, sorted, that hold other fields than these, bit for bit (a NaN is equal to itself), or as their marks [rows, 2] tell."""
        if self._held is None:
            return np.arange(self.batch.nsim if fields else 0)
        if marks is not None and self._marks is not None:
            return np.flatnonzero((self._marks != marks).any(1))
        differs = np.zeros(self.batch.nsim, bool)
        for name, value in fields.items():
            # Flat, and rows only for what differs: a reduction along each short row would cost more than all else here.
            entries = np.flatnonzero(self._held[name].view(np.uint32) != value.view(np.uint32))
            differs[entries // (value.size // self.batch.nsim)] = True
        return np.flatnonzero(differs)

    def set_fields(self, fields: _HostFields, marks: np.ndarray | None = None) -> None:
        """Rewrites the rows that differ and recomputes what MuJoCo derives from the fields."""
        rows = self.differing(fields, marks)
        self._marks = None if marks is None else marks.copy()
        if rows.size == 0:
            return
        if self._held is None:
            self._held = {name: np.empty_like(value) for name, value in fields.items()}
        for name, value in fields.items():
            self.batch.expand(name)[rows] = value[rows]
            self._held[name][rows] = value[rows]
        self.batch.set_const(rows)

    def run(self, advance: _Advance, state: PhysicsState, ctrl: np.ndarray, out: PhysicsState) -> None:
        """Writes the state after `advance` to the arrays of `out`; rows in which MuJoCo raised or warned are NaN."""
        for name, live in self._state.items():
            live[:] = getattr(state, name).reshape(live.shape)
        self.batch.warning[:] = 0
        bad = np.zeros(self.batch.nsim, bool)
        try:
            sensors = advance(self.batch, ctrl)
        except SimulationError as error:
            bad[error.ids] = True
            sensors = self.batch.bind("sensordata")
        bad |= self.batch.warning[:, :, 1].any(1)
        for name, after in {**self._state, "sensordata": sensors}.items():
            rows = getattr(out, name).reshape(after.shape)
            rows[...] = after
            if bad.any():
                rows[bad] = np.nan


class _Pool:
    """The batches of one model by size; a call borrows the free one that holds most of its fields already."""

    def __init__(self, model: mujoco.MjModel):
        self._model = model
        self._free: list[_Rows] = []
        self._lock = threading.Lock()

    def borrow(self, size: int, fields: _HostFields, marks: np.ndarray | None) -> _Rows:
        with self._lock:
            fitting = [rows for rows in self._free if rows.batch.nsim == size]
            if fitting:
                best = min(fitting, key=lambda rows: rows.differing(fields, marks).size) if len(fitting) > 1 else fitting[0]
                self._free.remove(best)
                return best
        threads = max(1, cores() // jax.local_device_count("cpu"))
        return _Rows(self._model, size, threads)

    def give_back(self, rows: _Rows) -> None:
        with self._lock:
            self._free.append(rows)


def _forward(batch: Batch, ctrl: np.ndarray) -> np.ndarray:
    del ctrl
    batch.ctrl[:] = 0.0
    batch.forward()
    return batch.bind("sensordata")


def _step(batch: Batch, ctrl: np.ndarray) -> np.ndarray:
    return batch.rollout(ctrl.shape[1], ctrl, record=("sensordata",))["sensordata"][:, -1]


def _step_then_sense(batch: Batch, ctrl: np.ndarray) -> np.ndarray:
    before = _step(batch, ctrl)
    batch.forward(stage=mujoco.mjtStage.mjSTAGE_VEL)
    return np.where(late_sensors(batch.model), before, batch.bind("sensordata"))


def _is_floats(model: mujoco.MjModel, name: str) -> bool:
    try:
        return bool(np.issubdtype(own_value(model, name).dtype, np.floating))
    except AttributeError:
        return False


# What a world would carry beyond `PhysicsState`. Sleep needs an MjData for each world.
_STATEFUL: dict[str, Callable[[mujoco.MjModel], bool]] = {
    "delays of actuators or sensors": lambda m: m.nhistory > 0,
    "engine plugins with a state": lambda m: m.npluginstate > 0,
    "sleeping": lambda m: bool(m.opt.enableflags & mujoco.mjtEnableBit.mjENBL_SLEEP),
}


def native(model: mujoco.MjModel, current_sensors: bool = False) -> Physics:
    """Physics on the cores of the CPU; one call handles all rows of a `vmap`, on as many threads as there are cores.

    Under `shard_map` each device calls with its own rows. Not differentiable. Results do not depend on the number of threads.

    Raises:
        RuntimeError: JAX computes on another device than a CPU.
        ValueError: the model has a state beyond `PhysicsState`, which the backend would have to keep.
    """
    if jax.default_backend() != "cpu":
        raise RuntimeError(
            f"physics backend native works on the memory of a CPU, but JAX computes on {jax.default_backend()}: "
            'use backend="mjx", or set the environment variable JAX_PLATFORMS=cpu'
        )
    kept = [name for name, uses in _STATEFUL.items() if uses(model)]
    if kept:
        raise ValueError(f"physics backend native cannot simulate this model: {', '.join(kept)}: PhysicsState does not hold their state")
    # A world that MuJoCo warns of comes back as NaN and is counted; its own handler would print and append to MUJOCO_LOG.TXT for each.
    mujoco.set_mju_user_warning(lambda message: None)
    pools: defaultdict[tuple[str, ...], _Pool] = defaultdict(lambda: _Pool(model))

    shapes = jax.eval_shape(lambda: at_rest(model))
    shape_of = functools.cache(lambda name: own_value(model, name).shape)  # asking MuJoCo costs more than comparing
    varying = frozenset(name for name in MODEL_FIELDS if _is_floats(model, name))

    def check(fields: Fields) -> None:
        check_fields(model, "native", varying, {}, fields)

    def on_host(advance: _Advance) -> Callable[[PhysicsState, Array, Fields], PhysicsState]:
        def call(context: Any, out: Any, *given: Any) -> None:
            out, (state, ctrl, fields) = jax.tree.map(np.asarray, (out, given))
            size = state.time.size
            host_fields = {name: value.reshape(size, *shape_of(name)) for name, value in fields.items()}
            marks = fields.mark.reshape(size, 2) if isinstance(fields, Marked) else None
            host_ctrl = ctrl.reshape(size, ctrl.shape[-2], model.nu).astype(np.float64)
            pool = pools[tuple(fields)]
            rows = pool.borrow(size, host_fields, marks)
            try:
                rows.set_fields(host_fields, marks)
                rows.run(advance, state, host_ctrl, out)
            finally:
                pool.give_back(rows)

        return buffer_callback(call, shapes, vmap_method="broadcast_all")

    forward_on_host, step_on_host = on_host(_forward), on_host(_step_then_sense if current_sensors else _step)

    def forward(qpos: Array, qvel: Array, fields: Fields) -> PhysicsState:
        check(fields)
        start = at_rest(model)._replace(qpos=qpos, qvel=qvel)
        no_ctrl = jnp.zeros((1, model.nu))
        return forward_on_host(start, no_ctrl, fields)

    def step(state: PhysicsState, ctrl: Array, fields: Fields) -> PhysicsState:
        check(fields)
        return step_on_host(state, ctrl, fields)

    def derive(fields: Fields) -> Fields:
        check(fields)
        return marked(fields)  # what follows from them is MuJoCo's own set_const's

    return Physics(model, forward, step, derive)
