"""The MJX backend: what it refuses, what it keeps, and that no world touches another."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxrl_envs.physics import PhysicsState, make
from jaxrl_envs.physics.native import native
from jaxrl_envs.xla_flags import missing, xla_flags
from tests.envs.models import joints

NEEDED = ("xla_cpu_enable_concurrency_optimized_scheduler=false", "xla_cpu_use_fusion_emitters=false")

# A limited pendulum whose sensors are not those of the last stage of its integrator.
PENDULUM = """
<mujoco>
  <compiler autolimits="true"/>
  <option timestep="0.01" integrator="{integrator}" iterations="{iterations}" ls_iterations="5"><flag autoreset="disable"/></option>
  <worldbody>
    <body><joint name="j" axis="0 1 0" range="-90 90" damping="0.1"/><geom type="sphere" size="0.1" pos="0 0 -0.5" contype="0"/></body>
  </worldbody>
  <actuator><motor joint="j"/></actuator>
  <sensor><jointpos joint="j"/><jointvel joint="j"/></sensor>
</mujoco>
"""


def pendulum(integrator: str = "Euler", iterations: int = 1) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(PENDULUM.format(integrator=integrator, iterations=iterations))


@pytest.fixture(scope="module")
def physics():
    return make(pendulum(), "mjx")


@pytest.fixture(scope="module")
def step(physics):
    return jax.jit(jax.vmap(physics.step, (0, 0, None)))


def states(physics, angles) -> PhysicsState:
    angles = jnp.asarray(angles, jnp.float32)[:, None]
    return jax.jit(jax.vmap(lambda qpos, qvel: physics.forward(qpos, qvel, {})))(angles, jnp.zeros_like(angles))


def test_flags_keep_what_is_set_and_say_what_is_missing(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2 --xla_cpu_use_fusion_emitters=true")
    assert missing() == (f"--{NEEDED[0]}",)
    assert xla_flags().split() == ["--xla_force_host_platform_device_count=2", "--xla_cpu_use_fusion_emitters=true", f"--{NEEDED[0]}"]
    monkeypatch.delenv("XLA_FLAGS")
    assert xla_flags().split() == [f"--{flag}" for flag in NEEDED]


def test_flags_that_a_newer_jaxlib_refuses_are_left_out(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS")
    monkeypatch.setattr("jaxrl_envs.xla_flags.metadata.version", lambda name: "0.11.2")
    assert xla_flags() == f"--{NEEDED[0]}"


def test_flags_are_known_without_starting_jax():
    code = "import sys, jaxrl_envs.xla_flags; sys.exit('jax' in sys.modules or 'mujoco' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the faults are those of XLA on CPUs")
def test_without_the_flags_it_refuses_and_says_which_variable_to_set(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    with pytest.raises(ValueError, match="XLA_FLAGS=") as caught:
        make(pendulum(), "mjx")
    assert all(flag in str(caught.value) for flag in NEEDED)


UNSUPPORTED = {
    "disabled groups of actuators": (
        '<mujoco><option actuatorgroupdisable="1"/><worldbody><body><joint name="j"/><geom size="1"/></body></worldbody>'
        '<actuator><motor joint="j" group="1"/></actuator></mujoco>'
    ),
    "early activation of actuators": (
        '<mujoco><worldbody><body><joint name="j"/><geom size="1"/></body></worldbody>'
        '<actuator><general joint="j" dyntype="filter" dynprm="0.03" actearly="true"/></actuator></mujoco>'
    ),
    "noslip iterations": '<mujoco><option noslip_iterations="2"/></mujoco>',
    "armature of actuators": (
        '<mujoco><worldbody><body><joint name="j"/><geom size="1"/></body></worldbody>'
        '<actuator><motor joint="j" armature="0.1"/></actuator></mujoco>'
    ),
    "delays of actuators or sensors": (
        '<mujoco><worldbody><body><joint name="j"/><geom size="1"/></body></worldbody>'
        '<actuator><motor joint="j" delay="0.01" nsample="8"/></actuator></mujoco>'
    ),
    "sensors of forces and accelerations": (
        '<mujoco><worldbody><body><joint/><geom size="1" contype="0"/><site name="s"/></body></worldbody>'
        '<sensor><accelerometer site="s"/></sensor></mujoco>'
    ),
    "mjGEOM_ELLIPSOID": (
        '<mujoco><worldbody><body><freejoint/><geom type="ellipsoid" size="1 2 3"/></body>'
        '<body pos="9 9 9"><freejoint/><geom type="box" size="1 1 1"/></body></worldbody></mujoco>'
    ),
    "mjGEOM_CYLINDER": (
        '<mujoco><worldbody><body><freejoint/><geom type="cylinder" size="1 1"/></body>'
        '<body pos="9 9 9"><freejoint/><geom type="box" size="1 1 1"/></body></worldbody></mujoco>'
    ),
    "mjSOL_PGS": '<mujoco><option solver="PGS"/></mujoco>',
    "mjINT_IMPLICIT": '<mujoco><option integrator="implicit"/></mujoco>',
    "implicitfast not implemented for fluid drag": '<mujoco><option integrator="implicitfast" density="1"/></mujoco>',
    "sleeping": '<mujoco><option><flag sleep="enable"/></option></mujoco>',
    "the ellipsoid model of fluids": (
        '<mujoco><option density="1"/><worldbody><body><freejoint/><geom size="1" fluidshape="ellipsoid"/></body></worldbody></mujoco>'
    ),
    "disabling only springs or only dampers": '<mujoco><option><flag spring="disable"/></option></mujoco>',
    "springs or dampers that are not linear": (
        '<mujoco><worldbody><body><joint stiffness="1 2"/><geom size="1"/></body></worldbody></mujoco>'
    ),
    "rays that meet height fields": (
        '<mujoco><asset><hfield name="h" nrow="2" ncol="2" size="1 1 1 1"/></asset><worldbody><geom type="hfield" hfield="h"/>'
        '<site name="s" pos="0 0 2"/></worldbody><sensor><rangefinder site="s"/></sensor></mujoco>'
    ),
    "condim=1": (
        '<mujoco><option cone="elliptic"/><worldbody><geom type="plane" size="1 1 1" condim="1"/>'
        '<body><freejoint/><geom size="1" condim="1"/></body></worldbody></mujoco>'
    ),
}


@pytest.mark.parametrize("feature", UNSUPPORTED)
def test_a_model_that_mjx_cannot_simulate_is_refused_by_the_feature(feature):
    model = mujoco.MjModel.from_xml_string(UNSUPPORTED[feature])
    with pytest.raises(ValueError, match="physics backend mjx cannot simulate this model") as caught:
        make(model, "mjx")
    assert feature in str(caught.value) and 'backend="native"' in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"geom_type": jnp.zeros(1)}, "field geom_type: physics backend mjx cannot vary it"),
        ({"body_weight": jnp.zeros(2)}, "field body_weight: physics backend mjx cannot vary it"),
        ({"body_mass": jnp.zeros(7)}, r"field body_mass: expected the model's shape \(2,\), got \(7,\)"),
        ({"dof_frictionloss": jnp.ones(1)}, "field dof_frictionloss: zero everywhere in the model"),
    ],
)
def test_a_field_that_cannot_vary_is_refused_by_name(physics, fields, message):
    with pytest.raises(ValueError, match=message):
        physics.forward(jnp.zeros(1), jnp.zeros(1), fields)


def test_energy_that_no_sensor_reads_is_no_reason_to_refuse():
    flag = '<mujoco><option><flag energy="enable"/></option>{}</mujoco>'
    make(mujoco.MjModel.from_xml_string(flag.format("")), "mjx")
    with pytest.raises(ValueError, match="mjSENS_E_KINETIC|mjENBL_ENERGY"):
        make(mujoco.MjModel.from_xml_string(flag.format("<sensor><e_kinetic/></sensor>")), "mjx")


def test_a_field_whose_constants_are_not_derived_is_refused(physics):
    with pytest.raises(ValueError, match="field geom_size: physics backend mjx does not derive"):
        physics.derive({"geom_size": jnp.ones((1, 3))})


def test_anchors_of_joined_bodies_are_not_derived():
    welded = mujoco.MjModel.from_xml_string(
        '<mujoco><worldbody><body name="a"><freejoint/><geom size="1" contype="0"/></body></worldbody>'
        '<equality><connect body1="a" anchor="1 0 0"/></equality></mujoco>'
    )
    with pytest.raises(ValueError, match="field body_pos: .* anchors of connect and weld"):
        make(welded, "mjx").derive({"body_pos": jnp.zeros((2, 3))})


def test_derive_adds_what_follows_and_only_where_something_follows(physics):
    friction = {"geom_friction": jnp.ones((1, 3))}
    assert physics.derive(friction) is friction
    derived = physics.derive({"body_mass": jnp.array([0.0, 2.0]), **friction})
    assert set(derived) == {"body_mass", "geom_friction", "body_invweight0", "dof_invweight0"}
    given = physics.derive({"body_mass": jnp.array([0.0, 2.0]), "dof_invweight0": jnp.array([5.0])})
    assert given["dof_invweight0"] == 5.0


def test_derive_adds_constants_of_tendons_where_there_are_tendons():
    model = joints()
    derived = make(model, "mjx").derive({"dof_armature": jnp.full(model.nv, 0.1)})
    assert {"tendon_length0", "tendon_invweight0", "body_subtreemass"} <= derived.keys()
    assert "actuator_acc0" not in derived  # read by muscles alone


def test_states_are_those_of_the_native_backend():
    model = joints()
    sizes = jnp.zeros(model.nq), jnp.zeros(model.nv), {}
    ctrl = jnp.zeros((3, model.nu))

    def kinds(physics):
        start = jax.eval_shape(physics.forward, *sizes)
        later = jax.eval_shape(physics.step, start, ctrl, {})
        assert later == start
        return [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in start]

    assert kinds(make(model, "mjx")) == kinds(native(model))


def test_a_step_compiles_once_and_each_row_of_ctrl_is_one_substep(physics):
    step = jax.jit(jax.vmap(physics.step, (0, 0, None)))
    ctrl = jnp.array([[[1.0], [-2.0], [0.5]], [[0.0], [1.0], [1.0]]])
    start = states(physics, [0.1, 0.4])
    together = step(start, ctrl, {})
    step(together, ctrl, {})
    assert step._cache_size() == 1
    apart = start
    for index in range(3):
        apart = step(apart, ctrl[:, index : index + 1], {})
    for name in ("qpos", "qvel", "time", "sensordata"):
        np.testing.assert_allclose(getattr(together, name), getattr(apart, name), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(together.time, 0.03, rtol=1e-6)


@pytest.mark.skipif(jax.device_count() < 4, reason="needs four devices")
def test_worlds_may_be_spread_over_devices(physics, step):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.PartitionSpec("data")
    step_rows = jax.vmap(physics.step, (0, 0, None))
    spread = jax.jit(jax.shard_map(lambda s, c: step_rows(s, c, {}), mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False))
    start, ctrl = states(physics, [0.1, 0.2, 0.3, 0.4]), jnp.ones((4, 2, 1))
    np.testing.assert_allclose(spread(start, ctrl).qpos, step(start, ctrl, {}).qpos, rtol=1e-6)


def test_sensors_are_of_the_state_before_the_last_substep_under_runge_kutta():
    physics = make(pendulum("RK4", 20), "mjx")
    step = jax.jit(physics.step)
    start = jax.jit(lambda: physics.forward(jnp.array([0.5]), jnp.array([1.0]), {}))()
    np.testing.assert_allclose(start.sensordata, [0.5, 1.0], rtol=1e-6)
    first = step(start, jnp.zeros((1, 1)), {})
    np.testing.assert_allclose(first.sensordata, [0.5, 1.0], rtol=1e-6)
    second = step(first, jnp.zeros((1, 1)), {})
    np.testing.assert_allclose(second.sensordata, np.concatenate([first.qpos, first.qvel]), rtol=1e-6)


def test_runge_kutta_turns_balls_and_lets_activations_decay_as_mujoco_does():
    model = mujoco.MjModel.from_xml_string("""<mujoco><option integrator="RK4" timestep="0.02"/><worldbody>
      <body><joint type="ball" damping="0.1"/><geom type="capsule" fromto="0 0 0 .3 0 0" size=".04" contype="0"/>
        <body pos=".3 0 0"><joint name="hinge" axis="0 1 0" damping="0.1"/><geom size=".1" pos=".2 0 .1" contype="0"/></body></body>
    </worldbody><actuator><general joint="hinge" dyntype="filterexact" dynprm="0.05" gainprm="2"/></actuator></mujoco>""")
    qpos, qvel = np.array([0.8, 0.0, 0.6, 0.0, 0.3]), np.array([3.0, -2.0, 1.0, 4.0])
    physics = make(model, "mjx")
    run = jax.jit(lambda q, v: physics.step(physics.forward(q, v, {}), jnp.ones((5, 1)), {}))
    after = run(jnp.asarray(qpos, jnp.float32), jnp.asarray(qvel, jnp.float32))
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:], data.ctrl[:] = qpos, qvel, 1.0
    mujoco.mj_step(model, data, 5)
    for name in ("qpos", "qvel", "act", "time"):
        np.testing.assert_allclose(getattr(after, name), getattr(data, name), rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_gradients_pass_through_a_step_where_the_solver_has_one_iteration(physics, step):
    start = states(physics, [0.3, 0.3])
    one = jax.tree.map(lambda row: row[0], start)
    gradient = jax.jit(jax.grad(lambda force: physics.step(one, force[None, None], {}).qvel[0]))(jnp.array(0.2))
    after = step(start, jnp.array([[[10.2]], [[-9.8]]]), {})  # the velocity is linear in the force
    np.testing.assert_allclose(gradient, (after.qvel[0, 0] - after.qvel[1, 0]) / 20, rtol=1e-4)
