"""Statistics of a data set that is not prepared: computed once by `jaxrl data stats`, and found by a path that the config names.

Of a set whose steps or numbers are changed (`idle`, `transforms`) they are made by `--config`, which knows how; of others by the path too.
"""

from collections.abc import Callable, Iterator
from typing import Any

from etils import epath

from jaxrl_data.dataset import Dataset, without_images
from jaxrl_data.episode import Episode
from jaxrl_data.measured import Measured, rows, specs
from jaxrl_data.members import Set, meaning
from jaxrl_data.statistics import Statistics, Summary, float_columns, load, statistics, summarise
from jaxrl_data.streaming.members import Choice, Stream, chosen, read_episodes


def _definition(standard: str, of_standard: str, validation: float) -> str:
    """What a file of statistics says was done: nothing to columns as they are stored."""
    bare = of_standard if standard else ""
    return f"{bare}-{validation:g}" if validation else bare


def summary_of(
    dataset: Dataset,
    standard: str = "",
    validation: float = 0.0,
    first: int = 0,
    last: int | None = None,
    advance: Callable[[int], Any] = lambda episodes: None,
) -> Summary:
    """Of the columns of floats, as they are stored or standardised by a row of the table, of the episodes that are not held out.

    Raises as `summarise`; ValueError where the standard is not known.
    """
    if not standard and not validation:  # what a standard needs, and what is held out, is told by images too
        dataset = without_images(dataset)
    choice = Choice("train", validation)
    told = meaning(Set(dataset.name, standard=standard), dataset.features) if standard else None

    def read(first: int, last: int) -> Iterator[Episode]:
        kept = chosen(dataset.read(first, last), choice)
        return map(told.standardise, kept) if told else kept

    definition = _definition(standard, told.definition if told else "", validation)
    specs = told.features.arrays if told else None
    return summarise(dataset._replace(read=read), float_columns, definition, first, last, specs, advance)


def configured(
    stream: Stream, measured: Measured, choice: Choice, note: Callable[[str, str], None], advance: Callable[[int], Any]
) -> Statistics:
    """Those that a config needs, by house names. Reads every episode of the set once.

    Bad ones are told to `note`, if there is a quarantine, else raised as BadEpisode.
    """
    plain = not stream.given.standard and not choice.validation
    dataset = without_images(stream.dataset) if plain else stream.dataset
    columns = specs(measured, stream.features)

    def read(first: int, last: int) -> Iterator[Episode]:
        return read_episodes(stream._replace(dataset=dataset), first, last, choice, note)

    told = _configured(stream, measured, choice.validation)
    return statistics(
        summarise(dataset._replace(read=read), lambda one: rows(measured, one, columns), told, specs=columns, advance=advance)
    )


def _configured(stream: Stream, measured: Measured, validation: float) -> str:
    return "-".join(word for word in (stream.meaning.definition, measured.definition, f"{validation:g}") if word)


def statistics_of(stream: Stream, measured: Measured, validation: float) -> Statistics:
    """Those of the file that the set names, by house names.

    Raises ValueError that tells the command to make them: no file is named or there, or it is one of other data or other columns.
    """
    path = stream.given.statistics
    makes = "`jaxrl data stats --config FILE.py` makes them"
    if not path:
        raise ValueError(f"{stream.given.path}: its statistics are needed, and the config names no file (statistics: FILE); {makes}")
    if not epath.Path(path).exists():
        raise ValueError(f"{path}: there are no statistics of {stream.given.path}; {makes}")
    held = load(path)
    if held.fingerprint != stream.dataset.fingerprint:
        raise ValueError(f"{path}: holds statistics of other data than {stream.given.path}, split {stream.dataset.split}; {makes}")
    if held.definition == _configured(stream, measured, validation):
        return held
    changed = measured.definition
    need = (
        _configured(stream, measured, validation) if changed else _definition(stream.given.standard, stream.meaning.definition, validation)
    )
    if held.definition != need:
        found, need = (one or "of stored columns" for one in (held.definition, need))
        raise ValueError(
            f"{path}: holds statistics {found} of {stream.given.path}, but {need} are needed: of one standard, the same transforms and "
            f"steps, and one share held out; {makes}"
        )
    if stream.given.standard:
        return held
    named = {own: held.columns[name] for own, name in stream.given.columns.items() if name in held.columns}
    if lacking := sorted(specs(measured, stream.features).keys() - named.keys()):
        raise ValueError(f"{path}: holds no statistics of {lacking[0]} of {stream.given.path}; {makes}")
    return held._replace(columns=named)
