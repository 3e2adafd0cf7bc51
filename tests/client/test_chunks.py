"""How chunks meet, against sums written out."""

import numpy as np
import pytest

from jaxrl_client import chunks
from jaxrl_client.chunks import Chunk, Config, Merge, Verdict, merger, pop


def _chunk(request, step, actions, captured=0.0, epoch=1):
    return Chunk(request, epoch, step, captured, np.array(actions, float)[:, None])


def _fed(config, parts, popped=0):
    queue = chunks.empty(1, 1)
    for part in parts:
        queue, verdict = merger(config)(queue, part)
        assert verdict == Verdict.USED
        for _ in range(popped):
            queue, _, _ = pop(queue)
    return queue


FIRST, SECOND, THIRD = _chunk(1, 0, [0, 1, 2, 3], 1.0), _chunk(2, 1, [11, 12, 13, 14], 2.0), _chunk(3, 2, [22, 23, 24, 25], 3.0)


@pytest.mark.parametrize(
    "config, actions, captured",
    [
        (Config(), [11, 12, 13, 14], [2, 2, 2, 2]),
        (Config(Merge.REAL_TIME), [11, 12, 13, 14], [2, 2, 2, 2]),
        (Config(Merge.APPEND), [1, 2, 3, 14], [1, 1, 1, 2]),
        (Config(Merge.AVERAGE), [0.3 * 1 + 0.7 * 11, 0.3 * 2 + 0.7 * 12, 0.3 * 3 + 0.7 * 13, 14], [1, 1, 1, 2]),
        (Config(Merge.AVERAGE, blended=(False,)), [11, 12, 13, 14], [1, 1, 1, 2]),
    ],
)
def test_two_chunks(config, actions, captured):
    queue = _fed(config, [FIRST, SECOND], popped=1)
    np.testing.assert_allclose(queue.actions[:, 0], actions[1:])
    np.testing.assert_array_equal(queue.captured, captured[1:])
    assert (queue.step, queue.newest) == (2, 2)


def test_a_temporal_ensemble_is_the_mean_of_all_that_spoke_of_a_step():
    decay = 0.5
    queue = _fed(Config(Merge.ENSEMBLE, decay=decay), [FIRST, SECOND, THIRD], popped=1)
    weight = np.exp(-decay * np.arange(3))
    of_step_3 = np.average([3, 13, 23], weights=weight)
    of_step_4 = np.average([14, 24], weights=weight[:2])
    np.testing.assert_allclose(queue.actions[:, 0], [of_step_3, of_step_4, 25])
    np.testing.assert_array_equal(queue.captured, [1, 2, 3])


def test_what_is_not_used_changes_nothing():
    queue = _fed(Config(), [FIRST, SECOND], popped=1)
    for part, verdict in (
        (_chunk(2, 2, [9, 9, 9]), Verdict.OLD),
        (_chunk(1, 2, [9, 9, 9]), Verdict.OLD),
        (_chunk(3, 2, [9, 9, 9], epoch=2), Verdict.OTHER_EPOCH),
        (_chunk(3, 0, [9, 9]), Verdict.PASSED),
        (_chunk(3, 5, [9, 9]), Verdict.PASSED),
    ):
        after, found = merger(Config())(queue, part)
        assert found == verdict and after is queue


def test_impossible_weights_are_refused():
    with pytest.raises(ValueError, match="old_weight is 1.5"):
        Config(old_weight=1.5)
    with pytest.raises(ValueError, match="decay is nan"):
        Config(decay=float("nan"))
