"""What was recorded, drawn beside what is replayed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.replay.demonstrations import Config, demonstrations
from jaxrl.replay.mixture import mixture
from jaxrl.replay.recording import Recording, load, save
from jaxrl.replay.replay import Config as Replay
from jaxrl.replay.replay import replay
from jaxrl.types import ArraySpec, PolicySpec
from tests.replay.test_collected import counting

SPEC = PolicySpec({"state/number": ArraySpec((1,))}, ArraySpec((1,)))
ENDS = np.array([3, 4, 9])


def recording(first: float = 5000.0) -> Recording:
    """Three episodes, of which the second terminated; each final observation is half a step behind the last."""
    number = first + np.arange(9, dtype=np.float32)
    seen = {"state/number": number[:, None]}
    final = {"state/number": number[ENDS - 1, None] + 0.5}
    return Recording(seen, number[:, None] / 2, number, ENDS, SPEC, final, np.array([False, True, False]))


def test_recorded_steps_say_what_followed_them():
    source = demonstrations(Config(64), recording(), num_updates=2, n_step=3)
    _, batch = jax.jit(source.next)(source.init(jax.random.key(0), ()), (), jax.random.key(1))
    row = (np.asarray(batch.reward[..., 0]) - 5000).astype(int)
    assert set(row.ravel()) == set(range(9))
    end = ENDS[np.searchsorted(ENDS, row, side="right")]
    steps = np.minimum(3, end - row)
    np.testing.assert_array_equal(batch.steps, steps)
    for k in range(3):
        np.testing.assert_array_equal(batch.reward[..., k], np.where(k < steps, 5000.0 + row + k, 0.0))
    np.testing.assert_array_equal(batch.discount, np.where(row == 3, 0.0, 1.0))
    last = row + steps
    np.testing.assert_array_equal(batch.next_observation["state/number"][..., 0], 5000.0 + last - 0.5 * (last == end))
    np.testing.assert_array_equal(batch.action[..., 0], (5000.0 + row) / 2)


def test_halves_of_a_joined_batch_and_their_priorities():
    config = Replay(capacity=40, batch_size=8, num_updates=2, initial_steps=8, priority_exponent=1.0)
    online = replay(config, counting(), 2)
    source = mixture({"online": online, "demonstrations": demonstrations(Config(6), recording(), 2)})
    state = source.init(jax.random.key(0), ())
    state, batch = jax.jit(source.next)(state, (), jax.random.key(1))
    assert (source.steps_per_batch, source.initial_steps) == (4, 8) and source.spec["reward"].shape == (2, 14, 1)
    recorded = np.asarray(batch.reward[..., 0]) >= 5000
    np.testing.assert_array_equal(recorded, np.broadcast_to(np.arange(14) >= 8, (2, 14)))
    after = source.observe(state, {"priority": jnp.where(jnp.asarray(recorded), 1e6, 3.0)})["online"]
    assert after.priorities.largest == 3.0
    drawn = after.priorities.value[state["online"].drawn.slot, state["online"].drawn.world]
    np.testing.assert_allclose(drawn, 3.0, rtol=1e-5)


def test_named_batches_stay_apart():
    sources = {name: demonstrations(Config(size), recording(first)) for name, size, first in (("human", 4, 0.0), ("robot", 2, 100.0))}
    source = mixture(sources, named=True)
    _, batch = source.next(source.init(jax.random.key(0), ()), (), jax.random.key(1))
    assert batch["human"].reward.shape == (1, 4, 1) and batch["robot"].reward.shape == (1, 2, 1)
    assert (batch["human"].reward < 50).all() and (batch["robot"].reward >= 100).all()
    assert source.spec["robot/reward"].shape == (1, 2, 1)


def test_demonstrations_of_another_robot_are_refused_by_name():
    other = SPEC._replace(observation={"state/height": ArraySpec((1,))}, action=ArraySpec((2,)))
    seen = {"state/height": np.zeros((9, 1), np.float32)}
    final = {"state/height": np.zeros((3, 1), np.float32)}
    odd = recording()._replace(observation=seen, final_observation=final, action=np.zeros((9, 2), np.float32), spec=other)
    online = replay(Replay(capacity=40, batch_size=8, initial_steps=0), counting(), 2)
    with pytest.raises(ValueError, match=r"(?s)online does not fit the source demonstrations.*state/number: missing.*action: needs shape"):
        mixture({"online": online, "demonstrations": demonstrations(Config(6), odd)})


def test_a_file_tells_how_episodes_ended(tmp_path):
    save(tmp_path / "new.npz", recording())
    again = load(tmp_path / "new.npz")
    np.testing.assert_array_equal(again.terminated, [False, True, False])
    np.testing.assert_array_equal(again.final_observation["state/number"], recording().final_observation["state/number"])
    save(tmp_path / "old.npz", recording()._replace(final_observation={}, terminated=None))
    with pytest.raises(ValueError, match="does not tell how its episodes ended; record it again"):
        demonstrations(Config(), load(tmp_path / "old.npz"))
    with pytest.raises(ValueError, match=r"terminated is bool \(2,\), but its spec asks for bool \(3,\)"):
        save(tmp_path / "bad.npz", recording()._replace(terminated=np.array([True, False])))
