"""Episodes as a policy is shown them: what training draws, step by step, and actions as the data hold them."""

from dataclasses import replace

import numpy as np
import pytest

from jaxrl_data import shown as module
from jaxrl_data.dataset_source import Config
from jaxrl_data.members import open_member
from jaxrl_data.samples import open_mixture
from jaxrl_data.shown import shown
from jaxrl_data.transforms.window import IdleFilter
from tests.data import streams
from tests.data.caches import LENGTHS, made
from tests.data.episodes import dataset, episode
from tests.data.test_mixture import DELTA, mixture


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made(tmp_path_factory.mktemp("data") / "cache")


def config(chosen):
    return Config(**{field: getattr(chosen, field) for field in chosen.__dataclass_fields__}, batch_size=4)


@pytest.mark.parametrize("history", [1, 2])
def test_it_is_what_training_draws_and_comes_back_as_the_data_hold_it(folder, history):
    changes = {"normalise": "quantile", "horizon": 3, "history": history, "augment": ({"name": "crop", "share": 0.8},), "validation": 0.4}
    chosen = mixture(folder, of={"transforms": (DELTA,)}, **changes)
    found = shown(config(chosen), "validation", 100)["made"]
    out = open_member(chosen.sets["made"], "validation", 0.4).chosen.tolist()
    assert [len(one.counts) for one in found.episodes] == [LENGTHS[number] for number in out] and found.action.shape == (2,)
    steps_of_all = sum(LENGTHS[number] for number in out)
    batch = open_mixture(replace(chosen, part="validation")).batch(range(steps_of_all))
    rows = {action.tobytes(): row for row, action in enumerate(batch["action"])}
    assert len(rows) == steps_of_all
    for number, one in zip(out, found.episodes, strict=True):
        raw = episode(number, LENGTHS[number]).arrays["action"]
        steps = np.arange(len(raw))
        own = one.own(steps, one.action[:, :2])
        np.testing.assert_allclose(own[:, 0], raw, rtol=1e-4, atol=2e-3)
        np.testing.assert_allclose(own[:-1, 1], raw[1:], rtol=1e-4, atol=2e-3)
        assert one.counts.all()
        for step in steps:
            for name in ("state/pose", "image/front"):
                expected = batch["observation"][name][rows[one.action[step].tobytes()]]
                np.testing.assert_array_equal(one.observation[name][step], expected if history == 1 else expected[-1])


def test_held_out_ones_alone_and_no_more_than_asked_for(folder, monkeypatch):
    chosen = config(mixture(folder, validation=0.4))
    out = open_member(chosen.sets["made"], "validation", 0.4).chosen
    found = shown(chosen, "validation", 100)["made"].episodes
    assert [len(one.counts) for one in found] == [LENGTHS[number] for number in out]
    assert [len(one.counts) for one in shown(chosen, "all", 2)["made"].episodes] == [LENGTHS[0], LENGTHS[-1]]
    monkeypatch.setattr(module, "MOST", 1)
    assert len(shown(chosen, "all", 5)["made"].episodes) == 1


def test_steps_that_training_leaves_out_do_not_count_and_strides_are_kept(folder):
    idle = IdleFilter(moving=(0,), threshold=0.9)
    chosen = mixture(folder, of={"idle": idle}, action_stride=2, horizon=2)
    for number, one in enumerate(shown(config(chosen), "all", 100)["made"].episodes):
        raw = episode(number, LENGTHS[number])
        if idle(raw).any():
            np.testing.assert_array_equal(one.counts, idle(raw)[::2])
            np.testing.assert_allclose(one.action[:, 0], raw.arrays["action"][::2])


@pytest.mark.filterwarnings("ignore:sets.made. names no statistics")
def test_streams_show_the_same(folder, sets):
    sets["made"] = dataset(LENGTHS)
    found = shown(streams.config(history=2), "all", 4)["made"]
    cached = shown(config(mixture(folder, columns=streams.COLUMNS, history=2, horizon=3)), "all", 100)["made"]
    assert len(found.episodes) == 4
    for one, other in zip(found.episodes, cached.episodes, strict=False):
        assert one.observation.keys() == other.observation.keys() and one.observation
        for name, array in one.observation.items():
            np.testing.assert_array_equal(array, other.observation[name])
        np.testing.assert_array_equal(one.action, other.action)
