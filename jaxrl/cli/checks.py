"""The checks of `jaxrl diagnose`, put together of a run's parts, its data and what it has learnt."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.cli import run as runs
from jaxrl.cli.assemble import assemble
from jaxrl.cli.on_data import OnData, demonstrations, on_data, replayed_sets
from jaxrl.cli.run import Opened, say
from jaxrl.cli.settings import Parts, Settings
from jaxrl.evaluation.copying import listening, repeating
from jaxrl.evaluation.diagnosis import (
    BETTER,
    ENOUGH,
    Finding,
    closed_loop_finding,
    copying_finding,
    draw_diagnosis,
    heeding_finding,
    modes_finding,
    not_finite_finding,
    open_loop_finding,
    overfit_finding,
    skipped,
    to_json,
)
from jaxrl.evaluation.from_starts import first_states, nearest_starts, play_from
from jaxrl.evaluation.heeding import heeding, told_otherwise
from jaxrl.evaluation.histograms import draw_histograms
from jaxrl.evaluation.modes import NEIGHBOURS, coverage, places
from jaxrl.evaluation.open_loop import replay
from jaxrl.evaluation.overfit import overfit
from jaxrl.evaluation.report import metrics_of
from jaxrl.types import INSTRUCTION, SUCCESS

TRANSITIONS = 100  # that are learnt by heart
_DRAWN = 4096  # transitions that modes and what a policy listens to are looked for in
_PLACES, _SAMPLES = 512, 32  # places that are looked at, and samples of the policy at one
_EPISODES = 100  # from demonstrations' starts
_LISTENED = 512  # rows whose inputs are exchanged
BYTES = 2**28  # of transitions


class _Known(NamedTuple):
    """What the checks are made of."""

    settings: Settings
    opened: Opened | None  # None of a config that has no run yet
    parts: Parts  # of a run that begins anew
    data: OnData  # episodes held out, or else learnt from
    updates: int  # to learn by heart
    drawn: dict[str, Any]  # what pictures are made of, by the checks


def diagnose(settings: Settings, opened: Opened | None, checks: Sequence[str], updates: int, folder: Path | None) -> list[Finding]:
    """Makes the checks of a run, or of the config of one that is to be; writes diagnosis.json, diagnosis.png and actions.png into `folder`.

    Raises:
        ValueError: it does not learn from data.
        FileNotFoundError: the data are not there.
    """
    kept = opened.meta.get("data") if opened else None
    data = on_data(settings, settings.evaluation.num_episodes, kept) if settings.objectives else None
    if data is None:
        raise ValueError(f"config.source.name: is {settings.source.get('name')}, but these checks are of what learns from recorded data")
    known = _Known(settings, opened, assemble(settings), data, updates, {})
    findings = []
    try:
        for name in checks:
            say(f"{name} ...")
            if name == "overfit":
                findings.append(_overfit(known))
            elif name == "copying":
                findings.append(_copying(known))
            elif opened is None:
                findings.append(skipped(name, "there is no run yet, and so no policy"))
            else:
                of_policy = {"open_loop": _open_loop, "closed_loop": _closed_loop, "modes": _modes, "heeding": _heeding}
                findings.append(of_policy[name](known, opened))
    finally:
        known.parts.source.close()
        data.source.close()
    if folder is not None:
        _write(known, findings, folder)
    return findings


def _write(known: _Known, findings: Sequence[Finding], folder: Path) -> None:
    update = known.opened.meta["update"] if known.opened else None
    runs.write_json(folder / runs.DIAGNOSIS, {"update": update, "checks": to_json(findings)})
    drawn = known.drawn
    draw_diagnosis(drawn.get("losses", ()), drawn.get("sets", {}), drawn.get("where", np.zeros((0, 0))), folder / runs.DIAGNOSIS_PICTURE)
    if "shapes" in drawn:
        draw_histograms(drawn["shapes"], folder / runs.ACTIONS, f"{known.data.part} episodes")
    say(f"written: {folder / runs.DIAGNOSIS}")


def _transitions(known: _Known, rows: int) -> dict[str, Any]:
    """So many transitions of what is learnt from, the same each time that one asks for as many; fewer where they are too large."""
    source = known.parts.source
    size = sum(math.prod(map(int, one.shape[1:])) * np.dtype(one.dtype).itemsize for one in source.spec.values())
    rows = min(rows, max(TRANSITIONS, BYTES // max(1, size)))
    advance = jax.jit(source.next) if source.pure else source.next
    state, found, have = source.init(jax.random.key(0), ()), [], 0
    while have < rows:
        state, one = advance(state, (), jax.random.fold_in(jax.random.key(1), have))
        found.append(one)
        have += one["action"].shape[0]
    return jax.tree.map(lambda *x: jnp.concatenate(x)[:rows], *found)


def _overfit(known: _Known) -> Finding:
    try:
        found, known.drawn["losses"] = overfit(known.parts.algorithm, _transitions(known, TRANSITIONS), known.updates, ENOUGH, BETTER)
    except FloatingPointError as error:
        return not_finite_finding(error)
    return overfit_finding(found, TRANSITIONS, known.updates)


def _open_loop(known: _Known, opened: Opened) -> Finding:
    known.drawn["sets"], known.drawn["shapes"] = replayed_sets(opened, known.data)
    return open_loop_finding(known.drawn["sets"], known.data.part)


def _closed_loop(known: _Known, opened: Opened) -> Finding:
    if opened.env is None:
        return skipped("closed_loop", "the config has no env to act in")
    shown = demonstrations(opened, known.data)
    states, deviation = first_states([one.observation for one in shown])
    if not states:
        return skipped("closed_loop", "demonstrations show no states that their starts could be told by")
    seed, few = opened.settings.evaluation.seed, np.linspace(0, len(shown) - 1, min(len(shown), _EPISODES)).round().astype(int)
    starts = nearest_starts(opened.env, {name: x[few] for name, x in states.items()}, deviation, seed)
    values = metrics_of(play_from(opened.env, opened.algorithm.policy, opened.params, starts, seed))
    if SUCCESS in values:
        return closed_loop_finding(values[SUCCESS], "success", starts.distance)
    paid = known.data.returns
    if paid is None:
        return skipped("closed_loop", "the environment tells no success, and the demonstrations no rewards")
    least = float(np.percentile(paid, 10))
    return closed_loop_finding(
        values["return"] >= least, f"have at least the return {least:.3g} of a tenth of the demonstrations", starts.distance
    )


def _modes(known: _Known, opened: Opened) -> Finding:
    policy, params, batch = opened.algorithm.explore, opened.params, _transitions(known, _DRAWN)
    executed = opened.algorithm.policy.spec.executed_steps
    whole = np.asarray(batch["mask"][:, :executed].max(-1).min(-1) > 0) if "mask" in batch else np.ones(len(batch["action"]), bool)
    observation = {name: np.asarray(x)[whole] for name, x in batch["observation"].items()}
    seen = _flat({name: x for name, x in observation.items() if name.startswith("state/")})
    if not seen.shape[1]:
        return skipped("modes", "the policy reads no states that the nearest demonstrations could be told by")
    action = np.asarray(batch["action"][:, :executed])[whole]
    deviation = np.maximum(action.std((0, 1)), 1e-6)

    def in_deviations(chunks: np.ndarray) -> np.ndarray:
        return (chunks[..., :executed, :] / deviation).reshape(*chunks.shape[:-2], -1)

    _, once = np.unique(np.concatenate([seen, in_deviations(action)], 1), axis=0, return_index=True)  # a step that was drawn twice is one
    rows = np.sort(once)
    if len(rows) < 4 * NEIGHBOURS:
        return skipped("modes", f"{len(rows)} transitions are too few to tell ways from chance")
    found = places(seen[rows], in_deviations(action[rows]), _PLACES)
    act = jax.jit(lambda seen, key: policy.act(params, seen, policy.init(len(key)), key, None)[0])

    def sample(at: np.ndarray) -> np.ndarray:
        each = np.repeat(rows[at], _SAMPLES)
        chunks = act({name: jnp.asarray(x[each]) for name, x in observation.items()}, jax.random.split(jax.random.key(0), len(each)))
        return in_deviations(np.asarray(chunks)).reshape(len(at), _SAMPLES, -1)

    told, known.drawn["where"] = coverage(found, sample, min(_PLACES, len(rows)))
    return modes_finding(told)


def _flat(states: Mapping[str, np.ndarray]) -> np.ndarray:
    """[N, D] of all states, in deviations of each number."""
    arrays = [x.reshape(len(x), -1) for x in states.values() if np.issubdtype(x.dtype, np.floating)]
    if not arrays:
        return np.zeros((0, 0))
    seen = np.concatenate(arrays, 1)
    return seen / np.maximum(seen.std(0), 1e-6)


def _heeding(known: _Known, opened: Opened) -> Finding:
    policy, seed, sets = opened.algorithm.policy, opened.settings.evaluation.seed, known.data.sets
    if INSTRUCTION not in policy.spec.observation:
        return skipped("heeding", "the policy is told nothing in words")
    others = told_otherwise([episode for of in sets.values() for episode in of.episodes])
    if others is None:
        return skipped("heeding", "all episodes have the same instruction")
    found = {}
    for name, of in sets.items():
        other, others = others[: len(of.episodes)], others[len(of.episodes) :]
        found[name] = heeding(*(replay(policy, opened.params, episodes, seed) for episodes in (of.episodes, other)))
    return heeding_finding(found)


def _copying(known: _Known) -> Finding:
    shown = repeating([episode for one in known.data.sets.values() for episode in one.episodes])
    if known.opened is None:
        return copying_finding(shown, None)
    policy, params, batch = known.opened.algorithm.explore, known.opened.params, _transitions(known, _LISTENED)
    deviation = np.maximum(np.asarray(batch["action"]).std((0, 1)), 1e-6)
    keys = jax.random.split(jax.random.key(0), len(batch["action"]))
    answer = jax.jit(lambda seen: policy.act(params, seen, policy.init(len(keys)), keys, None)[0])

    def act(seen: Mapping[str, Any]) -> Any:
        chunks = np.asarray(answer({name: jnp.asarray(x) for name, x in seen.items()})) / deviation
        return chunks.reshape(len(chunks), -1)

    observation = {name: np.asarray(x) for name, x in batch["observation"].items()}
    return copying_finding(shown, listening(act, observation, known.settings.source.get("history", 1)))
