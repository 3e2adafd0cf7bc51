"""Derived constants against mj_setConst."""

import copy
from collections.abc import Callable

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxrl_envs import robots
from jaxrl_envs.physics._engine import engine
from jaxrl_envs.physics._shared import _skeleton
from jaxrl_envs.physics.constants import FOLLOWED, constants
from tests.envs.models import MODELS

DERIVED = ("body_subtreemass", "dof_M0", "dof_invweight0", "body_invweight0", "actuator_acc0", "tendon_length0", "tendon_invweight0")
WORLDS = 4

# A loop closed by a connect, a joint that follows another, a tendon over a pulley of sites, and a ball joint.
CLOSED = """
<mujoco>
  <compiler autolimits="true"/>
  <worldbody>
    <body name="crank" pos="0 0 1">
      <joint name="crank" axis="0 1 0" armature="0.01"/>
      <geom type="capsule" size="0.03" fromto="0 0 0 0.3 0.02 0" mass="0.5"/>
      <site name="top" pos="0.1 0 0.05"/>
      <body name="rod" pos="0.3 0 0">
        <joint name="rod" type="ball"/>
        <geom type="box" size="0.2 0.02 0.03" pos="0.2 0.01 0" mass="0.8"/>
        <site name="end" pos="0.4 0 0"/>
      </body>
    </body>
    <body name="follower" pos="0 0.5 1">
      <joint name="follower" type="slide" axis="1 0 0.2"/>
      <geom type="box" size="0.1 0.1 0.1" pos="0.03 0 0" mass="1.5"/>
      <site name="hook" pos="0 0.1 0"/>
    </body>
  </worldbody>
  <tendon><spatial name="rope" armature="0.05"><site site="top"/><site site="end"/><site site="hook"/></spatial></tendon>
  <equality>
    <connect body1="rod" body2="follower" anchor="0.4 0 0"/>
    <joint joint1="crank" joint2="follower" polycoef="0 2 0 0 0"/>
  </equality>
  <actuator><motor tendon="rope" gear="2"/><motor joint="crank"/></actuator>
</mujoco>
"""
CASES: dict[str, Callable[[], mujoco.MjModel]] = MODELS | {
    "closed": lambda: mujoco.MjModel.from_xml_string(CLOSED),
    "humanoid": lambda: mujoco.MjModel.from_xml_string(robots.xml("humanoid")),
    "arm": lambda: mujoco.MjModel.from_xml_string(robots.xml("panda")),
}


def other_worlds(model: mujoco.MjModel) -> list[mujoco.MjModel]:
    """Copies of `model` in which every field in FOLLOWED differs, with the float32 values that JAX sees."""
    rng = np.random.default_rng(3)
    worlds = [copy.copy(model) for _ in range(WORLDS)]
    # MuJoCo refuses another centre of mass where it compiled a shortcut for one in the joint's axis.
    movable = (model.body_simple == 0)[:, None]
    hinged = np.isin(model.jnt_type, (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE))
    for world in worlds:
        factor = rng.uniform(0.7, 1.3, model.nbody)
        world.body_mass *= factor
        world.body_inertia *= factor[:, None]
        world.body_ipos += movable * rng.uniform(-0.03, 0.03, model.body_ipos.shape)
        world.body_iquat += movable * rng.uniform(-0.3, 0.3, model.body_iquat.shape)
        world.body_iquat /= np.linalg.norm(world.body_iquat, axis=1, keepdims=True)
        world.body_pos[1:] += rng.uniform(-0.02, 0.02, (model.nbody - 1, 3))
        world.body_quat[:] += rng.uniform(-0.05, 0.05, model.body_quat.shape)
        world.body_quat /= np.linalg.norm(world.body_quat, axis=1, keepdims=True)
        world.jnt_pos += hinged[:, None] * movable[model.jnt_bodyid] * rng.uniform(-0.02, 0.02, model.jnt_pos.shape)
        world.dof_armature[:] = world.dof_armature * rng.uniform(0.5, 2, model.nv) + 0.001
        world.tendon_armature *= rng.uniform(0.5, 2, model.ntendon)
        world.actuator_gear *= rng.uniform(0.5, 2, model.actuator_gear.shape)
        world.site_pos += rng.uniform(-0.02, 0.02, model.site_pos.shape)
        world.qpos0[model.jnt_qposadr[hinged]] += rng.uniform(-0.3, 0.3, hinged.sum())
        for name in FOLLOWED:
            getattr(world, name)[:] = np.asarray(getattr(world, name), np.float32)
        mujoco.mj_setConst(world, mujoco.MjData(world))
    return worlds


@pytest.mark.parametrize("name", CASES)
def test_constants_are_those_of_mujoco(name):
    model = CASES[name]()
    worlds = other_worlds(model)
    with jax.numpy_rank_promotion("allow"):
        compiled = engine.put_model(_skeleton(model), impl="jax")
        data = engine.make_data(compiled)
        fields = {field: jnp.stack([jnp.asarray(getattr(world, field), jnp.float32) for world in worlds]) for field in FOLLOWED}
        found = jax.jit(jax.vmap(lambda f: constants(compiled.replace(**f), data)))(fields)
    assert set(found) == set(DERIVED)
    for field in DERIVED:
        wanted = np.stack([getattr(world, field) for world in worlds])
        assert found[field].shape == wanted.shape
        np.testing.assert_allclose(found[field], wanted, rtol=1e-5, atol=1e-7, err_msg=field)
        if wanted.any():  # the test must see a constant that did not follow
            assert np.abs(wanted - getattr(model, field)).max() > 1e-3 * np.abs(wanted).max(), field
