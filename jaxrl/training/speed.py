"""Samples, tokens and arithmetic per second, and memory, in the reports of a run: worked out where a report is written, not in the loop."""

import os
from pathlib import Path

import jax

from jaxrl.training.callbacks import Callback, Report
from jaxrl.training.plan import Work

_GIB = 2.0**30


def _memory() -> dict[str, float]:
    """The most that a device of this process has held, else what the process holds now; nothing where the system does not tell."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return {"memory/device_gib": stats["peak_bytes_in_use"] / _GIB}
    told = Path("/proc/self/statm")
    return {"memory/host_gib": int(told.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / _GIB} if told.exists() else {}


def with_speed(callback: Callback, work: Work, peak: float | None, resumed: bool = False) -> Callback:
    """`callback` whose reports of training tell the speed since the last one. `peak` is what all devices can do, in FLOP per second.

    Without one there is no model FLOP utilisation (Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311), `speed/mfu`.
    """
    last: Report | None = None

    def write(report: Report) -> None:
        nonlocal last
        if report.kind == "training":
            before = (0, 0.0) if last is None else (last.update, last.seconds)
            updates, seconds = report.update - before[0], report.seconds - before[1]
            told = {}
            if updates > 0 and seconds > 0 and not (resumed and last is None):
                rate = updates / seconds
                told = {"speed/samples_per_second": work.samples * rate}
                told |= {"speed/tokens_per_second": work.tokens * rate} if work.tokens else {}
                told |= {"speed/mfu": work.flops * rate / peak} if peak else {}
            last = report
            report = report._replace(metrics=report.metrics | told | _memory())
        callback.write(report)

    return Callback(write, callback.close)
