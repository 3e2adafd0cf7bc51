"""Ranges, draws and what they do to the model."""

import jax
import mujoco
import numpy as np
import pytest

from jaxrl_envs.physics import make
from jaxrl_envs.randomization import Parameters, Ranges, distribution, nominal
from jaxrl_envs.tasks.go2_flat import model

ALL = Ranges(
    friction=(0.4, 1.2),
    base_mass=(-1.5, 1.5),
    base_com=(-0.03, 0.03),
    link_mass=(0.9, 1.1),
    motor_gain=(0.85, 1.15),
    motor_strength=(0.85, 1.15),
    joint_offset=(-0.03, 0.03),
    action_delay=(0.0, 0.02),
    observation_noise=(1.0, 1.0),
    push_velocity=(0.5, 0.5),
)


@pytest.fixture(scope="module")
def physics():
    return make(model(), "native")


@pytest.fixture(scope="module")
def draws(physics):
    return jax.jit(jax.vmap(distribution(physics, ALL)))(jax.random.split(jax.random.key(0), 2000))


@pytest.mark.parametrize("name", [name for name in Parameters._fields if name != "fields"])
def test_draws_fill_their_range(draws, name):
    low, high = getattr(ALL, name)
    values = np.asarray(getattr(draws, name))
    assert values.min() >= low - 1e-6 and values.max() <= high + 1e-6
    if high > low:
        assert values.min() < low + 0.05 * (high - low) and values.max() > high - 0.05 * (high - low)
        np.testing.assert_allclose(values.mean(), (low + high) / 2, atol=0.03 * (high - low))


def test_worlds_differ_and_keys_repeat(physics, draws):
    assert len(np.unique(np.asarray(draws.friction))) > 1990
    again = distribution(physics, ALL)(jax.random.split(jax.random.key(0), 2000)[7])
    np.testing.assert_array_equal(again.link_mass, draws.link_mass[7])


def test_fields_follow_the_draws(physics, draws):
    compiled, row = physics.model, jax.tree.map(lambda x: np.asarray(x[11]), draws)
    mass = compiled.body_mass * row.link_mass
    mass[1] += row.base_mass
    np.testing.assert_allclose(row.fields["body_mass"], mass, rtol=1e-6)
    moving = compiled.body_mass > 0
    ratio = (mass / np.where(moving, compiled.body_mass, 1))[:, None]
    np.testing.assert_allclose(row.fields["body_inertia"][moving], (compiled.body_inertia * ratio)[moving], rtol=1e-5)
    np.testing.assert_allclose(row.fields["body_ipos"][1], compiled.body_ipos[1] + row.base_com, atol=1e-7)
    np.testing.assert_allclose(row.fields["body_ipos"][2:], compiled.body_ipos[2:], atol=1e-7)
    floor = compiled.geom("floor").id
    assert row.fields["geom_friction"][floor, 0] == row.friction
    np.testing.assert_allclose(row.fields["actuator_gainprm"][:, 0], 50 * row.motor_gain, rtol=1e-6)
    np.testing.assert_allclose(row.fields["actuator_biasprm"][:, 1], -50 * row.motor_gain, rtol=1e-6)
    np.testing.assert_allclose(row.fields["actuator_forcerange"][:, 1], compiled.actuator_forcerange[:, 1] * row.motor_strength, rtol=1e-6)


def test_nominal_is_the_model_with_the_same_tree(physics, draws):
    own = nominal(physics, ALL)
    assert jax.tree.structure(own) == jax.tree.structure(draws)
    for name, value in own.fields.items():
        np.testing.assert_allclose(value, getattr(physics.model, name), rtol=1e-7)
    assert nominal(physics).fields == {}
    assert float(own.friction) == pytest.approx(0.8)


def test_derived_constants_are_those_of_set_const(physics, draws):
    """What the native batch derives for a row is what MuJoCo derives for a model with that row's fields."""
    from mujoco.batch import Batch

    batch = Batch(physics.model, 4)
    for name, value in draws.fields.items():
        batch.expand(name)[:] = np.asarray(value[:4])
    batch.set_const()
    for row in range(4):
        changed = model()
        for name, value in draws.fields.items():
            getattr(changed, name)[:] = np.asarray(value[row])
        mujoco.mj_setConst(changed, mujoco.MjData(changed))
        derived = batch.get_model(row)
        for name in ("body_subtreemass", "dof_M0", "dof_invweight0", "body_invweight0", "actuator_acc0"):
            np.testing.assert_allclose(getattr(derived, name), getattr(changed, name), rtol=1e-10, err_msg=name)


def test_without_ranges_the_draws_are_nominal(physics):
    drawn, own = distribution(physics)(jax.random.key(0)), nominal(physics)
    jax.tree.map(np.testing.assert_array_equal, drawn, own)
    assert drawn.fields == own.fields == {}


def test_every_number_has_a_range():
    assert [*Ranges.__dataclass_fields__, "fields"] == list(Parameters._fields)


def test_bad_ranges_are_refused():
    with pytest.raises(ValueError, match="friction: the lower bound 1.0 is above the upper bound 0.5"):
        Ranges(friction=(1.0, 0.5))
    with pytest.raises(ValueError, match="link_mass: the lower bound -0.1 is negative"):
        Ranges(link_mass=(-0.1, 1.0))
