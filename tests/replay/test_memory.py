import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.distributed.mesh import data_mesh
from jaxrl.ops.specs import check_spec
from jaxrl.replay import memory as module
from jaxrl.replay.memory import Config, memory
from jaxrl.replay.recording import Recording
from jaxrl.types import ArraySpec, PolicySpec
from tests.conformance import spec_of

SPEC = PolicySpec({"state/row": ArraySpec((1,), names=("row",), unit="1")}, ArraySpec((2,)))
LENGTHS = (4, 1, 6)


def record(lengths=LENGTHS) -> Recording:
    """Row t is seen as t, and acted upon with (t, episode)."""
    steps = sum(lengths)
    row = np.arange(steps, dtype=np.float32)
    episode = np.repeat(np.arange(len(lengths)), lengths).astype(np.float32)
    ends = np.cumsum(lengths, dtype=np.int64)
    return Recording({"state/row": row[:, None]}, np.stack([row, episode], 1), row, ends, SPEC)


def draw(source, number: int = 1):
    key = jax.random.key(0)
    state = source.init(key, None)
    return jax.jit(lambda s: jax.lax.scan(lambda s, k: source.next(s, None, k), s, jax.random.split(key, number)))(state)


def test_batch_is_what_the_spec_says():
    source = memory(Config(batch_size=5, horizon=3), record())
    _, batch = source.next(source.init(jax.random.key(0), None), None, jax.random.key(1))
    check_spec(source.spec, spec_of(batch, ("batch",)), "the spec", "the batch")
    assert source.spec["observation/state/row"].unit == "1" and source.pure


def test_chunks_never_cross_an_episodes_end():
    _, batch = draw(memory(Config(batch_size=64, horizon=4), record()), 8)
    start = np.asarray(batch["observation"]["state/row"])[..., 0].astype(int)
    episode = np.repeat(np.arange(3), LENGTHS)
    end = np.cumsum(LENGTHS)[episode[start]]
    rows = start[..., None] + np.arange(4)
    np.testing.assert_array_equal(batch["mask"], np.broadcast_to((rows < end[..., None])[..., None], batch["action"].shape))
    np.testing.assert_array_equal(batch["action"][..., 0], np.minimum(rows, end[..., None] - 1))
    np.testing.assert_array_equal(batch["action"][..., 1], np.broadcast_to(episode[start][..., None], rows.shape))


def test_every_step_is_drawn_equally_often():
    _, batch = draw(memory(Config(batch_size=1100), record()), 4)
    count = np.bincount(np.asarray(batch["observation"]["state/row"]).astype(int).ravel(), minlength=11)
    assert count.shape == (11,) and np.abs(count - 400).max() < 5 * np.sqrt(400)


def test_draws_depend_on_the_key_alone():
    source = memory(Config(batch_size=16, horizon=2), record())
    first, second = (source.init(jax.random.key(k), None) for k in range(2))
    moved, a = source.next(first, None, jax.random.key(7))
    _, b = source.next(moved, {"another": "behaviour"}, jax.random.key(7))
    _, c = source.next(second, None, jax.random.key(8))
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert (a["action"] != c["action"]).any()


def test_seeds_are_drawn_apart_under_vmap_without_copies_of_the_data():
    source = memory(Config(batch_size=16), record())
    keys = jax.random.split(jax.random.key(0), 3)
    state = jax.vmap(source.init, (0, None))(keys, None)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 3
    _, batches = jax.vmap(source.next, (0, None, 0))(state, None, keys)
    _, alone = source.next(source.init(keys[1], None), None, keys[1])
    np.testing.assert_array_equal(batches["action"][1], alone["action"])
    assert (batches["action"][0] != batches["action"][1]).any()


def test_epochs_are_counted():
    source = memory(Config(batch_size=22), record())
    state, _ = draw(source, 3)
    assert source.metrics(state) == {"data/epochs": 6.0}


def test_mesh_of_four_gives_the_batch_of_one_device():
    _, one = draw(memory(Config(8, 3), record()))
    source = memory(Config(8, 3), record(), data_mesh(4))
    _, four = jax.jit(source.next)(source.init(jax.random.key(0), None), None, jax.random.split(jax.random.key(0), 1)[0])
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(four), strict=True):
        np.testing.assert_array_equal(a[0], b)
        assert len(b.sharding.device_set) == 4 and {shard.data.shape[0] for shard in b.addressable_shards} == {2}


def test_numbers_that_do_not_divide():
    with pytest.raises(ValueError, match="batch_size is 6, which 4 devices on the mesh axis `data` do not divide"):
        memory(Config(batch_size=6), record(), data_mesh(4))


@pytest.mark.parametrize("field", ["batch_size", "horizon"])
def test_sizes_must_be_positive(field):
    with pytest.raises(ValueError, match=f"{field} is 0, but must be at least 1"):
        Config(**{field: 0})


def test_faulty_recording():
    with pytest.raises(ValueError, match="memory: action has the shape"):
        memory(Config(), record()._replace(action=np.zeros((3, 2), np.float32)))


def test_recording_that_is_too_large(monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 100)
    with pytest.raises(ValueError, match="memory: the recording has 132 bytes, more than a compiled program may hold, 100"):
        memory(Config(), record())


def test_data_may_be_drawn_inside_jit_with_donation():
    source = memory(Config(batch_size=2), record())
    step = jax.jit(source.next, donate_argnums=0)
    state = source.init(jax.random.key(0), None)
    for i in range(3):
        state, _ = step(state, None, jax.random.key(i))
    assert state.batches == 3 and state.batches.dtype == jnp.int32


def test_held_out_episodes_are_not_drawn():
    whole = record(lengths=(2,) * 30)
    drawn = {}
    for part in ("train", "validation"):
        _, batch = draw(memory(Config(batch_size=200, validation=0.4, part=part), whole), 4)
        drawn[part] = set(np.asarray(batch["action"])[..., 1].astype(int).ravel().tolist())
    assert drawn["train"].isdisjoint(drawn["validation"]) and drawn["train"] | drawn["validation"] == set(range(30))
    with pytest.raises(ValueError, match="validation is 1.0, but must be at least 0 and below 1"):
        Config(validation=1.0)
