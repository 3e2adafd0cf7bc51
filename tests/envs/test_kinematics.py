"""Forward kinematics and Jacobians against MuJoCo's own."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxrl.ops import kinematics
from jaxrl_envs import robots
from jaxrl_envs.kinematics import chain

# What the robots lack: several joints in one body that turn about points beside its origin, references that are not 0, balls, a slide that
# is turned, a body without joints, a free one that is not at the origin, one that is placed by hand.
_ODD = """
<mujoco>
  <compiler angle="radian"/>
  <worldbody>
    <body pos="0.1 0.2 0.3" quat="1 0.2 0.3 0.1">
      <joint type="hinge" axis="1 2 0.5" pos="0.1 0 0.2" ref="0.4" range="-1 2" limited="true"/>
      <joint type="slide" axis="0 1 1" ref="-0.3" range="-0.5 0.5" limited="true"/>
      <joint type="hinge" axis="0 0 1" pos="0 0.2 0"/>
      <geom size="0.1"/><site name="first" pos="0.1 0.1 0" quat="1 1 0 0"/>
      <body pos="0 0 0.5">
        <geom size="0.1"/>
        <body pos="0.2 0 0" quat="1 0 1 0">
          <joint type="ball" pos="0.05 -0.1 0.2" range="0 2" limited="true"/>
          <geom size="0.1"/>
          <body pos="0.3 0 0"><joint type="hinge" axis="0 1 0"/><geom size="0.1"/><site name="last" pos="0 0 0.2" quat="1 0 0 2"/></body>
        </body>
      </body>
    </body>
    <body pos="5 5 5" quat="0 1 0 0"><freejoint/><geom size="0.1" pos="0.1 0 0"/><site name="free" pos="0.3 0 0"/></body>
    <body mocap="true" pos="1 2 3" quat="0 0 1 0"><site name="placed"/></body>
    <site name="fixed" pos="1 0 0"/>
  </worldbody>
</mujoco>
"""


def load(name):
    return mujoco.MjModel.from_xml_string(_ODD if name == "odd" else robots.xml(name))


def configurations(model, count, seed=0):
    """[count, nq], anywhere."""
    random = np.random.default_rng(seed)
    found = np.tile(model.qpos0, (count, 1))
    for row in found:
        mujoco.mj_integratePos(model, row, random.normal(size=model.nv) * 1.5, 1.0)
    return found


def by_mujoco(model, qpos):
    """Bodies [N, 7], sites [M, 7], and the Jacobians of both [.., 6, V]."""
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    of_sites, of_bodies = np.zeros((model.nsite, 6, model.nv)), np.zeros((model.nbody, 6, model.nv))
    for site, rows in enumerate(of_sites):
        mujoco.mj_jacSite(model, data, rows[:3], rows[3:], site)
    for body, rows in enumerate(of_bodies):
        mujoco.mj_jacBody(model, data, rows[:3], rows[3:], body)
    turned = Rotation.from_matrix(data.site_xmat.reshape(-1, 3, 3)).as_quat(scalar_first=True)
    return np.concatenate((data.xquat, data.xpos), -1), np.concatenate((turned, data.site_xpos), -1), of_sites, of_bodies


def apart(found, expected):
    """Largest distance of positions, and of quaternions of either sign."""
    sign = np.sign(np.sum(found[..., :4] * expected[..., :4], -1, keepdims=True))
    return max(np.abs(found[..., :4] * sign - expected[..., :4]).max(), np.abs(found[..., 4:] - expected[..., 4:]).max())


@pytest.mark.parametrize("name", ["go2", "humanoid", "panda", "odd"])
def test_poses_and_jacobians_are_mujocos(name):
    """With 64 bits to 1e-10 (measured: 1e-14), with 32 to 4e-6 (1.6e-6): 5 m from the origin, as robots are, numbers are 5e-7 apart."""
    model = load(name)
    tree = chain(model)
    qpos = configurations(model, 10)
    expected = [np.array(part) for part in zip(*(by_mujoco(model, row) for row in qpos), strict=True)]

    @jax.jit
    @jax.vmap
    def everything(qpos):
        of_sites = jax.vmap(lambda i: kinematics.site_jacobian(tree, qpos, i))(jnp.arange(model.nsite))
        of_bodies = jax.vmap(lambda i: kinematics.body_jacobian(tree, qpos, i))(jnp.arange(model.nbody))
        return kinematics.body_poses(tree, qpos), kinematics.site_poses(tree, qpos), of_sites, of_bodies

    for wide, tolerance in ((True, 1e-10), (False, 4e-6)) if name in ("humanoid", "odd") else ((True, 1e-10),):
        with jax.enable_x64(wide):
            bodies, sites, *jacobians = (np.asarray(part) for part in everything(jnp.asarray(qpos)))
        assert bodies.dtype == (np.float64 if wide else np.float32)
        assert apart(bodies, expected[0]) < tolerance and apart(sites, expected[1]) < tolerance
        for found, wanted in zip(jacobians, expected[2:], strict=True):
            np.testing.assert_allclose(found, wanted, atol=tolerance)


@pytest.mark.parametrize("name", ["go2", "odd"])
def test_configurations_advance_and_differ_as_mujocos_do(name):
    model = load(name)
    tree = chain(model)
    qpos, other = configurations(model, 10), configurations(model, 10, seed=1)
    change = np.random.default_rng(2).normal(size=(10, model.nv))
    change[0] = 0
    other[0] = qpos[0]
    moved, between = np.array(qpos), np.zeros((10, model.nv))
    for row in range(10):
        mujoco.mj_integratePos(model, moved[row], change[row], 1.0)
        mujoco.mj_differentiatePos(model, between[row], 1.0, qpos[row], other[row])
    qpos, other, change = (jnp.asarray(a, jnp.float32) for a in (qpos, other, change))
    found = jax.jit(jax.vmap(lambda q, c: kinematics.advance(tree, q, c)))(qpos, change)
    np.testing.assert_allclose(found, moved, atol=3e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(lambda q, o: kinematics.difference(tree, q, o)))(qpos, other), between, atol=1e-5)


def test_ranges_are_those_of_limited_joints():
    ranges = chain(load("odd")).range
    np.testing.assert_array_equal(ranges[:2], [[-1, 2], [-0.5, 0.5]])
    assert np.isinf(ranges[2:]).all()  # of a ball MuJoCo limits the angle, which is no number of qpos
    panda = load("panda")
    np.testing.assert_array_equal(chain(panda).range, panda.jnt_range)


def serial(depth):
    """A chain of `depth` hinges."""
    open_ = "".join(f'<body pos="0.1 0 0.05" quat="1 0.1 0 0"><joint axis="{k % 2} 1 {k % 3}"/><geom size="0.01"/>' for k in range(depth))
    xml = f'<mujoco><worldbody>{open_}<site name="tip" pos="0.1 0 0"/>{"</body>" * depth}</worldbody></mujoco>'
    return mujoco.MjModel.from_xml_string(xml)


@pytest.mark.parametrize("depth", [1, 2, 5, 33])
def test_every_depth_is_reached(depth):
    model = serial(depth)
    tree = chain(model)
    assert 2 ** len(tree.ancestors) >= depth
    (qpos,) = configurations(model, 1)
    bodies, sites, _, _ = by_mujoco(model, qpos)
    found = np.asarray(jax.jit(kinematics.site_poses)(tree, jnp.asarray(qpos, jnp.float32)))
    assert apart(found, sites) < 4e-6


def test_the_program_does_not_grow_with_depth():
    """What XLA on a CPU compiles and runs in a time that is exponential in the depth is a program in which each level is written out."""

    def size(jaxpr):
        inner = [p for e in jaxpr.eqns for p in jax.tree.leaves(e.params, is_leaf=lambda p: hasattr(p, "jaxpr")) if hasattr(p, "jaxpr")]
        return len(jaxpr.eqns) + sum(size(p.jaxpr) for p in inner)

    sizes = []
    for depth in (8, 64):
        tree = chain(serial(depth))
        sizes.append(size(jax.make_jaxpr(lambda q, t=tree: kinematics.site_jacobian(t, q, 0))(jnp.zeros(depth)).jaxpr))
    assert sizes[0] == sizes[1] > 50


def test_a_chain_is_an_argument_like_any_other():
    """Arms of other lengths are rows, and lengths have gradients."""
    model = load("two_link")
    tree = jax.tree.map(jnp.asarray, chain(model))

    def tip(length, qpos):
        return kinematics.site_poses(tree._replace(place=tree.place.at[2, 4].set(length)), qpos)[0, 4:6]

    lengths, qpos = jnp.array([0.5, 1.0, 2.0]), jnp.array([0.3, 0.4])
    found = jax.jit(jax.vmap(tip, (0, None)))(lengths, qpos)
    expected = lengths[:, None] * np.array([[np.cos(0.3), np.sin(0.3)]]) + 0.4 * np.array([[np.cos(0.7), np.sin(0.7)]])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.jacrev(tip))(0.5, qpos), [np.cos(0.3), np.sin(0.3)], atol=1e-6)


def test_gradients_through_kinematics_are_the_jacobians():
    """Reverse mode, through the scan, in configurations with joints at 0 as well."""
    model = load("odd")
    tree = chain(model)
    site = model.site("last").id

    @jax.jit
    @jax.vmap
    def both(qpos):
        def moved(change):
            return kinematics.site_poses(tree, kinematics.advance(tree, qpos, change))[site, 4:]

        return jax.jacrev(moved)(jnp.zeros(model.nv)), kinematics.site_jacobian(tree, qpos, site)[:3]

    slope, jacobian = both(jnp.asarray(np.stack((model.qpos0, *configurations(model, 3))), jnp.float32))
    np.testing.assert_allclose(slope, jacobian, atol=3e-6)


def test_a_model_that_cannot_move_is_refused():
    with pytest.raises(ValueError, match="the model has no joint"):
        chain(mujoco.MjModel.from_xml_string('<mujoco><worldbody><geom size="1"/></worldbody></mujoco>'))
