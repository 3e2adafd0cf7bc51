"""The statistics that training from a config needs, made beforehand, for `jaxrl data stats --config`."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from jaxrl_data import dataset_source, stream_source
from jaxrl_data.members import Member, open_member, statistics_file, statistics_of
from jaxrl_data.mixture import measured_of
from jaxrl_data.samples import note
from jaxrl_data.statistics import Statistics, save
from jaxrl_data.streaming.members import Choice, open_streams
from jaxrl_data.streaming.statistics import configured

Make = Callable[[Callable[[int], Any]], tuple[Statistics, str]]  # how to tell of episodes read -> statistics, and the file they are in


def statistics_needed(config: dataset_source.Config | stream_source.Config) -> Iterator[tuple[str, int, Make]]:
    """Of each set its name, how many episodes it has, and what makes its statistics.

    Raises ValueError where a set that is read from where it lies names no file for them.
    """
    if isinstance(config, stream_source.Config):
        yield from _of_streams(config)
        return
    for name, one in config.sets.items():
        member = open_member(one, "train", config.validation)
        yield name, len(member.chosen), partial(_kept, member, config, name)


def _kept(member: Member, config: dataset_source.Config, name: str, advance: Callable[[int], Any]) -> tuple[Statistics, str]:
    measured = measured_of(config, config.sets[name])
    held = statistics_of(member, config.validation, measured, partial(note, {}) if config.quarantine else None)
    advance(len(member.chosen))
    return held, str(statistics_file(member, config.validation, measured))


def _of_streams(config: stream_source.Config) -> Iterator[tuple[str, int, Make]]:
    for name, one in config.sets.items():
        if not one.statistics:
            raise ValueError(f"sets.{name}: names no file for its statistics; add one, such as statistics: {name}.json")
    opened = open_streams(dict(config.sets))
    try:
        for name, stream in opened.streams.items():

            def make(advance: Callable[[int], Any], name: str = name, stream: Any = stream) -> tuple[Statistics, str]:
                path = config.sets[name].statistics
                choice = Choice("train", config.validation, quarantine=config.quarantine)
                held = configured(stream, measured_of(config, config.sets[name]), choice, partial(note, {}), advance)
                save(path, held)
                return held, path

            yield name, stream.dataset.size, make
    finally:
        opened.close()
