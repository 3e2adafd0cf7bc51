"""Sensors that describe the state after a step, on each backend, against mj_step and mj_step1."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxrl_envs.physics import make
from jaxrl_envs.physics.interface import late_sensors
from tests.envs.models import backends, pendulum


def reference(model: mujoco.MjModel, qpos: np.ndarray, qvel: np.ndarray, ctrl: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sensors before the last substep, and those of the state after it."""
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = qpos, qvel
    for row in ctrl:
        data.ctrl[:] = row
        mujoco.mj_step(model, data)
        if model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4:  # its stages overwrite them
            before = mujoco.MjData(model)
            before.qpos[:], before.qvel[:], before.qacc_warmstart[:], before.ctrl[:] = qpos, qvel, 0, row
            mujoco.mj_forward(model, before)
            earlier = before.sensordata.copy()
        else:
            earlier = data.sensordata.copy()
        qpos, qvel = data.qpos.copy(), data.qvel.copy()
    mujoco.mj_step1(model, data)
    return earlier, data.sensordata.copy()


@pytest.mark.parametrize("integrator", ["Euler", pytest.param("RK4", marks=pytest.mark.slow)])
@pytest.mark.parametrize("backend", backends())
def test_sensors_of_positions_and_velocities_are_current_and_those_of_accelerations_as_before(backend, integrator):
    model = pendulum(integrator)
    physics = make(model, backend, current_sensors=True)
    qpos, qvel, ctrl = np.array([0.5, -0.3]), np.array([2.0, 1.0]), np.array([[0.8], [-0.3]])
    start = jax.jit(lambda: physics.forward(jnp.asarray(qpos, jnp.float32), jnp.asarray(qvel, jnp.float32), {}))()
    after = jax.jit(physics.step)(start, jnp.asarray(ctrl, jnp.float32), {})
    before, now = reference(model, qpos, qvel, ctrl)
    late = late_sensors(model)
    assert late.any() and not late.all() and np.abs((now - before)[~late]).max() > 1e-3
    np.testing.assert_allclose(after.sensordata[~late], now[~late], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(after.sensordata[late], before[late], rtol=1e-4, atol=1e-2)
