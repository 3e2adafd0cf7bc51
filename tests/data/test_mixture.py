"""What a mixture's config can ask for: parts of a set, steps that are left out, changed numbers, goals, tokens, augmentation."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from etils import epath

from jaxrl import config as configs
from jaxrl_data import commands, placing, planning, selection
from jaxrl_data.dataset_source import Config, batches, dataset_source
from jaxrl_data.members import Set, open_member, statistics_of
from jaxrl_data.mixture import Goal, Images, Mixture
from jaxrl_data.samples import open_mixture
from jaxrl_data.selection import By
from jaxrl_data.stream_source import open_mixed
from jaxrl_data.streaming.members import Streamed
from jaxrl_data.transforms.instruction import Tokenise
from jaxrl_data.transforms.interface import apply, invert
from jaxrl_data.transforms.window import IdleFilter
from tests.data import streams
from tests.data.batches import assert_same, counts
from tests.data.caches import COLUMNS, LENGTHS, made
from tests.data.episodes import dataset, episode

OWN = {name: of for name, of in COLUMNS.items() if name != "state/count"}
DELTA = {"name": "delta_action", "state": "observation/state/pose", "pairs": ((0, 2), (1, 0))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made(tmp_path_factory.mktemp("data") / "cache")


def mixture(folder, columns=OWN, of=None, **changes):
    return Mixture(**{"sets": {"made": Set(str(folder), columns=columns, **(of or {}))}, "images": Images(16, pad=False)} | changes)


def drawn(chosen, number):
    return counts(open_mixture(chosen).batch(range(number)))


@pytest.mark.parametrize(("temperature", "expected"), [(inf, (1 / 3, 1 / 3, 1 / 3)), (1.0, (13 / 34, 9 / 34, 12 / 34))])
def test_tasks_are_drawn_as_sets_of_their_own(folder, temperature, expected):
    """Episode e has the task e modulo 3; within each task every step comes once before any comes again."""
    chosen = mixture(folder, of={"by": By(temperature=temperature)})
    found = drawn(chosen, 340)
    of_task = found // 1000 % 3
    for first in range(0, 320, 20):
        assert np.abs(np.bincount(of_task[first : first + 20], minlength=3) / 20 - expected).max() < 0.13
    for task, size in enumerate((13, 9, 12)):
        assert len(set(found[of_task == task][:size].tolist())) == size
    np.testing.assert_array_equal(counts(open_mixture(chosen).batch(range(200, 220))), found[200:220])


def test_what_was_read_once_is_kept_and_told_of_other_data(folder, monkeypatch):
    chosen = mixture(folder, of={"by": By()})
    expected = drawn(chosen, 30)
    monkeypatch.setattr(selection, "_part", lambda *_: pytest.fail("the episodes are read again"))
    np.testing.assert_array_equal(drawn(chosen, 30), expected)


def standing(lengths=LENGTHS):
    """The robot stands at every step of episode 1, and at the first two of each other one."""
    whole = dataset(lengths)

    def read(first, last, columns=None):
        for number, one in enumerate(whole.read(first, last, columns), first):
            if "action" in one.arrays:
                one.arrays["action"][: 99 if number == 1 else 2] = 0.0
            yield one

    return whole._replace(read=read, fingerprint="standing")


IDLE = IdleFilter(moving=(0, 1))
MOVING = [1000 * number + step for number, length in enumerate(LENGTHS) if number != 1 for step in range(2, length)]


def test_steps_at_which_the_robot_stands_are_left_out(tmp_path, sets):
    still = standing()
    cache = made(tmp_path / "cache", read=still.read, fingerprint="standing")
    chosen = mixture(cache, of={"idle": IDLE}, normalise="bounds")
    assert sorted(drawn(replace(chosen, normalise=""), len(MOVING))) == MOVING
    held = open_mixture(chosen).statistics["made"].columns["state/pose"]
    assert (held.min[0], held.max[0], held.steps) == (min(MOVING), max(MOVING), len(MOVING))
    whole = statistics_of(open_member(Set(str(cache), columns=OWN))).columns["state/pose"]
    assert whole.min[0] == 0, "another file than that of the moving steps"
    sets["made"] = still
    streamed = streams.config(sets={"made": Streamed("made", columns=OWN, block=2, idle=IDLE)}, horizon=1)
    found = np.concatenate([counts(batch) for batch, _ in streams.take(streamed, 4)])
    assert set(found.tolist()) <= set(MOVING) and len(set(found.tolist())) == len(MOVING)
    with pytest.raises(ValueError, match="no step is left for train; all of its episodes stand still"):
        open_mixture(mixture(cache, of={"idle": IdleFilter(moving=(0,), threshold=9.0)}))


def windows(horizon):
    """[N, 2] the actions of all chunks less the state at their start, of both pairs, without padding."""
    found = []
    for number, length in enumerate(LENGTHS):
        one = episode(number, length)
        for step in range(length):
            state, action = one.arrays["state"][step], one.arrays["action"][step : step + horizon]
            found += (action - state[[2, 0]]).tolist()
    return np.array(found, np.float32)


@pytest.mark.parametrize("normalise", ["", "bounds"])
def test_changed_actions_are_normalised_by_statistics_of_chunks(folder, normalise):
    mixed = open_mixture(mixture(folder, of={"transforms": (DELTA,)}, normalise=normalise, horizon=3))
    batch, expected = mixed.batch(range(34)), windows(3)
    found = batch["action"][batch["mask"][..., 0] > 0]
    assert not any(name.startswith("reference") for name in batch)
    if not normalise:
        return np.testing.assert_allclose(sorted(found[:, 0].tolist()), np.sort(expected[:, 0]), atol=1e-6)
    held = mixed.statistics["made"].columns["action"]
    np.testing.assert_allclose([held.min, held.max, held.mean], [expected.min(0), expected.max(0), expected.mean(0)], rtol=1e-5)
    assert found.min() == pytest.approx(-1, abs=1e-5) and found.max() == pytest.approx(1, abs=1e-5)
    one, random = episode(4, 6), np.random.default_rng(0)
    seen = apply(mixed.fed["made"].transforms[:1], {"observation/state/pose": one.arrays["state"][1:2]}, random)  # on a robot
    row = counts({"observation": {"state/pose": open_mixture(mixture(folder, horizon=3)).batch(range(34))["observation"]["state/pose"]}})
    chunk = batch["action"][row.tolist().index(4001)]
    reference = {name: value for name, value in seen.items() if name.startswith("reference")}
    back = invert(mixed.fed["made"].transforms, {"action": chunk, **reference})["action"]
    np.testing.assert_allclose(back, one.arrays["action"][1:4], rtol=1e-4, atol=2e-3)


def test_goals_are_of_the_episode_and_words_become_tokens(folder):
    tokens = Tokenise(length=8)
    mixed = open_mixture(mixture(folder, goal=Goal(("front",)), tokens=tokens))
    batch = mixed.batch(range(34))
    shown = open_mixture(mixture(folder)).batch(range(34))["observation"]["image/front"]
    of = counts(batch)
    for row, count in enumerate(of):
        goal = batch["observation"]["task/goal_image/front"][row, 0]
        (seen,) = [n for n in range(34) if np.array_equal(shown[n], goal)]
        assert of[seen] // 1000 == count // 1000 and (of[seen] > count or count % 1000 == LENGTHS[count // 1000] - 1)
        text = f"task {count // 1000 % 3}".encode()
        np.testing.assert_array_equal(batch["observation"]["task/instruction"][row], [byte + 1 for byte in text] + [-1, -1])
    columns = {name: of for name, of in OWN.items() if not name.startswith("task")}
    with pytest.warns(UserWarning, match=r"sets.made: has no instruction"):
        assert (open_mixture(mixture(folder, columns, tokens=tokens)).batch([0])["observation"]["task/instruction"] == -1).all()
    with pytest.raises(ValueError, match="'task 0' has 6 tokens, but there is room for 5; raise tokens.length or set tokens.cut"):
        open_mixture(mixture(folder, tokens=Tokenise(length=5))).batch(range(34))
    cut = open_mixture(mixture(folder, tokens=Tokenise(length=5, cut=True)))
    assert (cut.batch(range(34))["observation"]["task/instruction"] >= 0).all() and cut.cut == 34


def test_samples_are_made_different_in_training_alone(folder):
    chosen = {"augment": ({"name": "crop", "share": 0.3}, {"name": "proprioception_dropout", "probability": 1.0})}
    part = {"validation": 0.4, "images": Images(16, pad=False)}
    made_up = open_mixture(mixture(folder, **part, **chosen))
    first, again = (made_up.batch(range(number, number + 20)) for number in (0, 60))
    assert not first["observation"]["state/pose"].any() and not first["present"]["state/pose"].any()
    assert_same(first, open_mixture(mixture(folder, **part, **chosen)).batch(range(20)))
    assert again["observation"]["image/front"].shape == first["observation"]["image/front"].shape
    held_out = open_mixture(mixture(folder, part="validation", **part, **chosen)).batch(range(40))
    rows = counts(held_out).tolist()
    assert all(rows), "nothing is dropped"
    twice = next(place for place in range(len(rows)) if rows[place] in rows[:place])
    images = held_out["observation"]["image/front"]
    np.testing.assert_array_equal(images[twice], images[rows.index(rows[twice])])  # the middle, whatever the sample's number


def test_a_config_of_plain_sections_is_one_of_dataclasses(folder):
    section = {
        "sets": {"made": {"path": str(folder), "columns": OWN, "transforms": [DELTA], "idle": {"moving": [0]}, "by": {"temperature": 2.0}}},
        "goal": {"cameras": ["front"]},
        "tokens": {"length": 8},
        "augment": [{"name": "shift", "pixels": 1}],
        "images": {"size": 8},
        "batch_size": 4,
    }
    built = configs.build(Config, section)
    assert built.sets["made"].by == By(temperature=2.0) and built.tokens == Tokenise(length=8)
    source, spec, *_ = dataset_source(built)
    assert spec.observation["task/instruction"].shape == (8,) and spec.observation["task/goal_image/front"].shape == (1, 8, 8, 3)
    assert next(batches(built))["action"].shape == (4, 1, 2)
    source.close()
    assert configs.build(Config, configs.plain(built)) == built


@pytest.mark.parametrize(
    ("of", "changes", "message"),
    [
        ({"transforms": ({"name": "delta"},)}, {}, r"transforms\[0\].name is 'delta', but must be one of delta_action, relative_pose"),
        ({"transforms": ({**DELTA, "angels": ()},)}, {}, r"transforms\[0\].angels: delta_action has no such field; did you mean angles"),
        (
            {"transforms": ({"name": "delta_action", "pairs": ()},)},
            {},
            "delta_action: missing a required argument: 'state'",
        ),
        ({"transforms": ({**DELTA, "pairs": ((0, 7),)},)}, {}, "has 3 dimensions, and none of the number 7"),
        ({"by": By("task/robot")}, {}, "episode 0: by.column is task/robot, which is no text of it"),
        ({}, {"augment": ({"name": "shift", "pixels": -1},)}, r"augment\[0\]: Shift: pixels is -1"),
        ({}, {"goal": Goal(("front",), 1.0), "augment": ({"name": "delta_action"},)}, r"augment\[0\].name is 'delta_action'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(folder, of, changes, message):
    with pytest.raises(ValueError, match=message):
        open_mixture(mixture(folder, of=of, **changes))


def test_statistics_of_changed_numbers_are_made_from_the_config(sets, tmp_path, capsys):
    path = tmp_path / "statistics.json"
    one = Streamed("made", columns=OWN, transforms=(DELTA,), statistics=str(path))
    chosen = streams.config(sets={"made": one}, normalise="bounds")
    with pytest.raises(ValueError, match=r"there are no statistics of made; `jaxrl data stats --config FILE.py` makes them"):
        open_mixed(chosen)

    def load(config, overrides):
        return planning.Experiment(chosen, 1, 1, lambda spec: 0)

    assert commands.main(["stats", "--config", "file.py"], load) == 0
    assert f"written to {path}" in " ".join(capsys.readouterr().out.split())
    batch = np.concatenate([one["action"][one["mask"][..., 0] > 0] for one, _ in streams.take(chosen, 30)])
    assert batch.min() == pytest.approx(-1, abs=1e-5) and batch.max() == pytest.approx(1, abs=1e-5)
    other = streams.config(sets={"made": replace(one, transforms=({**DELTA, "pairs": ((0, 1),)},))}, normalise="bounds")
    with pytest.raises(ValueError, match="of one standard, the same transforms and steps"):
        open_mixed(other)
    with pytest.raises(ValueError, match="--out: has no effect with --config"):
        commands.main(["stats", "--config", "file.py", "--out", "x"], load)
    with pytest.raises(ValueError, match="by needs a cache"):
        Streamed("made", columns=OWN, by=By())


def test_what_is_kept_beside_a_cache_is_made_again_where_it_is_damaged_or_cannot_be_written(tmp_path, monkeypatch):
    cache = made(tmp_path / "cache")
    chosen = mixture(cache, of={"by": By()}, normalise="bounds")
    expected = drawn(replace(chosen, normalise=""), 20)
    (kept,) = cache.glob("selection-*")
    kept.write_bytes(b"")
    np.testing.assert_array_equal(drawn(replace(chosen, normalise=""), 20), expected)
    assert kept.stat().st_size

    def refused(path, data):
        raise PermissionError(13, "Permission denied")

    kept.unlink()
    monkeypatch.setattr(placing, "put", refused)
    with pytest.warns(
        UserWarning, match=r"(selection|statistics)-.*: cannot be kept, so the next run makes it again \(Permission denied\)"
    ):
        samples = open_mixture(chosen)
    assert samples.statistics["made"].steps == sum(LENGTHS) and sorted(one.name for one in cache.glob(".*")) == []


def test_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "kept"
    with placing.whole(epath.Path(path), epath.Path(tmp_path)) as one, placing.whole(epath.Path(path), epath.Path(tmp_path)) as other:
        one.write(b"whole")
        other.write(b"whole")
    assert path.read_bytes() == b"whole" and [entry.name for entry in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"goal": Goal()}, "goal.cameras: no set has primary; .*front"),
        ({"images": Images(8, cameras=("nope",))}, "images.cameras: no set has nope"),
        ({"augment": ({"name": "shift", "cameras": ("back",)},)}, r"augment\[0\].cameras: no set has back"),
        (
            {"augment": ({"name": "proprioception_dropout", "probability": 0.5, "groups": ("joints",)},)},
            r"augment\[0\].groups: no set has j",
        ),
        ({"augment": ({"name": "shift", "cameras": "front"},)}, r"augment\[0\].cameras: expected tuple\[str, ...\], got 'front'"),
        ({"augment": ({"name": "shift", "pixels": 1.5},)}, r"augment\[0\].pixels: expected int, got 1.5"),
        ({"augment": ({"name": "crop", "share": "0.9"},)}, r"augment\[0\].share: expected float, got '0.9'"),
        ({"tokens": Tokenise("os.path")}, "there is no os.path|makes no ids of a text"),
        ({"tokens": Tokenise("jaxrl_data.transforms.instruction.sentencepiece_file")}, "makes no ids of a text"),
        ({"of": {"transforms": ({**DELTA, "pairs": (("a", 0),)},)}}, r"transforms\[0\].pairs: expected tuple\[tuple\[int, int\], ...\]"),
        ({"of": {"transforms": ({**DELTA, "state": "state/pose"},)}}, "sets.made: DeltaAction: needs state/pose.*observation/state/pose"),
        ({"of": {"weight": 0.0}}, "cache: weight is 0.0, but must be above 0"),
        ({"of": {"by": By(temperature=1e-4)}}, "temperature is 0.0001, at which nothing would be drawn of task"),
        ({"columns": {**OWN, "state/q": "task"}}, "state/q is to be the column task, which holds texts, and not arrays"),
        ({"columns": {**OWN, "image/q": "state"}}, "image/q is to be the column state, which holds arrays, and not images"),
        ({"columns": {**OWN, "position": "state"}}, "position is no name for a column; write action, state/"),
        ({"columns": {"action": "task"}}, "action is to be the column task, which holds texts, and not arrays"),
        ({"columns": {"action": "count"}}, r"the column count of the shape \(\), but must be a vector"),
    ],
)
def test_what_would_pass_in_silence_is_refused(folder, changes, message):
    with pytest.raises(ValueError, match=message):
        open_mixture(mixture(folder, **changes))
