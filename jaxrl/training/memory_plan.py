"""What a run is going to allocate, told before it does, and refused where it cannot fit."""

import os
from collections.abc import Mapping

import jax

_UNIT = 2.0**30


def available() -> int:
    """Bytes of the memory that a device may fill: its own, or this machine's where it has none."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory_plan(allocation: Mapping[str, int], copies: int = 1, devices: int = 1) -> list[str]:
    """One line for each part, and the sum; `copies` are made of all of it, shared out over `devices`.

    Raises:
        ValueError: it is more than a device has.
    """
    if not allocation:
        return []
    each = {name: size * copies // devices for name, size in allocation.items()}
    total, limit = sum(each.values()), available()
    lines = [f"  {name:<24} {size / _UNIT:8.3f} GiB" for name, size in each.items()]
    whole = f"{total / _UNIT:.3f} GiB" + (" on each device" if devices > 1 else "") + (f" for {copies} seeds" if copies > 1 else "")
    if total > limit:
        raise ValueError(
            f"the run would allocate {whole}, but there are {limit / _UNIT:.3f} GiB; lower the capacity of the memory, or the number of "
            "seeds:\n" + "\n".join(lines)
        )
    return [f"allocates {whole}:", *lines]
