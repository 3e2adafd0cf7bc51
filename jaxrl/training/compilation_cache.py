"""The persistent compilation cache: a program is compiled once per machine, not once per process.

JAX keeps programs with host callbacks out of it, so those that step the native physics are compiled in each process, in about ten seconds.
"""

import os
import tempfile
import warnings
from pathlib import Path

import jax

MIN_COMPILE_SECONDS = 0.3  # what compiles faster is not worth a file


def enable_compilation_cache() -> Path | None:
    """Turns the cache on and returns its directory: $JAXRL_CACHE, or ~/.cache/jaxrl/xla; call it before anything is compiled.

    An empty $JAXRL_CACHE turns it off, and a directory that the user has given to JAX itself is left in place. Where the directory cannot
    be written to, training works without it, and a warning says so.
    """
    chosen = os.environ.get("JAXRL_CACHE")
    if chosen == "":
        return None
    if given := getattr(jax.config, "jax_compilation_cache_dir", None):
        return Path(given)
    directory = Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "jaxrl" / "xla"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        warnings.warn(f"no compilation cache: cannot write to {directory}: {error.strerror}; set JAXRL_CACHE to a folder", stacklevel=2)
        return None
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)
    return directory
