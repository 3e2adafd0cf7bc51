"""What training from a config will draw, and hold in memory: told before it begins, and without reading an episode."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from jaxrl.ops.cores import cores
from jaxrl.types import ArraySpec, PolicySpec
from jaxrl_data.console import bytes_text
from jaxrl_data.dataset_source import DEVICE_BATCHES, Config, memory, mixture_of, policy_spec
from jaxrl_data.kept_samples import row_bytes
from jaxrl_data.members import Member, statistics_file
from jaxrl_data.order import rows_of_host
from jaxrl_data.samples import Fed, Samples, open_mixture
from jaxrl_data.statistics import QUANTILES, Column, Statistics
from jaxrl_data.transforms.place import Place, PlaceStates

NAMED = 6  # dimensions in a cell


class Experiment(NamedTuple):
    """What of an experiment file matters here."""

    source: Any  # the Config of dataset_source or stream_source
    updates: int
    devices: int  # of all hosts
    train_state: Callable[[PolicySpec], int]  # what a policy reads and writes -> bytes of parameters and optimizer on each device


Load = Callable[[str, Sequence[str]], Experiment]


def told(experiment: Experiment, hosts: int = 1) -> Iterator[Table | str]:
    """The plan, in parts to print.

    Raises:
        ValueError: a set cannot be opened, sets do not fit together, or hosts or devices do not divide the batch.
    """
    config = experiment.source
    if not isinstance(config, Config):
        raise ValueError("a plan is of jaxrl_data.dataset_source; stream_source tells how much it will hold when training begins")
    rows_of_host(0, config.batch_size, hosts, 0)
    if config.batch_size % experiment.devices:
        raise ValueError(f"batch_size is {config.batch_size}, which {experiment.devices} devices do not divide")
    samples = open_mixture(mixture_of(config), lambda name, member: _unknown(member))
    updates, size = experiment.updates, config.batch_size
    yield _sets(samples, updates * size)
    yield f"{updates:,} updates of {size:,} samples, {updates * size:,} in all; each of {hosts} host(s) reads {size // hosts:,} of a batch"
    yield _sample(samples)
    yield from _held(experiment, samples, hosts)
    if config.normalise or len(samples.fed) == 1:
        yield from _statistics(samples)


def _sets(samples: Samples, drawn: int) -> Table:
    """The sets of a mixture, of which so many samples are drawn."""
    config = samples.config
    shown = Table("set", "cache", "episodes", "held out", "steps", "weight", "share", "epochs", "padded, of its samples")
    for column in shown.columns[2:8]:
        column.justify = "right"
    share, epochs = samples.order.shares, samples.order.epochs(drawn)
    for name, one in samples.fed.items():
        member = one.member
        out = len(member.lengths) - len(member.chosen)
        cells = (f"{len(member.chosen):,}", f"{out:,}", f"{member.items:,}", f"{config.sets[name].weight:g}")
        told = (f"{100 * share[name]:.1f} %", f"{epochs[name]:.3g}", "; ".join(padded(one)) or "nothing")
        shown.add_row(name, str(member.folder), *cells, *told)
    return shown


def padded(one: Fed) -> list[str]:
    """What a set has not, although its samples have room for it: dimensions of the action and the state, cameras."""
    found = []
    for transform in one.transforms:
        if isinstance(transform, Place):
            found += _lacks("action", transform.space.names, {dimension.name for dimension in transform.embodiment.dimensions})
        if isinstance(transform, PlaceStates):
            has = {dimension.name for _, robot in transform.groups for dimension in robot.dimensions}
            found += _lacks("state", transform.space.names, has)
    return found + _lacks("images", one.cameras, {name.removeprefix("image/") for name in one.member.features.images})


def _lacks(kind: str, wanted: Sequence[str], has: set[str]) -> list[str]:
    missing = [name for name in wanted if name not in has]
    more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
    return [f"{kind}: {', '.join(missing[:NAMED])}{more} ({len(missing)} of {len(wanted)})"] if missing else []


def _sample(samples: Samples) -> Table:
    shown = Table("of each sample", "type", "shape", "bytes")
    for name, spec in samples.spec.items():
        shown.add_row(name, spec.dtype, " x ".join(map(str, spec.shape)), bytes_text(_size(spec)))
    return shown


def _size(spec: ArraySpec) -> int:
    return int(np.prod([int(n) for n in spec.shape], dtype=np.int64)) * np.dtype(spec.dtype).itemsize


def _held(experiment: Experiment, samples: Samples, hosts: int) -> Iterator[Table | str]:
    config = experiment.source
    threads = config.threads or cores()
    host = memory(config, samples, hosts)
    shown = Table("in memory", "bytes", "what")
    shown.columns[1].justify = "right"
    who = f"{config.processes} processes of {threads} threads" if config.processes else f"{threads} threads of this process"
    what = {
        "host/data/index": f"lengths, hashes and places of {sum(len(one.member.lengths) for one in samples.fed.values()):,} episodes",
        "host/data/batches": f"batches that wait or are made, by {who}",
        "host/data/processes": f"Python and its libraries in {config.processes} processes",
    }
    for name, size in host.items():
        shown.add_row(name, bytes_text(size), what[name])
    shown.add_row("each host", bytes_text(sum(host.values())), "beside what the training process is without data", end_section=True)
    batches = DEVICE_BATCHES * row_bytes(samples.spec) * config.batch_size // experiment.devices
    state = experiment.train_state(policy_spec(config, samples.spec, samples.rates))
    shown.add_row("device/batches", bytes_text(batches), f"{DEVICE_BATCHES} batches: what is learnt from, and the next")
    shown.add_row("device/train_state", bytes_text(state), "parameters, optimizer, statistics; gradients and activations come on top")
    shown.add_row("each device", bytes_text(batches + state), f"of {experiment.devices}")
    yield shown


def _statistics(samples: Samples) -> Iterator[str]:
    for name, one in samples.fed.items():
        if not statistics_file(one.member, samples.config.validation, one.measured).exists():
            yield f"{name}: its statistics are not there yet; training begins with one pass over {one.member.items:,} steps, without images"


def _unknown(member: Member) -> Statistics:
    """In place of statistics that nobody has computed: what a sample is made of does not depend on them."""
    columns = {}
    for name, spec in member.features.arrays.items():
        size = int(np.prod([int(n) for n in spec.shape], dtype=np.int64))
        names = spec.names if len(spec.names) == size else tuple(map(str, range(size)))
        ends: dict[str, Any] = {"std": 1.0, "min": -1.0, "max": 1.0, "mean": 0.0} | {at: 2.0 * rank - 1.0 for at, rank in QUANTILES.items()}
        columns[name] = Column(names, spec.unit, 0, 0, **{field: np.full(size, value) for field, value in ends.items()})
    return Statistics(columns, "", "", 0, 0)
