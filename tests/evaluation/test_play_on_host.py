"""Episodes in worlds on the host: the same as those of `play`."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.evaluation import play_on_host as module
from jaxrl.evaluation import report
from jaxrl.evaluation.evaluate import evaluate, filmed, periodic
from jaxrl.evaluation.play import play, repeat
from jaxrl.evaluation.play_on_host import play_on_host
from jaxrl.evaluation.randomisation import randomisation_report
from jaxrl.evaluation.record import recorded
from jaxrl.replay.recording import check, public
from jaxrl.rollout.hide import observed_as
from jaxrl.types import ArraySpec, Policy, PolicySpec
from tests.hosts import on_host
from tests.rollout.test_host_rollout import LENGTH, counting_env

EPISODES = 7


def policy() -> Policy:
    """Ends the episode as soon as the count passes 3.5, which some starts allow after three steps, others after four."""
    spec = PolicySpec({"state/count": ArraySpec((1,))}, ArraySpec((1,)))

    def act(params, observation, carry, key, context=None):
        return (observation["state/count"] > params)[:, None].astype(jnp.float32), carry, {}

    return Policy(spec, lambda size: (), act)


def with_privileged(env):
    shown = env.spec.observation | {"privileged/twice": ArraySpec((1,))}
    return observed_as(env, shown, lambda seen: seen | {"privileged/twice": 2 * seen["state/count"]})


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setattr(module, "WORLDS", 3)  # several batches, the last of which is not full
    return on_host(counting_env())


def test_the_figures_are_those_of_play(host):
    played = play_on_host(host, policy(), jnp.float32(2.5), EPISODES, seed=4)
    assert played.alive.shape == (LENGTH - 1, EPISODES) and played.terminated.all() and not played.diverged.any()
    keys = jax.vmap(lambda seed: jax.random.split(jax.random.key(seed))[1])(jnp.arange(4, 4 + EPISODES))
    starts = jax.vmap(jax.random.uniform)(keys)
    expected = np.where(np.asarray(starts) > 0.5, 3, 4)
    assert set(expected) == {3, 4}
    np.testing.assert_array_equal(report.metrics_of(played)["length"], expected)
    np.testing.assert_array_equal(report.metrics_of(played)["return"], expected)
    ours = jax.device_get(play(counting_env(), policy(), num_episodes=EPISODES)(jnp.float32(2.5), repeat({}, EPISODES), jax.random.key(0)))
    assert report.metrics_of(ours).keys() == report.metrics_of(played).keys()


def test_episodes_are_cut_at_their_length_and_do_not_depend_on_how_many_run_together(host, monkeypatch):
    played = play_on_host(host, policy(), jnp.float32(100.0), EPISODES, seed=4)
    assert played.alive.all() and len(played.alive) == LENGTH and not played.terminated.any()
    monkeypatch.setattr(module, "WORLDS", 5)
    other = play_on_host(host, policy(), jnp.float32(100.0), EPISODES, seed=4)
    jax.tree.map(np.testing.assert_array_equal, played, other)


def test_evaluation_recording_and_means_along_the_way(host):
    results = evaluate(host, policy(), jnp.float32(2.5), EPISODES, seed=4)
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    assert set(results) == {"nominal", "standing_baseline", "num_episodes", "by_condition", "by_parameter"}
    assert results["standing_baseline"]["length"]["value"] == LENGTH and results["nominal"]["fall_rate"]["value"] == 1
    rows = report.table(results, report.names(results))
    assert [row[0] for row in rows] == ["N = 7", "nominal", "standing_baseline"]
    means = periodic(host, policy(), EPISODES, seed=4)(jnp.float32(2.5))
    assert float(means["episode/return"]) == pytest.approx(results["nominal"]["return"]["value"])
    recording = recorded(host, policy(), jnp.float32(2.5), EPISODES, seed=4)
    assert len(recording.episode_ends) == EPISODES and recording.episode_ends[-1] == len(recording.action) == len(recording.reward)
    np.testing.assert_array_equal(recording.action[recording.episode_ends - 1], 1)
    seen = recorded(on_host(with_privileged(counting_env())), policy(), jnp.float32(2.5), EPISODES, seed=4)
    np.testing.assert_array_equal(seen.observation["privileged/twice"], 2 * seen.observation["state/count"])
    np.testing.assert_array_equal(seen.final_observation["privileged/twice"], 2 * seen.final_observation["state/count"])
    check(seen, "here")
    shown = public(seen)
    check(shown, "here")
    assert shown.observation.keys() == shown.spec.observation.keys() == {"state/count"}
    with pytest.raises(ValueError, match="counting is stepped on the host, where nothing is randomised"):
        randomisation_report(host, policy(), jnp.float32(2.5), EPISODES, seed=4)
    with pytest.raises(ValueError, match="counting has nothing to draw"):
        filmed(host, policy(), jnp.float32(2.5), 1.0, 0, 8, 8)
