"""Steps straight out of RLDS into batches: `jaxrl_data.stream_source` against `jaxrl_data.dataset_source` on a prepared cache.

    python experiments/benchmarks/stream_loader.py --data <folder of a TFDS builder> --cameras image_0 image_1 image_2 --size 224

Both yield batches of 64 steps, the images of all cameras decoded and resized with their proportions kept, state and action. The stream
reads every episode anew in each epoch, in a process of its own. `ratio` is steps per second, streamed over prepared: it is below 1 by what
reading takes from the cores that decode.

Contestants live in processes of their own and take turns.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import harness

BATCH, BLOCK = 64, 40  # steps, batches
CONTESTANTS = ("streamed", "prepared")


def _columns(cameras: list[str]) -> dict[str, str]:
    columns = {"state/proprioception": "observation/state", "action": "action"}
    return columns | {f"image/{camera}": f"observation/{camera}" for camera in cameras}


def streamed(data: str, cameras: list[str], size: int, folder: str) -> Iterator[Any]:
    """Batches without a cache."""
    del folder
    import numpy as np

    from jaxrl_data.mixture import Images
    from jaxrl_data.stream_source import Batches, Config, open_mixed
    from jaxrl_data.streaming.members import Streamed

    config = Config(sets={"set": Streamed(data, columns=_columns(cameras))}, batch_size=BATCH, images=Images(size))
    found = Batches(config, open_mixed(config), 0, np.zeros((1, config.lanes, 2), np.int32))
    while True:
        yield next(found)[0]


def prepared(data: str, cameras: list[str], size: int, folder: str) -> Iterator[Any]:
    """Batches of a cache."""
    from jaxrl_data.cache.prepare import plan, prepare
    from jaxrl_data.dataset_source import Config, batches
    from jaxrl_data.members import Set
    from jaxrl_data.mixture import Images

    prepare(plan(data, "train"), Path(folder) / "cache")
    sets = {"set": Set(str(Path(folder) / "cache"), columns=_columns(cameras))}
    return batches(Config(sets=sets, batch_size=BATCH, images=Images(size)))


def timed(found: Iterator[Any], camera: str, size: int) -> Callable[[], float]:
    """Steps per second of a block of batches."""

    def run() -> float:
        start = time.perf_counter()
        for batch in itertools.islice(found, BLOCK):
            assert batch["observation"][f"image/{camera}"].shape == (BATCH, size, size, 3)
        return BLOCK * BATCH / (time.perf_counter() - start)

    run()
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description="Steps out of RLDS into batches, with and without a cache.")
    parser.add_argument("--data", required=True, help="folder of a TFDS builder: dataset_info.json, features.json and shards")
    parser.add_argument("--cameras", nargs="+", default=["image_0", "image_1", "image_2"])
    parser.add_argument("--size", type=int, default=224, help="of images [pixels]")
    parser.add_argument("--repeats", type=int, default=5)
    options, words = parser.parse_known_args()
    given = ["--data", options.data, "--size", str(options.size), "--cameras", *options.cameras]
    if words[:1] == ["--contestant"]:
        made = dict(zip(CONTESTANTS, (streamed, prepared), strict=True))[words[1]]
        with tempfile.TemporaryDirectory() as folder:
            found = made(options.data, options.cameras, options.size, folder)
            harness.Commands().serve({"block": timed(found, options.cameras[0], options.size)})
    started = {name: (lambda name=name: harness.Contestant([name, *given])) for name in CONTESTANTS}
    with harness.contestants(**started) as live:
        values = harness.alternate(options.repeats, {name: (lambda name=name: live[name].ask("block")) for name in CONTESTANTS})
    middle = {name: statistics.median(values[name]) for name in CONTESTANTS}
    harness.table([["", "steps/s"], *([name, harness.spread(values[name])] for name in CONTESTANTS)])
    setup = harness.setup(batch=BATCH, size=options.size, cameras=len(options.cameras))
    harness.report("stream_loader", middle["streamed"] / middle["prepared"], middle["streamed"], middle["prepared"], "steps/s", setup=setup)


if __name__ == "__main__":
    sys.exit(main())
