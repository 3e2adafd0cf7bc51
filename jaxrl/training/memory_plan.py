"""What a run is going to allocate, told before it does, and refused where it cannot fit."""

import os
from collections.abc import Mapping

import jax

_UNIT = 2.0**30


HOST = "host/"  # begins the names of what lies in this machine's memory, whatever the device


def available() -> dict[str, int]:
    """Bytes of the memory that may be filled: the "host"'s, and the "device"'s where it has its own."""
    host = {"host": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")}
    stats = jax.local_devices()[0].memory_stats() or {}
    return host | ({"device": int(stats["bytes_limit"])} if "bytes_limit" in stats else {})


def memory_plan(allocation: Mapping[str, int], copies: int = 1, devices: int = 1) -> list[str]:
    """One line for each part, and the sum; `copies` are made of all of it, shared out over `devices`.

    Raises:
        ValueError: it is more than the device or the host has.
    """
    if not allocation:
        return []
    each = {name: size * copies // devices for name, size in allocation.items()}
    lines = [f"  {name:<24} {size / _UNIT:8.3f} GiB" for name, size in each.items()]
    of = (" on each device" if devices > 1 else "") + (f" for {copies} seeds" if copies > 1 else "")
    limits = available()
    for place, limit in limits.items():
        shared = len(limits) == 1
        total = sum(size for name, size in each.items() if shared or name.startswith(HOST) == (place == "host"))
        if total > limit:
            raise ValueError(
                f"the run would allocate {total / _UNIT:.3f} GiB{of}, but the {place} has {limit / _UNIT:.3f} GiB; lower the capacity of "
                "the memory, or the number of seeds:\n" + "\n".join(lines)
            )
    return [f"allocates {sum(each.values()) / _UNIT:.3f} GiB{of}:", *lines]
