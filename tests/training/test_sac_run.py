"""A run of SAC: resumed with its memory bit for bit, and the same on two devices as on one."""

import jax
import numpy as np
import pytest

from jaxrl.algorithms import sac
from jaxrl.curricula.static import fixed
from jaxrl.distributed.mesh import data_mesh
from jaxrl.networks._torsos import Torso
from jaxrl.networks.actor_q import Config as Networks
from jaxrl.networks.actor_q import actor_q
from jaxrl.ops.specs import policy_spec
from jaxrl.policies.uniform import uniform
from jaxrl.replay.replay import Config as Replay
from jaxrl.replay.replay import replay
from jaxrl.rollout.rollout import Config as Rollout
from jaxrl.rollout.rollout import rollout
from jaxrl.training import fit
from jaxrl.training.checkpoint import open_checkpoints
from tests.probes import PROBES, probe_env

WORLDS = 4
CONFIG = fit.Config(total_updates=12, updates_per_call=4, checkpoint_seconds=1e-6)


def parts(mesh=None, capacity=40):
    env = probe_env(PROBES["truncation"].numbers)
    torso = Torso(width=8, depth=1)
    algorithm = sac.sac(sac.Config(gamma=0.9), env.spec, actor_q(Networks(torso, torso), env.spec))

    def collect(policy):
        return rollout(Rollout(WORLDS, 2, 4), env, fixed(env.sample), policy, mesh)

    config = Replay(capacity=capacity, batch_size=8, num_updates=2, initial_steps=8)
    return algorithm, replay(config, collect(algorithm.explore), WORLDS, collect(uniform(policy_spec(env.spec))), mesh)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder, told = tmp_path_factory.mktemp("whole"), []
    checkpoints = open_checkpoints(folder)
    result = fit.fit(CONFIG, *parts(), fit.Extras(checkpoints=checkpoints, say=told.append))
    checkpoints.close()
    return result.run, folder, told


def test_a_resumed_run_is_the_whole_run_memory_included(whole):
    run, folder, _ = whole
    checkpoints = open_checkpoints(folder)
    checkpoints.drop_after(8)  # the ring has wrapped around by then
    resumed = fit.fit(CONFIG, *parts(), fit.Extras(checkpoints=checkpoints), resume=True).run
    _, meta = checkpoints.restore(run._asdict())
    checkpoints.close()
    assert (np.asarray(run.source_state.ring.used) == run.source_state.ring.is_step.shape[0]).all()
    assert meta["env_steps"] == 8 + 12 * 8  # those at random among them
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(run), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))


def test_a_memory_on_the_host_is_not_filled_again_when_a_run_is_resumed(tmp_path):
    made = []

    def hosted(name):
        algorithm, _ = parts()

        env = probe_env(PROBES["truncation"].numbers)
        collector = rollout(Rollout(WORLDS, 2, 4), env, fixed(env.sample), algorithm.explore)
        step = jax.jit(collector.next)

        def advance(state, behaviour, key):
            made.append(name)
            return step(state, behaviour, key)

        config = Replay(capacity=40, batch_size=8, num_updates=2, initial_steps=24)
        return algorithm, replay(config, collector._replace(next=advance, pure=False), WORLDS)

    config = fit.Config(total_updates=2, updates_per_call=2)
    checkpoints = open_checkpoints(tmp_path)
    fit.fit(config, *hosted("first"), fit.Extras(checkpoints=checkpoints))
    longer = fit.Config(total_updates=4, updates_per_call=2)
    run = fit.fit(longer, *hosted("second"), fit.Extras(checkpoints=checkpoints), resume=True).run
    checkpoints.close()
    assert (made.count("first"), made.count("second")) == (3 + 2, 2)
    assert run.source_state.ring.is_step.sum() > 2 * 8  # more than the two batches of the resumed run


def test_what_is_allocated_is_told_first(whole):
    told = whole[2]
    assert told[0].startswith("allocates 0.000 GiB") and any("replay/observation" in line for line in told)


def test_more_memory_than_there_is_is_refused_before_anything_is_compiled():
    with pytest.raises(ValueError, match="the run would allocate .* GiB, but the host has"):
        fit.fit(CONFIG, *parts(capacity=10**12))


def test_two_devices_make_the_run_of_one(whole):
    expected = whole[0]
    mesh, keys = data_mesh(2), fit.run_keys(CONFIG)
    run, call = fit.compile_program(CONFIG, *parts(mesh), keys, mesh)
    for _ in range(CONFIG.total_updates // CONFIG.updates_per_call):
        run, _ = call(run, keys)
    assert len(run.source_state.ring.outcome.sharding.device_set) == 2
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(run), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4, err_msg=jax.tree_util.keystr(path))
