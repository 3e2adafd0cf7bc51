"""A small RLDS data set for tests, with every feature that comes to mind, in several files."""

import json
from pathlib import Path
from typing import Any

import numpy as np

EPISODES, SHARDS = 6, 3  # of split train


def _step(tag: int, step: int) -> dict[str, Any]:
    random = np.random.default_rng([tag, step])
    return {
        "observation": {
            "camera": random.integers(0, 255, (8, 6, 3), dtype=np.uint8),
            "depth": random.integers(0, 60000, (8, 6, 1), dtype=np.uint16),
            "distance": random.random((4, 3, 1), np.float32),
            "any": list(random.integers(0, 255, (step % 3, 8, 6, 3), dtype=np.uint8)),
            "points": random.random((step % 3, 2), np.float32),
            "scan": random.random((2 + step % 2, 3)).astype(np.float64),
        },
        "action": random.random(4).astype(np.float32),
        "raw": random.random((2, 2)).astype(np.float64),
        "zipped": random.integers(0, 99, 5).astype(np.int16),
        "wide": np.float64(random.random()),
        "kind": "push" if step % 2 else "pull",
        "words": ["a", f"é{step}"],
        "instruction": f"go {tag} \N{SNOWMAN}",
        "is_last": False,
    }


def _episode(tag: int) -> dict[str, Any]:
    return {
        "steps": [_step(tag, step) for step in range(3 + tag)],
        "episode_metadata": {"source": f"file {tag}", "numbers": np.arange(tag, dtype=np.int32), "raw": b"\xff\xfe"},
        "tag": tag,
    }


def _features() -> Any:
    import tensorflow_datasets as tfds

    feature = tfds.features
    return feature.FeaturesDict(
        {
            "steps": feature.Dataset(
                {
                    "observation": {
                        "camera": feature.Image(shape=(None, None, 3), encoding_format="jpeg"),
                        "depth": feature.Image(shape=(8, 6, 1), dtype=np.uint16, encoding_format="png"),
                        "distance": feature.Image(shape=(4, 3, 1), dtype=np.float32),
                        "any": feature.Sequence(feature.Image(shape=(8, 6, 3), encoding_format="png")),
                        "points": feature.Sequence(feature.Tensor(shape=(2,), dtype=np.float32)),
                        "scan": feature.Tensor(shape=(None, 3), dtype=np.float64, encoding="zlib"),
                    },
                    "action": feature.Tensor(shape=(4,), dtype=np.float32),
                    "raw": feature.Tensor(shape=(2, 2), dtype=np.float64, encoding="bytes"),
                    "zipped": feature.Tensor(shape=(5,), dtype=np.int16, encoding="zlib"),
                    "wide": feature.Scalar(dtype=np.float64),
                    "kind": feature.ClassLabel(names=["pull", "push"]),
                    "words": feature.Tensor(shape=(2,), dtype=np.object_),
                    "instruction": feature.Text(),
                    "is_last": np.bool_,
                }
            ),
            "episode_metadata": {
                "source": feature.Text(),
                "numbers": feature.Sequence(np.int32),
                "raw": feature.Tensor(shape=(), dtype=np.object_),
            },
            "tag": np.int64,
        }
    )


def write(folder: Path, file_format: str) -> Path:
    """Records as tfds serialises them, and the metadata that `tfds.builder_from_directory` asks for."""
    told = _features()
    told.save_config(folder)
    shards = {"train": [[0], [1, 2, 3], [4, 5]], "val": [[9]]}
    for split, files in shards.items():
        for number, tags in enumerate(files):
            name = folder / f"odd-{split}.{file_format}-{number:05d}-of-{len(files):05d}"
            _write_records(name, file_format, [told.serialize_example(_episode(tag)) for tag in tags])
    splits_told = [
        {
            "name": split,
            "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            "numBytes": "1",
            "shardLengths": [str(len(tags)) for tags in files],
        }
        for split, files in shards.items()
    ]
    told_of_all = {"name": "odd", "version": "1.2.3", "fileFormat": file_format, "splits": splits_told}
    (folder / "dataset_info.json").write_text(json.dumps(told_of_all))
    return folder


def _write_records(name: Path, file_format: str, records: list[bytes]) -> None:
    if file_format == "tfrecord":
        import tensorflow as tf

        with tf.io.TFRecordWriter(str(name)) as writer:
            for record in records:
                writer.write(record)
    else:
        from array_record.python.array_record_module import ArrayRecordWriter

        writer = ArrayRecordWriter(str(name), "group_size:1")
        for record in records:
            writer.write(record)
        writer.close()
