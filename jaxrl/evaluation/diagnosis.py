"""What the checks of `jaxrl diagnose` found, judged: what passes, what to look at, what is broken, and what to do."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxrl.evaluation.curves import COLOURS
from jaxrl.evaluation.statistics import Interval, rate_interval

PASS, WARN, FAIL, SKIPPED = "pass", "warn", "fail", "skipped"
ENOUGH = 0.05  # median error relative to range
BETTER = 0.5  # mean error in that of who always does the median action
HALF = 0.5  # rate of success
FAR = 0.75  # deviations of states, between a start and a demonstration's; two that have nothing to do with each other are 1.4 apart
RARE = 0.01  # share of the places below which two ways may be chance
PAST = 0.5  # share of what tells of the last action


class Finding(NamedTuple):
    """What one check found."""

    check: str
    result: Literal["pass", "warn", "fail", "skipped"]
    figure: str
    advice: str = ""
    details: Mapping[str, Any] = {}  # plain JSON


def skipped(check: str, why: str) -> Finding:
    """A check that could not be made."""
    return Finding(check, "skipped", why)


def failed(findings: Sequence[Finding]) -> bool:
    """Whether one of them fails."""
    return any(one.result == FAIL for one in findings)


def overfit_finding(found: Mapping[str, Any], rows: int, allowed: int) -> Finding:
    """Of `overfit`."""
    error = f"median error {_percent(found['median_relative'])} of range, mean {_percent(found['mean_relative'])}"
    figure = f"{rows} transitions in {found['updates']} updates: {error} (always the median: {_percent(found['constant'])})"
    if found["known"]:
        return Finding("overfit", "pass", figure, details=found)
    advice = (
        f"{allowed} updates do not learn {rows} transitions by heart: look at the learning rate and its warm-up, at a network that is too "
        "small or frozen, at actions that do not follow from what is seen (data info, data view), at a head whose limit cuts them off"
    )
    return Finding("overfit", "fail", figure, advice, found)


def not_finite_finding(error: FloatingPointError) -> Finding:
    """Of an `overfit` that came to no end."""
    return Finding(
        "overfit", "fail", str(error), "a lower learning rate, gradients that are clipped; NaN in the data: `jaxrl data validate`"
    )


def open_loop_finding(sets: Mapping[str, Mapping[str, Any]], part: str) -> Finding:
    """Of `errors` of each data set."""
    known = {name: one for name, one in sets.items() if one["median_relative"] is not None}
    if not known:
        return skipped("open_loop", "no action of these episodes varies")
    name, worst = max(known.items(), key=lambda pair: pair[1]["median_relative"])
    mean, always = worst["mean_relative"]["value"], worst["constant"]
    over = f"{name}, {worst['episodes']} episodes {'held out' if part == 'validation' else f'of {part}'}"
    error = f"median error {_percent(worst['median_relative'])} of range, mean {_percent(mean)} (always the median: {_percent(always)})"
    figure = f"{over}: {error}"
    if worst["median_relative"] >= ENOUGH:
        advice = f"train longer, or with a larger network; where `overfit` passes and this is above {ENOUGH:.0%}, more or cleaner data"
        if part == "validation":
            advice += "; compare with --config.source.part=all: only episodes held out are far off where it learnt the others by heart"
        return Finding("open_loop", "fail", figure, advice, dict(sets))
    if mean >= BETTER * always:
        advice = "hardly better than one constant action, which is near most of what was done: look at the histograms in actions.png"
        return Finding("open_loop", "warn", figure, advice, dict(sets))
    return Finding("open_loop", "pass", figure, details=dict(sets))


def closed_loop_finding(successes: np.ndarray, measure: str, distance: np.ndarray) -> Finding:
    """Of episodes from demonstrations' starts, [N] bool, and how far their starts are from these, [N]."""
    rate = rate_interval(int(successes.sum()), len(successes))
    away = float(np.mean(distance))
    details = {"rate": rate.to_json(), "measure": measure, "distance": away}
    figure = f"{_rate(rate)} {measure}, N = {rate.n}; starts {away:.2g} deviations from those of demonstrations"
    if away > FAR:
        why = f"the nearest starts that the environment draws are {away:.2g} deviations from those of demonstrations, more than {FAR}"
        return Finding("closed_loop", "skipped", why, "is it the environment of these demonstrations, in their units?", details)
    if rate.low >= HALF:
        return Finding("closed_loop", "pass", figure, details=details)
    advice = (
        "where `open_loop` passes, the loop is broken: ways that are averaged (`modes`), an action that is copied (`copying`), errors that "
        "add up (train longer, fewer executed_steps, data off the path, DAgger), or a rate, units and latency that the data do not have"
    )
    return Finding("closed_loop", "fail" if rate.high < HALF else "warn", figure, advice, details)


def modes_finding(found: Mapping[str, Any]) -> Finding:
    """Of `modes.coverage`."""
    if not found["two_ways"]:
        return Finding("modes", "pass", f"demonstrations go one way at each of {found['looked_at']} places", details=found)
    if found["two_ways"] < RARE * found["looked_at"]:
        figure = f"demonstrations go one way at all but {found['two_ways']} of {found['looked_at']} places, which may be chance"
        return Finding("modes", "pass", figure, details=found)
    of = f"two ways at {found['two_ways']} of {found['looked_at']} places; of {found['sampled']} of them the policy takes both at"
    figure = f"{of} {found['sampled'] - found['collapsed']}, {_percent(found['between'])} of its samples lie between them"
    if found["collapsed"] * 2 <= found["sampled"]:
        return Finding("modes", "pass", figure, details=found)
    averaged = found["between"] > 0.5
    advice = "its mean is no way that was demonstrated" if averaged else "it does one of them alone, which may be all you need"
    return Finding("modes", "warn", figure, f"{advice}; take a head that keeps ways apart: mixture, flow, diffusion, act, tokens", found)


def copying_finding(repeating: Mapping[str, Any], listening: Mapping[str, Any] | None) -> Finding:
    """Of `repeating`, and of `listening` where there is a policy."""
    details = {"repeating": repeating, "listening": listening}
    if repeating["median_relative"] is None:
        return skipped("copying", "no action of these episodes varies")
    tempting = repeating["median_relative"] < ENOUGH
    error = f"repeating the last action: median error {_percent(repeating['median_relative'])} of range"
    figure = f"{error}, {_percent(repeating['explained'])} of the variance explained"
    if listening is None:
        return Finding("copying", "pass", figure, "would pass `open_loop`: judge by the closed loop" if tempting else "", details)
    share = listening["share"]
    if share is None:
        inputs = listening["inputs"]
        why = (
            "nothing by its name that tells of its last action"
            if not inputs["past"]
            else "nothing else"
            if not inputs["rest"]
            else "none of it"
        )
        return Finding("copying", "pass", f"{figure}; the policy listens to {why}", details=details)
    figure += f"; {_percent(share)} of what the policy does depends on {', '.join(listening['inputs']['past'])}"
    if tempting and share > PAST:
        advice = (
            "it may copy its last action, and stand still once it stands: a shorter history, state_dropout or no velocities in what it "
            "sees, longer chunks; `closed_loop` tells whether it does"
        )
        return Finding("copying", "warn", figure, advice, details)
    return Finding("copying", "pass", figure, details=details)


def heeding_finding(sets: Mapping[str, Mapping[str, Any]]) -> Finding:
    """Of `heeding` of each data set."""
    name, least = min(sets.items(), key=lambda pair: pair[1]["difference"]["value"])
    more = least["difference"]
    bounds = "" if more["low"] is None else f" [{100 * more['low']:.2g}, {100 * more['high']:.2g}]"
    apart = f"{_percent(least['own'])} of range as told, {100 * more['value']:.2g}{bounds} points more under another instruction"
    figure = f"{name}, {least['episodes']} episodes: mean error {apart}"
    if more["low"] is not None and more["low"] > 0:
        return Finding("heeding", "pass", figure, details=dict(sets))
    advice = (
        "it does not listen to its instruction: what is seen may tell the task already, as where each scene has one; more tasks in one "
        "scene, instructions in other words, or a language model that has learnt to read"
    )
    return Finding("heeding", "warn", figure, advice, dict(sets))


def to_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Plain JSON."""
    return [json.loads(json.dumps(one._asdict(), allow_nan=False)) for one in findings]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def _rate(rate: Interval) -> str:
    return f"{100 * rate.value:.0f} % [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"


def draw_diagnosis(losses: Sequence[float], sets: Mapping[str, Mapping[str, Any]], where: np.ndarray, picture: Path) -> bool:
    """Draws what there is of: losses while overfitting, errors of each dimension, and where samples [places, S] lie between two ways.

    Returns False where there is nothing to draw. Raises OSError where the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    table = {
        (name if len(sets) == 1 else f"{of}: {name}"): one["median_relative"]
        for of, found in sets.items()
        for name, one in found["dimensions"].items()
        if one["median_relative"] is not None
    }
    kinds = [kind for kind, there in (("overfit", losses), ("open loop", table), ("modes", where.size)) if there]
    if not kinds:
        return False
    figure = Figure(figsize=(4.2 * len(kinds), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        panel.set_title(kind, fontweight="bold")
        panel.spines[["top", "right"]].set_visible(False)
        if kind == "overfit":
            panel.plot(np.arange(1, len(losses) + 1), losses, color=COLOURS[0])
            panel.set_xlabel("updates on the same transitions")
            panel.set_ylabel("loss")
        elif kind == "open loop":
            panel.barh(list(table), [100 * share for share in table.values()], color=COLOURS[0])
            panel.axvline(100 * ENOUGH, color=COLOURS[1], lw=1)
            panel.set_xlabel("median error [% of range]")
        else:
            panel.hist(np.clip(where.ravel(), -0.5, 1.5), np.linspace(-0.5, 1.5, 41), color=COLOURS[0])
            panel.set_xlabel("from one way (0) to the other (1)")
            panel.set_ylabel("samples")
            for way in (0, 1):
                panel.axvline(way, color=COLOURS[1], lw=1)
    try:
        picture.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(picture, dpi=150)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {picture}: {error.strerror or error}") from error
    return True
