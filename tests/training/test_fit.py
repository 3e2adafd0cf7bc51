"""The loop: exact resume, one program, meshes, seeds, and what it says when things go wrong."""

import dataclasses
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl.algorithms import ppo
from jaxrl.curricula.static import fixed
from jaxrl.distributed.mesh import data_mesh
from jaxrl.networks.actor_critic import Config as Networks
from jaxrl.networks.actor_critic import actor_critic
from jaxrl.ops.paths import flatten_names
from jaxrl.rollout.rollout import Config as Rollout
from jaxrl.rollout.rollout import rollout
from jaxrl.training import fit
from jaxrl.training.callbacks import Callback
from jaxrl.training.checkpoint import open_checkpoints
from jaxrl.training.memory_plan import available
from jaxrl.training.metrics import NonFinite
from jaxrl.types import Policy, PolicySpec
from jaxrl_envs.physics import native
from jaxrl_envs.tasks import cartpole
from tests.probes import PROBES, probe_env
from tests.training.compilations import compilations

WORLDS, UNROLL = 8, 4
CONFIG = fit.Config(total_updates=6, updates_per_call=2, checkpoint_seconds=0.0)


def parts(mesh=None, **changes):
    env = probe_env(PROBES["policy and value"].numbers)
    networks = actor_critic(Networks(actor_hidden=(8,), critic_hidden=(8,)), env.spec)
    config = dataclasses.replace(ppo.Config(num_minibatches=2, num_epochs=2, target_kl=0.01), **changes)
    algorithm = ppo.ppo(config, env.spec, networks)
    return algorithm, rollout(
        Rollout(num_worlds=WORLDS, unroll_length=UNROLL, pool_size=4), env, fixed(env.sample), algorithm.explore, mesh
    )


def assert_same(a, b):
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))


@pytest.fixture(scope="module")
def whole():
    return fit.fit(CONFIG, *parts())


def test_a_resumed_run_is_the_same_run_bit_for_bit(whole, tmp_path):
    checkpoints = open_checkpoints(tmp_path)
    terminate = Callback(lambda report: signal.raise_signal(signal.SIGTERM), lambda: None)
    stopped = fit.fit(CONFIG, *parts(), fit.Extras(callback=terminate, checkpoints=checkpoints))
    assert (stopped.update, stopped.interrupted, checkpoints.steps()) == (2, True, [2])
    resumed = fit.fit(CONFIG, *parts(), fit.Extras(checkpoints=checkpoints), resume=True)
    checkpoints.close()
    assert resumed.update == 6 and not resumed.interrupted
    assert_same(whole.run, resumed.run)


def test_updates_per_call_do_not_change_the_run(whole):
    other = fit.fit(dataclasses.replace(CONFIG, updates_per_call=3), *parts())
    for x, y in zip(jax.tree.leaves(whole.run), jax.tree.leaves(other.run), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def second_seed():
    return fit.fit(dataclasses.replace(CONFIG, seed=1), *parts())


@pytest.mark.parametrize("devices", [1, 4])
def test_seeds_in_one_program_are_the_runs_of_each_seed(whole, second_seed, devices):
    mesh = data_mesh(devices)
    with compilations() as compiled:
        both = fit.fit(dataclasses.replace(CONFIG, num_seeds=2), *parts(mesh), mesh=mesh)
    assert compiled.count("jit(updates)") == 1, compiled
    for seed, alone in enumerate((whole, second_seed)):
        for x, y in zip(jax.tree.leaves(both.run), jax.tree.leaves(alone.run), strict=True):
            np.testing.assert_allclose(x[seed], y, rtol=2e-4, atol=2e-5)


def test_four_devices_give_the_batch_and_gradients_of_one():
    found = []
    for mesh in (None, data_mesh(4)):
        algorithm, source = parts(mesh, num_minibatches=1, num_epochs=1, max_gradient_norm=0.0)

        @jax.jit
        def first(key, algorithm=algorithm, source=source):
            state, source_state = fit.initial(algorithm, source)(key)
            source_state, batch = source.next(source_state, algorithm.behaviour(state), key)
            after, _, _ = algorithm.update(state, batch, key)
            # The first moment of a single unclipped step is a tenth of its gradient.
            return batch, source_state.worlds, after.statistics, optax.tree.get(after.opt_state, "mu")

        found.append(first(jax.random.key(0)))
    assert [len(batch.reward.sharding.device_set) for batch, *_ in found] == [1, 4]
    (*one, moments), (*four, moments4) = found
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(four), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6, err_msg=jax.tree_util.keystr(path))
    gradients, gradients4 = flatten_names(moments), flatten_names(moments4)
    for name, gradient in gradients.items():
        largest = np.abs(gradient).max()
        assert largest > 1e-4, name
        assert np.abs(gradients4[name] - gradient).max() < 1e-5 * largest, name


@pytest.fixture(scope="module")
def on_mesh(tmp_path_factory):
    """A run on four devices, the folder of its checkpoints, the programs compiled for it, and how many of them when it reported."""
    folder, at_report = tmp_path_factory.mktemp("mesh"), []
    checkpoints, callback = open_checkpoints(folder), Callback(lambda report: at_report.append(len(compiled)), lambda: None)
    config, mesh = dataclasses.replace(CONFIG, checkpoint_seconds=1e-6), data_mesh(4)
    with compilations() as compiled:
        result = fit.fit(config, *parts(mesh), fit.Extras(callback=callback, checkpoints=checkpoints), mesh)
    checkpoints.close()
    return result, folder, compiled, at_report


def test_a_run_on_a_mesh_is_that_on_one_device(whole, on_mesh):
    result, *_ = on_mesh
    for x, y in zip(jax.tree.leaves(whole.run.train_state), jax.tree.leaves(result.run.train_state), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)


def test_a_run_on_a_mesh_compiles_its_update_once(on_mesh):
    *_, compiled, at_report = on_mesh
    assert compiled.count("jit(init)") == compiled.count("jit(updates)") == 1, compiled
    # Between the first reports the first save compiles how it slices arrays.
    assert len(at_report) == 3 and at_report[1] == len(compiled), f"compiled during the run: {compiled[at_report[1] :]}"


def test_a_run_on_a_mesh_is_resumed_bit_for_bit(on_mesh):
    whole, folder, *_ = on_mesh
    mesh, checkpoints = data_mesh(4), open_checkpoints(folder)
    checkpoints.drop_after(2)
    with compilations() as compiled:
        resumed = fit.fit(CONFIG, *parts(mesh), fit.Extras(checkpoints=checkpoints), mesh, resume=True)
    assert checkpoints.steps() == [2, 6]
    checkpoints.close()
    assert_same(whole.run, resumed.run)
    assert jax.tree.map(lambda x: x.sharding, resumed.run) == jax.tree.map(lambda x: x.sharding, whole.run)
    assert compiled.count("jit(updates)") == 1, compiled


def test_native_physics_on_four_devices_gives_the_batches_of_one_bit_for_bit(monkeypatch):
    sizes, batches = [], []

    class Counted(native.Batch):
        def __init__(self, model, size, **more):
            super().__init__(model, size, **more)
            sizes.append(size)

    def at_random(params, observation, carry, key, context=None):  # no network, whose rounding differs with the size of its batch
        return jax.vmap(lambda key: jax.random.uniform(key, (1, 1), minval=-1.0))(key), carry, {}

    monkeypatch.setattr(native, "Batch", Counted)
    for mesh in (None, data_mesh(4)):
        sizes.clear()
        env = cartpole.cartpole(cartpole.Config(backend="native"))
        policy = Policy(PolicySpec(env.spec.observation, env.spec.action), lambda size: (), at_random)
        source = rollout(Rollout(num_worlds=WORLDS, unroll_length=12, pool_size=3), env, fixed(env.sample), policy, mesh)
        batch = jax.jit(lambda key, source=source: source.next(source.init(key, ()), (), key))(jax.random.key(0))
        batches.append(jax.block_until_ready(batch))
        # Starts are made on each device; then each steps the worlds of its own.
        assert set(sizes) == {3, WORLDS if mesh is None else WORLDS // 4}
    assert len(batches[1][1].reward.sharding.device_set) == 4
    assert np.ptp(batches[0][1].observation["state/velocity"]) > 0.1  # the poles swing
    assert_same(*batches)


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


def unlucky(config, at):
    """Parts that ruin their parameters in the update `at`, but under no other randomness than that with which the run begins."""
    algorithm, source = parts()
    _, fatal = jax.random.split(jax.random.fold_in(fit.run_keys(config)[0], at))

    def update(state, batch, key):
        new, metrics, feedback = algorithm.update(state, batch, key)
        bad = (jax.random.key_data(key) == jax.random.key_data(fatal)).all()
        return new._replace(params=jax.tree.map(lambda x: jnp.where(bad, jnp.nan, x), new.params)), metrics, feedback

    return algorithm._replace(update=update), source


def test_a_rollback_goes_on_with_other_randomness_and_ends(whole, tmp_path):
    said, reported = [], []
    config = dataclasses.replace(CONFIG, on_non_finite="rollback", checkpoint_seconds=1e-6)
    checkpoints = open_checkpoints(tmp_path)
    callback = Callback(lambda report: reported.append(report.update), lambda: None)
    result = fit.fit(config, *unlucky(config, at=3), fit.Extras(callback=callback, checkpoints=checkpoints, say=said.append))
    assert (result.update, result.interrupted, reported) == (6, False, [2, 4, 6])
    assert [line.split("; ")[-1] for line in said if "rolled back" in line] == ["rolled back to update 2"]
    assert checkpoints.meta()["rollbacks"] == 1
    # By hand: four updates from the checkpoint under the keys that follow a rollback.
    run = fit.Run(**checkpoints.restore(result.run._asdict(), 2)[0])
    checkpoints.close()
    call = jax.jit(fit.many_updates(*parts(), 2))
    for _ in range(2):
        run, _ = call(run, fit.run_keys(config, 1)[0])
    for x, y in zip(jax.tree.leaves(run), jax.tree.leaves(result.run), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    assert any((x != y).any() for x, y in zip(jax.tree.leaves(whole.run), jax.tree.leaves(result.run), strict=True))


def test_without_a_checkpoint_nothing_can_be_rolled_back():
    config = dataclasses.replace(CONFIG, on_non_finite="rollback")
    with pytest.raises(NonFinite, match="not finite at update 2: .*parameter_norm is nan.*; not rolled back: there is no checkpoint"):
        fit.fit(config, *unlucky(config, at=1))


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
        rollout(Rollout(num_worlds=6), env, fixed(env.sample), parts()[0].explore, data_mesh(4))
    env = probe_env(PROBES["value"].numbers)
    networks = actor_critic(Networks(actor_hidden=(8,), critic_hidden=(8,)), env.spec)
    algorithm = ppo.ppo(ppo.Config(num_minibatches=3), env.spec, networks)
    source = rollout(Rollout(num_worlds=WORLDS, unroll_length=UNROLL), env, fixed(env.sample), algorithm.explore)
    with pytest.raises(ValueError, match="unroll_length is 4, no multiple of num_minibatches, 3"):
        fit.fit(CONFIG, algorithm, source)


def test_reports_and_evaluations_reach_the_callback():
    reports = []
    algorithm, source = parts()
    extras = fit.Extras(
        callback=Callback(reports.append, lambda: None), evaluate=lambda params: {"score": jnp.float32(params.statistics.total)}
    )
    fit.fit(dataclasses.replace(CONFIG, evaluate_every=4), algorithm, source, extras)
    assert [(r.update, r.kind) for r in reports] == [(2, "training"), (4, "training"), (4, "evaluation"), (6, "training")]
    assert reports[-1].env_steps == 6 * WORLDS * UNROLL == reports[-1].total_env_steps
    assert reports[2].metrics["score"] == 4 * WORLDS * UNROLL


@pytest.mark.parametrize(("score", "best"), [("score", 8), ("-score", 4)])
def test_the_best_of_the_evaluated_states_is_kept_with_its_own_score(tmp_path, score, best):
    algorithm, source = parts()
    told = iter([1.0, 3.0, 2.0])
    checkpoints = open_checkpoints(tmp_path, keep_last=1)
    extras = fit.Extras(checkpoints=checkpoints, evaluate=lambda params: {"score": jnp.float32(next(told))}, score=score)
    fit.fit(dataclasses.replace(CONFIG, total_updates=14, evaluate_every=4, checkpoint_seconds=0.0), algorithm, source, extras)
    assert (checkpoints.steps(), checkpoints.best()) == ([best, 14], best)
    checkpoints.close()


def test_a_source_on_the_host_runs_through_the_same_loop():
    algorithm, source = parts()
    closed = []
    hosted = source._replace(pure=False, init=jax.jit(source.init), next=jax.jit(source.next), close=lambda: closed.append(True))
    result = fit.fit(dataclasses.replace(CONFIG, total_updates=2), algorithm, hosted)
    assert result.update == 2 and closed == [True]
    pure = fit.fit(dataclasses.replace(CONFIG, total_updates=2), *parts())
    for x, y in zip(jax.tree.leaves(pure.run.train_state), jax.tree.leaves(result.run.train_state), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
    for begin in (fit.fit, fit.check):
        with pytest.raises(ValueError, match="num_seeds above 1 needs a pure source"):
            begin(dataclasses.replace(CONFIG, num_seeds=2), algorithm, hosted)
    with pytest.raises(ValueError, match="the run would allocate"):
        fit.check(CONFIG, algorithm, hosted._replace(allocation={"replay/a": 2**60}))
    three, _ = parts(num_minibatches=3)
    never = hosted._replace(init=lambda key, behaviour: pytest.fail("a step was made"))
    for begin in (fit.fit, fit.check):
        with pytest.raises(ValueError, match="unroll_length is 4, no multiple of num_minibatches, 3"):
            begin(CONFIG, three, never)
    fits = sum(available().values())  # on several devices, each of which holds its share
    fit.check(CONFIG, *parts()[:1], source._replace(allocation={"replay/a": 2 * fits}), data_mesh(4))
