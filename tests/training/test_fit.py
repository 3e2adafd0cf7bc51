"""The loop: exact resume, one program, meshes, seeds, and what it says when things go wrong."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algorithms import ppo
from jaxrl.distributed.mesh import data_mesh
from jaxrl.networks.actor_critic import Config as Networks
from jaxrl.networks.actor_critic import actor_critic
from jaxrl.rollout.rollout import Config as Rollout
from jaxrl.rollout.rollout import rollout
from jaxrl.training import fit
from jaxrl.training.callbacks import Callback
from jaxrl.training.checkpoint import open_checkpoints
from jaxrl.training.metrics import NonFinite
from tests.probes import PROBES, probe_env

WORLDS, UNROLL = 8, 4
CONFIG = fit.Config(total_updates=6, updates_per_call=2, checkpoint_seconds=0.0)


def parts(mesh=None, **changes):
    env = probe_env(PROBES["policy and value"].numbers)
    networks = actor_critic(Networks(actor_hidden=(8,), critic_hidden=(8,)), env.spec)
    algorithm = ppo.ppo(ppo.Config(num_minibatches=2, num_epochs=2, target_kl=0.01, **changes), env.spec, networks)
    return algorithm, rollout(Rollout(num_worlds=WORLDS, unroll_length=UNROLL, pool_size=4), env, env.sample, algorithm.explore, mesh)


def assert_same(a, b):
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))


@pytest.fixture(scope="module")
def whole():
    return fit.fit(CONFIG, *parts())


def test_a_resumed_run_is_the_same_run_bit_for_bit(whole, tmp_path):
    short = dataclasses.replace(CONFIG, total_updates=2)
    checkpoints = open_checkpoints(tmp_path)
    extras = fit.Extras(checkpoints=checkpoints)
    fit.fit(short, *parts(), extras)
    resumed = fit.fit(CONFIG, *parts(), extras, resume=True)
    checkpoints.close()
    assert resumed.update == 6 and not resumed.interrupted
    assert_same(whole.run, resumed.run)


def test_updates_per_call_do_not_change_the_run(whole):
    other = fit.fit(dataclasses.replace(CONFIG, updates_per_call=3), *parts())
    for x, y in zip(jax.tree.leaves(whole.run), jax.tree.leaves(other.run), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_seeds_in_one_program_are_the_runs_of_each_seed(whole):
    both = fit.fit(dataclasses.replace(CONFIG, num_seeds=2), *parts())
    alone = fit.fit(dataclasses.replace(CONFIG, seed=1), *parts())
    for seed, single in enumerate((whole, alone)):
        for x, y in zip(jax.tree.leaves(both.run.train_state), jax.tree.leaves(single.run.train_state), strict=True):
            np.testing.assert_allclose(x[seed], y, rtol=2e-4, atol=2e-5)


def test_four_devices_give_the_same_batch_and_gradients_as_one():
    mesh = data_mesh(4)
    config = dataclasses.replace(CONFIG, total_updates=1, updates_per_call=1)
    keys = fit.run_keys(config)
    results = []
    for this in (None, mesh):
        algorithm, source = parts(this)
        run = fit.compile_program(config, algorithm, source, keys, this).run
        collect = jax.jit(lambda run, a=algorithm, s=source: s.next(run.source_state, a.behaviour(run.train_state), keys[0]))
        state, batch = collect(run)
        before = run.train_state
        after, _, _ = jax.jit(algorithm.update)(before, batch, keys[0])
        # A step without momentum and before clipping is the gradient: Adam's first moment is 0.1 of it.
        results.append((batch, state.worlds, after.opt_state, after.statistics))
    (batch, worlds, moments, statistics), (batch4, worlds4, moments4, statistics4) = results
    assert len(jax.tree.leaves(batch4)[0].sharding.device_set) == 4
    for name, a, b in zip(batch._fields, batch, batch4, strict=True):
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6, err_msg=name)
    for x, y in zip(jax.tree.leaves((moments, statistics, worlds)), jax.tree.leaves((moments4, statistics4, worlds4)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


def test_fit_runs_on_a_mesh_and_compiles_once(whole):
    mesh = data_mesh(4)
    result = fit.fit(CONFIG, *parts(mesh), mesh=mesh)
    for x, y in zip(jax.tree.leaves(whole.run.train_state), jax.tree.leaves(result.run.train_state), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)


def poisoned(after):
    """Parts whose loss is NaN from the given update on."""
    algorithm, source = parts()

    def update(state, batch, key):
        new, metrics, feedback = algorithm.update(state, batch, key)
        bad = state.step >= after
        return new, metrics | {"loss/policy": jnp.where(bad, jnp.nan, metrics["loss/policy"])}, feedback

    return algorithm._replace(update=update), source


def test_a_nan_stops_training_and_names_metric_update_and_file(tmp_path):
    extras = fit.Extras(crash_directory=tmp_path / "not_finite")
    with pytest.raises(NonFinite, match=r"not finite at update 4: loss/policy is nan.*not_finite") as caught:
        fit.fit(CONFIG, *poisoned(after=2), extras)
    assert (tmp_path / "not_finite" / "4").is_dir(), caught.value


def test_a_nan_rolls_back_as_often_as_the_config_says_and_then_stops(tmp_path):
    said = []
    checkpoints = open_checkpoints(tmp_path / "checkpoints")
    extras = fit.Extras(checkpoints=checkpoints, say=said.append)
    fit.fit(dataclasses.replace(CONFIG, total_updates=2), *parts(), extras)
    config = dataclasses.replace(CONFIG, on_non_finite="rollback", max_rollbacks=2)
    with pytest.raises(NonFinite):
        fit.fit(config, *poisoned(after=2), extras, resume=True)
    checkpoints.close()
    assert sum("rolled back to update 2" in line for line in said) == 2


def test_source_and_algorithm_that_do_not_fit_are_refused_before_compiling():
    algorithm, source = parts()
    spec = {name: array for name, array in source.spec.items() if name != "next_observation/state/which"}
    with pytest.raises(ValueError, match="the algorithm does not fit the source:\n  next_observation/state/which: missing"):
        fit.fit(CONFIG, algorithm, source._replace(spec=spec))


def test_numbers_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="total_updates is 5, no multiple of updates_per_call, 2"):
        fit.Config(total_updates=5, updates_per_call=2)
    with pytest.raises(ValueError, match="num_worlds is 6, which 4 devices"):
        env = probe_env(PROBES["value"].numbers)
        rollout(Rollout(num_worlds=6), env, env.sample, parts()[0].explore, data_mesh(4))
    env = probe_env(PROBES["value"].numbers)
    networks = actor_critic(Networks(actor_hidden=(8,), critic_hidden=(8,)), env.spec)
    algorithm = ppo.ppo(ppo.Config(num_minibatches=3), env.spec, networks)
    source = rollout(Rollout(num_worlds=WORLDS, unroll_length=UNROLL), env, env.sample, algorithm.explore)
    with pytest.raises(ValueError, match="unroll_length is 4, no multiple of num_minibatches, 3"):
        fit.fit(CONFIG, algorithm, source)


def test_reports_and_evaluations_reach_the_callback():
    reports = []
    algorithm, source = parts()
    extras = fit.Extras(
        callback=Callback(reports.append, lambda: None), evaluate=lambda params, keys: {"score": jnp.float32(params.statistics.total)}
    )
    fit.fit(dataclasses.replace(CONFIG, evaluate_every=4), algorithm, source, extras)
    assert [(r.update, r.kind) for r in reports] == [(2, "training"), (4, "training"), (4, "evaluation"), (6, "training")]
    assert reports[-1].env_steps == 6 * WORLDS * UNROLL == reports[-1].total_env_steps
    assert reports[2].metrics["score"] == 4 * WORLDS * UNROLL


def test_a_source_on_the_host_runs_through_the_same_loop():
    algorithm, source = parts()
    closed = []
    hosted = source._replace(pure=False, init=jax.jit(source.init), next=jax.jit(source.next), close=lambda: closed.append(True))
    result = fit.fit(dataclasses.replace(CONFIG, total_updates=2), algorithm, hosted)
    assert result.update == 2 and closed == [True]
    pure = fit.fit(dataclasses.replace(CONFIG, total_updates=2), *parts())
    for x, y in zip(jax.tree.leaves(pure.run.train_state), jax.tree.leaves(result.run.train_state), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="num_seeds above 1 needs a pure source"):
        fit.fit(dataclasses.replace(CONFIG, num_seeds=2), algorithm, hosted)
