"""Encoded images of random steps out of our cache, beside ArrayRecord with the same bytes.

    python experiments/benchmarks/cache_reads.py --data <folder of a TFDS builder>

The images of all cameras of the set, again and again up to --records of them, lie once in a cache as `jaxrl data prepare` writes it, and
once in an ArrayRecord file, written uncompressed (JPEGs do not shrink) with one record in a group, which is what its documentation advises
for random access. The same random records are read in this process, in one thread, in turns: from ours one by one; from ArrayRecord one by
one, and in batches of 256, which it reads in parallel threads of its own. Both files are in the system's cache. `ratio` is the time that
ArrayRecord takes for one, over ours; `batched_ratio` the same of its batches. Takes half a minute.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import harness

BLOCK, TOGETHER = 2048, 256  # records a turn, records of a batch


def stored(data: str | None) -> list[bytes]:
    """Every image of the data set."""
    from jaxrl_data.open import open_dataset

    if data is None:
        sys.exit("--data: name the folder of a TFDS builder, or that of the test data in JAXRL_TEST_DATA")
    dataset = open_dataset(data, "train")
    return [bytes(image) for episode in dataset.read(0, dataset.size) for column in episode.images.values() for image in column]


def write_cache(folder: Path, images: list[bytes], number: int) -> None:
    """`number` steps of one camera, in episodes of 100."""
    import numpy as np

    from jaxrl.types import ArraySpec
    from jaxrl_data.cache import prepare as preparing
    from jaxrl_data.dataset import Dataset
    from jaxrl_data.episode import Episode, Features

    size = 100

    def read(first: int, last: int) -> Iterator[Episode]:
        for episode in range(first, last):
            rows = np.zeros((size, 7), np.float32)
            shown = [images[(episode * size + step) % len(images)] for step in range(size)]
            yield Episode(f"episode {episode}", {"action": rows}, {"front": shown}, {})

    features = Features({"action": ArraySpec((7,))}, {"front": ArraySpec(("height", "width", 3), "uint8")}, (), 10.0)
    preparing.open_dataset = lambda path, split=None: Dataset("made", "train", features, number // size, read, "0")
    preparing.prepare(preparing.plan("made", episodes_per_shard=500), folder)


def readers(folder: Path, images: list[bytes], number: int) -> dict[str, Callable[[Any], list[bytes]]]:
    """Names, and functions from numbers of records to their bytes."""
    from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

    from jaxrl_data.cache.store import open_store

    write_cache(folder / "cache", images, number)
    store, path = open_store(folder / "cache"), str(folder / "images.array_record")
    writer = ArrayRecordWriter(path, "group_size:1,uncompressed")
    for record in range(number):
        writer.write(images[record % len(images)])
    writer.close()
    single, batched = ArrayRecordReader(path, "readahead_buffer_size:0"), ArrayRecordReader(path, "readahead_buffer_size:0")

    def ours(records: list[int]) -> list[bytes]:
        return [store.images(record // 100, "front", (record % 100,))[0] for record in records]

    def one(records: list[int]) -> list[bytes]:
        return [single.read([record])[0] for record in records]

    def together(records: list[int]) -> list[bytes]:
        return [found for first in range(0, len(records), TOGETHER) for found in batched.read(records[first : first + TOGETHER])]

    return {"ours": ours, "ArrayRecord, one by one": one, f"ArrayRecord, {TOGETHER} at once": together}


def main() -> None:
    import numpy as np

    parser = harness.parser(__doc__)
    harness.add_data(parser)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    images, drawn = stored(options.data), np.random.default_rng(0)
    number = options.records // 100 * 100
    with tempfile.TemporaryDirectory() as folder:
        read = readers(Path(folder), images, number)

        def microseconds(name: str) -> float:
            records = drawn.integers(0, number, BLOCK).tolist()
            start = time.perf_counter()
            found = read[name](records)
            seconds = time.perf_counter() - start
            assert all(one == images[record % len(images)] for one, record in zip(found, records, strict=True))
            return 1e6 * seconds / BLOCK

        for name in read:
            microseconds(name)  # files are opened, and read once
        values = harness.alternate(options.repeats, {name: (lambda name=name: microseconds(name)) for name in read})
    harness.table([["", "microseconds for an image"], *([name, harness.spread(found, 1)] for name, found in values.items())])
    ours, one, together = (statistics.median(found) for found in values.values())
    size = sum(map(len, images)) / len(images)
    harness.report(
        "cache_reads",
        ratio=one / ours,
        ours=ours,
        theirs=one,
        unit="us/image",
        batched=together,
        batched_ratio=together / ours,
        setup=harness.setup(records=number, bytes_per_image=size),
    )


if __name__ == "__main__":
    sys.exit(main())
