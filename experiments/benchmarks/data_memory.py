"""What reading holds in memory, what a large index costs, and what it costs to go on in the middle.

    python experiments/benchmarks/data_memory.py --data <folder of a TFDS builder> --camera image_0

Three processes, each with its own work. The first reads 10,000 batches of four steps with an image from a prepared cache, through
`jaxrl_data.dataset_source`, and tells its resident memory after batch 100 and after each further 100. The second opens an index of a
million episodes, without contents, as training does: lengths, hashes, which episodes are held out, the order; and draws a batch's worth of
places from it. The third begins at batch 10 and at batch 10,000,000, in turns, with a new loader each time, until the first batch is there.

`ratio` is resident memory at batch 100 over that at the last batch (target: at least 0.95); `growth` is the largest after any batch beyond
the 100th, as a share of that at the 100th, and `grown` the same in bytes. Other targets: the index opens in less than 10 s within 1 GiB,
and `resume_ratio`, seconds at batch 10 over seconds at batch 10,000,000, is about 1. Takes three minutes.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import harness

BATCH, SIZE, EPISODES, NEAR, FAR = 4, 32, 1_000_000, 10, 10_000_000


def resident() -> int:
    """Bytes that this process holds."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))


def config(cache: str, camera: str) -> Any:
    from jaxrl_data.dataset_source import Config
    from jaxrl_data.members import Set
    from jaxrl_data.mixture import Images

    columns = {"action": "action", "state/proprioception": "observation/state", f"image/{camera}": f"observation/{camera}"}
    return Config(sets={"set": Set(cache, columns=columns)}, batch_size=BATCH, images=Images(SIZE))


def reading(commands: harness.Commands, cache: str, camera: str) -> None:
    from jaxrl_data.dataset_source import batches

    found, done = batches(config(cache, camera)), 0

    def read(upto: int) -> int:
        nonlocal done
        while done < upto:
            next(found)
            done += 1
        return resident()

    commands.serve({"read": read})


def make_index(folder: Path) -> None:
    """A cache of so many episodes that has an index and nothing else."""
    import numpy as np

    from jaxrl.types import ArraySpec
    from jaxrl_data.cache.layout import CACHE, INDEX, PLAN, Plan, to_json
    from jaxrl_data.episode import Features

    drawn = np.random.default_rng(0)
    features = Features({"state": ArraySpec((7,)), "action": ArraySpec((7,))}, {}, (), 10.0)
    plan = Plan("synthetic", "synthetic/1.0.0", "train", "0", EPISODES, 500, features)
    folder.mkdir()
    hashes = np.frombuffer(drawn.bytes(16 * EPISODES), np.uint8).reshape(-1, 16)
    lengths = drawn.integers(50, 500, EPISODES).astype(np.int32)
    np.savez(folder / INDEX, lengths=lengths, hashes=hashes, counts=np.full(plan.shards, 500, np.int64))
    for name in (PLAN, CACHE):
        (folder / name).write_text(to_json(plan))


def index(commands: harness.Commands, folder: str) -> None:
    from jaxrl_data.members import Set
    from jaxrl_data.mixture import Mixture
    from jaxrl_data.samples import open_mixture

    def opened() -> dict[str, float]:
        before, start = resident(), time.perf_counter()
        columns = {"state/pose": "state", "action": "action"}
        samples = open_mixture(Mixture({"set": Set(folder, columns=columns)}, validation=0.01))
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        draws = samples.order.draws(10**9, 256)
        places = [samples.fed["set"].member.at(int(item)) for item in draws.item]
        assert len(set(places)) == 256
        return {"seconds": seconds, "bytes": resident(), "grown": resident() - before, "draws": time.perf_counter() - start}

    commands.serve({"open": opened})


def resuming(commands: harness.Commands, cache: str, camera: str) -> None:
    from jaxrl_data.dataset_source import batches

    def first(number: int) -> float:
        start = time.perf_counter()
        next(batches(config(cache, camera), first=BATCH * number))
        return time.perf_counter() - start

    commands.serve({"first": first})


def flatness(live: harness.Contestant, last: int) -> list[int]:
    """Resident memory after batch 100, 200 and so on."""
    return [live.ask("read", upto=number) for number in range(100, last + 1, 100)]


def main() -> None:
    parser = harness.parser(__doc__)
    harness.add_data(parser)
    parser.add_argument("--camera", default="image_0")
    parser.add_argument("--batches", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=15, help="of the first batch at either place")
    options = parser.parse_args()
    if options.contestant:
        kind, *rest = options.contestant
        {"reading": reading, "index": index, "resuming": resuming}[kind](harness.Commands(), *rest)
    with tempfile.TemporaryDirectory() as folder:
        cache, million = str(Path(folder) / "cache"), Path(folder) / "million"
        harness.prepared(options.data, cache)
        make_index(million)
        with harness.contestants(reading=lambda: harness.Contestant(["reading", cache, options.camera])) as live:
            held = flatness(live["reading"], options.batches)
        with harness.contestants(index=lambda: harness.Contestant(["index", str(million)])) as live:
            opened = live["index"].ask("open")
        with harness.contestants(resuming=lambda: harness.Contestant(["resuming", cache, options.camera])) as live:
            measures = {name: (lambda at=at: live["resuming"].ask("first", number=at)) for name, at in (("near", NEAR), ("far", FAR))}
            for measure in measures.values():
                measure()
            seconds = harness.alternate(options.repeats, measures)
    rows = [["resident memory", "MB"], *([f"after batch {100 * (n + 1):,}", f"{held[n] / 1e6:.1f}"] for n in _shown(len(held)))]
    harness.table([*rows, [f"with an index of {EPISODES:,} episodes", f"{opened['bytes'] / 1e6:.1f}"]])
    harness.table([["seconds", "median"], [f"to open {EPISODES:,} episodes", f"{opened['seconds']:.2f}"]])
    harness.table([["seconds to the first batch", "median"], *([name, harness.spread(values, 4)] for name, values in seconds.items())])
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    harness.report(
        "data_memory",
        ratio=held[0] / held[-1],
        ours=held[-1] / 1e6,
        theirs=None,
        unit="MB",
        growth=max(held) / held[0] - 1,
        grown=max(held) - held[0],
        index={**opened, "episodes": EPISODES},
        resume_seconds=middle,
        resume_ratio=middle["near"] / middle["far"],
        setup=harness.setup(batch=BATCH, size=SIZE, batches=options.batches),
    )


def _shown(number: int) -> list[int]:
    """The first, the last, and some between."""
    return sorted({0, *range(number // 4 - 1, number, max(number // 4, 1)), number - 1})


if __name__ == "__main__":
    sys.exit(main())
