"""Gradients of a return through MJX, in float64, against central finite differences."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_envs.physics import make
from jaxrl_envs.physics.interface import at_rest
from tests.envs.models import pendulum

# In a process of its own, for float64 is a setting of all of JAX.
CODE = """
import json
import jax, jax.numpy as jnp, mujoco, numpy as np
jax.config.update("jax_enable_x64", True)
from jaxrl_envs.physics import make
from jaxrl_envs.physics.interface import at_rest
from jaxrl_envs.tasks import cartpole

steps = 12
model = cartpole.model()
model.opt.integrator = mujoco.mjtIntegrator.mjINT_EULER  # a fourth of the time to compile
model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONSTRAINT)  # of the cart's limits, which it does not reach
physics = make(model, "mjx")
start = at_rest(model)._replace(qpos=jnp.array([0.1, 2.0]), qvel=jnp.array([0.2, -0.3]))

def episode_return(numbers):
    actions, mass = numbers[:steps], numbers[steps]
    fields = {"body_mass": jnp.asarray(model.body_mass).at[-1].set(mass)}

    def step(state, action):
        state = physics.step(state, action[None, None], fields)
        return state, jnp.stack(list(cartpole.reward_factors(state.qpos, state.qvel, action[None]).values())).prod()

    return jax.lax.scan(step, start, actions)[1].sum()

numbers = jnp.asarray(np.append(np.random.default_rng(0).uniform(-0.8, 0.8, steps), 0.1))
h = 1e-5
moved = numbers[None, :] + h * jnp.concatenate([jnp.eye(steps + 1), -jnp.eye(steps + 1)])
returns = jax.jit(jax.vmap(episode_return))(moved).reshape(2, -1)
gradient = jax.jit(jax.grad(episode_return))(numbers)
print(json.dumps([str(gradient.dtype), gradient.tolist(), ((returns[0] - returns[1]) / (2 * h)).tolist()]))
"""


def test_gradients_of_a_return_by_actions_and_mass_are_those_of_finite_differences():
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", CODE], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    dtype, gradient, differences = json.loads(ran.stdout.splitlines()[-1])
    assert dtype == "float64" and np.abs(differences).min() > 1e-4
    np.testing.assert_allclose(gradient, differences, rtol=1e-5, atol=1e-8)


@pytest.mark.slow  # half a minute of compilation
def test_reverse_mode_needs_one_iteration_of_the_solver_and_forward_mode_does_not():
    physics = make(pendulum(iterations=3), "mjx")
    start = at_rest(physics.model)

    def speed(force: jax.Array) -> jax.Array:
        return physics.step(start, force[None, None], {}).qvel[0]

    with pytest.raises(ValueError, match="Reverse-mode differentiation does not work for lax.while_loop"):
        jax.eval_shape(jax.grad(speed), jnp.array(2.0))
    value, slope = jax.jit(lambda force: jax.jvp(speed, (force,), (jnp.array(1.0),)))(jnp.array(2.0))
    assert np.isfinite(value) and slope > 0
