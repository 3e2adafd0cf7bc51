"""An Apache Beam pipeline whose failure is one line, as that of one process is."""

import contextlib
import logging
import re
from collections.abc import Iterator
from typing import Any

_WRAPPED = re.compile(
    r"(?:[\w.]*(?:Error|Exception|BadEpisode): )*(?P<said>.*?)(?: \[while running .*)?"
)  # as Beam spells what a worker raised


@contextlib.contextmanager
def pipeline(what: str, options: Any) -> Iterator[Any]:
    """Yields a pipeline, which runs when the block ends; `what` is to be done by it.

    Raises:
        ImportError: Apache Beam is not installed.
        ValueError: what a worker could not do, or the runner.
    """
    try:
        import apache_beam as beam
    except ImportError as error:
        raise ImportError(f"{what} with Beam needs Apache Beam: pip install 'jaxrl[beam]'") from error
    told = logging.getLogger("apache_beam.runners.common")  # a traceback of what is raised anyway
    before = told.level
    told.setLevel(logging.CRITICAL)
    try:
        with beam.Pipeline(options=options) as made:
            yield made
    except (ValueError, OSError):
        raise
    except Exception as error:  # whatever the runner makes of what its workers raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        found = _WRAPPED.fullmatch(lines[-1])
        said = found["said"] if found else lines[-1]
        raise ValueError(f"{said}; what is done stays, so repeat the command when that is mended") from error
    finally:
        told.setLevel(before)
