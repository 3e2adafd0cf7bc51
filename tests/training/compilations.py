"""Which programs are compiled, or fetched from the persistent cache in place of it, while a block runs."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """Yields a list that grows by the name of each compiled program, `jit(f)` for `jax.jit(f)`."""
    names: list[str] = []

    def note(event: str, seconds: float, **more: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(str(more["fun_name"]))

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
