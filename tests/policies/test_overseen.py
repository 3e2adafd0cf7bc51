"""Who acts and what counts while an expert looks on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.policies import overseen
from jaxrl.policies.constant import constant
from jaxrl.types import ArraySpec, Policy, PolicySpec

SPEC = PolicySpec({"state/x": ArraySpec((1,))}, ArraySpec((2,)))
KEYS = jax.random.split(jax.random.key(0), 3)
RULES = ("dagger", "safe_dagger", "hg_dagger")


def says(value=None, extras=False) -> Policy:
    """What it is asked for: a number, or what is seen; with `extras` it takes over where it sees more than 5."""
    spec = SPEC._replace(extras={"takes_over": ArraySpec(())} if extras else {})

    def act(params, observation, carry, key, context=None):
        seen = observation["state/x"]
        action = jnp.broadcast_to(seen if value is None else jnp.full_like(seen, value), (len(seen), 2))
        return action[:, None], carry + 1, {"takes_over": (seen[:, 0] > 5).astype(jnp.float32)} if extras else {}

    return Policy(spec, lambda size: jnp.zeros(size, jnp.int32), act)


def play(policy: Policy, seen: list[list[float]]):
    """What was done, the labels and what counts, [T, B]."""
    carry, rows = policy.init(3), []
    for now in seen:
        action, carry, extras = policy.act((), {"state/x": jnp.array(now)[:, None]}, carry, KEYS)
        rows.append((action[:, 0, 0], extras["expert"][:, 0], extras["counts"]))
    return [np.array(x) for x in zip(*rows, strict=True)]


def test_safe_dagger_acts_and_learns_where_they_differ():
    policy = overseen.overseen(overseen.Config("safe_dagger", threshold=1.0), says(), says(0.0), ())
    action, label, counts = play(policy, [[0.5, 2.0, -3.0]])
    assert action.tolist() == [[0.5, 0, 0]] and label.tolist() == [[0, 0, 0]] and counts.tolist() == [[0, 1, 1]]


def test_a_person_gives_back_later_than_they_take():
    policy = overseen.overseen(overseen.Config("hg_dagger", threshold=1.0, release=0.5), says(), says(0.0), ())
    action, _, counts = play(policy, [[0.7, 2.0, 2.0], [0.7, 0.7, 0.4], [0.7, 0.4, 0.7]])
    assert counts.tolist() == [[0, 1, 1], [0, 1, 0], [0, 0, 0]]
    np.testing.assert_allclose(action, [[0.7, 0, 0], [0.7, 0, 0.4], [0.7, 0.4, 0.7]], rtol=1e-6)


def test_a_humans_flag_takes_over():
    policy = overseen.overseen(overseen.Config("human"), says(1.0), says(0.0, extras=True), ())
    action, _, counts = play(policy, [[6.0, 4.0, 6.0]])
    assert action.tolist() == [[0, 1, 0]] and counts.tolist() == [[1, 0, 1]]
    with pytest.raises(ValueError, match="rule is human, but the expert raises no flag"):
        overseen.overseen(overseen.Config("human"), says(1.0), says(0.0), ())


def test_dagger_mixes_by_episodes_and_learns_from_all():
    size = 400
    policy = overseen.overseen(overseen.Config("dagger", beta=0.25), says(1.0), says(0.0), ())
    carry, keys, actions = policy.init(size), jax.random.key(1), []
    for step in range(3):
        seen = {"state/x": jnp.zeros((size, 1))}
        action, carry, extras = policy.act((), seen, carry, jax.random.split(jax.random.fold_in(keys, step), size))
        actions.append(np.array(action[:, 0, 0]))
        assert (extras["counts"] == 1).all() and (extras["expert"] == 0).all()
    assert (actions[0] == actions[1]).all() and (actions[1] == actions[2]).all()  # of an episode all steps
    assert 0.18 < (actions[0] == 0).mean() < 0.32


@pytest.mark.parametrize("rule", RULES)
def test_an_expert_that_agrees_changes_nothing(rule):
    policy = overseen.overseen(overseen.Config(rule), says(), says(), ())
    action, label, _ = play(policy, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    np.testing.assert_array_equal(action, label)


def test_refusals():
    with pytest.raises(ValueError, match="release is 0.2, but must lie between 0 and the threshold, 0.1"):
        overseen.Config(threshold=0.1, release=0.2)
    other = constant(SPEC._replace(action=ArraySpec((3,))))
    with pytest.raises(ValueError, match=r"the student's actions are float32 \(2,\), the expert's float32 \(3,\)"):
        overseen.overseen(overseen.Config(), says(), other, ())
