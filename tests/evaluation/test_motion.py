"""How a policy moves, against numpy; and two policies in the same episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.evaluation.evaluate import Acting, compare, evaluate
from jaxrl.evaluation.motion import distance, jerk, table
from jaxrl.evaluation.open_loop import Episode
from jaxrl.evaluation.statistics import rate_difference_interval
from jaxrl.types import SUCCESS, ArraySpec, Env, EnvSpec, Policy, PolicySpec, TimeStep
from tests.hosts import on_host

LENGTH, DT = 8, 0.1
ACTION = ArraySpec((1,), names=("x",), unit="m")
SPEC = PolicySpec({"state/place": ArraySpec((2,))}, ACTION)


def walk() -> Env:
    """From a place in [0, 1) by the action along x; who is beyond 3 has succeeded, and the episode is cut."""
    spec = EnvSpec("walk", SPEC.observation, ACTION, LENGTH, DT, (SUCCESS,))

    def seen(place):
        return {"state/place": jnp.stack([place, 0.0 * place])}

    def reset(key, parameters):
        place = jax.random.uniform(key)
        return place, seen(place)

    def step(place, action, parameters, key):
        place = place + action[0]
        done = (place > 3).astype(jnp.float32)
        return place, TimeStep(seen(place), done, jnp.ones(()), done, {SUCCESS: done})

    return Env(spec, reset, step, lambda place, parameters, key: (place, seen(place)), jnp.zeros(()), lambda key: jnp.zeros(()))


def going(by: float) -> Policy:
    def act(params, observation, carry, key, context=None):
        return jnp.full((key.shape[0], 1, 1), by), carry, {}

    return Policy(SPEC, lambda size: (), act)


def test_jerk_of_a_cubic_is_its_third_derivative():
    t = 0.05 * np.arange(30)[:, None]
    np.testing.assert_allclose(jerk(np.concatenate([2 * t**3 - t, t**2], 1), 0.05), [12.0, 0.0], atol=1e-8)
    assert np.isnan(jerk(t[:3], 0.05)).all()
    path = np.random.default_rng(0).normal(size=(9, 1))
    thirds = [path[i + 3] - 3 * path[i + 2] + 3 * path[i + 1] - path[i] for i in range(6)]
    np.testing.assert_allclose(jerk(path, 0.5), np.sqrt(np.mean(np.square(thirds))) / 0.125)


def test_distance_is_to_the_nearest_in_deviations():
    draws = np.random.default_rng(1)
    states, shown, scale = draws.normal(size=(7, 3)), draws.normal(size=(40, 3)), np.array([1.0, 2.0, 0.1])
    each = [min(np.sqrt(np.mean(((x - y) / scale) ** 2)) for y in shown) for x in states]
    assert distance(states, shown, scale) == pytest.approx(np.mean(each))


@pytest.mark.parametrize("where", ["device", "host"])
def test_an_evaluation_tells_how_a_policy_moves_beside_demonstrations(where):
    env = walk() if where == "device" else on_host(walk())
    shown = [
        Episode(
            {"state/place": np.stack([shift + 0.5 * np.arange(7), np.zeros(7)], 1).astype(np.float32)},
            np.full((7, 1, 1), 0.5, np.float32),
            np.ones(7, bool),
        )
        for shift in (0.0, 0.25)
    ]
    found = evaluate(env, going(0.5), (), 40, seed=0, demonstrations=shown)
    motion = found["motion"]
    assert motion["unit"] == {"time": "s", "jerk": {"x": "m/s^3"}}
    nominal = motion["nominal"]
    assert nominal["time_to_success"]["n"] == 40 and 0.5 <= nominal["time_to_success"]["value"] <= 0.6 + 1e-6
    assert nominal["time_to_success"] == nominal["duration"] and nominal["jerk"]["x"]["value"] == 0.0
    assert motion["demonstrations"]["duration"]["value"] == pytest.approx(0.7)
    # From a uniform place the nearest of 0.25 apart is 0.0625 away; the other dimension never changes.
    deviation = np.concatenate([one.observation["state/place"] for one in shown])[:, 0].std()
    assert motion["nominal"]["distance"]["value"] == pytest.approx(0.0625 / deviation / np.sqrt(2), rel=0.3)
    assert found["nominal"][SUCCESS]["value"] == 1.0 and "motion/action" not in found["nominal"]
    rows = table(motion)
    assert rows[0][1:4] == ("time to success [s]", "duration [s]", "distance to demonstrations") and rows[0][4] == "jerk x [m/s^3]"
    assert rows[1][0] == "demonstrations" and rows[1][1] == "-"
    never = evaluate(env, going(0.1), (), 5, seed=0, demonstrations=shown)["motion"]["nominal"]
    assert never["time_to_success"]["n"] == 0 and never["duration"]["value"] == pytest.approx(LENGTH * DT)
    assert "motion" not in evaluate(env, going(0.1), (), 5, seed=0)


@pytest.mark.parametrize("where", ["device", "host"])
def test_two_policies_meet_the_same_episodes(where):
    """Who goes 0.3 a step comes to 3 only from a start above 0.6, who goes 0.35 from above 0.2."""
    env = walk() if where == "device" else on_host(walk())
    slow, fast = Acting(going(0.3), ()), Acting(going(0.35), ())
    found = compare(env, fast, slow, 60, seed=3)["nominal"][SUCCESS]
    number = [round(found[who]["value"] * 60) for who in ("first", "second")]
    assert 30 < number[0] < 60 and 10 < number[1] < 36
    # In the same episodes: whoever succeeds slowly succeeds fast.
    place = np.arange(60)
    expected = rate_difference_interval(place < number[0], place < number[1]).to_json()
    assert found["difference"] == pytest.approx(expected)
    same = compare(env, fast, fast, 10, seed=3)["nominal"]
    assert same["return"]["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0, "n": 10}
