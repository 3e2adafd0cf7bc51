"""Episodes of a TFDS builder directory, in stored order, parsed by tensorflow-datasets: images stay as they were encoded.

Records of the usual format are taken from their files by TensorFlow itself: to build a pipeline of tensorflow-datasets takes a quarter of a
second, longer than to read a few episodes. The end of a record ends an episode, whatever `is_last` says. TensorFlow is imported when the
first episode is read, and kept off GPUs; a process that trains reads through `jaxrl_data.rlds.stream`, where it stays without TensorFlow.
"""

import contextlib
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import BadEpisode, Episode, Features, chosen
from jaxrl_data.origin import completed, read_origin
from jaxrl_data.rlds import beside
from jaxrl_data.rlds.features import STEPS
from jaxrl_data.rlds.metadata import Split, information, read_split
from jaxrl_data.rlds.record import columns, metadata
from jaxrl_data.rlds.schema import metadata_of
from jaxrl_data.stored import checked, span

_BUFFER = 2**20  # bytes that a file is read ahead
_ID = "tfds_id"  # of a record: its file and its place there


def splits(path: str) -> tuple[str, ...]:
    """The names of the splits, as stored. Raises ValueError where dataset_info.json is damaged."""
    return tuple(one["name"] for one in information(path)["splits"])


def read(path: str, split: str) -> Dataset:
    """One split. Reads metadata only, without TensorFlow. Raises as `read_split`."""
    told = read_split(path, split)
    features = completed(told.layout.features, read_origin(path))
    found: list[_Parser] = []  # once it is needed

    def episodes(first: int, last: int, columns: Iterable[str] | None = None) -> Iterator[Episode]:
        wanted = chosen(features, columns)
        span(first, last, int(told.ends[-1]), f"{told.name} {split}")
        if first < last:
            if not found:
                found.append(_parser(told))
            yield from _episodes(told, found[0], first, last, wanted)

    files = () if told.format == "array_record" else tuple(told.ends.tolist())
    return Dataset(told.name, split, features, int(told.ends[-1]), episodes, told.fingerprint, files)


class _Parser(NamedTuple):
    builder: Any  # of tensorflow-datasets
    skip: dict[str, Any]  # what it is not to decode: steps as tf.Example has them, with images and byte strings as they are
    parse: Callable[[Any], Any]  # a serialised record -> its features; thread-safe


def _parser(told: Split) -> _Parser:
    beside.check()
    import tensorflow as tf
    import tensorflow_datasets as tfds

    with contextlib.suppress(RuntimeError):  # somebody else has begun to use them
        tf.config.set_visible_devices([], "GPU")
    tf.get_logger().addFilter(lambda line: "tf.data.Dataset.counter" not in line.getMessage())  # tfds' own, two at each call
    builder = tfds.builder_from_directory(told.path)
    skip = {STEPS: tfds.decode.SkipDecoding()} | _nested(told.layout.images, tfds.decode.SkipDecoding)
    return _Parser(builder, skip, tf.function(lambda raw: builder.info.features.deserialize_example(raw, decoders=skip)))


def _episodes(told: Split, parser: _Parser, first: int, last: int, wanted: Features) -> Iterator[Episode]:
    """Each record is checked to be the one that was meant: a shard that lacks some would move all episodes of the next."""
    place = first
    with _as_bad_episode(told, lambda: place):
        for record in _records(told, parser, first, last):
            _same_record(told, place, record.pop(_ID, None))
            yield _episode(told, parser.builder, record, place, wanted)
            place += 1
        if place < last:
            raise ValueError("its file holds less records than dataset_info.json tells")


def _same_record(told: Split, place: int, found: Any) -> None:
    shard = told.shard(place)
    before = int(told.ends[shard - 1]) if shard else 0
    meant = f"{told.shards[shard]}__{place - before}"
    if found is not None and found.numpy().decode() != meant:
        raise ValueError(f"should be record {meant}, but what follows is {found.numpy().decode()}: a file holds more or less than was told")


def _episode(told: Split, builder: Any, record: Any, place: int, wanted: Features) -> Episode:
    name, rest = metadata_of(metadata({name: value for name, value in record.items() if name != STEPS}))
    if told.layout.left_out:
        rest = rest | {"left_out": dict(told.layout.left_out)}
    name = name or f"{told.name}/{told.split}/{place}"
    arrays, images, texts = columns(told.layout.columns, record[STEPS], builder.info.features[STEPS].feature, wanted.names)
    return checked(place, _file(told, place), Episode(name, arrays, images, texts, rest), wanted)


def _file(told: Split, place: int) -> str:
    return f"{told.path}: {told.shards[min(told.shard(place), len(told.shards) - 1)]}"


@contextlib.contextmanager
def _as_bad_episode(told: Split, place: Callable[[], int]) -> Iterator[None]:
    import tensorflow as tf

    try:
        yield
    except BadEpisode:
        raise
    except (
        tf.errors.OpError,
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        OSError,
        NotImplementedError,
        RuntimeError,
        zlib.error,
    ) as error:
        raise BadEpisode(place(), f"{_file(told, place())}: episode {place()}: {_plain(error)}") from error


def _plain(error: BaseException) -> str:
    """What TensorFlow says, without the names of nodes of its graph."""
    text = str(getattr(error, "message", error)).split("\n", 1)[0]
    return re.sub(r"\{\{.*?\}\}|\[\[.*?\]\]|\[Op:.*?\]", "", text).strip() or type(error).__name__


def _records(told: Split, parser: _Parser, first: int, last: int) -> Iterator[Any]:
    """Parsed records, one after the other."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    slice_ = f"{told.split}[{first}:{last}]"
    if told.format == "tfrecord":
        yield from map(parser.parse, _of_files(told, first, last))
    elif told.format == "array_record":
        for raw in parser.builder.as_data_source(slice_, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES):
            yield parser.parse(tf.constant(raw))
    else:
        yield from parser.builder.as_dataset(slice_, shuffle_files=False, decoders=parser.skip, read_config=_read_config())


def _of_files(told: Split, first: int, last: int) -> Iterator[Any]:
    """Serialised records of TFRecord files. Raises ValueError where a file that is read to its end holds less or more than was told."""
    import tensorflow as tf

    while first < last:
        shard = told.shard(first)
        start, end = int(told.ends[shard - 1]) if shard else 0, int(told.ends[shard])
        upto, ended = min(last, end), last >= end
        records = tf.data.TFRecordDataset(os.path.join(told.path, told.shards[shard]), buffer_size=_BUFFER).skip(first - start)
        found = iter(records.with_options(_options()))
        for place in range(first, upto):
            record = next(found, None)
            if record is None:
                raise ValueError(f"its file holds {place - start} records, but dataset_info.json tells of {end - start}")
            yield record
        if ended and next(found, None) is not None:
            raise ValueError(f"its file holds more than the {end - start} records that dataset_info.json tells of")
        first = upto


def _nested(paths: tuple[tuple[str, ...], ...], value: Callable[[], Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in paths:
        inner = found
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = value()
    return found


def _options() -> Any:
    """One thread."""
    import tensorflow as tf

    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    return options


def _read_config() -> Any:
    """One file at a time, nothing kept: the order is that of the files, and memory holds a record or two."""
    import tensorflow_datasets as tfds

    return tfds.ReadConfig(
        options=_options(),
        add_tfds_id=True,
        try_autocache=False,
        skip_prefetch=True,
        interleave_cycle_length=1,
        num_parallel_calls_for_decode=1,
        num_parallel_calls_for_interleave_files=1,
        override_buffer_size=_BUFFER,
    )
