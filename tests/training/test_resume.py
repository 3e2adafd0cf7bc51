"""A run with simulators that is resumed is the run that was left alone, to the last bit of every world."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.algorithms import ppo
from jaxrl.curricula.static import fixed
from jaxrl.networks.actor_critic import Config as Networks
from jaxrl.networks.actor_critic import actor_critic
from jaxrl.rollout.rollout import Config as Rollout
from jaxrl.rollout.rollout import rollout
from jaxrl.training import fit
from jaxrl.training.checkpoint import open_checkpoints
from jaxrl_envs.tasks import cartpole

CONFIG = fit.Config(total_updates=6, updates_per_call=1, checkpoint_seconds=1e-6)
MIDDLE, UNROLL = 3, 4


def parts():
    """Made anew for each run: a native backend that remembers what its worlds were would be found out."""
    env = cartpole.cartpole(cartpole.Config(backend="native"))
    # Short episodes: every world starts anew, with other masses, between the middle and the end.
    env = env._replace(spec=env.spec._replace(episode_length=2 * UNROLL))
    mass = jnp.asarray(cartpole.model().body_mass, jnp.float32)

    def heavier(key):
        return env.nominal._replace(fields={"body_mass": mass * jax.random.uniform(key, mass.shape, minval=1.0, maxval=2.0)})

    networks = actor_critic(Networks(actor_hidden=(8,), critic_hidden=(8,)), env.spec)
    algorithm = ppo.ppo(ppo.Config(num_minibatches=1, num_epochs=1, target_kl=0.01), env.spec, networks)
    return algorithm, rollout(Rollout(num_worlds=8, unroll_length=UNROLL, pool_size=4), env, fixed(heavier), algorithm.explore)


def test_a_run_resumed_from_its_middle_is_the_whole_run(tmp_path):
    checkpoints = open_checkpoints(tmp_path, keep_last=CONFIG.total_updates)
    extras = fit.Extras(checkpoints=checkpoints)
    whole = fit.fit(CONFIG, *parts(), extras)
    checkpoints.drop_after(MIDDLE)  # as if it had been killed
    before = checkpoints.restore(whole.run._asdict())[0]["source_state"].worlds
    resumed = fit.fit(CONFIG, *parts(), extras, resume=True)
    checkpoints.close()
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(whole.run), jax.tree.leaves(resumed.run), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))
    after = resumed.run.source_state.worlds
    assert (before.env.physics.qpos != after.env.physics.qpos).all()
    assert (before.parameters.fields["body_mass"][:, 1:] != after.parameters.fields["body_mass"][:, 1:]).all()
