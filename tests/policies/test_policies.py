"""What stands around a policy that predicts chunks."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.evaluation.play import play, repeat
from jaxrl.policies import blended, history, latency_matched, receding_horizon, smoothed, temporal_ensemble
from jaxrl.types import ArraySpec, Policy, PolicySpec
from jaxrl_envs.tasks import cartpole

KEYS = jax.random.split(jax.random.key(0), 2)


def echo(horizon: int = 6, executed: int = 1, rate: float = 10.0, steps: int | None = None) -> Policy:
    """Step i of a chunk is what was seen plus i: with `steps` the mean of what it was shown."""
    shape = (1,) if steps is None else (steps, 1)
    spec = PolicySpec({"state/x": ArraySpec(shape)}, ArraySpec((1,)), horizon, executed, rate)

    def act(params, observation, carry, key, context=None):
        seen = observation["state/x"] if steps is None else observation["state/x"].mean(1)
        return seen[:, None] + jnp.arange(float(horizon))[None, :, None], carry, {}

    return Policy(spec, lambda size: (), act)


def seen(*values: float) -> dict:
    return {"state/x": jnp.array(values)[:, None]}


def run(policy: Policy, values: list[float]) -> np.ndarray:
    """The chunks [T, H] of the first of two worlds, which are shown the same."""
    carry, chunks = policy.init(2), []
    for value in values:
        chunk, carry, _ = policy.act((), seen(value, value), carry, KEYS)
        chunks.append(chunk[0, :, 0])
    return np.array(chunks)


def test_history_is_what_was_seen_also_in_between():
    policy = history.history(history.Config(steps=2, stride=2), echo(steps=2))
    assert policy.spec.observation["state/x"].shape == (1,)
    carry = policy.init(2)
    found = []
    for step, value in enumerate([1.0, 2.0, 4.0, 8.0, 16.0]):
        if step % 2 == 0:  # asked at every other step only
            chunk, carry, _ = policy.act((), seen(value, value), carry, KEYS)
            found.append(float(chunk[0, 0, 0]))
        else:
            carry = policy.remember(seen(value, value), carry)
    assert found == [(1 + 1) / 2, (1 + 4) / 2, (4 + 16) / 2]  # before the first step it was as it was then


def test_a_new_episode_has_no_history():
    policy = history.history(history.Config(steps=2), echo(steps=2))
    _, carry, _ = policy.act((), seen(1.0, 1.0), policy.init(2), KEYS)
    carry = jax.tree.map(lambda new, old: jnp.stack([new[0], old[1]]), policy.init(2), carry)  # the first world has begun anew
    chunk, _, _ = policy.act((), seen(5.0, 5.0), carry, KEYS)
    assert chunk[:, 0, 0].tolist() == [5.0, 3.0]


def test_history_refuses_what_is_no_history():
    with pytest.raises(ValueError, match=r"history: the policy reads state/x of the shape \(2, 1\), which does not begin with 3 steps"):
        history.history(history.Config(steps=3), echo(steps=2))


def test_temporal_ensemble_against_all_predictions():
    """ACT's equation, with every prediction kept."""
    values, horizon, m = [3.0, -1.0, 2.0, 7.0, 0.5, 4.0, 1.0], 4, 0.3
    policy = temporal_ensemble.temporal_ensemble(temporal_ensemble.Config(m), echo(horizon, executed=2))
    assert policy.spec.executed_steps == 1
    chunks = run(policy, values)
    for now in range(len(values)):
        for ahead in range(horizon):
            time = now + ahead
            predicted = [values[then] + time - then for then in range(max(0, time - horizon + 1), now + 1)]  # the oldest first
            weight = np.exp(-m * np.arange(len(predicted)))
            np.testing.assert_allclose(chunks[now, ahead], (weight * predicted).sum() / weight.sum(), rtol=1e-5)


def test_blended_begins_at_the_old_chunk():
    policy = blended.blended(blended.Config(2), echo(horizon=6, executed=3))
    first, second = run(policy, [0.0, 30.0])
    np.testing.assert_array_equal(first, np.arange(6.0))
    old, new = np.array([3.0, 4.0]), np.array([30.0, 31.0])
    np.testing.assert_allclose(second, [*(np.array([2, 1]) * old + np.array([1, 2]) * new) / 3, 32, 33, 34, 35], rtol=1e-6)


def test_smoothed_against_its_equation():
    policy = smoothed.smoothed(smoothed.Config(cutoff=1.0), echo(horizon=3, executed=2))
    first, second = run(policy, [0.0, 10.0])
    share = 1 - np.exp(-2 * np.pi / 10)
    expected = [0.0]
    for x in (1.0, 10.0, 11.0):  # the third of the first chunk is not executed
        expected.append(expected[-1] + share * (x - expected[-1]))
    np.testing.assert_allclose([*first[:2], *second[:2]], expected, rtol=1e-5)


def test_latency_matched_leaves_out_what_has_passed():
    policy = latency_matched.latency_matched(latency_matched.Config(0.2), echo(horizon=6, executed=4))
    assert policy.spec.horizon == 4
    np.testing.assert_array_equal(run(policy, [1.0])[0], [3, 4, 5, 6])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: receding_horizon.receding_horizon(receding_horizon.Config(7), echo()), "executed_steps is 7, .* predicts only 6 steps"),
        (lambda: blended.blended(blended.Config(4), echo(executed=3)), "steps is 4, but of 6 predicted steps 3 are executed"),
        (lambda: smoothed.smoothed(smoothed.Config(), echo(rate=0.0)), "does not know its control rate"),
        (lambda: latency_matched.latency_matched(latency_matched.Config(0.3), echo(executed=4)), "latency is 0.3 s, 3 steps at 10 Hz"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


AROUND = {
    "receding_horizon": lambda policy: receding_horizon.receding_horizon(receding_horizon.Config(3), policy),
    "temporal_ensemble": lambda policy: temporal_ensemble.temporal_ensemble(temporal_ensemble.Config(), policy),
    "blended": lambda policy: blended.blended(blended.Config(2), policy),
    "latency_matched": lambda policy: latency_matched.latency_matched(latency_matched.Config(0.2), policy),
}


def sane(order: tuple[str, ...]) -> bool:
    """How many steps are executed is known to all that goes on from them."""
    mixed = [place for place, name in enumerate(order) if name in ("temporal_ensemble", "blended")]
    if "receding_horizon" not in order or not mixed:
        return True
    before = order[: order.index("temporal_ensemble")] if "temporal_ensemble" in order else ()
    return order.index("receding_horizon") < mixed[0] and not {"receding_horizon", "blended"} <= set(before)


@pytest.mark.parametrize("order", [order for n in (2, 3) for order in itertools.permutations(AROUND, n)], ids="-".join)
def test_in_any_order_it_is_refused_or_acts_at_the_right_time(order):
    """What predicts each step as it will be says the same of it whenever it is asked, so nothing around it may change what is done."""
    policy = echo(horizon=9)
    try:
        for name in order:
            policy = AROUND[name](policy)
    except ValueError as error:
        assert "go on from earlier ones" in str(error) and not sane(order), error
        return
    assert sane(order)
    executed, late = policy.spec.executed_steps, 2 * ("latency_matched" in order)
    times = executed * np.arange(5.0)
    chunks = run(policy, times.tolist())[:, :executed]
    np.testing.assert_allclose(chunks, times[:, None] + np.arange(executed) + late, atol=1e-4)


def test_chunks_roll_out_in_one_program_with_their_history():
    """A policy of two observations that executes three of five steps, in a MuJoCo world; its history is that of every step."""
    env = cartpole.cartpole()
    shown = {name: ArraySpec((2, *spec.shape)) for name, spec in env.spec.observation.items()}
    name = next(iter(shown))
    spec = PolicySpec(shown, env.spec.action, 5, rate=1 / env.spec.dt)

    def act(params, observation, carry, key, context=None):
        before, now = observation[name][:, 0], observation[name][:, 1]
        return jnp.stack([before[:, :1], now[:, :1], now[:, :1] - before[:, :1], now[:, :1], now[:, :1]], 1), carry, {}

    inner = receding_horizon.receding_horizon(receding_horizon.Config(3), Policy(spec, lambda size: (), act))
    policy = history.history(history.Config(2), inner)
    run = play(env, policy, num_steps=9, keep=lambda step: (step.observation[name], step.action), num_episodes=2)
    played = run((), repeat(env.nominal, 2), jax.random.key(1))
    observed, action = jax.device_get(played.kept)
    for first in (0, 3, 6):
        before = observed[max(first - 1, 0), :, :1]
        now = observed[first, :, :1]
        np.testing.assert_allclose(action[first : first + 3], np.stack([before, now, now - before]), rtol=1e-5, atol=1e-6)
