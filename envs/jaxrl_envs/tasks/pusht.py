"""Push-T: a round pusher moves a T-shaped block onto its target, in the simulator of gym-pusht, on the host.

Florence et al. 2021, https://arxiv.org/abs/2109.00137; Chi et al. 2023, https://arxiv.org/abs/2303.04137, section 4.4. Lengths are pixels
of a window of 512, the control rate is 10 Hz. `pip install "jaxrl[pusht]"` and then `pip install --no-deps gym-pusht`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxrl.types import SUCCESS, ArraySpec, HostEnv, HostWorlds, TimeStep
from jaxrl_envs.adapters import gymnasium

RATE = 10.0  # Hz
# [px] in the frame of the block: where the nine points are that the human demonstrations tell of it, with a deviation of 0.03.
KEYPOINTS = np.array(
    [
        [9.2686, 90.0228],
        [-60.9922, -1.1872],
        [60.9071, -1.3929],
        [-0.2705, 25.5436],
        [-14.0637, 122.8113],
        [39.0003, 32.8608],
        [-39.9546, 32.7342],
        [-16.8217, 62.8724],
        [23.5411, -1.7001],
    ]
)


@dataclass(frozen=True)
class Config:
    """`episode_length` [steps]; in gym-pusht 300. "async" steps each world in a process of its own."""

    episode_length: int = 300
    vectorisation: str = "sync"


def keypoints(block: Any) -> Any:
    """The nine points [B, 18], x and y in turn [px], of blocks at x, y [px] and angle [rad], [B, 3]."""
    cos, sin = np.cos(block[:, 2:]), np.sin(block[:, 2:])
    turned = np.stack([cos * KEYPOINTS[:, 0] - sin * KEYPOINTS[:, 1], sin * KEYPOINTS[:, 0] + cos * KEYPOINTS[:, 1]], -1)
    points: Any = (turned + block[:, None, :2]).reshape(len(block), -1)
    return points


def _seen(observation: Mapping[str, Any]) -> dict[str, Any]:
    state = np.asarray(observation["state/observation"])
    return {"state/agent": state[:, :2].astype(np.float32), "state/keypoints": keypoints(state[:, 2:]).astype(np.float32)}


def pusht(config: Config) -> HostEnv:
    """Actions are where the pusher is to go, [2] px. The pusher is at `state/agent` [2], the block's points are `state/keypoints` [18].

    A step is paid what it adds to the best reward of its episode, and so the return is that best reward, which is what is published: the
    covered share of the target, at most 0.95 of it, over 0.95. There the episode has succeeded, and is cut.

    Raises:
        ImportError: gym-pusht is not installed.
    """
    theirs = gymnasium.gymnasium(
        gymnasium.Config(
            id="gym_pusht:gym_pusht/PushT-v0",
            options={"obs_type": "state"},
            episode_length=config.episode_length,
            metrics=("coverage",),
            vectorisation="async" if config.vectorisation == "async" else "sync",
            unit_actions=False,
        )
    )
    spec = theirs.spec._replace(
        name="pusht",
        observation={
            "state/agent": ArraySpec((2,), names=("x", "y"), unit="px"),
            "state/keypoints": ArraySpec((18,), unit="px"),
        },
        dt=1 / RATE,
        metrics=("coverage", SUCCESS),
    )

    def open_worlds(size: int) -> HostWorlds:
        worlds, best = theirs.open(size), np.zeros(size, np.float32)

        def reset(which: Any, seed: int | None = None) -> dict[str, Any]:
            best[np.asarray(which, bool)] = 0.0
            return _seen(worlds.reset(which, seed))

        def step(action: Any) -> TimeStep:
            observation, reward, going_on, cut, metrics = worlds.step(action)
            before = best.copy()
            np.maximum(best, np.asarray(reward), out=best)
            done = 1.0 - np.asarray(going_on)
            coverage = {"coverage": metrics["coverage"], SUCCESS: done.astype(np.float32)}
            return TimeStep(_seen(observation), best - before, np.ones_like(best), np.maximum(cut, done), coverage)  # type: ignore[arg-type]

        return HostWorlds(reset, step, worlds.close)

    return HostEnv(spec, open_worlds)
