"""Data sets in memory that are streamed, and what is drawn of them."""

import numpy as np

from jaxrl_data.mixture import Images
from jaxrl_data.stream_source import Batches, Config, open_mixed
from jaxrl_data.streaming.members import Streamed

LENGTHS = (5, 3, 8, 1, 6, 4, 7, 2, 9)
EVERY = [1000 * episode + step for episode, length in enumerate(LENGTHS) for step in range(length)]
COLUMNS = {"state/pose": "state", "action": "action", "image/front": "front", "task/instruction": "task"}


def config(**changes):
    fields = {"sets": {"made": Streamed("made", columns=COLUMNS, block=2)}, "batch_size": 8, "horizon": 3, "lanes": 4, "threads": 2}
    return Config(**fields | {"images": Images(16, pad=False)} | changes)


def take(chosen, number, first=0, places=None, hosts=1, host=0):
    """Batches, and the places behind each."""
    mixed = open_mixed(chosen)
    if places is None:
        places = np.zeros((len(chosen.sets), chosen.lanes // hosts, 2), np.int32)
    found = Batches(chosen, mixed, first, places, hosts, host)
    try:
        return [next(found) for _ in range(number)]
    finally:
        found.close()
        mixed.close()
