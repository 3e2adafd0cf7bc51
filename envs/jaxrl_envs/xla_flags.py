"""The XLA settings without which MJX must not run on a CPU. Imports neither jax nor mujoco: they are set before jax starts."""

import os
from collections.abc import Mapping
from importlib import metadata
from typing import Any

# The first lets `mjx.step` hang for ever, the second makes it exponentially slower with the depth of the kinematic tree (jaxlib 0.10).
# jaxlib 0.11.2 no longer knows the second, and ends the process where it is named.
_FLAGS = {
    "--xla_cpu_enable_concurrency_optimized_scheduler=false": (),
    "--xla_cpu_use_fusion_emitters=false": (0, 11),
}


def _known() -> tuple[str, ...]:
    """The flags that the installed jaxlib takes; `_FLAGS` holds the first version that may not, () where there is none."""
    installed = tuple(int(part) for part in metadata.version("jaxlib").split(".")[:2])
    return tuple(flag for flag, gone in _FLAGS.items() if not gone or installed < gone)


def missing() -> tuple[str, ...]:
    """The needed flags on which the environment variable XLA_FLAGS is silent; what it says, even the opposite, is respected."""
    named = {word.split("=")[0] for word in os.environ.get("XLA_FLAGS", "").split()}
    return tuple(flag for flag in _known() if flag.split("=")[0] not in named)


def xla_flags() -> str:
    """The value for XLA_FLAGS: what it holds now and what MJX needs on a CPU. It counts when jax makes its first array."""
    return " ".join((*os.environ.get("XLA_FLAGS", "").split(), *missing()))


def needed_by(env: Mapping[str, Any]) -> bool:
    """Whether the environment that this section of a config names runs MJX where JAX runs on a CPU."""
    return env.get("backend") in ("mjx", "warp") or env.get("name") == "jaxrl_envs.adapters.playground"


def check(who: str) -> None:
    """Raises ValueError where `who` is about to run MJX on a CPU without the flags."""
    import jax

    if jax.default_backend() == "cpu" and missing():
        raise ValueError(
            f"{who} on a CPU: XLA's default scheduler can hang for ever and its fusion is very slow on deep kinematic trees. "
            f'Set the environment variable before starting Python: XLA_FLAGS="{xla_flags()}"'
        )
