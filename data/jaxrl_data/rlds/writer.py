"""Episodes into a TFDS builder folder, which `tfds.builder_from_directory` opens.

Episodes go to the end of a journal, a hidden TFRecord file; when it is large enough it is renamed to be the next shard, and then
dataset_info.json, which tells of it, takes the place of the old one. So what a reader sees is whole at every moment, no episode is
written twice, and there are few large shards. A process that is killed leaves episodes in the journal, which the next writer finds and
goes on behind; only the one that was not whole is lost. Shards are numbered without their total, so that more can follow.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxrl_data import origin as origins
from jaxrl_data.episode import Episode, Features, check
from jaxrl_data.origin import Origin, unchanged
from jaxrl_data.rlds import beside, schema
from jaxrl_data.writer import Writer, begun, local, locked, plain, put_json, streamed, synced

TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}"
FRAME = 16  # bytes that TFRecord adds to each record


@dataclass
class _State:
    """Of one writer at work. `features` are None until the first episode tells what images and metadata are."""

    folder: Path
    name: str
    version: str
    split: str
    features: Any = None
    kinds: dict[str, Any] = field(default_factory=dict)
    file: Any = None  # the open journal
    episodes: int = 0  # in the journal
    bytes: int = 0
    sealed: int = 0  # episodes in shards

    @property
    def journal(self) -> Path:
        return self.folder / f".{self.name}-{self.split}.journal"


def rlds_writer(
    path: str,
    name: str,
    features: Features,
    *,
    version: str = "1.0.0",
    split: str = "train",
    shard_bytes: int = 128 * 2**20,
    origin: Origin | None = None,
) -> Writer:
    """Writes one split to the folder `path`, behind the episodes that are there.

    Images keep their bytes, JPEG or PNG. A text is stored for every step. Metadata become episode_metadata with the entries and types of
    the first episode; what does not fit in them is kept as JSON beside them (`schema.metadata_of` reads both).

    Raises:
        ValueError: the folder holds another data set, or features that differ; another writer is at work there; a damaged journal.
        RuntimeError: Mesa has drawn in this process, where TensorFlow would crash.
    """
    beside.check()
    import tensorflow_datasets as tfds

    if not tfds.core.naming.is_valid_dataset_name(name):
        raise ValueError(f"{name!r} is no name for a TFDS data set; use small letters, digits and _, beginning with a letter")
    if shard_bytes <= 0:
        raise ValueError(f"shard_bytes must be above 0, got {shard_bytes}")
    folder = local(path)
    begun(folder, "RLDS", "features.json", origins.FILE)
    free = locked(folder)
    try:
        state = _State(folder, name, version, split)
        _reopen(state, features)
    except BaseException:
        free()
        raise

    def add(episode: Episode) -> None:
        check(episode, features)
        for one, column in episode.images.items():
            for row, image in enumerate(column):
                schema.image_format(image, f"{episode.name}: {one}, step {row}")
        if state.features is None:
            _first(state, episode, features, origin or unchanged(features))
        record = state.features.serialize_example(schema.example(episode, features, state.kinds))
        _append(state, record)
        if state.bytes >= shard_bytes:
            _seal(state)

    def close() -> None:
        try:
            _seal(state)
        finally:
            free()

    return streamed(features, lambda: state.sealed + state.episodes, add, close)


def _first(state: _State, episode: Episode, features: Features, origin: Origin) -> None:
    formats = {one: schema.image_format(column[0], f"{episode.name}: {one}") for one, column in episode.images.items()}
    kinds = schema.metadata_kinds(plain(episode.metadata))
    made = schema.tfds_features(features, formats, kinds)
    made.serialize_example(schema.example(episode, features, kinds))  # what cannot be written leaves no trace
    put_json(state.folder / origins.FILE, origins.to_json(origin))
    _put(state, "features.json", made.save_config)
    state.features, state.kinds = made, kinds


def _append(state: _State, record: bytes) -> None:
    import tensorflow as tf

    if state.file is None:
        state.file = tf.io.TFRecordWriter(str(state.journal))
    state.file.write(record)
    state.file.flush()
    synced(state.journal)
    state.episodes += 1
    state.bytes += len(record)


def _seal(state: _State) -> None:
    """The journal becomes the next shard."""
    if not state.episodes:
        return
    state.file.close()
    state.file = None
    shards = _shard_lengths(state)
    os.replace(state.journal, _shard(state, len(shards)))
    _publish(state, [*shards, state.episodes], state.bytes)
    state.sealed, state.episodes, state.bytes = state.sealed + state.episodes, 0, 0


def _reopen(state: _State, features: Features) -> None:
    """Takes up what is in the folder: shards, one that was renamed but not told of, and the journal of a writer that was killed."""
    if not (state.folder / "features.json").exists():
        return
    import tensorflow_datasets as tfds

    state.features = tfds.features.FeaturesDict.from_config(str(state.folder))
    state.kinds = schema.kinds_of(state.features["episode_metadata"])
    _check_same(state, features)
    shards = _shard_lengths(state)
    if (late := _shard(state, len(shards))).exists():
        records = [len(record) for record in _records(late)]
        _publish(state, [*shards, len(records)], sum(records))
        shards.append(len(records))
    state.sealed = sum(shards)
    _rescue(state)


def _rescue(state: _State) -> None:
    """Whole records of a killed writer's journal go to a new one. If this is killed too, the old one is still there, and read again."""
    rescued = state.journal.with_suffix(".rescued")
    if state.journal.exists() and not rescued.exists():
        os.replace(state.journal, rescued)
    if rescued.exists():
        for record in _records(rescued):
            _append(state, record)
        rescued.unlink()


def _records(path: Path) -> Iterator[bytes]:
    """Those of a TFRecord file whose last one may be torn. Raises ValueError if one before it is damaged."""
    import tensorflow as tf

    offset, size = 0, path.stat().st_size
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            yield record
            offset += FRAME + len(record)
    except tf.errors.DataLossError as error:
        with path.open("rb") as file:
            file.seek(offset)
            told = int.from_bytes(file.read(8), "little")
        if offset + FRAME + told < size:
            raise ValueError(f"{path}: the record at byte {offset} is damaged, and more follows; keep a copy, then cut it there") from error


def _check_same(state: _State, features: Features) -> None:
    import tensorflow_datasets as tfds

    there = {tuple(path): one for path, one in _leaves(state.features["steps"].feature)}
    formats = {name: getattr(there.get(schema.place(name)), "_encoding_format", None) or "png" for name in features.images}
    ours = {tuple(path): one for path, one in _leaves(schema.tfds_features(features, formats, state.kinds)["steps"].feature)}
    for path in sorted({*there} | {*ours}):
        told, given = (repr(side[path]) if path in side else "nothing" for side in (there, ours))
        if told != given:
            raise ValueError(f"{state.folder}: holds {told} as {'/'.join(path)}, but the writer is to add {given}; write to another folder")
    if (state.folder / "dataset_info.json").exists():
        builder = tfds.builder_from_directory(str(state.folder))
        if (builder.name, str(builder.version)) != (state.name, state.version):
            raise ValueError(
                f"{state.folder}: holds {builder.name} {builder.version}, not {state.name} {state.version}; write to another folder"
            )


def _leaves(feature: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if hasattr(feature, "items"):
        for key, one in feature.items():
            yield from _leaves(one, (*path, key))
    else:
        yield path, feature


def shard_name(name: str, split: str, index: int) -> str:
    """The file of one shard."""
    return TEMPLATE.format(DATASET=name, SPLIT=split, FILEFORMAT="tfrecord", SHARD_INDEX=f"{index:05d}")


def publish(folder: Path, name: str, version: str, split: str, shards: list[int], size: int) -> None:
    """dataset_info.json of a folder with features.json tells of these shards of so many bytes, which others have written."""
    import tensorflow_datasets as tfds

    _publish(_State(folder, name, version, split, tfds.features.FeaturesDict.from_config(str(folder))), shards, size)


def _shard(state: _State, index: int) -> Path:
    return state.folder / shard_name(state.name, state.split, index)


def _template(state: _State, split: str) -> Any:
    import tensorflow_datasets as tfds

    where = {"dataset_name": state.name, "data_dir": str(state.folder), "split": split, "filetype_suffix": "tfrecord"}
    return tfds.core.ShardedFileTemplate(template=TEMPLATE, **where)


def _splits(state: _State) -> dict[str, Any]:
    """The splits that dataset_info.json tells of."""
    import tensorflow_datasets as tfds

    if not (state.folder / "dataset_info.json").exists():
        return {}
    return dict(tfds.builder_from_directory(str(state.folder)).info.splits)


def _shard_lengths(state: _State) -> list[int]:
    told = _splits(state).get(state.split)
    return list(told.shard_lengths) if told else []


def _publish(state: _State, shards: list[int], more: int) -> None:
    """dataset_info.json tells of these shards from now on; `more` is the size of the last one."""
    import tensorflow_datasets as tfds

    splits = _splits(state)
    before = splits[state.split].num_bytes if state.split in splits else 0
    splits[state.split] = tfds.core.SplitInfo(
        name=state.split, shard_lengths=shards, num_bytes=before + more, filename_template=_template(state, state.split)
    )
    version = tfds.core.Version(state.version)
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=state.name, version=version, data_dir=str(state.folder), module_name="jaxrl_data"
    )
    info = tfds.core.DatasetInfo(builder=identity, features=state.features, description="Episodes, in the steps of RLDS.")
    info.set_file_format("tfrecord")
    info.set_splits(tfds.core.splits.SplitDict(splits.values()))
    _put(state, "dataset_info.json", info.write_to_directory)


def _put(state: _State, name: str, write: Callable[[Path], None]) -> None:
    """One of the files that TFDS writes into a folder takes its place whole."""
    part = state.folder / ".part"
    shutil.rmtree(part, ignore_errors=True)  # of a writer that was killed
    part.mkdir()
    write(part)
    synced(part / name)
    os.replace(part / name, state.folder / name)
    shutil.rmtree(part)
    synced(state.folder)
