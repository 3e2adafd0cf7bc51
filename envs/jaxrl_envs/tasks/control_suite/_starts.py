"""Where episodes begin, drawn as the suite draws it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.types import Array, Key


def unit_quaternion(key: Key) -> Array:
    """A rotation [4], uniform over all."""
    quaternion = jax.random.normal(key, (4,))
    return quaternion / jnp.linalg.norm(quaternion)


def random_joints(model: mujoco.MjModel) -> Callable[[Key], Array]:
    """key -> qpos: limited joints uniform within their range, other hinges within a turn, other slides where the model has them.

    A free joint keeps its place. Its quaternion is uniform in [0, 1)^4 before it is normalised, as in the suite: no uniform rotation.

    Raises:
        ValueError: the model has ball joints, which none of the suite's tasks here has.
    """
    low, high = model.qpos0.copy(), model.qpos0.copy()
    quaternion = np.zeros(model.nq, bool)
    for joint in range(model.njnt):
        kind, limited, at = mujoco.mjtJoint(model.jnt_type[joint]), bool(model.jnt_limited[joint]), model.jnt_qposadr[joint]
        if kind == mujoco.mjtJoint.mjJNT_BALL:
            raise ValueError(f"joint {model.joint(joint).name}: starts of ball joints are not drawn")
        if kind == mujoco.mjtJoint.mjJNT_FREE:
            quaternion[at + 3 : at + 7] = True
        elif limited:
            low[at], high[at] = model.jnt_range[joint]
        elif kind == mujoco.mjtJoint.mjJNT_HINGE:
            low[at], high[at] = -np.pi, np.pi
    low[quaternion], high[quaternion] = 0.0, 1.0
    lowest, highest = jnp.asarray(low, jnp.float32), jnp.asarray(high, jnp.float32)

    def draw(key: Key) -> Array:
        qpos = jax.random.uniform(key, lowest.shape, minval=lowest, maxval=highest)
        if not quaternion.any():
            return qpos
        length = jnp.linalg.norm(jnp.where(quaternion, qpos, 0.0))
        return jnp.where(quaternion, qpos / length, qpos)

    return draw
