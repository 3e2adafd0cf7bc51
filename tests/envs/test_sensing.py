"""What becomes of measurements on their way to the policy."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxrl.types import ArraySpec, Env, EnvSpec, TimeStep
from jaxrl_envs.physics import make
from jaxrl_envs.randomization import Ranges, randomised
from jaxrl_envs.randomization.sensing import READS, Sensor, sensed

MODEL = '<mujoco><worldbody><body><joint name="j"/><geom size="0.1"/></body></worldbody></mujoco>'
DT = 0.1
KEY = jax.random.key(0)
SENSORS = {"state/a": Sensor(noise=0.5, drift=0.2, resolution=0.25)}


@pytest.fixture(scope="module")
def parameters():
    return randomised(make(mujoco.MjModel.from_xml_string(MODEL), "native")).nominal


def counter() -> Env:
    """Shows how many steps there were, measured (a) and truly (b)."""
    spec = EnvSpec("counter", {"state/a": ArraySpec((2,)), "state/b": ArraySpec((1,))}, ArraySpec((1,)), 100, DT)

    def observe(count):
        return {"state/a": jnp.full(2, count), "state/b": count[None]}

    def step(count, action, parameters, key):
        return count + 1, TimeStep(observe(count + 1), count, jnp.ones(()), jnp.zeros(()), {})

    def reset(key, parameters):
        return jnp.zeros(()), observe(jnp.zeros(()))

    return Env(spec, reset, step, lambda count, parameters, key: (count, observe(count)), (), lambda key: ())


def watch(parameters, steps=12, slots=2, ranges=None, **values):
    """What is seen of `a` and `b` after each step, [steps, 2] and [steps]; and at the start."""
    given = ranges or Ranges(**{name: (0.0, max(value, 1e-9)) for name, value in values.items()})
    env = sensed(counter(), SENSORS, given, slots)
    own = parameters._replace(**{name: jnp.asarray(value) for name, value in values.items()})
    state, first = env.reset(KEY, own)
    _, steps = jax.jit(lambda s: jax.lax.scan(lambda s, k: env.step(s, jnp.zeros(1), own, k), s, jax.random.split(KEY, steps)))(state)
    np.testing.assert_array_equal(steps.observation["state/b"][:, 0], steps.reward + 1)
    return np.asarray(steps.observation["state/a"]), np.asarray(first["state/a"])


TRUE = np.arange(1, 13)


def test_without_ranges_it_is_the_task_itself():
    env = counter()
    assert sensed(env, SENSORS, Ranges(friction=(0.5, 1.0))) is env


def test_noise_stays_within_its_width_and_differs(parameters):
    seen, first = watch(parameters, observation_noise=2.0)
    error = seen - TRUE[:, None]
    assert np.abs(error).max() <= 1.0 and np.abs(error).std() > 0.2 and np.abs(error[:, 0] - error[:, 1]).min() > 0
    assert np.abs(first).max() > 0


def test_delay_shows_the_past_and_interpolates(parameters):
    np.testing.assert_allclose(watch(parameters, observation_delay=0.1)[0][:, 0], TRUE - 1, atol=1e-5)
    np.testing.assert_allclose(watch(parameters, observation_delay=0.2)[0][1:, 0], TRUE[1:] - 2, atol=1e-5)
    np.testing.assert_allclose(watch(parameters, observation_delay=0.03)[0][:, 0], TRUE - 0.3, atol=1e-5)
    np.testing.assert_allclose(watch(parameters, observation_delay=0.15)[0][1:, 0], TRUE[1:] - 1.5, atol=1e-5)


def test_resolution_rounds(parameters):
    seen, _ = watch(parameters, observation_resolution=3.0)
    np.testing.assert_allclose(seen[:, 0], np.round(TRUE / 0.75) * 0.75, atol=1e-5)


def test_drift_walks_at_random(parameters):
    walks = np.stack([watch(parameters, observation_drift=1.0)[0][:, k] - TRUE for k in range(2)])
    assert np.abs(np.diff(walks, axis=1)).max() < 5 * 0.2 * np.sqrt(DT) and np.abs(walks[0] - walks[1]).max() > 0.01
    env = sensed(counter(), SENSORS, Ranges(observation_drift=(0.0, 1.0)))
    own = parameters._replace(observation_drift=jnp.ones(()))

    def after(key):
        state, _ = env.reset(key, own)
        _, steps = jax.lax.scan(lambda s, k: env.step(s, jnp.zeros(1), own, k), state, jax.random.split(key, 10))
        return steps.observation["state/a"][-1] - 10

    np.testing.assert_allclose(np.asarray(jax.jit(jax.vmap(after))(jax.random.split(KEY, 2000))).std(), 0.2, rtol=0.08)


def test_what_is_lost_is_seen_as_before(parameters):
    seen, first = watch(parameters, observation_drop=1.0)
    np.testing.assert_array_equal(seen, np.broadcast_to(first, seen.shape))
    seen, _ = watch(parameters, steps=200, observation_drop=0.3)
    repeated = (np.diff(seen[:, 0]) == 0).mean()
    assert 0.2 < repeated < 0.4


def test_a_new_episode_forgets(parameters):
    env = sensed(counter(), SENSORS, Ranges(observation_drift=(0.0, 1.0), observation_delay=(0.0, 0.2)), 2)
    own = parameters._replace(observation_drift=jnp.ones(()), observation_delay=jnp.asarray(0.2))
    state, _ = env.reset(KEY, own)
    for _ in range(3):
        state, _ = env.step(state, jnp.zeros(1), own, KEY)
    fresh, observation = env.restart(state._replace(env=jnp.zeros(())), own, KEY)
    np.testing.assert_array_equal(observation["state/a"], 0)
    np.testing.assert_array_equal(fresh.measurements.taken, 0)
    np.testing.assert_array_equal(fresh.measurements.bias, 0)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="sensor state/aa: counter has no such observation; did you mean state/a?"):
        sensed(counter(), {"state/aa": Sensor()}, Ranges(observation_noise=(1.0, 1.0)))
    with pytest.raises(ValueError, match=r"observation_delay: up to 0.25 s, but the buffer holds 2 control steps of 0.1 s; it needs 3"):
        sensed(counter(), SENSORS, Ranges(observation_delay=(0.0, 0.25)), 2)
    with pytest.raises(ValueError, match="observation_noise: counter has no sensors, so a range has no effect"):
        sensed(counter(), {}, Ranges(observation_noise=(1.0, 1.0)))
    with pytest.raises(ValueError, match="noise is -1.0"):
        Sensor(noise=-1.0)
    assert READS < set(Ranges.__dataclass_fields__)
