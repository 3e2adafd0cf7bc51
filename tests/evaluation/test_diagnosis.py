"""Each check trips where it has to and nowhere else."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algorithms import supervised
from jaxrl.evaluation import diagnosis, from_starts
from jaxrl.evaluation.copying import listening, repeating, tells_of_motion
from jaxrl.evaluation.diagnosis import closed_loop_finding, copying_finding, draw_diagnosis, modes_finding, open_loop_finding
from jaxrl.evaluation.from_starts import Starts, first_states, nearest_starts, play_from
from jaxrl.evaluation.modes import coverage, places
from jaxrl.evaluation.open_loop import Episode, Replayed, errors
from jaxrl.evaluation.overfit import overfit
from jaxrl.evaluation.report import metrics_of
from jaxrl.networks.state_mlp import Config as MLP
from jaxrl.networks.state_mlp import state_mlp
from jaxrl.objectives import bc
from jaxrl.ops import running_statistics
from jaxrl.optimizers import Config as Optimizer
from jaxrl.types import SUCCESS, ArraySpec, PolicySpec
from tests.evaluation.test_motion import going, walk
from tests.hosts import on_host

SPEC = PolicySpec({"state/a": ArraySpec((2,))}, ArraySpec((1,)), horizon=2)


def learner(learning_rate: float = 1e-2):
    objective = bc.bc(bc.Config(), SPEC, state_mlp(MLP(hidden=(64,)), SPEC.observation, (2, 1)))
    config = supervised.Config(ema_decay=0.999, optimizer=Optimizer(name="adam", learning_rate=learning_rate))
    no_scale = running_statistics.init(SPEC.observation | {"action": SPEC.action})
    return supervised.supervised(config, {"bc": objective}, {"bc": 1.0}, no_scale)


def transitions(rows: int = 100):
    seen = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32)
    action = np.sin(seen.sum(1))[:, None, None] * np.array([1.0, 2.0], np.float32)[:, None]
    mask = np.ones_like(action)
    mask[:5, 1], action[:5, 1] = 0.0, 1e6  # padding holds anything
    return {"observation": {"state/a": jnp.asarray(seen)}, "action": jnp.asarray(action), "mask": jnp.asarray(mask)}


def test_a_hundred_transitions_are_learnt_by_heart_or_not():
    found, losses = overfit(learner(), transitions(), 2000, 0.05, 0.5)
    done = diagnosis.overfit_finding(found, 100, 2000)
    assert done.result == "pass" and found["updates"] == len(losses) < 2000 and losses[-1] < losses[0] / 4
    assert found["median_relative"] < 0.05 and found["mean_relative"] < 0.5 * found["constant"]
    found, losses = overfit(learner(1e-6), transitions(), 100, 0.05, 0.5)
    stuck = diagnosis.overfit_finding(found, 100, 100)
    assert stuck.result == "fail" and "100 updates do not learn 100 transitions by heart" in stuck.advice and len(losses) == 100
    with pytest.raises(FloatingPointError, match="the loss is nan after 50 updates on the same 100 rows") as raised:
        overfit(learner(), transitions() | {"observation": {"state/a": jnp.full((100, 2), jnp.nan)}}, 100, 0.05, 0.5)
    assert diagnosis.not_finite_finding(raised.value).result == "fail"
    with pytest.raises(ValueError, match="every action of these rows is the same"):
        overfit(learner(), transitions() | {"action": jnp.ones((100, 2, 1))}, 100, 0.05, 0.5)


def test_steps_that_are_not_predicted_do_not_count():
    longer = transitions()
    for name, fill in (("action", 1e6), ("mask", 1.0)):
        longer[name] = jnp.concatenate([longer[name], jnp.full((100, 1, 1), fill)], 1)
    algorithm = learner()
    shorter = algorithm._replace(update=lambda state, batch, key: algorithm.update(state, transitions(), key))
    assert overfit(shorter, longer, 50, 0.05, 0.5)[0] == overfit(learner(), transitions(), 50, 0.05, 0.5)[0]


def replayed(noise: float, steps: int = 200):
    draws = np.random.default_rng(1)
    done = draws.uniform(size=(steps, 2))
    return [Replayed(done + noise * draws.normal(size=done.shape), done, np.ones(steps, bool))]


def test_open_loop_is_judged_by_the_median_and_by_who_always_does_the_same():
    action = ArraySpec((2,))
    assert open_loop_finding({"a": errors(replayed(0.02), action)}, "validation").result == "pass"
    both = {"a": errors(replayed(0.02), action), "b": errors(replayed(0.2), action)}
    worse = open_loop_finding(both, "validation")
    assert worse.result == "fail" and worse.figure.startswith("b, 1 episodes held out") and "--config.source.part=all" in worse.advice
    rare = np.zeros((100, 1))
    rare[::20] = 1.0  # a gripper that hardly ever closes: never closing it is right at most steps
    lazy = open_loop_finding({"a": errors([Replayed(np.zeros((100, 1)), rare, np.ones(100, bool))], ArraySpec((1,)))}, "train")
    assert lazy.result == "warn" and "one constant action" in lazy.advice
    still = errors([Replayed(np.zeros((9, 1)), np.zeros((9, 1)), np.ones(9, bool))], ArraySpec((1,)))
    assert open_loop_finding({"a": still}, "train").result == "skipped"


@pytest.mark.parametrize("where", ["device", "host"])
def test_episodes_begin_where_demonstrations_did(where, monkeypatch):
    monkeypatch.setattr(from_starts, "DRAWN", 200)
    monkeypatch.setattr(from_starts, "DRAWN_ON_HOST", 60)
    env = walk() if where == "device" else on_host(walk())
    shown = [{"state/place": np.array([[x, 0.0], [x + 1, 0.0], [x + 2, 0.0]], np.float32)} for x in np.linspace(0.1, 0.9, 9)]
    states, deviation = first_states(shown)
    np.testing.assert_allclose(states["state/place"][:, 0], np.linspace(0.1, 0.9, 9), rtol=1e-6)
    starts = nearest_starts(env, states, deviation, seed=2)
    assert starts.distance.max() < 0.05
    # To go 0.3 a step comes to 3 in time from a start above 0.6 alone.
    successes = metrics_of(play_from(env, going(0.3), (), starts, seed=2))[SUCCESS]
    np.testing.assert_array_equal(successes[[0, 1, 2, 3, 6, 7, 8]], [False] * 4 + [True] * 3)
    far = nearest_starts(env, {"state/place": states["state/place"] + 5}, deviation, seed=2)
    assert closed_loop_finding(successes, "success", far.distance).result == "skipped"


def test_the_closed_loop_is_judged_by_the_interval():
    near = np.zeros(50)
    for successes, result in ((np.arange(50) < 45, "pass"), (np.arange(50) < 5, "fail"), (np.arange(50) < 27, "warn")):
        found = closed_loop_finding(successes, "success", near)
        assert found.result == result and "N = 50" in found.figure, found
    assert Starts(np.zeros(1, np.int64), near).distance is near


def two_ways(told: bool = False):
    """Rows seen in [-1, 1]^2; actions go left or right of the middle, by a coin or, if that is told, by what is seen."""
    draws = np.random.default_rng(2)
    seen = draws.uniform(-1, 1, (600, 2))
    side = np.sign(seen[:, 0]) if told else draws.choice([-1.0, 1.0], 600)
    return seen, np.stack([side, 0.3 * seen[:, 1]], 1) + 0.05 * draws.normal(size=(600, 2)), draws


def sampler(draws, of):
    return lambda rows: np.stack([[of(draws), 0.0] for _ in range(32 * len(rows))]).reshape(len(rows), 32, 2)


@pytest.mark.parametrize(
    ("of", "result", "advice"),
    [
        (lambda draws: draws.choice([-1.0, 1.0]), "pass", ""),
        (lambda draws: 0.0, "warn", "its mean is no way that was demonstrated"),
        (lambda draws: 1.0, "warn", "it does one of them alone"),
    ],
)
def test_a_policy_takes_both_ways_one_or_their_mean(of, result, advice):
    seen, chunks, draws = two_ways()
    found = places(seen, chunks, 100)
    assert len(found) > 80
    told, where = coverage(found, sampler(draws, of), 100)
    judged = modes_finding(told)
    assert judged.result == result and advice in judged.advice and where.shape == (16, 32)
    assert told["collapsed"] == (0 if result == "pass" else 16)
    rare = modes_finding(told | {"two_ways": 1, "looked_at": 200})
    assert rare.result == "pass" and "all but 1 of 200 places" in rare.figure


@pytest.mark.parametrize("kind", ["told", "noise", "uniform"])
def test_where_there_is_one_way_there_is_nothing_to_warn_of(kind):
    """What is seen tells the way but at its border, or actions are spread out widely and in one heap."""
    seen, chunks, draws = two_ways(told=True)
    if kind != "told":
        chunks = draws.normal(size=chunks.shape) if kind == "noise" else draws.uniform(-2, 2, chunks.shape)
    found = places(seen, chunks, 100)
    assert len(found) <= 3
    told, _ = coverage([], sampler(draws, lambda draws: 0.0), 100)
    assert modes_finding(told).result == "pass"


def test_too_few_transitions_tell_no_ways():
    with pytest.raises(ValueError, match="10 transitions, but 96 are needed"):
        places(np.zeros((10, 1)), np.zeros((10, 1)), 5)


def sticky(stay: float):
    """Actions that stay what they are at most steps and follow a cue where they change."""
    draws = np.random.default_rng(3)
    action = np.empty((400, 1), np.float32)
    action[0] = 0.0
    for step in range(1, 400):
        action[step] = action[step - 1] if draws.random() < stay else draws.uniform(-1, 1)
    last = np.concatenate([action[:1], action[:-1]])
    observation = {"state/cue": action + 0.0, "state/last_action": last}
    return Episode(observation, action[:, None], np.ones(400, bool))


def copies(seen):
    return 0.9 * seen["state/last_action"] + 0.1 * seen["state/cue"]


def looks(seen):
    return seen["state/cue"] * 1.0


@pytest.mark.parametrize(("policy", "stay", "result"), [(copies, 0.9, "warn"), (looks, 0.9, "pass"), (copies, 0.0, "pass")])
def test_a_copycat_is_one_where_copying_is_tempting(policy, stay, result):
    one = sticky(stay)
    heard = listening(policy, one.observation, history=1)
    assert (heard["share"] > 0.9) == (policy is copies) and heard["inputs"]["past"] == ["state/last_action"]
    found = copying_finding(repeating([one]), heard)
    assert found.result == result and ("copy its last action" in found.advice) == (result == "warn")


def test_repeating_against_numpy():
    one = sticky(0.5)
    action, counts = one.action[:, 0, 0], np.random.default_rng(4).random(400) < 0.8
    found = repeating([one._replace(counts=counts), one._replace(counts=np.zeros(400, bool))])
    rows = np.flatnonzero(counts[1:]) + 1
    np.testing.assert_allclose(found["median_relative"], np.median(np.abs(action[rows] - action[rows - 1])) / np.ptp(action[rows]))
    np.testing.assert_allclose(found["explained"], np.corrcoef(action[rows], action[rows - 1])[0, 1] ** 2, rtol=1e-4)
    still = one._replace(action=np.zeros((400, 1, 1), np.float32))
    assert copying_finding(repeating([still]), None).result == "skipped"
    assert copying_finding(repeating([sticky(0.95)]), None).advice.startswith("would pass `open_loop`")


def test_a_history_tells_of_the_past_and_its_last_step_does_not():
    seen = np.random.default_rng(5).normal(size=(300, 2, 1))
    before = listening(lambda x: x["state/place"][:, 0], {"state/place": seen}, history=2)
    now = listening(lambda x: x["state/place"][:, 1], {"state/place": seen}, history=2)
    assert before["share"] == 1.0 and now["share"] == 0.0 and before["inputs"] == {"past": ["state/place, before"], "rest": ["state/place"]}
    # Jansen's estimate of a total effect: all of the variance.
    assert before["effects"]["past"] == pytest.approx(seen[:, 0].var(), rel=0.2)
    velocity = listening(lambda x: x["state/joint_velocity"], {"state/joint_velocity": seen[:, 0]}, history=1)
    assert velocity["share"] is None and "listens to nothing else" in copying_finding(repeating([sticky(0.9)]), velocity).figure


@pytest.mark.parametrize(
    ("name", "tells"),
    [
        ("state/velocity", True),
        ("state/last_action", True),
        ("state/joint_vel", True),
        ("state/position", False),
        ("state/reaction", False),
    ],
)
def test_names_that_tell_of_motion(name, tells):
    assert tells_of_motion(name) == tells


def test_what_was_found_is_json_and_a_picture(tmp_path):
    found = [diagnosis.skipped("modes", "why"), open_loop_finding({"a": errors(replayed(0.02), ArraySpec((2,)))}, "train")]
    assert diagnosis.to_json(found)[0] == {"check": "modes", "result": "skipped", "figure": "why", "advice": "", "details": {}}
    assert not diagnosis.failed(found)
    picture = tmp_path / "new" / "diagnosis.png"
    assert draw_diagnosis([3.0, 2.0], found[1].details, np.random.default_rng(0).random((2, 8)), picture)
    assert picture.stat().st_size > 10_000
    assert not draw_diagnosis([], {}, np.zeros((0, 0)), tmp_path / "none.png") and not (tmp_path / "none.png").exists()
