"""The Warp backend on a CPU: room in its buffers, one call for all rows, what it refuses. GPU tests are marked."""

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxrl_envs.physics import make
from tests.envs.models import MODELS, parameters

pytest.importorskip("warp", reason="warp-lang is not installed: pip install 'jaxrl[warp]'", exc_type=ModuleNotFoundError)

from jaxrl_envs.physics.warp import Capacity, capacity, warp  # noqa: E402

WORLDS = 4


def starts(physics, worlds: int = WORLDS):
    qpos = jnp.asarray(np.tile(physics.model.qpos0, (worlds, 1)), jnp.float32)
    qvel = jnp.asarray(np.random.default_rng(0).normal(size=(worlds, physics.model.nv)), jnp.float32)
    return jax.jit(jax.vmap(lambda p, v: physics.forward(p, v, {})))(qpos, qvel)


@pytest.fixture(scope="module")
def physics():
    return warp(parameters())


@pytest.fixture(scope="module")
def step(physics):
    return jax.jit(jax.vmap(physics.step, (0, 0, None)))


def test_there_is_room_for_all_that_can_touch():
    # One pair, of a sphere and the floor: a contact of condim 4 has six rows; seven dofs and a limit have one each.
    assert capacity(parameters()) == Capacity(contacts=1, constraints=6 + 7 + 1, convex=0)
    feet = capacity(MODELS["go2"]())
    assert feet.contacts >= 4 and feet.constraints >= 4 * 4 + 12


def test_crowded_models_get_plenty_of_room_and_no_more():
    boxes = "".join(f'<body pos="{i} 0 0"><freejoint/><geom type="box" size="1 1 1"/></body>' for i in range(8))
    crowd = capacity(mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{boxes}</worldbody></mujoco>"))
    assert crowd.contacts == 128 and crowd.convex == 8 * 7 // 2


def test_what_does_not_fit_makes_the_world_nan(physics, step):
    tight = warp(parameters(), room=Capacity(contacts=1, constraints=3, convex=0))  # a contact alone has six rows
    start = starts(physics)
    start = start._replace(qpos=start.qpos.at[0, 3].set(1.0))  # its foot is in the air, and its arm still
    start = start._replace(qvel=start.qvel.at[0].set(0.0))
    ctrl = jnp.zeros((WORLDS, 2, 2))
    after = jax.jit(jax.vmap(tight.step, (0, 0, None)))(start, ctrl, {})
    assert np.isfinite(after.qpos[0]).all() and np.isnan(after.qpos[1:]).all()
    assert np.isfinite(step(start, ctrl, {}).qpos).all()


def test_one_call_serves_nested_maps_and_single_worlds(physics, step):
    start, ctrl = starts(physics), jnp.full((WORLDS, 2, 2), 0.5, jnp.float32)
    flat = step(start, ctrl, {})
    twice = jax.tree.map(lambda x: x.reshape(2, WORLDS // 2, *x.shape[1:]), (start, ctrl))
    nested = jax.jit(jax.vmap(jax.vmap(physics.step, (0, 0, None)), (0, 0, None)))(*twice, {})
    alone = jax.jit(physics.step)(*jax.tree.map(lambda x: x[1], (start, ctrl)), {})
    for name, wanted in flat._asdict().items():
        np.testing.assert_array_equal(getattr(nested, name).reshape(wanted.shape), wanted, err_msg=name)
        np.testing.assert_array_equal(getattr(alone, name), wanted[1], err_msg=name)


def test_a_step_compiles_once_and_each_row_of_ctrl_is_one_substep(physics, step):
    ctrl = jnp.asarray(np.random.default_rng(1).normal(size=(WORLDS, 2, 2)), jnp.float32)
    start = starts(physics)
    together = step(start, ctrl, {})
    step(together, ctrl, {})
    assert step._cache_size() == 1
    apart = start
    for index in range(2):
        apart = step(apart, ctrl[:, index : index + 1], {})
    for name, wanted in together._asdict().items():
        np.testing.assert_allclose(getattr(apart, name), wanted, rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(together.time, 0.004, rtol=1e-6)


@pytest.mark.skipif(jax.device_count() < 4, reason="needs four devices")
def test_worlds_may_be_spread_over_devices(physics, step):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    rows = jax.sharding.PartitionSpec("data")
    step_rows = jax.vmap(physics.step, (0, 0, None))
    spread = jax.jit(jax.shard_map(lambda s, c: step_rows(s, c, {}), mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False))
    start, ctrl = starts(physics), jnp.ones((WORLDS, 2, 2))
    np.testing.assert_allclose(spread(start, ctrl).qpos, step(start, ctrl, {}).qpos, rtol=1e-6)


UNSUPPORTED = {
    "mjSOL_PGS": '<mujoco><option solver="PGS"/></mujoco>',
    "armature of actuators": (
        '<mujoco><worldbody><body><joint name="j"/><geom size="1"/></body></worldbody>'
        '<actuator><motor joint="j" armature="0.1"/></actuator></mujoco>'
    ),
    "delays of actuators or sensors": (
        '<mujoco><worldbody><body><joint name="j"/><geom size="1"/></body></worldbody>'
        '<actuator><motor joint="j" delay="0.01" nsample="8"/></actuator></mujoco>'
    ),
    "sleeping": '<mujoco><option><flag sleep="enable"/></option></mujoco>',
    "plugins": (
        '<mujoco><extension><plugin plugin="mujoco.pid"/></extension><worldbody><body><joint name="j"/><geom size="1"/></body></worldbody>'
        '<actuator><plugin plugin="mujoco.pid" joint="j"/></actuator></mujoco>'
    ),
}


@pytest.mark.parametrize("feature", UNSUPPORTED)
def test_a_model_that_warp_cannot_simulate_is_refused_by_the_feature(feature):
    model = mujoco.MjModel.from_xml_string(UNSUPPORTED[feature])
    with pytest.raises(ValueError, match="physics backend warp cannot simulate this model") as caught:
        make(model, "warp")
    assert feature in str(caught.value) and 'backend="native"' in str(caught.value)


def test_gradients_are_refused_and_say_so(physics):
    start = jax.tree.map(lambda x: x[0], starts(physics))
    with pytest.raises(ValueError, match="cannot be differentiated"):
        jax.grad(lambda ctrl: physics.step(start, ctrl, {}).qvel[0])(jnp.zeros((1, 2)))


def test_it_prints_nothing_at_each_step():
    """The solver makes one iteration, of which MuJoCo Warp would complain at each step."""
    code = """
import jax, jax.numpy as jnp
from jaxrl_envs.physics import make
from tests.envs.models import pendulum
physics = make(pendulum(iterations=1), "warp")
start = jax.jit(lambda: physics.forward(jnp.array([0.5, 0.2]), jnp.ones(2), {}))()
print("begin", flush=True)
jax.block_until_ready(jax.jit(physics.step)(start, jnp.ones((3, 1)), {}))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.search(r"begin\s*$", ran.stdout), ran.stdout


@pytest.mark.gpu
def test_on_a_gpu_it_steps_as_mujoco_does():
    model = parameters()
    physics = make(model, "warp")
    start, ctrl = starts(physics), jnp.full((WORLDS, 2, 2), 0.5, jnp.float32)
    after = jax.jit(jax.vmap(physics.step, (0, 0, None)))(start, ctrl, {})
    for world in range(WORLDS):
        data = mujoco.MjData(model)
        data.qpos[:], data.qvel[:] = start.qpos[world], start.qvel[world]
        for row in np.asarray(ctrl[world]):
            data.ctrl[:] = row
            mujoco.mj_step(model, data)
        np.testing.assert_allclose(after.qpos[world], data.qpos, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(after.qvel[world], data.qvel, rtol=1e-4, atol=1e-3)
