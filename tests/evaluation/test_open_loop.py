"""A policy in recorded episodes: it sees them as it would while acting, and is compared with what was done, against loops in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.evaluation import open_loop
from jaxrl.evaluation.histograms import draw_histograms, histograms
from jaxrl.evaluation.latency import latency
from jaxrl.evaluation.open_loop import Episode, Replayed, dimensions, episodes_of, errors, replay
from jaxrl.policies import history as past
from jaxrl.policies.history import history
from jaxrl.replay.recording import Recording
from jaxrl.types import ArraySpec, Policy, PolicySpec

ACTION = ArraySpec((2,), names=("x", "grip"), unit="m,1")
SPEC = PolicySpec({"state/a": ArraySpec((2,))}, ACTION, horizon=3, executed_steps=2, rate=10.0)
LENGTHS = (5, 2, 7)


def recording(lengths=LENGTHS) -> Recording:
    draws = np.random.default_rng(0)
    seen, action = (draws.normal(size=(sum(lengths), 2)).astype(np.float32) for _ in range(2))
    return Recording({"state/a": seen}, action, np.zeros(len(seen), np.float32), np.cumsum(lengths, dtype=np.int64), SPEC)


def parts(one: Recording):
    """Observations and actions of each episode."""
    return [np.split(array, one.episode_ends[:-1]) for array in (one.observation["state/a"], one.action)]


def counting() -> Policy:
    """Step k of a chunk is what is seen, times the parameter, and k more; its second number counts all observations so far."""

    def act(params, observation, carry, key, context=None):
        carry = remember(observation, carry)
        first = params * observation["state/a"][:, None, :1] + jnp.arange(3.0)[None, :, None]
        return jnp.concatenate([first, jnp.broadcast_to(carry[:, None, None], first.shape)], -1), carry, {}

    def remember(observation, carry):
        return carry + 1.0

    return Policy(SPEC, lambda size: jnp.zeros(size), act, remember)


@pytest.mark.parametrize("at_once", [64, 2])
def test_it_is_asked_and_remembers_as_where_it_acts(monkeypatch, at_once):
    monkeypatch.setattr(open_loop, "AT_ONCE", at_once)
    one = recording()
    found = replay(counting(), jnp.float32(2.0), episodes_of(one, 3))
    assert [len(each.predicted) for each in found] == list(LENGTHS)
    for each, seen, action in zip(found, *parts(one), strict=True):
        asked = np.arange(len(seen)) // 2 * 2
        np.testing.assert_allclose(each.predicted[:, 0], 2 * seen[asked, 0] + np.arange(len(seen)) % 2, rtol=1e-6)
        np.testing.assert_array_equal(each.predicted[:, 1], asked + 1)
        np.testing.assert_array_equal(each.demonstrated, action)
        assert each.counts.all()


def test_a_history_is_that_of_the_episode():
    def act(params, observation, carry, key, context=None):
        return observation["state/a"], carry, {}

    spec = SPEC._replace(observation={"state/a": ArraySpec((3, 2))})
    reads = history(past.Config(steps=3), Policy(spec, lambda size: (), act))
    one = recording()
    for each, seen in zip(replay(reads, (), episodes_of(one, 3)), parts(one)[0], strict=True):
        for step in range(len(seen)):
            asked = step // 2 * 2
            rows = np.maximum(np.arange(asked - 2, asked + 1), 0)
            np.testing.assert_allclose(each.predicted[step], seen[rows][step % 2])


def test_chunks_are_compared_in_the_units_of_the_data():
    """Actions that a policy puts out as differences to the position at the chunk's first step, in half metres."""
    one = recording((6,))
    position = one.observation["state/a"]
    rows = np.minimum(np.arange(6)[:, None] + np.arange(3), 5)
    relative = (one.action[rows] - position[:, None]) * 2

    def own(steps, chunks):
        return chunks / 2 + position[steps][:, None]

    counts = np.array([True] * 4 + [False] * 2)
    (found,) = replay(counting(), jnp.float32(0.0), [Episode(one.observation, relative, counts, own)])
    np.testing.assert_allclose(found.demonstrated, one.action, rtol=1e-5, atol=1e-6)
    asked = np.arange(6) // 2 * 2
    np.testing.assert_allclose(found.predicted[:, 0], np.arange(6) % 2 / 2 + position[asked, 0], rtol=1e-6)
    assert errors([found], ACTION)["steps"] == 4


def test_errors_against_loops():
    draws = np.random.default_rng(1)
    replayed = [Replayed(*(draws.normal(size=(n, 3)) for _ in range(2)), draws.random(n) < 0.7) for n in (20, 30, 9)]
    for one in replayed:
        one.demonstrated[:, 2] = 4.0  # never changes
    found = errors(replayed, ArraySpec((3,), unit="rad"))
    pairs = [(p, d) for one in replayed for p, d, use in zip(*one, strict=True) if use]
    assert found["steps"] == len(pairs) and found["episodes"] == 3
    relative = []
    for k in range(2):
        absolute = [abs(p[k] - d[k]) for p, d in pairs]
        width = max(d[k] for _, d in pairs) - min(d[k] for _, d in pairs)
        told = found["dimensions"][str(k)]
        assert told["unit"] == "rad"
        expected = (np.mean(absolute), np.median(absolute), width, np.median(absolute) / width)
        np.testing.assert_allclose([told[name] for name in ("mean", "median", "range", "median_relative")], expected)
        relative += [x / width for x in absolute]
    assert found["dimensions"]["2"]["median_relative"] is None and found["dimensions"]["2"]["range"] == 0
    np.testing.assert_allclose(found["median_relative"], np.median(relative))
    assert found["mean_relative"]["n"] == 3 and found["mean_relative"]["low"] < found["mean_relative"]["value"]
    done = np.array([d[:2] for _, d in pairs])
    np.testing.assert_allclose(found["constant"], np.mean(np.abs(done - np.median(done, 0)) / np.ptp(done, axis=0)))


def test_where_nothing_varies_nothing_is_relative():
    found = errors([Replayed(np.ones((3, 1)), np.zeros((3, 1)), np.ones(3, bool))], ArraySpec((1,)))
    assert found["median_relative"] is None and found["mean_relative"] is None and found["dimensions"]["0"]["mean"] == 1.0


def test_dimensions_have_names_and_units():
    assert dimensions(ACTION, 2) == [("x", "m"), ("grip", "1")]
    assert dimensions(ACTION, 3) == [("0", ""), ("1", ""), ("2", "")]


def test_what_cannot_be_shown_is_said():
    with pytest.raises(ValueError, match="no episode to show"):
        replay(counting(), jnp.float32(1.0), [])
    (one,) = episodes_of(recording((4,)), 3)
    with pytest.raises(ValueError, match=r"reads state/a of the shape \(2,\), of which the episodes show nothing"):
        replay(counting(), jnp.float32(1.0), [one._replace(observation={})])
    with pytest.raises(ValueError, match="no step of these episodes counts"):
        errors([Replayed(np.ones((3, 1)), np.zeros((3, 1)), np.zeros(3, bool))], ArraySpec((1,)))


def test_histograms_and_how_far_they_are_apart(tmp_path):
    draws = np.random.default_rng(2)
    demonstrated = draws.normal(size=(50, 2))
    predicted = np.stack([draws.permutation(demonstrated[:, 0]) + 0.5, demonstrated[:, 1]], 1)
    found = histograms([Replayed(predicted, demonstrated, np.ones(50, bool))], ACTION)
    sorted_apart = np.abs(np.sort(predicted[:, 0]) - np.sort(demonstrated[:, 0])).mean()
    assert found["x"]["distance"] == pytest.approx(sorted_apart) == pytest.approx(0.5)
    assert found["x"]["relative"] == pytest.approx(0.5 / np.ptp(demonstrated[:, 0])) and found["grip"]["distance"] == 0
    assert sum(found["x"]["predicted"]) == sum(found["x"]["demonstrated"]) == 50 and found["x"]["predicted"] != found["x"]["demonstrated"]
    assert found["grip"]["predicted"] == found["grip"]["demonstrated"]
    draw_histograms(found, tmp_path / "new" / "picture.png", "a set")
    assert (tmp_path / "new" / "picture.png").stat().st_size > 5_000


def test_latency_tells_of_single_answers():
    found = latency(counting(), jnp.float32(1.0), answers=20)
    assert 0 < found["p50"] <= found["p99"] < 1.0 and found["jitter"] == pytest.approx(found["p99"] - found["p50"])
    assert found["available"] == pytest.approx(0.2) and found["n"] == 20
    still = counting()._replace(spec=SPEC._replace(rate=0.0))
    assert latency(still, jnp.float32(1.0), answers=2)["available"] is None
    assert jax.devices()[0].device_kind == found["device"]
