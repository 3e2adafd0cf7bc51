"""Caches of small data sets that were made in memory."""

import pytest

from jaxrl_data.cache import prepare as preparing
from jaxrl_data.cache.prepare import plan, prepare
from tests.data.episodes import dataset

LENGTHS = (5, 3, 8, 1, 6, 4, 7)
COLUMNS = {"state/pose": "state", "state/count": "count", "action": "action", "image/front": "front", "task/instruction": "task"}


def made(folder, lengths=LENGTHS, **changes):
    """A cache of episodes of these lengths, in shards of three."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparing, "open_dataset", lambda path, split=None: dataset(lengths)._replace(**changes))
        prepare(plan("memory", episodes_per_shard=3), folder)
    return folder
