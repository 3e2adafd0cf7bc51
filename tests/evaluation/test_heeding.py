"""What a policy does under another instruction, with policies whose answers are known."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.evaluation.diagnosis import heeding_finding
from jaxrl.evaluation.heeding import heeding, told_otherwise
from jaxrl.evaluation.open_loop import Episode, replay
from jaxrl.types import INSTRUCTION, ArraySpec, Policy, PolicySpec

SPEC = PolicySpec({"state/a": ArraySpec((1,)), INSTRUCTION: ArraySpec((3,), "int32")}, ArraySpec((1,)))


def episode(number: int, word: int | None, length: int = 6) -> Episode:
    """What is right is `a` in the direction of the word."""
    seen = np.random.default_rng(number).uniform(0.5, 1.0, (length, 1)).astype(np.float32)
    told = {} if word is None else {INSTRUCTION: np.broadcast_to(np.array([word, -1, -1], np.int32), (length, 3))}
    return Episode({"state/a": seen, **told}, (seen * (1.0 if word == 7 else -1.0))[:, None], np.arange(length) > 0)


def policy(listens: bool) -> Policy:
    def act(params, observation, carry, key, context=None):
        del params, key, context
        right = jnp.where(observation[INSTRUCTION][:, :1] == 7, 1.0, -1.0) if listens else 1.0
        return (observation["state/a"] * right)[:, None], carry, {}

    return Policy(SPEC, lambda size: (), act)


def test_each_is_told_what_another_one_was_told():
    episodes = [episode(i, word) for i, word in enumerate((7, 7, 8, 9))]
    words = [one.observation[INSTRUCTION][:, 0] for one in told_otherwise(episodes)]
    assert [set(rows.tolist()) for rows in words] == [{8}, {8}, {9}, {7}] and all(len(rows) == 6 for rows in words)
    assert told_otherwise(episodes[:2]) is None and told_otherwise([episode(0, None), episode(1, None)]) is None


@pytest.mark.parametrize(("listens", "result"), [(True, "pass"), (False, "warn")])
def test_who_listens_errs_under_another_instruction(listens, result):
    episodes = [episode(i, 7 + i % 2) for i in range(8)]
    found = heeding(*(replay(policy(listens), (), shown) for shown in (episodes, told_otherwise(episodes))))
    width = np.ptp(np.concatenate([one.action[1:, 0] for one in episodes]))
    moved = [np.abs(2 * one.action[1:, 0]).mean() / width for one in episodes]
    if listens:
        assert found["own"] == pytest.approx(0.0) and found["difference"]["value"] == pytest.approx(np.mean(moved), rel=1e-5)
    else:
        assert found["own"] == pytest.approx(np.mean(moved) / 2, rel=0.2) and found["difference"]["value"] == pytest.approx(0.0)
    finding = heeding_finding({"made": found})
    assert finding.result == result and ("does not listen" in finding.advice) == (not listens)


def test_actions_that_never_change_are_named():
    still = [one._replace(action=np.zeros_like(one.action)) for one in (episode(0, 7), episode(1, 8))]
    with pytest.raises(ValueError, match="no action of these episodes varies"):
        heeding(*[replay(policy(True), (), still)] * 2)
