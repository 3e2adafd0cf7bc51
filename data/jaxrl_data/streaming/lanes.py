"""Which episode is read when, and which step drawn: functions of the seed, the sample's number and the mixture.

Files of episodes are read from one end to the other, so the episodes of a set are cut into blocks of some that follow each other. The
blocks come in another permutation in each epoch, one epoch behind the other, and block g goes to lane g mod L. A lane holds one block,
draws all its steps in a permutation of them, and goes on with its next one. Sample j is drawn by the lane whose number is j mod L with its
bits reversed: so a host that holds an equal share of the lanes, one beside the other, has an equal share of every batch, in its rows one
beside the other, and reads for its own lanes only.
"""

from collections.abc import Sequence

import numpy as np

from jaxrl_data.order import hashed, permuted


def check_lanes(lanes: int) -> None:
    """Raises ValueError where it is no power of two."""
    if lanes < 1 or lanes & (lanes - 1):
        raise ValueError(f"lanes is {lanes}, but must be a power of two, such as 16, so that hosts and batches are shared out evenly")


def lane_of(samples: np.ndarray, lanes: int) -> np.ndarray:
    """[n] int64: the lane that draws each of the samples [n] int64."""
    rest, found = samples % lanes, np.zeros_like(samples)
    for _ in range(lanes.bit_length() - 1):
        found, rest = found * 2 + rest % 2, rest // 2
    return found


def lanes_of_host(lanes: int, hosts: int, host: int) -> range:
    """Those that a host holds. Raises ValueError where the hosts do not divide the lanes."""
    if lanes % hosts:
        raise ValueError(f"lanes is {lanes}, which {hosts} hosts do not divide; hosts are a power of two, and not more than lanes")
    share = lanes // hosts
    return range(host * share, (host + 1) * share)


def samples_of_host(first: int, count: int, lanes: int, hosts: int, host: int) -> np.ndarray:
    """[count / hosts] int64: the numbers of a host's rows of a batch of the samples from `first` on, rows lying by lane and number.

    Raises ValueError where the hosts do not divide batch or lanes.
    """
    lanes_of_host(lanes, hosts, host)
    if count % hosts:
        raise ValueError(f"batch_size is {count}, which {hosts} hosts do not divide")
    samples = first + np.arange(count, dtype=np.int64)
    lane = lane_of(samples, lanes)
    rows = samples[np.lexsort((samples, lane))]
    share = count // hosts
    return rows[host * share : (host + 1) * share]


def cut(size: int, block: int, files: Sequence[int] = ()) -> np.ndarray:
    """[N + 1] int64: the episodes 0 to `size` in blocks of up to `block`, each from one of its edges to the next.

    `files` are the ends of files that are read from their beginning only: a large one is cut into parts that are as good as equal, and
    small ones are put together, so that hardly anything is read to be skipped.
    """
    edges = [0]
    start = 0
    for end in [*(files or (size,)), None]:
        if end is None or end - edges[-1] > block:
            if start > edges[-1]:
                edges.append(start)  # the small files before
            if end is not None and (many := end - start) > block:
                parts = -(-many // block)
                edges += [start + many * part // parts for part in range(1, parts + 1)]
        start = start if end is None else end
    return np.array(edges, np.int64)


def block_of(lane: int, number: int, lanes: int, blocks: int, seed: int, name: str) -> int:
    """The place of a lane's block `number` among the `blocks` of the set `name`."""
    epoch, turn = divmod(lane + lanes * number, blocks)
    return int(permuted(np.array([turn]), blocks, hashed(seed, name, "block", epoch))[0])


def steps_of(lane: int, number: int, lanes: int, steps: int, seed: int, name: str) -> np.ndarray:
    """[steps] int64: the order in which a lane draws the steps of its block `number`."""
    return permuted(np.arange(steps), steps, hashed(seed, name, "steps", lane + lanes * number))
