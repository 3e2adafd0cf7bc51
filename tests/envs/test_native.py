"""The native backend: pure, per-world, bit-equal whatever the batch it runs in."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxrl_envs.physics import _for_device, make
from jaxrl_envs.physics.native import _Rows
from jaxrl_envs.tasks._go2 import model

B = 6


@pytest.fixture(scope="module")
def physics():
    return make(model(), "native")


def starts(physics):
    compiled = physics.model
    qpos = jnp.broadcast_to(jnp.asarray(compiled.key_qpos[0], jnp.float32)[None], (B, compiled.nq))
    return jax.vmap(physics.forward, (0, 0, None))(qpos, jnp.zeros((B, compiled.nv)), {})


def ctrl_of(physics, seed=0):
    home = np.asarray(physics.model.key_ctrl[0], np.float32)
    return jnp.asarray(home[None, None, :] + np.random.default_rng(seed).normal(size=(B, 4, physics.model.nu)).astype(np.float32) * 0.2)


def fields_of(physics):
    mass = np.asarray(physics.model.body_mass, np.float32)
    factor = np.linspace(0.8, 1.3, B, dtype=np.float32)
    return {"body_mass": jnp.asarray(mass[None, :] * factor[:, None])}


def assert_equal(a, b):
    for name, x, y in zip(a._fields, a, b, strict=True):
        np.testing.assert_array_equal(x, y, err_msg=name)


def test_step_equals_mujoco_with_one_control_per_substep(physics):
    state, ctrl = starts(physics), ctrl_of(physics)
    after = jax.vmap(physics.step, (0, 0, None))(state, ctrl, {})
    data = mujoco.MjData(physics.model)
    data.qpos[:] = state.qpos[2]
    data.qacc_warmstart[:] = state.qacc_warmstart[2]
    for row in np.asarray(ctrl[2]):
        data.ctrl[:] = row
        mujoco.mj_step(physics.model, data)
    np.testing.assert_allclose(after.qpos[2], data.qpos, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(after.qvel[2], data.qvel, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(after.sensordata[2], data.sensordata, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(after.time[2], 4 * physics.model.opt.timestep, rtol=1e-6)


def test_calls_leave_no_trace(physics):
    """The same operands give the same bits, whatever ran in between, with other fields too."""
    step = jax.jit(jax.vmap(physics.step))
    state, ctrl, fields = starts(physics), ctrl_of(physics), fields_of(physics)
    first = step(state, ctrl, fields)
    other = {"body_mass": fields["body_mass"][::-1]}
    step(first, ctrl_of(physics, 1), other)
    assert_equal(first, step(state, ctrl, fields))
    assert_equal(first, jax.tree.map(lambda x: x[::-1], step(*jax.tree.map(lambda x: x[::-1], (state, ctrl, fields)))))


def test_fields_take_effect_with_their_derived_constants(physics):
    state, ctrl, fields = starts(physics), ctrl_of(physics), fields_of(physics)
    after = jax.vmap(physics.step)(state, ctrl, fields)
    heavy = model()
    heavy.body_mass[:] = fields["body_mass"][-1]
    data = mujoco.MjData(heavy)
    mujoco.mj_setConst(heavy, data)
    data.qpos[:] = state.qpos[-1]
    data.qacc_warmstart[:] = state.qacc_warmstart[-1]
    for row in np.asarray(ctrl[-1]):
        data.ctrl[:] = row
        mujoco.mj_step(heavy, data)
    np.testing.assert_allclose(after.qpos[-1], data.qpos, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(after.qvel[-1], data.qvel, rtol=1e-4, atol=1e-4)


def test_one_call_serves_nested_maps_and_scan(physics):
    state, ctrl = starts(physics), ctrl_of(physics)
    twice = jax.tree.map(lambda x: jnp.stack([x, x]), (state, ctrl))
    nested = jax.jit(jax.vmap(jax.vmap(physics.step, (0, 0, None)), (0, 0, None)))(*twice, {})
    flat = jax.vmap(physics.step, (0, 0, None))(state, ctrl, {})
    assert_equal(jax.tree.map(lambda x: x[1], nested), flat)

    def many(state, _):
        return jax.vmap(physics.step, (0, 0, None))(state, ctrl, {}), None

    scanned, _ = jax.jit(lambda s: jax.lax.scan(many, s, length=3))(state)
    loop = state
    for _ in range(3):
        loop = jax.vmap(physics.step, (0, 0, None))(loop, ctrl, {})
    assert_equal(scanned, loop)


def test_rows_are_written_first_and_then_where_their_fields_differ(physics):
    compiled = {name: np.asarray(getattr(physics.model, name), np.float32) for name in ("body_mass", "geom_friction")}
    fields = {name: np.tile(value, (B, *(1,) * value.ndim)) for name, value in compiled.items()}
    fields["geom_friction"][1, 0, 0] = np.nan  # unequal to itself, but not written for ever
    rows = _Rows(physics.model, B, 1)
    np.testing.assert_array_equal(rows.differing(fields), range(B))  # rows as compiled are of float64
    rows.set_fields(fields)
    assert rows.differing(fields).size == 0
    other = {name: value.copy() for name, value in fields.items()}
    other["body_mass"][4, -1] += 1
    other["geom_friction"][2, 0, :2] += 1
    np.testing.assert_array_equal(rows.differing(other), [2, 4])
    rows.set_fields(other)
    np.testing.assert_array_equal(rows.batch.expand("body_mass"), other["body_mass"])
    np.testing.assert_array_equal(rows.differing(fields), [2, 4])
    assert _Rows(physics.model, B, 1).differing({}).size == 0


def test_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="'nativ' is unknown; there are auto, native, mjx, warp"):
        make(model(), "nativ")


def test_a_model_whose_state_it_would_have_to_keep_is_refused():
    delayed = (
        '<mujoco><worldbody><body><joint name="j"/><geom size="1"/></body></worldbody>'
        '<actuator><motor joint="j" delay="0.01" nsample="8"/></actuator></mujoco>'
    )
    with pytest.raises(ValueError, match="native cannot simulate this model: delays of actuators or sensors"):
        make(mujoco.MjModel.from_xml_string(delayed), "native")


@pytest.mark.parametrize(
    ("device", "platforms", "installed", "chosen"),
    [
        ("cpu", ("cpu",), True, "native"),
        ("gpu", ("cpu", "cuda"), True, "warp"),
        ("gpu", ("cpu", "cuda"), False, "mjx"),
        ("gpu", ("cpu", "rocm"), True, "mjx"),
        ("tpu", ("cpu", "tpu"), True, "mjx"),
    ],
)
def test_the_default_follows_the_device_and_says_what_to_install(monkeypatch, capsys, device, platforms, installed, chosen):
    monkeypatch.setattr("jaxrl_envs.physics.jax.default_backend", lambda: device)
    monkeypatch.setattr("jaxrl_envs.physics.backends", lambda: dict.fromkeys(platforms))
    monkeypatch.setattr("jaxrl_envs.physics.find_spec", lambda name: installed or None)
    assert _for_device() == chosen
    assert capsys.readouterr().out.count("pip install 'jaxrl[warp]'") == ((device, platforms[1:], installed) == ("gpu", ("cuda",), False))


def test_warp_says_what_to_install(monkeypatch):
    monkeypatch.setattr("jaxrl_envs.physics.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'jaxrl\[warp\]'"):
        make(model(), "warp")
