"""Environments of gymnasium for tests; imports little, for processes that are started anew."""

from typing import Any

import gymnasium as gym
import numpy as np

LENGTH = 5


class Counting(gym.Env):
    """Counts its steps from a random start below 1 on; a force above 1.5 terminates. Truncates itself at `limit`."""

    metadata = {"render_modes": []}

    def __init__(self, limit: int = LENGTH, late: bool = False) -> None:
        self.observation_space = gym.spaces.Dict(
            {
                "count": gym.spaces.Box(-np.inf, np.inf, (1,), np.float64),
                "force": gym.spaces.Box(-np.inf, np.inf, (1, 2), np.float32),
                "front": gym.spaces.Box(0, 255, (4, 4, 3), np.uint8),
            }
        )
        self.action_space = gym.spaces.Box(np.float32([-2, 0]), np.float32([2, 1]))
        self._limit, self._late = limit, late

    def _seen(self, force: np.ndarray) -> dict[str, np.ndarray]:
        picture = np.full((4, 4, 3), int(self._count) % 256, np.uint8)
        return {"count": np.array([self._count]), "force": np.float32(force)[None], "front": picture}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._count, self._steps = self.np_random.uniform(), 0
        return self._seen(np.zeros(2)), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._count, self._steps = self._count + 1, self._steps + 1
        told = {"force": float(action[0])} if not self._late or self._steps > 1 else {}
        return self._seen(action), float(self._steps), bool(action[0] > 1.5), self._steps >= self._limit, told


class Discrete(Counting):
    """The same with three forces to choose from: -1, 0 and 1."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = gym.spaces.Discrete(3, start=-1)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return super().step(np.array([action, 0.0]))


class Switches(Counting):
    """The same with two switches."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = gym.spaces.MultiBinary(2)


class Told(Counting):
    """The same, seen as text."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = gym.spaces.Text(8)
