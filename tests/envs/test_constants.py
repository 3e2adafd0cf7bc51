"""Derived constants against mj_setConst."""

import copy

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxrl_envs.physics._engine import engine
from jaxrl_envs.physics.constants import FOLLOWED, constants
from tests.envs.models import MODELS

DERIVED = ("body_subtreemass", "dof_M0", "dof_invweight0", "body_invweight0", "actuator_acc0", "tendon_length0", "tendon_invweight0")
WORLDS = 4


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
        world.body_pos[1:] += rng.uniform(-0.02, 0.02, (model.nbody - 1, 3))
        world.body_quat[:] += rng.uniform(-0.05, 0.05, model.body_quat.shape)
        world.body_quat /= np.linalg.norm(world.body_quat, axis=1, keepdims=True)
        world.jnt_pos += hinged[:, None] * movable[model.jnt_bodyid] * rng.uniform(-0.02, 0.02, model.jnt_pos.shape)
        world.dof_armature[:] = world.dof_armature * rng.uniform(0.5, 2, model.nv) + 0.001
        world.actuator_gear *= rng.uniform(0.5, 2, model.actuator_gear.shape)
        world.site_pos += rng.uniform(-0.02, 0.02, model.site_pos.shape)
        world.qpos0[model.jnt_qposadr[hinged]] += rng.uniform(-0.3, 0.3, hinged.sum())
        for name in FOLLOWED:
            getattr(world, name)[:] = np.asarray(getattr(world, name), np.float32)
        mujoco.mj_setConst(world, mujoco.MjData(world))
    return worlds


@pytest.mark.parametrize("name", MODELS)
def test_constants_are_those_of_mujoco(name):
    model = MODELS[name]()
    worlds = other_worlds(model)
    with jax.numpy_rank_promotion("allow"):
        compiled = engine.put_model(model, impl="jax")
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
