"""MuJoCo's own engine: `mujoco.batch.Batch`, a C++ thread pool, behind a callback that is pure.

State rows go in, state rows come out. All that a batch remembers between calls is which model fields its rows hold, and a call rewrites
the rows whose fields differ from those it was given. So XLA may drop, repeat or reorder calls, and two runs are equal bit for bit.
"""

import os
import threading
from collections.abc import Callable

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco.batch import Batch, SimulationError

from jaxrl_envs.physics.interface import Array, Fields, Physics, PhysicsState

_INTEGRATED = ("qpos", "qvel", "act", "qacc_warmstart", "time")
_HostFields = dict[str, np.ndarray]  # [rows, ...] float32
_Advance = Callable[[Batch, np.ndarray], np.ndarray]  # (batch, ctrl [rows, substeps, nu]) -> sensordata [rows, nsensordata]


class _Rows:
    """A batch with its live state arrays and the fields that its rows hold."""

    def __init__(self, model: mujoco.MjModel, size: int, threads: int, fields: _HostFields):
        self.batch = Batch(model, size, nthread=threads)
        self.batch.bind("sensordata")
        self._state = {name: self.batch.bind(name) for name in _INTEGRATED}
        # Nothing equals NaN: the first call writes every row. Rows left as compiled would hold float64 values, not the float32 ones given.
        self._held = {name: np.full_like(value, np.nan) for name, value in fields.items()}

    def differing(self, fields: _HostFields) -> np.ndarray:
        """[rows] bool: where the rows hold other fields than these."""
        differs = np.zeros(self.batch.nsim, bool)
        for name, value in fields.items():
            differs |= (self._held[name] != value).reshape(self.batch.nsim, -1).any(1)
        return differs

    def set_fields(self, fields: _HostFields) -> None:
        """Rewrites the rows that differ and recomputes what MuJoCo derives from the fields."""
        rows = np.flatnonzero(self.differing(fields))
        if rows.size == 0:
            return
        for name, value in fields.items():
            self.batch.expand(name)[rows] = value[rows]
            self._held[name][rows] = value[rows]
        self.batch.set_const(rows)

    def run(self, advance: _Advance, state: PhysicsState, ctrl: np.ndarray) -> PhysicsState:
        """The state after `advance`; rows in which MuJoCo raised or warned are NaN."""
        for name, live in self._state.items():
            live[:] = np.asarray(getattr(state, name)).reshape(live.shape)
        self.batch.warning[:] = 0
        bad = np.zeros(self.batch.nsim, bool)
        try:
            sensors = advance(self.batch, ctrl)
        except SimulationError as error:
            bad[error.ids] = True
            sensors = self.batch.bind("sensordata")
        bad |= self.batch.warning[:, :, 1].any(1)
        after = {name: live.astype(np.float32) for name, live in self._state.items()}
        after["sensordata"] = sensors.astype(np.float32)
        for value in after.values():
            value[bad] = np.nan
        return PhysicsState(**after)


class _Pool:
    """The batches of one model by size; a call borrows the free one that holds most of its fields already."""

    def __init__(self, model: mujoco.MjModel):
        self._model = model
        self._free: list[_Rows] = []
        self._lock = threading.Lock()

    def borrow(self, size: int, fields: _HostFields) -> _Rows:
        with self._lock:
            fitting = [rows for rows in self._free if rows.batch.nsim == size]
            if fitting:
                best = min(fitting, key=lambda rows: rows.differing(fields).sum()) if len(fitting) > 1 else fitting[0]
                self._free.remove(best)
                return best
        threads = max(1, (os.cpu_count() or 1) // jax.local_device_count("cpu"))
        return _Rows(self._model, size, threads, fields)

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


def native(model: mujoco.MjModel) -> Physics:
    """Physics on the cores of the CPU; one call handles all rows of a `vmap`, on as many threads as there are cores.

    Under `shard_map` each device calls with its own rows. Not differentiable. Results do not depend on the number of threads.
    """
    # A world that MuJoCo warns of comes back as NaN and is counted; its own handler would print and append to MUJOCO_LOG.TXT for each.
    mujoco.set_mju_user_warning(lambda message: None)
    pools: dict[tuple[str, ...], _Pool] = {}

    def at_rest() -> PhysicsState:
        qpos, qvel, act, warmstart, sensordata = (jnp.zeros(n) for n in (model.nq, model.nv, model.na, model.nv, model.nsensordata))
        return PhysicsState(qpos, qvel, act, warmstart, jnp.zeros(()), sensordata)

    shapes = jax.eval_shape(at_rest)

    def on_host(advance: _Advance) -> Callable[[PhysicsState, Array, Fields], PhysicsState]:
        def call(state: PhysicsState, ctrl: Array, fields: Fields) -> PhysicsState:
            lead = state.time.shape
            size = int(np.prod(lead, dtype=np.int64))
            host_fields = {name: np.asarray(v).reshape(size, *getattr(model, name).shape) for name, v in fields.items()}
            host_ctrl = np.asarray(ctrl, np.float64).reshape(size, -1, model.nu)
            pool = pools.setdefault(tuple(sorted(fields)), _Pool(model))
            rows = pool.borrow(size, host_fields)
            try:
                rows.set_fields(host_fields)
                after = rows.run(advance, state, host_ctrl)
            finally:
                pool.give_back(rows)
            return PhysicsState(*(value.reshape((*lead, *value.shape[1:])) for value in after))

        return call

    def forward(qpos: Array, qvel: Array, fields: Fields) -> PhysicsState:
        start = at_rest()._replace(qpos=qpos, qvel=qvel)
        no_ctrl = jnp.zeros((1, model.nu))
        return jax.pure_callback(on_host(_forward), shapes, start, no_ctrl, fields, vmap_method="broadcast_all")

    def step(state: PhysicsState, ctrl: Array, fields: Fields) -> PhysicsState:
        return jax.pure_callback(on_host(_step), shapes, state, ctrl, fields, vmap_method="broadcast_all")

    return Physics(model, "native", forward, step, derive=lambda fields: fields)
