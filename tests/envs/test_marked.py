"""Marks of fields: equal where the fields are, different where they are not, and lost where somebody changes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops.paths import flatten_names
from jaxrl_envs.physics import make
from jaxrl_envs.physics.marked import Marked, marked
from tests.envs.models import parameters

MASS, FRICTION = np.linspace(1.0, 2.0, 5).astype(np.float32), np.full((3, 3), 0.5, np.float32)


def mark(mass=MASS, friction=FRICTION):
    return tuple(np.asarray(marked({"body_mass": jnp.asarray(mass), "geom_friction": jnp.asarray(friction)}).mark).tolist())


def test_equal_marks_go_with_equal_numbers():
    assert mark() == mark(MASS.copy())
    others = [MASS[::-1], MASS + np.float32(1e-7), np.where(np.arange(5) == 3, 0.0, MASS), np.where(np.arange(5) == 3, -0.0, MASS)]
    swapped = FRICTION.copy()
    swapped[1, 2], swapped[2, 1] = 0.25, 1.0
    mirrored = FRICTION.copy()
    mirrored[1, 2], mirrored[2, 1] = 1.0, 0.25
    marks = {mark(), *(mark(np.asarray(other, np.float32)) for other in others), mark(friction=swapped), mark(friction=mirrored)}
    assert len(marks) == 7


def test_few_bits_are_enough_to_tell_rows_apart():
    """Factors of a choice differ in their highest bits alone."""
    choices = np.array([0.5, 1.0, 2.0, 4.0], np.float32)
    rows = choices[np.indices((4,) * 6).reshape(6, -1).T]
    marks = np.asarray(jax.vmap(lambda row: marked({"body_mass": row}).mark)(jnp.asarray(rows)))
    assert len(np.unique(marks, axis=0)) == len(rows) and len(np.unique(marks[:, 0])) > 0.99 * len(rows)


def test_marked_fields_are_a_tree_and_cannot_be_changed():
    fields = marked({"b": jnp.ones(2), "a": jnp.zeros(3)})
    assert set(flatten_names(fields)) == {"mark", "a", "b"}
    again = jax.jit(lambda x: x)(fields)
    assert isinstance(again, Marked) and again.keys() == fields.keys() and (again.mark == fields.mark).all()
    for change in (lambda: fields.__setitem__("a", 1), lambda: fields.update(a=1), lambda: fields.pop("a"), fields.clear):
        with pytest.raises(TypeError, match="marked fields cannot be changed; make others"):
            change()
    other = fields
    other |= {"a": jnp.ones(3)}
    for plain in (fields | {"a": jnp.ones(3)}, other, fields.copy(), dict(fields)):
        assert not isinstance(plain, Marked)
    assert isinstance(fields, Marked) and marked({}) == {}


def test_a_step_depends_on_the_fields_and_not_on_how_they_come():
    physics = make(parameters(), "native")
    mass = jnp.asarray(physics.model.body_mass * np.linspace(0.8, 1.2, 4)[:, None], jnp.float32)
    derive, step = jax.jit(jax.vmap(lambda m: physics.derive({"body_mass": m}))), jax.jit(jax.vmap(physics.step))
    qpos, qvel = jnp.asarray(physics.model.qpos0, jnp.float32), jnp.ones(physics.model.nv)
    start = jax.vmap(lambda fields: physics.forward(qpos, qvel, fields))({"body_mass": mass})
    ctrl = jnp.zeros((4, 3, physics.model.nu))
    for rows in (mass, mass, mass.at[2].multiply(1.5), mass[::-1], mass):
        plain = step(start, ctrl, {"body_mass": rows})
        for _ in range(2):
            jax.tree.map(np.testing.assert_array_equal, step(start, ctrl, derive(rows)), plain)
    assert (np.asarray(plain.qvel[0]) != np.asarray(plain.qvel[3])).any()
