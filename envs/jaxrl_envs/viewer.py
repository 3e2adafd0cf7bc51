"""A policy in MuJoCo's own window, in real time, steered by keyboard.

The task runs on whatever physics backend its config names, one world of it; the window shows its states.
"""

import platform
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.ops.worlds import finite_rows
from jaxrl.types import Env, Params, Policy, PyTree, Steering

# Codes of GLFW: the arrows, comma and full stop, enter, backspace.
_UP, _DOWN, _LEFT, _RIGHT, _COMMA, _STOP, _ENTER, _BACKSPACE = 265, 264, 263, 262, 44, 46, 257, 259
# Of the axes by number, the keys that raise and lower them.
_KEYS = {_UP: (0, 1), _DOWN: (0, -1), _COMMA: (1, 1), _STOP: (1, -1), _LEFT: (2, 1), _RIGHT: (2, -1)}
_HELP = ("arrow up and down", "comma and full stop", "arrow left and right")
_NOTCHES = 5  # presses from nothing to the largest command

OpenWindow = Callable[[mujoco.MjModel, mujoco.MjData, Callable[[int], None]], Any]


class Keyboard:
    """What the person at the keyboard wants; the window calls `press` from a thread of its own."""

    def __init__(self, steering: Steering | None):
        self._steering = steering
        self.command = np.zeros(0 if steering is None else len(steering.names), np.float32)
        self.restart = False

    def press(self, key: int) -> None:
        """Takes one key: a notch more or less on an axis, nothing on all (enter), or a new episode (backspace)."""
        axis, sign = _KEYS.get(key, (0, 0))
        if key == _BACKSPACE:
            self.restart = True
        elif key == _ENTER:
            self.command[:] = 0.0
        elif sign and self._steering is not None and axis < self.command.size:
            low, high = self._steering.low[axis], self._steering.high[axis]
            step = max(abs(low), abs(high)) / _NOTCHES
            self.command[axis] = np.clip(self.command[axis] + sign * step, low, high)


class _World(NamedTuple):
    """One world between two steps."""

    state: PyTree
    observation: dict[str, Any]
    memory: PyTree
    parameters: Params
    step: int = 0  # that have been made


def open_window(model: mujoco.MjModel, data: mujoco.MjData, press: Callable[[int], None]) -> Any:
    """MuJoCo's passive viewer. Raises RuntimeError where it cannot open, with what to do."""
    try:
        from mujoco import viewer

        return viewer.launch_passive(model, data, key_callback=press, show_left_ui=False, show_right_ui=False)
    except Exception as error:
        advice = "start it by mjpython" if platform.system() == "Darwin" else "it needs a screen; without one, `jaxrl render` makes a video"
        raise RuntimeError(f"no window: {error or type(error).__name__}; {advice}") from error


def view(
    env: Env,
    policy: Policy,
    params: Params,
    seed: int = 0,
    randomised: bool = False,
    window: OpenWindow = open_window,
    say: Callable[[str], None] = print,
) -> int:
    """Shows episodes until the window is closed; returns how many steps it showed.

    An episode ends as in training: where the task ends it, at its length, or where something is not finite, which is said.

    Raises:
        ValueError: the environment draws nothing.
        RuntimeError: no window opens here.
    """
    scene: Any = env.render
    if scene is None:
        raise ValueError(f"{env.spec.name} has nothing to draw")
    keys = Keyboard(env.steering)
    say(_instructions(env.steering))
    data = mujoco.MjData(scene.model)
    reset, act, step = jax.jit(env.reset), jax.jit(policy.act), jax.jit(env.step)
    sound = jax.jit(
        lambda state, result: finite_rows(jax.tree.map(lambda x: jnp.asarray(x)[None], (state, result.observation, result.reward)))[0]
    )
    sample = jax.jit(env.sample) if randomised else lambda key: env.nominal
    key, shown = jax.random.key(seed), 0

    def begin(key: Any) -> _World:
        draw, start = jax.random.split(key)
        parameters = sample(draw)
        state, observation = reset(start, parameters)
        return _World(state, observation, policy.init(1), parameters)

    with window(scene.model, data, keys.press) as handle:
        world = begin(key)
        due = time.perf_counter()
        while handle.is_running():
            key, look, move, fresh = jax.random.split(key, 4)
            row = jax.tree.map(lambda x: jnp.asarray(x)[None], world.observation)
            chunk, memory, _ = act(params, row, world.memory, look[None], None)
            ended = False
            for k in range(policy.spec.executed_steps):
                state = world.state if env.steering is None else env.steering.set(world.state, jnp.asarray(keys.command))
                state, result = step(state, chunk[0, k], world.parameters, jax.random.fold_in(move, k))
                world = _World(state, result.observation, memory, world.parameters, world.step + 1)
                _show(scene, data, state)
                handle.sync()
                shown += 1
                due = max(due + env.spec.dt, time.perf_counter() - env.spec.dt)  # a slow machine falls behind rather than rushing later
                time.sleep(max(0.0, due - time.perf_counter()))
                finite = bool(sound(env.vital(state), result))
                if not finite:
                    say(f"step {world.step} of the episode is not finite: a new one begins")
                ended = not finite or bool(result.discount == 0) or bool(result.truncation > 0) or keys.restart
                ended = ended or world.step >= env.spec.episode_length
                if ended or not handle.is_running():
                    break
            if ended:
                keys.restart = False
                world = begin(fresh)
    return shown


def _show(scene: Any, data: mujoco.MjData, state: PyTree) -> None:
    for name, value in scene.pose(state).items():
        getattr(data, name)[...] = np.asarray(value)
    mujoco.mj_forward(scene.model, data)


def _instructions(steering: Steering | None) -> str:
    lines = [] if steering is None else [f"{keys}: {name}" for keys, name in zip(_HELP, steering.names, strict=False)]
    stop = [] if steering is None else ["enter: no command"]
    return "; ".join([*lines, *stop, "backspace: a new episode; close the window to end"])
