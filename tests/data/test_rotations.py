"""The rotations of the data and those of the program are the same ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxrl.ops import poses
from jaxrl.ops import rotations as in_program
from jaxrl_data import rotations as in_data
from jaxrl_data.transforms.poses import RelativePose


def test_forms_have_the_same_names_and_widths():
    assert in_program.WIDTH == in_data.WIDTH


@pytest.mark.parametrize("before", in_data.WIDTH)
def test_conversions_are_the_same(before):
    turned = Rotation.concatenate((Rotation.random(60, rng=0), Rotation.from_rotvec([[0, 0, 0], [0, np.pi, 0], [0, np.pi / 2, 0]])))
    given = in_data.write(turned, before, (63,))
    found = jax.jit(lambda v: {after: in_program.convert(v, before, after) for after in in_data.WIDTH})(jnp.asarray(given, jnp.float32))
    for after, values in found.items():
        expected = in_data.convert(given, before, after)
        gap = in_data.read(np.asarray(values), after) * in_data.read(expected, after).inv()
        assert gap.magnitude().max() < 2e-5 if after == "euler" else gap.magnitude().max() < 3e-6
        np.testing.assert_allclose(values[:60], expected[:60], atol=1e-4)


def test_relative_poses_are_those_of_the_transform():
    def rows(count: int, seed: int) -> np.ndarray:
        position = np.random.default_rng(seed).normal(size=(count, 3))
        return np.concatenate((position, Rotation.random(count, rng=seed).as_quat(canonical=True, scalar_first=True)), -1)

    state, action = rows(1, 0).astype(np.float32), rows(5, 1).astype(np.float32)
    transform = RelativePose("observation/state/eef", rotation="quaternion", state_rotation="quaternion")
    told = transform({"observation/state/eef": state, "action": action}, np.random.default_rng(0))["action"]
    base, goal = (jnp.concatenate((jnp.asarray(a[..., 3:]), jnp.asarray(a[..., :3])), -1) for a in (state, action))
    found = poses.relative_to(base, goal)
    np.testing.assert_allclose(found[:, 4:], told[:, :3], atol=1e-5)
    np.testing.assert_allclose(in_program.write(found[:, :4], "quaternion"), told[:, 3:], atol=1e-6)
