"""Pictures of a simulation, drawn on the host by MuJoCo's OpenGL renderer, without a display: videos, and pixels to learn from.

OpenGL is opened when the first picture is asked for: through EGL (GPU or Mesa), else OSMesa.
"""

from jaxrl_envs.rendering.opengl import open_gl
from jaxrl_envs.rendering.pool import Pool
from jaxrl_envs.rendering.scene import Pose, Scene
from jaxrl_envs.rendering.video import frames

__all__ = ["Pool", "Pose", "Scene", "frames", "open_gl"]
