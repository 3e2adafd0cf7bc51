"""What a run has learnt from data, on data: those that were held out, or else those that it learnt from."""

import dataclasses
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl.cli.assemble import deployed, for_evaluation
from jaxrl.cli.data import SOURCES, installed
from jaxrl.cli.run import Opened, say
from jaxrl.cli.settings import Parts, Settings, loaded_recording
from jaxrl.config import part
from jaxrl.evaluation.evaluate import for_seeds
from jaxrl.evaluation.histograms import draw_histograms, histograms
from jaxrl.evaluation.latency import latency
from jaxrl.evaluation.loss import losing, loss_on
from jaxrl.evaluation.open_loop import Episode, episodes_of, errors, replay, replaying
from jaxrl.ops.specs import check_spec
from jaxrl.replay import memory, recording
from jaxrl.types import Algorithm, ArraySpec, Metrics, Params, Source

BATCHES = 16  # that a loss is the mean of
RECORDING = "recording"  # the only set of a run that learns from one
ON_DATA, LATENCY = "on_data", "latency"  # in evaluation.json
ERROR = "validation/error"  # along the way


class OfSet(NamedTuple):
    """Recorded episodes of one data set."""

    episodes: list[Episode]
    action: ArraySpec  # of one step, in the units of the data


class OnData(NamedTuple):
    """Recorded episodes that a run can be held against."""

    part: str  # "validation", or "train" where nothing was held out
    sets: dict[str, OfSet]
    source: Source  # of batches of this part
    returns: Any = None  # [E] of the episodes of a recording


def on_data(settings: Settings, number: int, kept: Mapping[str, Any] | None = None, which: recording.Part | None = None) -> OnData | None:
    """Up to `number` episodes of each data set of a config; None where it learns from none. Says so where they are not those `kept`.

    They are those of the part `which`, by default those held out where there are any.

    Raises:
        FileNotFoundError: the data are not there.
        ValueError: they cannot be used.
    """
    name = settings.source.get("name")
    if name != "jaxrl.replay.memory" and name not in SOURCES:
        return None
    make, config = part(settings.source, "source", "config.source")
    which = which or ("validation" if config.validation and config.part == "train" else config.part)
    if isinstance(config, memory.Config):
        everything = recording.public(loaded_recording(settings))
        whole = recording.part_of(everything, which, config.validation)
        chosen = _evenly(len(whole.episode_ends), number)
        few = whole if len(chosen) == len(whole.episode_ends) else recording.episodes(whole, chosen)
        shown = {RECORDING: OfSet(episodes_of(few, config.horizon), whole.spec.action)}
        returns = np.add.reduceat(whole.reward, [0, *whole.episode_ends[:-1]])
        return OnData(which, shown, memory.memory(dataclasses.replace(config, part=which), everything), returns)
    with installed():
        found = import_module("jaxrl_data.shown").shown(config, which, number)
        loaded = make(dataclasses.replace(config, part=which))
    if kept:
        try:
            loaded.check(kept)
        except ValueError as error:
            say(f"these are not the data that the run learnt from: {error}")
    sets = {name: OfSet([Episode(*one) for one in of.episodes], of.action) for name, of in found.items()}
    return OnData(which, sets, loaded.source)


def _evenly(count: int, number: int) -> list[int]:
    """Up to `number` of the numbers below `count`."""
    few = min(count, number)
    return [i * count // few for i in range(few)]


def of_run(opened: Opened, which: recording.Part | None = None) -> OnData | None:
    """`on_data` for a run; where the data are gone, says so and is None, unless the run has nothing else to be evaluated in."""
    if not opened.settings.objectives:
        return None
    try:
        return on_data(opened.settings, opened.settings.evaluation.num_episodes, opened.meta.get("data"), which)
    except (FileNotFoundError, ImportError) as error:
        if opened.env is None:
            raise
        say(f"no figures on data: {error}")
        return None


def demonstrations(opened: Opened, held_out: OnData | None) -> list[Episode]:
    """The episodes that a run learnt from."""
    found = of_run(opened, "train") if held_out and held_out.part == "validation" else held_out
    return [episode for one in found.sets.values() for episode in one.episodes] if found else []


def evaluate_on_data(opened: Opened, found: OnData | None, picture: Path) -> dict[str, Any]:
    """What of evaluation.json tells of a run on data, and a picture of its actions; nothing where it learnt from none."""
    settings = opened.settings
    if not settings.objectives:
        return {}
    told: dict[str, Any] = {LATENCY: latency(opened.algorithm.policy, opened.params)}
    if found is None:
        return told
    tables, shapes = replayed_sets(opened, found)
    draw_histograms(shapes, picture, f"{found.part} episodes")
    try:
        loss = loss_on(opened.algorithm, opened.params, found.source, BATCHES, settings.evaluation.seed)
    finally:
        found.source.close()
    return told | {ON_DATA: {"part": found.part, "loss": loss, "sets": tables}}


def along_the_way(settings: Settings, parts: Parts) -> Callable[[Params], Metrics] | None:
    """deployable parameters -> `validation/loss`, and of all sets together the `validation/error`: the mean relative to the range of each
    number; [num_seeds] with several seeds. None where nothing is held out.
    """
    if not settings.source.get("validation"):
        return None
    found = on_data(settings, settings.evaluation.num_episodes)
    if found is None:
        return None
    seed = settings.evaluation.seed
    losses = losing(_evaluated(settings, parts), found.source, BATCHES, seed)
    shown = [(replaying(parts.algorithm.policy, one.episodes, seed), one.action) for one in found.sets.values()]

    def means(params: Params) -> dict[str, float]:
        each = [errors(replayed(params), action)["mean_relative"] for replayed, action in shown]
        known = [one["value"] for one in each if one is not None]
        told = {f"validation/{name}": value for name, value in losses(params).items()}
        return told | ({ERROR: float(np.mean(known))} if known else {})

    return for_seeds(means, settings.training.num_seeds)


def _evaluated(settings: Settings, parts: Parts) -> Algorithm:
    """What takes what the run deploys."""
    if not settings.algorithm.get("lora"):
        return parts.algorithm
    return for_evaluation(deployed(settings), parts.learnt or parts.algorithm.policy.spec, parts.env)


def replayed_sets(opened: Opened, found: OnData) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of each data set its errors with its histograms; and all histograms, for a picture.

    Raises ValueError where a policy learns from other things than the data hold.
    """
    check_spec(opened.algorithm.batch_spec, found.source.spec, "what this run learnt", "the data")
    tables, pictures = dict[str, Any](), dict[str, Any]()
    for name, one in found.sets.items():
        replayed = replay(opened.algorithm.policy, opened.params, one.episodes, opened.settings.evaluation.seed)
        shapes = histograms(replayed, one.action)
        tables[name] = errors(replayed, one.action) | {"histograms": shapes}
        pictures |= shapes if len(found.sets) == 1 else {f"{name}: {dimension}": shape for dimension, shape in shapes.items()}
    return tables, pictures


def lines(results: Mapping[str, Any]) -> list[str]:
    """Text for a terminal, of an evaluation.json."""
    told = []
    if ON_DATA in results:
        of = results[ON_DATA]
        part_of = "held out" if of["part"] == "validation" else "of those it learnt from" if of["part"] == "train" else "of all"
        told.append(f"loss on episodes {part_of}: {of['loss']['loss']:.4g}")
        for name, one in of["sets"].items():
            told += _of_set(name, one)
    if LATENCY in results:
        one = results[LATENCY]
        limit = f", of {1e3 * one['available']:.0f} ms from one chunk to the next" if one["available"] else ""
        told.append(f"latency: p50 {1e3 * one['p50']:.2f} ms, p99 {1e3 * one['p99']:.2f} ms{limit} ({one['device']}, one robot)")
    return told


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def _of_set(name: str, one: Mapping[str, Any]) -> list[str]:
    mean = one["mean_relative"] or {"value": None, "low": None, "high": None}
    bounds = "" if mean["low"] is None else f" [{100 * mean['low']:.2g}, {100 * mean['high']:.2g}]"
    error = f"median error {_percent(one['median_relative'])} of range, mean {_percent(mean['value'])}{bounds}"
    over = f"{one['episodes']} episodes, {one['steps']:,} steps"
    rows = [f"open loop in {name}, {over}: {error}; always the median action: {_percent(one['constant'])}"]
    for dimension, of in one["dimensions"].items():
        unit, apart = f" {of['unit']}" if of["unit"] else "", one["histograms"][dimension]["relative"]
        rows.append(
            f"  {dimension:<20} median {of['median']:.3g}{unit} ({_percent(of['median_relative'])} of {of['range']:.3g}{unit}), "
            f"mean {of['mean']:.3g}{unit}, histograms {_percent(apart)} of range apart"
        )
    return rows
