"""TensorFlow beside Mesa's OpenGL: a crash that is told of before it comes."""

import sys
from pathlib import Path

_MAPPED = Path("/proc/self/maps")  # the files that are loaded, where the system tells


def check() -> None:
    """Raises RuntimeError where TensorFlow is not loaded yet and would crash, because Mesa has drawn in this process.

    Both bring LLVM, and TensorFlow's calls would end up in Mesa's. The other order is refused when OpenGL is opened.
    """
    if "tensorflow" not in sys.modules and _MAPPED.exists() and "/libLLVM" in _MAPPED.read_text():
        raise RuntimeError(
            "RLDS is read and written by TensorFlow, which would crash here, where Mesa's software OpenGL has drawn: both bring LLVM. "
            "Do one of the two in another process: record as LeRobot or by `jaxrl eval --record`, and convert to RLDS afterwards"
        )
