"""Images out of RLDS into batches: `jaxrl_data.dataset_source` on a prepared cache against a straightforward TFDS pipeline.

    python experiments/benchmarks/rlds_loader.py --data <folder of a TFDS builder> --cameras image_0 image_1 image_2

Both draw steps at random and yield batches of 64 steps: the images of all cameras, decoded, resized to 256 x 256 as uint8 with their
proportions kept, state and action of the step. Theirs is what a tutorial would have: tfds.load, steps of all episodes with images still
encoded, shuffle over all of them (so much the set allows), map with as many calls at once as tf.data thinks right, batch, prefetch. The
limit is JPEG decoding alone, in as many threads as there are cores. `ratio` is images per second, ours over theirs; `of_limit` ours over
the limit.

Contestants live in processes of their own and take turns. Expected on two cores: a ratio of at least 2; and, of images of a camera's size,
0.8 of the limit, which decodes them at full size and leaves out resizing.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import harness

BATCH, SIZE, BLOCK = 64, 256, 40  # steps, pixels, batches
CONTESTANTS = ("ours", "tfds", "jpeg decoding alone")


def ours(data: str, cameras: list[str], folder: str) -> Callable[[], float]:
    """Images per second of a block of batches."""
    from jaxrl_data.cache.prepare import plan, prepare
    from jaxrl_data.dataset_source import Config, batches
    from jaxrl_data.members import Set
    from jaxrl_data.mixture import Images

    prepare(plan(data, "train"), Path(folder) / "cache")
    columns = {"state/proprioception": "observation/state", "action": "action"}
    columns |= {f"image/{camera}": f"observation/{camera}" for camera in cameras}
    sets = {"set": Set(str(Path(folder) / "cache"), columns=columns)}
    found = batches(Config(sets=sets, batch_size=BATCH, images=Images(SIZE)))

    def run() -> float:
        start = time.perf_counter()
        for batch in itertools.islice(found, BLOCK):
            assert batch["observation"][f"image/{cameras[0]}"].shape == (BATCH, SIZE, SIZE, 3)
        return BLOCK * BATCH * len(cameras) / (time.perf_counter() - start)

    run()
    return run


def tfds(data: str, cameras: list[str], folder: str) -> Callable[[], float]:
    """The same of TFDS."""
    del folder
    import tensorflow as tf
    import tensorflow_datasets as tensorflow_datasets

    builder = tensorflow_datasets.builder_from_directory(data)
    skipped = {camera: tensorflow_datasets.decode.SkipDecoding() for camera in cameras}
    episodes = builder.as_dataset(split="train", decoders={"steps": {"observation": skipped}})
    count = builder.info.splits["train"].num_examples

    def one(step: Any) -> Any:
        images = {}
        for camera in cameras:
            image = tf.io.decode_jpeg(step["observation"][camera], channels=3)
            image = tf.image.resize_with_pad(image, SIZE, SIZE, antialias=True)
            images[camera] = tf.cast(tf.round(image), tf.uint8)
        return {"images": images, "state": step["observation"]["state"], "action": step["action"]}

    steps = episodes.flat_map(lambda episode: episode["steps"]).cache().repeat().shuffle(100 * count)
    found = iter(steps.map(one, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(tf.data.AUTOTUNE))

    def run() -> float:
        start = time.perf_counter()
        for batch in itertools.islice(found, BLOCK):
            assert batch["images"][cameras[0]].shape == (BATCH, SIZE, SIZE, 3)
        return BLOCK * BATCH * len(cameras) / (time.perf_counter() - start)

    run()
    return run


def decoding(data: str, cameras: list[str], folder: str) -> Callable[[], float]:
    """Decoding alone, of all images of the set again and again."""
    del folder
    from jaxrl.ops.cores import cores
    from jaxrl_data.open import open_dataset
    from jaxrl_data.transforms.images import decoded

    dataset = open_dataset(data, "train")
    images = [one for episode in dataset.read(0, dataset.size) for camera in cameras for one in episode.images[f"observation/{camera}"]]
    pool = ThreadPoolExecutor(cores())
    number = BLOCK * BATCH * len(cameras)
    parts = [list(itertools.islice(itertools.cycle(images), k, number, cores())) for k in range(cores())]

    def run() -> float:
        start = time.perf_counter()
        list(pool.map(lambda part: [decoded(one).shape for one in part], parts))
        return number / (time.perf_counter() - start)

    run()
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description="Images out of RLDS into batches, against a TFDS pipeline.")
    parser.add_argument("--data", required=True, help="folder of a TFDS builder: dataset_info.json, features.json and shards")
    parser.add_argument("--cameras", nargs="+", default=["image_0", "image_1", "image_2"])
    parser.add_argument("--repeats", type=int, default=5)
    options, words = parser.parse_known_args()
    given = ["--data", options.data, "--cameras", *options.cameras]
    if words[:1] == ["--contestant"]:
        made = dict(zip(CONTESTANTS, (ours, tfds, decoding), strict=True))[words[1]]
        commands = harness.Commands()
        with tempfile.TemporaryDirectory() as folder:
            commands.serve({"block": made(options.data, options.cameras, folder)})
    started = {name: (lambda name=name: harness.Contestant([name, *given])) for name in CONTESTANTS}
    with harness.contestants(**started) as live:
        values = harness.alternate(options.repeats, {name: (lambda name=name: live[name].ask("block")) for name in CONTESTANTS})
    middle = {name: statistics.median(values[name]) for name in CONTESTANTS}
    harness.table([["", "images/s"], *([name, harness.spread(values[name])] for name in CONTESTANTS)])
    harness.report(
        "rlds_loader",
        middle["ours"] / middle["tfds"],
        middle["ours"],
        middle["tfds"],
        "images/s",
        of_limit=middle["ours"] / middle["jpeg decoding alone"],
        limit=middle["jpeg decoding alone"],
        setup=harness.setup(batch=BATCH, size=SIZE, cameras=len(options.cameras)),
    )


if __name__ == "__main__":
    sys.exit(main())
