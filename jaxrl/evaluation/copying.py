"""Whether the last action gives the next one away, and whether a policy listens to what tells of it rather than to its task.

A policy that repeats its last action is right at most steps of smooth demonstrations, and does nothing once it stands: the copycat of Wen
et al. 2020, https://arxiv.org/abs/2010.14876, a case of the causal confusion of de Haan et al. 2019, https://arxiv.org/abs/1905.11979.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxrl.evaluation.open_loop import Episode
from jaxrl.policies.history import OVER_TIME

# Groups of what is seen now that tell how it moved just now.
_MOTION = re.compile(r"(^|[/_])(vel|velocity|velocities|speed|speeds|twist|qvel|(last|previous|prev|past)_actions?|action)($|[/_])")


def repeating(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Of who repeats the last action, in the numbers that a policy puts out: plain JSON.

    `median_relative` is the median error relative to the range, `explained` the share of the variance of actions that follows linearly from
    the last one; None where no action varies.
    """
    pairs = [one.action[:, 0] for one in episodes]
    now = np.concatenate([rows[1:][one.counts[1:]] for rows, one in zip(pairs, episodes, strict=True)]).astype(np.float64)
    last = np.concatenate([rows[:-1][one.counts[1:]] for rows, one in zip(pairs, episodes, strict=True)]).astype(np.float64)
    varies = np.ptp(now, axis=0) > 1e-6 if len(now) else np.zeros(0, bool)
    if len(now) < 2 or not varies.any():
        return {"median_relative": None, "explained": None, "steps": len(now)}
    now, last = now[:, varies], last[:, varies]
    relative = np.abs(now - last) / np.ptp(now, axis=0)
    known = np.concatenate([last, np.ones((len(last), 1))], 1)
    left = now - known @ np.linalg.lstsq(known, now, rcond=None)[0]
    return {
        "median_relative": float(np.median(relative)),
        "explained": float(1 - (left.var(0) / now.var(0)).mean()),
        "steps": len(now),
    }


def tells_of_motion(name: str) -> bool:
    """Whether a group of one step tells how it moved just now, by its name."""
    return bool(_MOTION.search(name))


def listening(
    act: Callable[[Mapping[str, np.ndarray]], np.ndarray], observation: Mapping[str, np.ndarray], history: int, seed: int = 0
) -> dict[str, Any]:
    """How much of what a policy does depends on what tells of its last action, and how much on the rest: plain JSON.

    `act` maps observations {name: [N, ...]} to chunks [N, K], the same for the same. The total effects of both, Jansen 1999,
    https://doi.org/10.1016/S0010-4655(98)00154-4: half the mean square by which chunks change where these inputs are those of another
    step. `share` is that of the first in both; None where there is nothing of either, or nothing changes. Past steps of a history tell
    of the last action, and groups whose names do (velocities, last actions).
    """
    order = np.random.default_rng(seed).permutation(len(next(iter(observation.values()))))
    chunks = act(observation)

    def effect(shuffled: Mapping[str, np.ndarray]) -> float:
        return float(0.5 * np.square(act(shuffled) - chunks).mean())

    past, rest = dict(observation), dict(observation)
    named: dict[str, list[str]] = {"past": [], "rest": []}
    for name, x in observation.items():
        over_time = history > 1 and name.startswith(OVER_TIME)
        if over_time:
            named["past"].append(f"{name}, before")
            past[name] = np.concatenate([x[order][:, :-1], x[:, -1:]], 1)
            now = np.concatenate([x[:, :-1], x[order][:, -1:]], 1)
        else:
            now = x[order]
        if tells_of_motion(name):
            named["past"].append(name)
            past[name] = x[order]
        else:
            named["rest"].append(name)
            rest[name] = now
    effects = {"past": effect(past), "rest": effect(rest)}
    total = sum(effects.values())
    share = effects["past"] / total if named["past"] and named["rest"] and total > 0 else None
    return {"share": share, "effects": effects, "inputs": named}
