"""A world that cannot be simulated comes back as NaN, and the others as if it had not been there, on each backend."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_envs.physics import make
from tests.envs.models import backends, parameters, pendulum

WORLDS, HURT = 5, 2
OTHERS = np.array([0, 1, 3, 4])
INJECTED = {
    "a velocity that is not a number": lambda state, ctrl: (state._replace(qvel=state.qvel.at[HURT, -1].set(np.nan)), ctrl),
    "a huge velocity": lambda state, ctrl: (state._replace(qvel=state.qvel.at[HURT, 0].set(1e11)), ctrl),
    "an infinite control": lambda state, ctrl: (state, ctrl.at[HURT, 1, -1].set(np.inf)),
    "an infinite position": lambda state, ctrl: (state._replace(qpos=state.qpos.at[HURT, 0].set(np.inf)), ctrl),
}


@pytest.mark.parametrize("backend", backends())
def test_divergence_stays_in_its_world(backend):
    model = pendulum() if backend == "mjx" else parameters()  # worlds of warp share a buffer of contacts; MJX takes long to compile
    physics = make(model, backend)
    step = jax.jit(jax.vmap(physics.step, (0, 0, None)))
    drawn = np.random.default_rng(0)
    qpos = jnp.asarray(np.tile(model.qpos0, (WORLDS, 1)), jnp.float32)
    qvel = jnp.asarray(drawn.normal(size=(WORLDS, model.nv)), jnp.float32)
    start = jax.jit(jax.vmap(lambda p, v: physics.forward(p, v, {})))(qpos, qvel)
    ctrl = jnp.asarray(drawn.normal(size=(WORLDS, 2, model.nu)), jnp.float32)
    wanted = step(start, ctrl, {})
    assert all(np.isfinite(leaf).all() for leaf in wanted)
    for what, inject in INJECTED.items():
        found = step(*inject(start, ctrl), {})
        for name, leaf in found._asdict().items():
            assert np.isnan(leaf[HURT]).all(), f"{what}: {name}"
            np.testing.assert_array_equal(leaf[OTHERS], getattr(wanted, name)[OTHERS], err_msg=f"{what}: {name}")
        later = step(found, ctrl, {})  # a world that is NaN already
        np.testing.assert_array_equal(later.qpos[OTHERS], step(wanted, ctrl, {}).qpos[OTHERS], err_msg=what)
