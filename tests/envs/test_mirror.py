"""A robot on legs in a mirror: the mirrored motors move the mirrored robot as the motors move the robot."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.replay.mirrored import reflected
from jaxrl_envs.physics import make
from jaxrl_envs.tasks import _go2, go2_flat, humanoid_joystick
from jaxrl_envs.tasks._mirror import AXIAL, VECTOR, _straight

TASKS = {
    "go2_flat": lambda: go2_flat.go2_flat(go2_flat.Config(backend="native")),
    "humanoid_joystick": lambda: humanoid_joystick.humanoid_joystick(humanoid_joystick.Config(backend="native")),
}
STEPS = 3


def image(env, physics, state):
    """The state [N] in the mirror, made of its positions and velocities."""
    joints = env.mirror.action
    qpos, qvel = state.physics.qpos, state.physics.qvel
    vector, axial = _straight(VECTOR), _straight(AXIAL)
    turned = reflected(_straight((1.0, *AXIAL)), qpos[:, 3:7])  # the axis of a rotation is an axial vector
    qpos = jnp.concatenate([reflected(vector, qpos[:, :3]), turned, reflected(joints, qpos[:, 7:])], 1)
    qvel = jnp.concatenate([reflected(vector, qvel[:, :3]), reflected(axial, qvel[:, 3:6]), reflected(joints, qvel[:, 6:])], 1)
    return state._replace(
        physics=jax.vmap(lambda p, v: physics.forward(p, v, {}))(qpos, qvel),
        command=reflected(env.mirror.observation["state/command"], state.command),
        action=reflected(joints, state.action),
        commands=jax.tree.map(lambda x: reflected(joints, x) if x.shape[-1:] == env.spec.action.shape else x, state.commands),
        phase=(state.phase + 0.5) % 1.0,
    )


@pytest.mark.parametrize("name", TASKS)
def test_a_step_of_the_mirror_image_is_the_mirror_image_of_the_step(name):
    env = TASKS[name]()
    assert set(env.mirror.observation) == set(env.spec.observation)
    physics = make(env.render.model, "native")
    keys = jax.random.split(jax.random.key(0), (2, 16))
    state, _ = jax.vmap(lambda key: env.reset(key, env.nominal))(keys[0])
    there = image(env, physics, state)
    step = jax.jit(jax.vmap(lambda s, a, k: env.step(s, a, env.nominal, k)))
    for i in range(STEPS):
        action = 0.5 * jax.random.normal(jax.random.key(i), (16, *env.spec.action.shape))
        command = state.command
        state, here = step(state, action, keys[1])
        there, seen = step(there, reflected(env.mirror.action, action), keys[1])
        # A new command is drawn alike on both sides of the mirror, which is not its image.
        same = np.asarray((state.command == command).all(-1))
        assert same.sum() > 12
        np.testing.assert_allclose(here.reward[same], seen.reward[same], rtol=2e-3, atol=2e-3)
        for group, reflection in env.mirror.observation.items():
            wanted = reflected(reflection, here.observation[group])
            np.testing.assert_allclose(wanted[same], seen.observation[group][same], rtol=2e-2, atol=6e-2, err_msg=f"{group}, step {i}")
        assert np.abs(here.observation["state/joint_position"] - seen.observation["state/joint_position"]).max() > 0.1, "two worlds"


def test_a_robot_that_is_not_symmetric_is_refused():
    from jaxrl_envs.tasks._mirror import mirror

    robot = _go2.robot(_go2.model(0.005))
    robot.model.jnt_axis[robot.model.joint(robot.joints[1]).id] = (0.6, 0.8, 0.0)
    with pytest.raises(ValueError, match="turns about .* in the mirror, but .*: the robot is not symmetric"):
        mirror(robot)
