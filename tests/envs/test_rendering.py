"""Frames where there is OpenGL, and what is said where there is none."""

import subprocess
import sys
import types

import numpy as np
import pytest

from jaxrl_envs import rendering
from jaxrl_envs.rendering import opengl as gl
from jaxrl_envs.tasks import cartpole


@pytest.fixture(autouse=True)
def _ask_anew():
    gl.open_gl.cache_clear()
    yield
    gl.open_gl.cache_clear()


@pytest.fixture(scope="module")
def opengl():
    try:
        return gl.open_gl()
    except RuntimeError as error:
        pytest.skip(str(error))


def test_draws_each_position(opengl):
    model = cartpole.model()
    pictures = rendering.frames(model, np.array([[0.0, 0.0], [0.0, 3.14], [0.0, 0.0]]), width=64, height=48, camera="side")
    assert pictures.shape == (3, 48, 64, 3) and pictures.dtype == np.uint8
    np.testing.assert_array_equal(pictures[0], pictures[2])
    orange = (pictures[..., 0] > 120) & (pictures[..., 2] < 100)  # the pole
    assert orange[0, :24].sum() > 10 * orange[0, 24:].sum()  # up, in the upper half: the first row is the highest
    assert orange[1, 24:].sum() > 10 * orange[1, :24].sum()


def test_without_opengl_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(gl, "_opens", lambda name: False)
    monkeypatch.setattr(gl.platform, "system", lambda: "Linux")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.raises(RuntimeError, match=r"none of egl, osmesa works here\. .*apt-get install libegl1 libgl1 .*libosmesa6") as caught:
        rendering.frames(cartpole.model(), np.zeros((1, 2)))
    assert "\n" not in str(caught.value)


def test_beside_tensorflow_mesa_is_refused_before_it_crashes(opengl, monkeypatch):
    drawn_by = gl._renderer(opengl)
    if "llvm" not in drawn_by:
        pytest.skip(f"{drawn_by} does not use LLVM")
    monkeypatch.setitem(sys.modules, "tensorflow", types.ModuleType("tensorflow"))
    with pytest.raises(RuntimeError, match=r"llvmpipe .* draws here, and TensorFlow is loaded .* Draw in a process without TensorFlow"):
        rendering.frames(cartpole.model(), np.zeros((1, 2)))


IN_BOTH_ORDERS = {
    "TensorFlow is loaded": "import tensorflow\ndraw()",
    "Mesa's software OpenGL has drawn": "draw()\nfrom jaxrl_data.rlds.writer import rlds_writer\nrlds_writer('unused', 'name', None)",
}


@pytest.mark.slow
@pytest.mark.parametrize("message", IN_BOTH_ORDERS)
def test_tensorflow_and_mesa_in_one_process(opengl, message):
    pytest.importorskip("tensorflow_datasets")
    drawing = "import numpy as np\nfrom jaxrl_envs import rendering\nfrom jaxrl_envs.tasks import cartpole\n"
    drawing += "def draw():\n    rendering.frames(cartpole.model(), np.zeros((1, 2)))\n"
    ran = subprocess.run([sys.executable, "-c", drawing + IN_BOTH_ORDERS[message]], capture_output=True, text=True)
    assert ran.returncode == 1 and message in ran.stderr.splitlines()[-1]


def test_falls_back_on_osmesa_and_obeys_the_environment(monkeypatch):
    asked = []
    monkeypatch.setattr(gl, "_opens", lambda name: asked.append(name) or name == "osmesa")
    monkeypatch.setattr(gl.platform, "system", lambda: "Linux")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    assert gl.open_gl() == "osmesa" and asked == ["egl", "osmesa"]
    gl.open_gl.cache_clear()
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(RuntimeError, match="none of glfw works here"):
        gl.open_gl()


def test_a_platform_that_cannot_be_imported_does_not_open():
    assert not gl._opens("no_such_platform")


def test_training_does_not_need_opengl():
    code = (
        "import sys, jaxrl_envs.tasks.cartpole as task, jaxrl_envs.tasks.go2_flat; task.cartpole()\n"
        "sys.exit(any(name.split('.')[0] == 'OpenGL' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_refuses_other_positions_and_unknown_cameras():
    with pytest.raises(ValueError, match=r"qpos: expected the shape \(frames, 2\), got \(3, 4\)"):
        rendering.frames(cartpole.model(), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="camera 'front' is unknown; did you mean side|there are side, close"):
        rendering.frames(cartpole.model(), np.zeros((1, 2)), camera="front")
