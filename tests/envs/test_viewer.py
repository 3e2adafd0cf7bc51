"""A window's loop without a window."""

import contextlib

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.types import ArraySpec, Env, EnvSpec, Policy, PolicySpec, Steering, TimeStep
from jaxrl_envs import robots
from jaxrl_envs.rendering import Scene
from jaxrl_envs.viewer import Keyboard, view

STEERING = Steering(
    ("forward", "lateral", "yaw"), (-0.5, -0.4, -1.0), (1.0, 0.4, 1.0), lambda state, command: {**state, "command": command}
)
UP, DOWN, LEFT, ENTER, BACKSPACE = 265, 264, 263, 257, 259


def driven() -> Env:
    """A cart that moves by its command; an episode ends beyond one metre."""
    import mujoco

    spec = EnvSpec("driven", {"state/place": ArraySpec((1,))}, ArraySpec((1,)), 100, 1e-4)

    def reset(key, parameters):
        return {"place": jnp.zeros(()), "command": jnp.zeros(3)}, {"state/place": jnp.zeros(1)}

    def step(state, action, parameters, key):
        place = state["place"] + state["command"][0] + action[0]
        return {**state, "place": place}, TimeStep({"state/place": place[None]}, place, 1.0 - (place > 1.0), jnp.zeros(()), {})

    model = mujoco.MjModel.from_xml_string(robots.xml("cartpole"))
    scene = Scene(model, lambda state: {"qpos": jnp.stack([state["place"], 0.0 * state["place"]])})
    return Env(spec, reset, step, lambda s, p, key: reset(key, p), (), lambda key: (), render=scene, steering=STEERING)


class Window:
    """Presses keys at certain frames and remembers where the cart was."""

    def __init__(self, presses, frames):
        self.presses, self.frames, self.seen = presses, frames, []

    def __call__(self, model, data, press):
        self.data, self.press = data, press
        return contextlib.nullcontext(self)

    def is_running(self):
        return len(self.seen) < self.frames

    def sync(self):
        self.seen.append(float(self.data.qpos[0]))
        for key in self.presses.get(len(self.seen), ()):
            self.press(key)


def show(presses, frames, executed=1):
    def act(params, observation, memory, key, context=None):
        return jnp.zeros((1, executed, 1)), memory, {}

    spec = PolicySpec({"state/place": ArraySpec((1,))}, ArraySpec((1,)), horizon=executed, executed_steps=executed)
    window = Window(presses, frames)
    said = []
    assert view(driven(), Policy(spec, lambda size: (), act), (), window=window, say=said.append) == frames
    return window.seen, said


@pytest.mark.parametrize("executed", [1, 3])
def test_keys_steer_and_episodes_end(executed):
    seen, said = show({2: [UP], 5: [UP, UP], 7: [ENTER], 8: [BACKSPACE]}, 10, executed)
    np.testing.assert_allclose(seen[:6], [0, 0, 0.2, 0.4, 0.6, 1.2], atol=1e-5)
    np.testing.assert_allclose(seen[6:8], [0.6, 0.6], atol=1e-5)  # anew after it went too far; then no command
    np.testing.assert_allclose(seen[8:], 0.0, atol=1e-5)  # anew because it was asked for
    assert "arrow up and down: forward" in said[0] and "backspace" in said[0]


def test_an_episode_ends_at_its_length_and_where_it_is_not_finite():
    spec = PolicySpec({"state/place": ArraySpec((1,))}, ArraySpec((1,)))

    def shown(speed, length):
        env, said, window = driven(), [], Window({}, 6)
        env = env._replace(spec=env.spec._replace(episode_length=length))
        policy = Policy(spec, lambda size: (), lambda *_: (jnp.full((1, 1, 1), speed), (), {}))
        view(env, policy, (), window=window, say=said.append)
        return window.seen, said

    np.testing.assert_allclose(shown(0.1, 2)[0], [0.1, 0.2, 0.1, 0.2, 0.1, 0.2], atol=1e-5)
    assert sum("not finite" in line for line in shown(np.nan, 100)[1]) == 6


def test_commands_keep_their_bounds():
    keys = Keyboard(STEERING)
    for _ in range(20):
        keys.press(DOWN)
        keys.press(LEFT)
    np.testing.assert_allclose(keys.command, [-0.5, 0.0, 1.0])
    keys.press(999)
    np.testing.assert_allclose(keys.command, [-0.5, 0.0, 1.0])
    nobody = Keyboard(None)
    nobody.press(UP)
    assert nobody.command.size == 0


def test_what_cannot_be_shown_says_why():
    env = driven()
    policy = Policy(PolicySpec({}, ArraySpec((1,))), lambda size: (), lambda *a: None)
    with pytest.raises(ValueError, match="driven has nothing to draw"):
        view(env._replace(render=None), policy, ())
