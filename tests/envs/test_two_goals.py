"""The disc that is told is the one that counts, and nothing else tells which it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.evaluation.play import play, repeat
from jaxrl.types import INSTRUCTION, SUCCESS
from jaxrl_envs.scripted.two_goals import two_goals as scripted
from jaxrl_envs.tasks.two_goals import APART, INSTRUCTIONS, Config, tokens, two_goals

EPISODES = 64


@pytest.fixture(scope="module")
def env():
    return two_goals()


@pytest.fixture(scope="module")
def starts(env):
    make = jax.jit(jax.vmap(lambda key: env.reset(key, env.nominal)))
    return jax.device_get(make(jax.random.split(jax.random.key(0), EPISODES)))


def test_words_are_their_bytes():
    for text in INSTRUCTIONS:
        found = tokens(text)
        assert bytes(int(token) - 1 for token in found if token >= 0).decode() == text and (np.diff((found >= 0).astype(int)) <= 0).all()


def test_both_goals_are_told_and_what_is_seen_does_not_tell_which(starts):
    state, seen = starts
    told = np.stack([tokens(text) for text in INSTRUCTIONS])
    np.testing.assert_array_equal(seen[INSTRUCTION], told[state.goal])
    assert 0.3 < state.goal.mean() < 0.7
    discs = seen["privileged/discs"].reshape(-1, 2, 2)
    assert (np.abs(discs[:, 0, 1] - discs[:, 1, 1]) >= APART).all() and (discs[:, 0, 1] * discs[:, 1, 1] < 0).all()
    above = discs[:, 0, 1] > 0
    for goal in (0, 1):
        assert 0.2 < above[state.goal == goal].mean() < 0.8, "either disc lies on either side, whichever is meant"


def test_who_listens_succeeds_and_who_mishears_does_not(env):
    def mishears(policy):
        def act(params, observation, carry, key, context=None):
            words = jnp.asarray(np.stack([tokens(text) for text in INSTRUCTIONS]))
            other = jnp.where((observation[INSTRUCTION] == words[0][None]).all(-1)[:, None], words[1][None], words[0][None])
            return policy.act(params, {**observation, INSTRUCTION: other}, carry, key, context)

        return policy._replace(act=act)

    for policy, least, most in ((scripted(), 0.95, 1.0), (mishears(scripted()), 0.0, 0.05)):
        run = play(env, policy, keep=lambda step: step.result.metrics[SUCCESS], num_episodes=EPISODES)
        played = jax.device_get(run((), repeat(env.nominal, EPISODES), jax.random.key(1)))
        rate = (played.kept * played.alive).max(0).mean()
        assert least <= rate <= most


def test_a_start_outside_the_table_is_refused():
    with pytest.raises(ValueError, match="spread is 0.7 m, but must lie between 0 and 0.6"):
        Config(spread=0.7)
