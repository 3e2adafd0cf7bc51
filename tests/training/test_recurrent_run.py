"""A run whose policy remembers: resumed bit for bit, and the same on two devices as on one."""

import re

import jax
import numpy as np
import pytest

from jaxrl.algorithms import ppo
from jaxrl.curricula.static import fixed
from jaxrl.distributed.mesh import data_mesh
from jaxrl.networks.recurrent_actor_critic import Config as Networks
from jaxrl.networks.recurrent_actor_critic import recurrent_actor_critic
from jaxrl.rollout.rollout import Config as Rollout
from jaxrl.rollout.rollout import rollout
from jaxrl.training import fit
from jaxrl.training.checkpoint import open_checkpoints
from tests.probes import recall_env

WORLDS, UNROLL = 8, 4
CONFIG = fit.Config(total_updates=4, updates_per_call=2, checkpoint_seconds=1e-6)


def parts(mesh=None):
    env = recall_env(6)  # unrolls of four: each begins within other episodes
    networks = recurrent_actor_critic(Networks("lstm", 4, actor_hidden=(), critic_hidden=()), env.spec)
    algorithm = ppo.ppo(ppo.Config(num_minibatches=2, num_epochs=2), env.spec, networks)
    return algorithm, rollout(
        Rollout(num_worlds=WORLDS, unroll_length=UNROLL, pool_size=4), env, fixed(env.sample), algorithm.explore, mesh
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    checkpoints = open_checkpoints(folder)
    result = fit.fit(CONFIG, *parts(), fit.Extras(checkpoints=checkpoints))
    checkpoints.close()
    return result.run, folder


def test_a_resumed_run_is_the_whole_run_with_what_it_remembers(whole):
    run, folder = whole
    checkpoints = open_checkpoints(folder)
    checkpoints.drop_after(2)
    resumed = fit.fit(CONFIG, *parts(), fit.Extras(checkpoints=checkpoints), resume=True).run
    checkpoints.close()
    carries = jax.tree.leaves(run.source_state.carry)
    assert len(carries) == 4 and all((np.abs(x).sum(1) > 0).sum() > 2 for x in carries)
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(run), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))


def test_two_devices_make_the_run_of_one_and_no_world_leaves_its_own(whole):
    expected, _ = whole
    mesh, keys = data_mesh(2), fit.run_keys(CONFIG)
    run, call = fit.compile_program(CONFIG, *parts(mesh), keys, mesh)
    for _ in range(CONFIG.total_updates // CONFIG.updates_per_call):
        run, _ = call(run, keys)
    assert all(len(x.sharding.device_set) == 2 for x in jax.tree.leaves(run.source_state.carry))
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(run), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4, err_msg=jax.tree_util.keystr(path))
    exchanged = re.findall(r"= (.*) (?:all-reduce|all-gather|all-to-all|collective-permute)(?:-start)?\(", call.as_text())
    assert exchanged, "gradients and means are those of all worlds"
    assert not [shape for shape in exchanged if f"[{UNROLL},{WORLDS}" in shape], "samples go from device to device"
