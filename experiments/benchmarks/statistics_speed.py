"""What statistics cost beside reading: a pass that makes them, and a pass that only reads.

    python experiments/benchmarks/statistics_speed.py --data <folder of a TFDS builder> --columns observation/state action

A cache of the data set is read whole, episode by episode, with all that it holds, images as they are stored: one pass of reading. Against
it the statistics of the columns that training normalises, as training makes them where they are not there yet: their own reading, which
leaves images alone, and mean, deviation, extremes and quantiles of every dimension. `ratio` is the time of the first over that of the
second (target: at least 1). That leaves out that images are most of what is read, so `of_numbers` is stricter: the time of reading these
columns alone over that of their statistics without any reading, from memory; above 1 the disk's share is the greater one. In this process,
in turns, with the files in the system's cache. Takes a minute.
"""

import statistics as medians
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness


def passes(cache: str, columns: tuple[str, ...]) -> dict[str, Callable[[], Any]]:
    """Whole passes over the data set, by name."""
    from jaxrl_data.cache.store import open_store
    from jaxrl_data.dataset import Dataset
    from jaxrl_data.episode import Episode
    from jaxrl_data.members import Set, compute_statistics, open_member
    from jaxrl_data.open import open_dataset
    from jaxrl_data.statistics import statistics, summarise

    dataset = open_dataset(cache, open_store(cache).split)
    named = {"action" if name == columns[-1] else f"state/{place}": name for place, name in enumerate(columns)}
    member = open_member(Set(cache, columns=named))

    def numbers() -> list[Episode]:
        return [Episode(f"episode {n}", member.store.arrays(n, columns), {}, {}) for n in range(dataset.size)]

    held = numbers()
    in_memory = Dataset("held", "all", dataset.features, len(held), lambda first, last: iter(held[first:last]), "0")
    return {
        "one pass of reading": lambda: sum(1 for _ in dataset.read(0, dataset.size)),
        "statistics": lambda: compute_statistics(member),
        "reading their columns alone": numbers,
        "statistics, from memory": lambda: statistics(summarise(in_memory)),
    }


def main() -> None:
    parser = harness.parser(__doc__)
    harness.add_data(parser)
    parser.add_argument("--columns", nargs="+", default=["observation/state", "action"], help="of floats; the action last")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = str(Path(folder) / "cache")
        harness.prepared(options.data, cache)
        made = passes(cache, tuple(options.columns))

        def seconds(name: str) -> float:
            start = time.perf_counter()
            made[name]()
            return time.perf_counter() - start

        for name in made:
            seconds(name)
        values = harness.alternate(options.repeats, {name: (lambda name=name: seconds(name)) for name in made})
    harness.table([["", "seconds"], *([name, harness.spread(found, 4)] for name, found in values.items())])
    whole, both, reading, alone = (medians.median(found) for found in values.values())
    harness.report(
        "statistics_speed", whole / both, both, whole, "s", of_numbers=reading / alone, setup=harness.setup(columns=options.columns)
    )


if __name__ == "__main__":
    sys.exit(main())
