"""A rollout tells its curriculum how episodes went."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.distributed.mesh import data_mesh
from jaxrl.policies.constant import constant
from jaxrl.rollout.rollout import Config, rollout
from jaxrl.types import ArraySpec, Curriculum, Env, EnvSpec, PolicySpec, TimeStep

LENGTH = 3


def env(metrics: tuple[str, ...]) -> Env:
    """Three steps; worlds whose physics are above 0.5 fail: by falling, or by the metric where there is one."""
    spec = EnvSpec("sorting", {"state/physics": ArraySpec((1,))}, ArraySpec((1,)), LENGTH, 0.1, metrics)

    def observe(physics):
        return {"state/physics": physics[None]}

    def step(count, action, physics, key):
        count = count + 1
        good = (physics < 0.5).astype(jnp.float32)
        discount = jnp.ones(()) if metrics else jnp.where(count == LENGTH, good, 1.0)
        # The metric is 1 before the last step: only its last value counts.
        shown = {"success": jnp.where(count == LENGTH, good, 1.0)} if metrics else {}
        return count, TimeStep(observe(physics), good, discount, jnp.zeros(()), shown)

    start = jnp.zeros(())
    return Env(spec, lambda key, p: (start, observe(p)), step, lambda s, p, key: (s, observe(p)), jnp.zeros(()), jax.random.uniform)


def counting() -> Curriculum:
    """Counts episodes and successes, in all and of those with physics above a half."""

    def draw(state, key):
        physics = jax.random.uniform(key)
        return physics, physics > 0.5

    def credit(tally, tags, outcomes, count):
        return tally + jnp.stack([count.sum(), (outcomes * count).sum(), (tags * count).sum(), (tags * outcomes * count).sum()])

    def nothing():
        return jnp.zeros(4)

    return Curriculum(nothing, draw, nothing, credit, lambda state, tally: state + tally, lambda state: {"curriculum/episodes": state[0]})


def counts(metrics: tuple[str, ...], devices: int | None = None, batches: int = 2, stagger: bool = False) -> np.ndarray:
    policy = constant(PolicySpec({}, ArraySpec((1,))))
    mesh = None if devices is None else data_mesh(devices)
    source = rollout(Config(num_worlds=8, unroll_length=6, pool_size=2, stagger=stagger), env(metrics), counting(), policy, mesh)

    @jax.jit
    def run(key):
        state = source.init(key, ())
        for k in range(batches):
            state, _ = source.next(state, (), jax.random.fold_in(key, k))
            state = source.observe(state, ())
        return state.draws.state, source.metrics(state)

    state, shown = run(jax.random.key(0))
    assert shown["curriculum/episodes"] == state[0]
    return np.asarray(state)


def test_every_episode_is_credited_once_to_its_own_draw():
    for metrics in ((), ("success",)):
        episodes, successes, above, wrong = counts(metrics)
        assert episodes == 8 * 6 * 2 / LENGTH
        assert 0 < above < episodes and successes == episodes - above and wrong == 0


def test_the_credit_does_not_depend_on_the_number_of_devices():
    np.testing.assert_array_equal(counts((), devices=1), counts(()))
    np.testing.assert_array_equal(counts((), devices=4), counts(()))


def test_the_rest_of_a_staggered_first_episode_is_no_outcome():
    assert counts((), stagger=True, batches=1)[0] < 8 * 6 / LENGTH
