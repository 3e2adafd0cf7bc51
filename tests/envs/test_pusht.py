"""Push-T, in gym-pusht's simulator and as human demonstrations tell it."""

import os
from pathlib import Path

import numpy as np
import pytest

from jaxrl.types import HostEnv, HostWorlds, TimeStep
from jaxrl_envs.tasks import pusht

pytest.importorskip("gym_pusht", reason='pip install "jaxrl[pusht]" and then pip install --no-deps gym-pusht')
BOTH = np.ones(2, bool)


@pytest.fixture(scope="module")
def env():
    return pusht.pusht(pusht.Config(episode_length=40))


def test_a_reward_is_what_is_added_to_the_best(env):
    worlds = env.open(2)
    try:
        worlds.reset(BOTH, 3)
        raw = env_of(2)
        raw.reset(seed=[3, 4])
        paid, best = np.zeros(2), np.zeros(2)
        random = np.random.default_rng(0)
        target = random.uniform(100, 400, (2, 2))
        for step in range(40):
            if step % 5 == 0:
                target = random.uniform(100, 400, (2, 2))
            now = worlds.step(target.astype(np.float32))
            _, reward, *_ = raw.step(target.astype(np.float32))
            best = np.maximum(best, reward)
            paid += now.reward
            assert (now.reward >= 0).all() and (now.discount == 1).all()
            np.testing.assert_allclose(paid, best, atol=1e-5)
        seen = worlds.reset(np.array([True, False]))
        assert seen["state/keypoints"].shape == (2, 18)
        raw.close()
    finally:
        worlds.close()


def test_success_cuts_an_episode_and_is_no_fall(env, monkeypatch):
    state = {"state/observation": np.zeros((2, 5), np.float32)}
    done = TimeStep(state, np.array([1.0, 0.2]), np.array([0.0, 1.0]), np.zeros(2), {"coverage": np.array([0.96, 0.2])})
    fake = HostEnv(env.spec, lambda size: HostWorlds(lambda which, seed=None: state, lambda action: done, lambda: None))
    monkeypatch.setattr(pusht.gymnasium, "gymnasium", lambda config: fake)
    worlds = pusht.pusht(pusht.Config()).open(2)
    worlds.reset(BOTH)
    now = worlds.step(np.zeros((2, 2)))
    assert [now.discount.tolist(), now.truncation.tolist(), now.metrics["success"].tolist()] == [[1, 1], [1, 0], [1, 0]]
    worlds.reset(np.array([True, False]))
    np.testing.assert_allclose(worlds.step(np.zeros((2, 2))).reward, [1.0, 0.0])  # the first has begun anew


def env_of(number):
    import gymnasium as gym
    from gymnasium.vector import SyncVectorEnv

    return SyncVectorEnv([lambda: gym.make("gym_pusht:gym_pusht/PushT-v0", obs_type="state")] * number)


def test_points_are_those_of_the_demonstrations():
    root = os.environ.get("JAXRL_TEST_DATA")
    if not root:
        pytest.skip("JAXRL_TEST_DATA is not set: no human demonstrations")
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(Path(root) / "pusht_human" / "pusht_cchi_v7_replay.zarr", mode="r")
    state, points = group["data/state"][:], group["data/keypoint"][:]
    error = np.abs(pusht.keypoints(state[:, 2:]) - points.reshape(len(points), -1))
    assert np.median(error) < 0.01 and np.quantile(error, 0.999) < 0.2  # px
