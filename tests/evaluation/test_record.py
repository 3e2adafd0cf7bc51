"""Episodes one after the other: the same wherever one begins, and however many are played together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.evaluation import play_on_host
from jaxrl.evaluation import record as module
from jaxrl.evaluation.record import episodes, recorded
from jaxrl.replay.recording import Recording, check
from jaxrl.types import ArraySpec, Env, HostEnv
from tests.evaluation.test_play_on_host import policy, with_privileged
from tests.hosts import on_host
from tests.rollout.test_host_rollout import counting_env

EPISODES = 7


@pytest.fixture(params=["device", "host"])
def env(request, monkeypatch) -> Env | HostEnv:
    monkeypatch.setattr(module, "AT_ONCE", 3)
    monkeypatch.setattr(play_on_host, "WORLDS", 3)
    made = with_privileged(counting_env())
    return on_host(made) if request.param == "host" else made


def played(env: Env | HostEnv, first: int = 0, last: int = EPISODES, seed: int = 4) -> list[Recording]:
    return list(episodes(env, policy(), jnp.float32(2.5), last, seed, first))


def test_each_is_a_recording_and_all_are_one(env):
    parts = played(env)
    assert len(parts) == EPISODES and len({len(one.action) for one in parts}) == 2
    for one in parts:
        check(one, "here")
        assert len(one.episode_ends) == 1 and one.terminated.all()
        np.testing.assert_array_equal(one.observation["state/count"][1:], one.observation["state/count"][:-1] + 1)
        np.testing.assert_array_equal(one.final_observation["privileged/twice"], 2 * one.final_observation["state/count"])
    whole = recorded(env, policy(), jnp.float32(2.5), EPISODES, 4)
    check(whole, "here")
    np.testing.assert_array_equal(whole.episode_ends, np.cumsum([len(one.action) for one in parts]))
    np.testing.assert_array_equal(whole.observation["state/count"], np.concatenate([one.observation["state/count"] for one in parts]))
    starts = [float(one.observation["state/count"][0, 0]) for one in parts]
    assert len(set(starts)) == EPISODES
    assert starts != [float(one.observation["state/count"][0, 0]) for one in played(env, seed=5)]


@pytest.mark.parametrize("first", [1, 3, 5, 7])
def test_they_are_the_same_wherever_one_begins(env, first):
    for one, other in zip(played(env, first), played(env)[first:], strict=True):
        jax.tree.map(np.testing.assert_array_equal, one._replace(spec=None), other._replace(spec=None))


def test_large_ones_are_played_a_few_at_a_time(monkeypatch):
    pictures = {"image/front": ArraySpec((64, 64, 3), "uint8")}
    assert module._at_once(pictures, 1000) == 2**28 // (2 * 64 * 64 * 3 * 1000) == 10
    assert module._at_once({"state/joints": ArraySpec((10,))}, 1000) == module.AT_ONCE
    assert module._at_once({"image/front": ArraySpec((1000, 1000, 3), "uint8")}, 1000) == 1


def test_an_episode_that_is_not_finite_at_once_is_named():
    broken = counting_env()
    broken = broken._replace(step=lambda *given: (lambda s, t: (s, t._replace(reward=jnp.nan * t.reward)))(*counting_env().step(*given)))
    with pytest.raises(ValueError, match="episode 0 was not finite from its first step on"):
        played(broken)
