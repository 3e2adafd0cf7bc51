"""The cores that this process may run on, which may be fewer than the machine has."""

import os


def cores() -> int:
    """Their number."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
