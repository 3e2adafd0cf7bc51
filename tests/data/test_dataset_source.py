"""Batches from data sets: exact whatever reads them, resumable anywhere, masked where there is nothing."""

import dataclasses
import json
import shutil
import tracemalloc

import jax
import numpy as np
import pytest

from jaxrl.distributed.mesh import data_mesh
from jaxrl.ops.held_out import held_out
from jaxrl_data import kept_samples
from jaxrl_data.dataset_source import Config, batches, dataset_source, mixture_of
from jaxrl_data.members import Set, open_member
from jaxrl_data.mixture import Images, Mixture
from jaxrl_data.samples import open_mixture
from jaxrl_data.transforms.interface import invert
from tests.data.batches import assert_rows, assert_same, counts
from tests.data.caches import COLUMNS, LENGTHS, made
from tests.data.episodes import dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made(tmp_path_factory.mktemp("data") / "cache")


def config(folder, **changes):
    sets = {"made": Set(str(folder), columns={name: of for name, of in COLUMNS.items() if name != "state/count"})}
    fields = {"sets": sets, "batch_size": 8, "horizon": 3, "images": Images(16, pad=False)}
    return Config(**fields | {"threads": 1} | changes)


def take(found, number):
    return [next(found) for _ in range(number)]


def test_rows_are_those_of_the_episodes_with_masks_at_their_ends(folder):
    seen = []
    for batch in take(batches(config(folder)), 5):
        assert_rows(batch, LENGTHS)
        seen += counts(batch).tolist()
    every = [1000 * episode + step for episode, length in enumerate(LENGTHS) for step in range(length)]
    assert sorted(seen[: len(every)]) == every, "each step once in an epoch, the last ones of episodes too"


@pytest.mark.parametrize(("processes", "threads"), [(0, 4), (1, 1), pytest.param(4, 2, marks=pytest.mark.slow)])
def test_what_reads_does_not_change_what_is_read(folder, processes, threads):
    expected = take(batches(config(folder)), 4)
    found = take(batches(config(folder, processes=processes, threads=threads)), 4)
    for one, other in zip(expected, found, strict=True):
        assert_same(one, other)


def test_samples_of_numbers_are_kept_and_the_same(folder, monkeypatch):
    columns = {name: of for name, of in COLUMNS.items() if not name.startswith(("image/", "task/")) and name != "state/count"}
    chosen = config(folder, sets={one: Set(str(folder), columns=columns, weight=weight) for one, weight in (("a", 1.0), ("b", 2.0))})
    samples = open_mixture(mixture_of(chosen))
    assert samples.kept_bytes > 0 and dataset_source(chosen).source.allocation["host/data/samples"] == samples.kept_bytes
    found = [jax.tree.map(np.array, batch) for batch in take(batches(chosen, samples=samples), 12)]
    calls = []
    monkeypatch.setattr(samples, "sample", lambda *drawn: calls.append(drawn))
    again = take(batches(chosen, samples=samples), 12)
    assert all(number >= 12 * 8 for number, *_ in calls), "what was made once is not made again"  # what is read ahead is beyond it
    monkeypatch.setattr(kept_samples, "MOST", 0)
    fresh = open_mixture(mixture_of(chosen))
    assert fresh.kept_bytes == 0
    for one, other, third in zip(found, again, take(batches(chosen, samples=fresh), 12), strict=True):
        assert_same(one, other)
        assert_same(one, third)


def test_samples_with_images_or_chance_are_not_kept(folder):
    assert open_mixture(mixture_of(config(folder))).kept_bytes == 0
    columns = {name: of for name, of in COLUMNS.items() if not name.startswith(("image/", "task/")) and name != "state/count"}
    dropped = ({"name": "proprioception_dropout", "probability": 0.5},)
    assert open_mixture(mixture_of(config(folder, sets={"a": Set(str(folder), columns=columns)}, augment=dropped))).kept_bytes == 0


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_hosts_share_each_batch(folder, hosts):
    expected = take(batches(config(folder)), 3)
    parts = [take(batches(config(folder), hosts=hosts, host=host), 3) for host in range(hosts)]
    for number, whole in enumerate(expected):
        assert_same(jax.tree.map(lambda *x: np.concatenate(x), *(part[number] for part in parts)), whole)


def test_a_run_goes_on_anywhere_with_other_hosts_and_another_size(folder):
    whole = np.concatenate([counts(batch) for batch in take(batches(config(folder)), 6)])
    np.testing.assert_array_equal(counts(next(batches(config(folder), first=24))), whole[24:32])
    halves = [counts(next(batches(config(folder, batch_size=16), first=24, hosts=2, host=host))) for host in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(halves), whole[24:40])
    far = next(batches(config(folder), first=8 * 10**12))  # as soon as the first
    assert len(counts(far)) == 8


def test_the_source_keeps_its_place_in_a_few_bytes(folder):
    source, spec, normaliser, *_ = dataset_source(config(folder))
    state, rows = source.init(jax.random.key(0), ()), []
    for _ in range(3):
        before = state
        state, batch = source.next(state, (), jax.random.key(0))
        rows.append(counts(batch))
    assert int(state.samples) == 24 and sum(leaf.nbytes for leaf in jax.tree.leaves(state)) == 8
    again, batch = source.next(before, (), jax.random.key(1))  # a rollback; the key is of no effect
    np.testing.assert_array_equal(counts(batch), rows[2])
    other = dataset_source(config(folder)).source
    np.testing.assert_array_equal(counts(other.next(before, (), jax.random.key(2))[1]), rows[2])
    for name, one in source.spec.items():
        kind, _, rest = name.partition("/")
        found = batch[kind][rest] if rest else batch[kind]
        assert (found.shape, str(found.dtype)) == (one.shape, one.dtype), name
    assert source.metrics(state)["data/epochs/made"] == pytest.approx(24 / sum(LENGTHS))
    assert spec.action.shape == (2,) and spec.horizon == 3 and spec.rate == 10.0
    assert spec.observation["state/pose"].names == ("x", "y", "z") and spec.observation["image/front"].shape == (16, 16, 3)
    every = np.array([1000 * episode + step for episode, length in enumerate(LENGTHS) for step in range(length)], np.float64)
    np.testing.assert_allclose(normaliser.mean["state/pose"][0], every.mean(), rtol=1e-5)
    np.testing.assert_allclose(normaliser.variance["state/pose"][0], every.var(), rtol=1e-5)
    source.close()


def test_a_batch_on_a_mesh_is_one_array_with_the_rows_of_one_device(folder):
    whole = dataset_source(config(folder)).source
    shared = dataset_source(config(folder), data_mesh(4)).source
    (_, one), (_, four) = (source.next(source.init(jax.random.key(0), ()), (), jax.random.key(0)) for source in (whole, shared))
    assert_same(one, four)
    assert len(four["action"].sharding.device_set) == 4
    with pytest.raises(ValueError, match="batch_size is 6, which 4 devices"):
        dataset_source(config(folder, batch_size=6), data_mesh(4))


def test_history_is_masked_where_nothing_was_seen(folder):
    batch = next(batches(config(folder, history=3, batch_size=34)))
    for row, count in enumerate(np.asarray(batch["observation"]["state/pose"])[:, -1, 0].astype(int)):
        step = count % 1000
        np.testing.assert_array_equal(batch["present"]["state/pose"][row], [step >= 2, step >= 1, 1])
        np.testing.assert_array_equal(
            batch["observation"]["state/pose"][row, :, 0].astype(int), [count - min(step, 2), count - min(step, 1), count]
        )


def test_validation_is_disjoint_and_held_out_by_content(folder):
    parts = [open_member(config(folder).sets["made"], part, 0.4) for part in ("train", "validation", "all")]
    train, validation, every = (set(part.chosen.tolist()) for part in parts)
    assert train | validation == every == set(range(7)) and not train & validation and validation
    out = held_out(np.random.default_rng(0).integers(0, 256, (20_000, 16), np.uint8), 0.25)
    assert abs(out.mean() - 0.25) < 0.01
    mixed = open_mixture(Mixture(config(folder).sets, validation=0.4))
    drawn = {mixed.fed["made"].member.at(item)[0] for item in range(mixed.fed["made"].member.items)}
    assert drawn == train


def test_what_is_held_out_is_measured_by_the_statistics_of_the_train_part(tmp_path):
    own = config(made(tmp_path / "cache")).sets
    chosen = {"sets": own, "validation": 0.4, "normalise": "bounds", "images": Images(8)}
    first = open_mixture(Mixture(**chosen, part="validation"))  # before anybody asked for those of the train part
    train = open_member(own["made"], "train", 0.4).chosen
    expected = np.concatenate([1000 * number + np.arange(LENGTHS[number]) for number in train])
    for samples in (first, open_mixture(Mixture(**chosen))):
        held = samples.statistics["made"]
        assert held.episodes == len(train) and held.columns["state/pose"].max[0] == expected.max()


def test_sets_of_other_dimensions_meet_in_one_space(tmp_path):
    """The second robot has a gripper in place of the second joint, and no camera."""
    from jaxrl.types import ArraySpec
    from jaxrl_data.episode import Features
    from tests.data.episodes import FEATURES, episode

    def named(names):
        spec = dataclasses.replace(FEATURES.arrays["action"], names=names, unit="rad")
        return Features(FEATURES.arrays | {"action": spec}, FEATURES.images, FEATURES.texts, FEATURES.rate)

    one = made(tmp_path / "one", features=named(("elbow", "wrist")))
    other = made(tmp_path / "other", (4, 4), features=named(("gripper", "elbow")))
    own = {name: of for name, of in COLUMNS.items() if name in ("state/pose", "action")}
    sets = {"one": Set(str(one), columns=own), "other": Set(str(other), weight=3.0, columns=own)}
    chosen = Mixture(sets, temperature=float("inf"), horizon=2)
    mixed = open_mixture(chosen)
    batch = mixed.batch(range(64))
    assert mixed.spec["action"].names == ("elbow", "wrist", "gripper")
    of = mixed.order.draws(0, 64).of
    assert abs((of == 1).sum() - 48) <= 2
    for row, count in enumerate(counts(batch)):
        now = episode(count // 1000, 8).arrays["action"][count % 1000]
        expected = [now[0], now[1], 0.0] if of[row] == 0 else [now[1], 0.0, now[0]]
        np.testing.assert_array_equal(batch["action"][row, 0], expected)
        np.testing.assert_array_equal(batch["mask"][row, 0], [1, 1, 0] if of[row] == 0 else [1, 0, 1])
    assert isinstance(ArraySpec((1,)).shape, tuple)


def test_normalised_samples_are_undone_on_the_way_back(folder):
    mixed = open_mixture(Mixture(config(folder).sets, horizon=2, normalise="bounds", images=Images(8)))
    batch = mixed.batch(range(34))
    real = batch["mask"] > 0
    assert batch["action"][real].min() == pytest.approx(-1.0, abs=1e-5) and batch["action"][real].max() == pytest.approx(1.0, abs=1e-5)
    plain = open_mixture(Mixture(config(folder).sets, horizon=2, images=Images(8))).batch(range(34))
    back = invert(mixed.fed["made"].transforms, {"action": batch["action"][3]})["action"]
    np.testing.assert_allclose(back, plain["action"][3], rtol=1e-4, atol=1e-3)


def test_a_bad_episode_ends_it_or_is_counted(tmp_path, folder):
    shutil.copytree(folder, tmp_path / "bad")
    (path,) = (tmp_path / "bad" / "shard-00001").glob("image.front.bin")
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(ValueError, match="made/1.0.0, episode [345], step .: front"):
        take(batches(config(tmp_path / "bad")), 6)
    chosen = config(tmp_path / "bad", quarantine=True)
    source = dataset_source(chosen).source
    state = source.init(jax.random.key(0), ())
    with pytest.warns(UserWarning, match="made/1.0.0, episode [345]: left out, because"):
        for _ in range(6):
            state, batch = source.next(state, (), jax.random.key(0))
            assert not set(counts(batch) // 1000) & {3, 4, 5}
    assert source.metrics(state)["data/quarantined"] == 3


def test_a_number_that_is_not_finite_ends_it_or_is_counted(tmp_path, monkeypatch):
    plain = dataset(LENGTHS)

    def read(first, last, columns=None):
        for number, one in enumerate(plain.read(first, last, columns), first):
            if number == 4:
                one.arrays["state"][1, 2] = np.nan
            yield one

    folder = made(tmp_path / "cache", read=read)
    message = "made/1.0.0, episode 4: state/pose is nan in dimension 2 of step 1"
    for normalise in ("", "bounds"):  # while statistics are made, and while samples are
        with pytest.raises(ValueError, match=message):
            take(batches(config(folder, normalise=normalise)), 6)
    with pytest.warns(UserWarning, match=f"made/1.0.0, episode 4: left out, because {message}"):
        mixed = open_mixture(config(folder, normalise="bounds", quarantine=True))
    assert mixed.statistics["made"].episodes == len(LENGTHS) - 1 and len(mixed.bad) == 1
    drawn = mixed.batch(range(sum(LENGTHS)))
    assert np.isfinite(drawn["observation"]["state/pose"]).all()
    with pytest.raises(ValueError, match=message):  # the statistics that are kept now forgive nothing
        take(batches(config(folder, normalise="bounds")), 6)


def test_whole_numbers_and_flags_are_normalised_like_others(tmp_path):
    folder = made(tmp_path / "cache")
    sets = {"made": Set(str(folder), columns=COLUMNS)}
    mixed = open_mixture(config(folder, sets=sets, normalise="bounds"))
    assert mixed.statistics["made"].columns["state/count"].max == 1000 * (len(LENGTHS) - 1) + LENGTHS[-1] - 1
    count = mixed.batch(range(sum(LENGTHS)))["observation"]["state/count"]
    assert count.dtype == np.float32 and count.min() == -1 and count.max() == 1


def test_memory_does_not_grow(folder):
    """Beyond what waits, which varies: half of the batches that are handed out meanwhile would be four times as much."""
    chosen = config(folder, threads=1, prefetch=1)
    planned = dataset_source(chosen).source.allocation["host/data/batches"]
    found, held = batches(chosen), []
    take(found, 20)
    tracemalloc.start()
    for _ in range(2):
        for _ in range(100):
            next(found)
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert held[1] < held[0] + 2 * planned + 50_000, held


def test_a_state_of_one_number_is_a_vector(folder):
    sets = {"made": Set(str(folder), columns={"state/count": "count", "action": "action"})}
    loaded = dataset_source(config(folder, sets=sets))
    assert loaded.spec.observation["state/count"].shape == (1,)
    _, batch = loaded.source.next(loaded.source.init(jax.random.key(0), ()), (), jax.random.key(0))
    first = np.asarray(batch["action"])[:, 0, 1] * 7  # the second action is a seventh of the count
    np.testing.assert_allclose(batch["observation"]["state/count"], first[:, None], rtol=1e-6)
    mean = [1000 * episode + step for episode, length in enumerate(LENGTHS) for step in range(length)]
    np.testing.assert_allclose(loaded.normaliser.mean["state/count"], [np.mean(mean)], rtol=1e-6)


def test_what_waits_in_memory_is_told_beforehand(folder):
    source = dataset_source(config(folder, prefetch=3)).source
    image, rest = 8 * 16 * 16 * 3, 8 * 4 * (3 + 6 + 6 + 2)  # of a batch: pose, action and mask, two entries of presence
    assert source.allocation["host/data/batches"] == 4 * (image + rest)  # three that wait, and one that is made
    assert source.allocation["host/data/index"] == 7 * 52


def test_what_does_not_fit_is_refused(folder):
    (own,) = config(folder).sets.values()
    for make, message in (
        (lambda: Set(str(folder)), "give either the name of its standard or its columns"),
        (lambda: Mixture({}), "sets: empty"),
        (lambda: config(folder, batch_size=0), "batch_size is 0"),
        (lambda: open_member(Set(str(folder), columns={"action": "acton"})), "action is to be the column acton, .* did you mean action?"),
        (
            lambda: open_member(Set(str(folder), columns={"state/a": "state"})),
            "columns name no action; add an array, such as {'action': 'state'}",
        ),
        (lambda: open_member(own, "validation", 0.0), "no episode is left for validation"),
        (lambda: batches(config(folder), hosts=3), "batch_size is 8, which 3 hosts do not divide"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def changed(lengths, factor):
    """The same steps with other actions, said to be the same data."""
    whole = dataset(lengths)

    def read(first, last, columns=None):
        for one in whole.read(first, last, columns):
            if "action" in one.arrays:
                one.arrays["action"][:, 1] *= factor
            yield one

    return {"read": read, "fingerprint": whole.fingerprint}


@pytest.mark.parametrize("normalise", ["", "quantile"])
def test_a_checkpoint_keeps_statistics_and_tells_what_does_not_fit(folder, tmp_path, normalise):
    kept = json.loads(json.dumps(dataset_source(config(folder, normalise=normalise)).kept()))
    dataset_source(config(folder, normalise=normalise)).check(kept)
    other = dataset_source(config(made(tmp_path / "other", **changed(LENGTHS, 1.5)), normalise=normalise))
    with pytest.raises(ValueError, match=r"sets.made: .*: action, dimension action\[1\]: mean is .*, but was .*train anew"):
        other.check(kept)
    more = dataset_source(
        config(made(tmp_path / "more", (*LENGTHS[:-1], 7, 7), **changed((*LENGTHS[:-1], 7, 7), 1.0)), normalise=normalise)
    )
    with pytest.raises(ValueError, match=r"sets.made: statistics do not fit.*the data are others"):
        more.check(kept)
    with pytest.raises(ValueError, match=r"sets.two: is in the checkpoint only"):
        other.check({**kept, "two": kept["made"]})
    twins = config(folder, sets={name: config(folder).sets["made"] for name in ("one", "two")})
    bare = dataset_source(twins).kept()  # several sets without normalisation have no statistics
    assert bare["one"]["statistics"] is None
    with pytest.raises(ValueError, match=r"sets.one: the data have changed"):
        dataset_source(twins).check({name: told | {"fingerprint": "another"} for name, told in bare.items()})
