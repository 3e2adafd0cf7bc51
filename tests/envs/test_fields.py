"""Every field that randomisation touches has the same effect on each backend as in MuJoCo, and has one at all."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_envs.physics import Physics, PhysicsState, make
from jaxrl_envs.physics.fields import own_value
from jaxrl_envs.physics.interface import at_rest
from tests.envs.models import backends, parameters, pendulum

QUARTER_TURN = np.array([np.sqrt(0.5), 0, np.sqrt(0.5), 0])
CHANGES = {
    "body_mass": lambda own: own * 1.3,
    "body_inertia": lambda own: own * [1.3, 1.2, 1.25],
    "body_ipos": lambda own: own + 0.02,
    "body_iquat": lambda own: np.broadcast_to(QUARTER_TURN, own.shape),
    "geom_friction": lambda own: own * 0.5,
    "geom_solref": lambda own: own * [1.5, 1.0],
    "geom_solimp": lambda own: own * [1.0, 0.9, 1.0, 1.0, 1.0],
    "dof_damping": lambda own: own * 1.5,
    "dof_frictionloss": lambda own: own * 4,
    "dof_armature": lambda own: own * 1.5,
    "actuator_gainprm": lambda own: own * 1.3,
    "actuator_biasprm": lambda own: own * 1.3,
    "actuator_forcerange": lambda own: own * 0.7,
    "jnt_stiffness": lambda own: own * 1.5,
    "jnt_range": lambda own: own * 0.2,
    "qpos0": lambda own: own + 0.3 * (np.arange(own.size) == 0),
    "opt.gravity": lambda own: own + [0.5, 0.0, 1.0],
    "opt.timestep": lambda own: own * 1.5,
}
TOLERANCE = {"qpos": 1e-6, "qvel": 5e-5, "sensordata": 2e-2}  # the accelerometer is among the sensors; float32 against float64


class Outcome(NamedTuple):
    own: PhysicsState  # of a world whose fields are the model's
    changed: dict[str, PhysicsState]  # by the one field that was changed


def worlds(physics: Physics) -> dict[str, jax.Array]:
    """Fields of 1 + len(CHANGES) worlds: the model's own, then one of them changed in each."""
    out = {}
    for index, (name, change) in enumerate(CHANGES.items()):
        own = own_value(physics.model, name)
        rows = np.repeat(own[None].astype(np.float32), 1 + len(CHANGES), axis=0)
        rows[1 + index] = change(own)
        out[name] = jnp.asarray(rows)
    return out


def outcome(backend: str) -> Outcome:
    physics = make(parameters(), backend)
    model, size = physics.model, 1 + len(CHANGES)
    fields = jax.jit(jax.vmap(physics.derive))(worlds(physics))
    qpos, qvel = np.tile(model.qpos0, (size, 1)), np.zeros((size, model.nv))
    qpos[:, 0], qvel[:, 0], qvel[:, 1:4], qvel[:, 4:] = 0.5, 2.0, [0.5, 0.3, 0.0], [0.0, 0.2, 1.0]
    state = jax.jit(jax.vmap(physics.forward))(jnp.asarray(qpos, jnp.float32), jnp.asarray(qvel, jnp.float32), fields)
    after = jax.jit(jax.vmap(physics.step))(state, jnp.full((size, 3, model.nu), 0.8, jnp.float32), fields)
    rows = [jax.tree.map(lambda x, i=i: np.asarray(x[i]), after) for i in range(size)]
    return Outcome(rows[0], dict(zip(CHANGES, rows[1:], strict=True)))


@pytest.fixture(scope="module")
def wanted() -> Outcome:
    return outcome("native")


@pytest.mark.parametrize("backend", backends("mjx", "warp"))
def test_a_changed_field_does_what_it_does_in_mujoco(wanted, backend):
    found = outcome(backend)
    for field in CHANGES:
        for name, tolerance in TOLERANCE.items():
            a, b = getattr(found.changed[field], name), getattr(wanted.changed[field], name)
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=tolerance, err_msg=f"{field}: {name}")


def test_each_change_shows(wanted):
    for field, changed in wanted.changed.items():
        gap = np.abs(changed.qvel - wanted.own.qvel).max()
        assert gap > 5 * TOLERANCE["qvel"], f"{field} has no effect here: {gap}"


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"opt.gravty": np.zeros(3)}, r"field opt.gravty: .* cannot vary it between worlds; did you mean opt.gravity\?"),
        ({"body_mas": np.zeros(3)}, r"field body_mas: .* did you mean body_mass\?"),
        ({"opt.gravity": np.zeros(2)}, r"field opt.gravity: expected the model's shape \(3,\), got \(2,\)"),
        ({"opt.iterations": np.zeros(())}, "field opt.iterations: physics backend .* cannot vary it"),
    ],
)
def test_a_field_that_cannot_vary_is_refused_before_anything_runs(backend, fields, message):
    physics = make(parameters(), backend)
    for function in (physics.derive, lambda f: physics.forward(jnp.zeros(8), jnp.zeros(7), f)):
        with pytest.raises(ValueError, match=message):
            function({name: jnp.asarray(value, jnp.float32) for name, value in fields.items()})


def test_friction_loss_that_mjx_leaves_out_makes_the_world_diverge():
    physics = make(pendulum(), "mjx")
    assert (physics.model.dof_frictionloss > 0).tolist() == [True, False]
    fields = {"dof_frictionloss": jnp.array([[0.2, 0.0], [0.2, 0.1]])}
    start = PhysicsState(*(jnp.broadcast_to(x, (2, *x.shape)) for x in at_rest(physics.model)))
    after = jax.jit(jax.vmap(physics.step))(start, jnp.zeros((2, 1, 1)), fields)
    assert np.isfinite(after.qpos[0]).all() and np.isnan(after.qpos[1]).all()
