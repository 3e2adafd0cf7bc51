"""`jaxrl plan`: what a run on data needs, and how long a step takes, before there is a device to run it on."""

import argparse
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxrl import config as configs
from jaxrl.cli import run as runs
from jaxrl.cli.run import say

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="jaxrl plan", description="Parameters, memory, communication and time of a run on data.")
    parser.add_argument("--config", required=True, type=Path, help="experiment file, or file.py:word; overrides as for jaxrl train")
    parser.add_argument("--device", help="what it is to run on, such as H100; config.devices says on how many, config.mesh how")
    parser.add_argument("--compile", action="store_true", help="compile the update for this machine too, and tell what XLA plans")
    parser.add_argument("--json", action="store_true", help="one JSON object in place of the table")
    options, unknown = parser.parse_known_args(arguments)
    config = configs.load(options.config, runs.overrides_among(parser, unknown))
    from jaxrl.cli.settings import Settings

    told = planned(configs.build(Settings, config, "config"), options.device, options.compile)
    say(json.dumps(told) if options.json else "\n".join(lines(told)))
    return 0


def planned(settings: Any, device: str | None = None, compiled: bool = False) -> dict[str, Any]:
    """The plan of a config as plain JSON. Its data have to be there: they say what is seen and what is done.

    Raises ValueError where a config learns by acting, or its numbers do not divide.
    """
    from jaxrl.cli.assemble import ON_DATA, assemble
    from jaxrl.config import part
    from jaxrl.distributed.mesh import AXES, Config, sizes
    from jaxrl.training import devices, plan

    chosen = None if device is None else devices.named(device)
    if settings.source.get("name") not in ON_DATA:
        raise ValueError(
            f"config.source.name: is {settings.source.get('name')!r}, but a plan is of what learns from {' or '.join(ON_DATA)}"
        )
    parts = assemble(dataclasses.replace(settings, filler=None, pretrained=None))
    try:
        batch, mesh = batch_of(settings, parts), settings.mesh or Config()
        layout = plan.Layout(mesh, dict(zip(AXES, sizes(mesh, settings.devices), strict=True)))
        _, algorithm = part(settings.algorithm, "algorithm", "config.algorithm")
        told = plan.plan(parts.algorithm, without_remat(settings, parts), batch, layout, algorithm.accumulate, chosen)
        return told | ({"compiled": _compiled(parts.algorithm, batch)} if compiled else {})
    finally:
        parts.source.close()


def batch_of(settings: Any, parts: Any) -> dict[str, Any]:
    """The shapes of a batch of the run's source."""
    import jax

    size, nested = settings.source["batch_size"] if "batch_size" in settings.source else None, ("observation", "present")
    batch: dict[str, Any] = {}
    for path, spec in parts.source.spec.items():
        at, name = batch, path
        while (first := name.partition("/")[0]) != name and (first in nested or first in settings.objectives):
            at, name = at.setdefault(first, {}), name.partition("/")[2]
        rows = spec.shape[0] if isinstance(spec.shape[0], int) else size or _default_size(settings)
        at[name] = jax.ShapeDtypeStruct((rows, *spec.shape[1:]), spec.dtype)
    return batch


def _default_size(settings: Any) -> int:
    from jaxrl.config import part

    _, config = part(settings.source, "source", "config.source")
    return config.batch_size


def _kept(values: Any) -> Any:
    """A section in which nothing is computed twice."""
    if isinstance(values, Mapping):
        return {name: _never(value) if name == "remat" else _kept(value) for name, value in values.items()}
    return tuple(map(_kept, values)) if isinstance(values, list | tuple) else values


def _never(value: Any) -> Any:
    return False if isinstance(value, bool) else "none"


def without_remat(settings: Any, parts: Any) -> Any:
    """The algorithm of a run, with networks that keep all that their way back needs."""
    from jaxrl.cli.imitation import supervised
    from jaxrl.cli.settings import resolved
    from jaxrl.ops import running_statistics
    from jaxrl.types import ArraySpec

    spec = parts.learnt or parts.algorithm.policy.spec
    shapes = dict(spec.observation) | {"action": ArraySpec(spec.action.shape, spec.action.dtype)}
    objectives = _kept(resolved(settings)["objectives"])
    return supervised(dataclasses.replace(settings, objectives=objectives), spec, running_statistics.init(shapes))


def work_of(settings: Any, parts: Any) -> Any:
    """`plan.Work` of an update of a run on data; None where the source does not tell the shapes of its batches."""
    from jaxrl.cli.assemble import ON_DATA
    from jaxrl.training.plan import work

    if settings.source.get("name") not in ON_DATA:
        return None
    return work(without_remat(settings, parts), batch_of(settings, parts))


def _compiled(algorithm: Any, batch: Any) -> dict[str, int]:
    """Bytes that XLA plans on one device of this machine, for the whole batch."""
    import jax

    key = jax.random.key(0)
    state = jax.eval_shape(algorithm.init, key)
    update = jax.jit(lambda state, batch, key: algorithm.update(state, batch, key), donate_argnums=0)
    found = update.lower(state, batch, key).compile().memory_analysis()
    sizes = {name: int(getattr(found, f"{name}_size_in_bytes")) for name in ("argument", "output", "alias", "temp")}
    return sizes | {"total": sizes["argument"] + sizes["output"] - sizes["alias"] + sizes["temp"]}


def _short(number: float, unit: str = "") -> str:
    size, letter = next(((size, letter) for size, letter in _UNITS if abs(number) >= size), (1.0, ""))
    return f"{number / size:.4g} {letter}{unit}".rstrip()


def _rows(told: Mapping[str, Any], unit: str) -> list[str]:
    return [f"  {name:<28} {_short(value, unit):>12}" for name, value in told.items() if value]


def lines(told: Mapping[str, Any]) -> list[str]:
    """Text for a terminal."""
    number = math.prod(told["mesh"].values())
    shape = ", ".join(f"{axis} {size}" for axis, size in told["mesh"].items())
    text = [f"parameters: {_short(told['trained'])} trained, {_short(told['frozen'])} frozen", *_rows(told["parameters"], "")]
    text += [f"memory of each of {number} device(s) ({shape}), batches of {told['batch_size']}:", *_rows(told["memory"], "B")]
    if "compiled" in told:
        text += ["memory that XLA plans on one device of this machine, for all of a batch:", *_rows(told["compiled"], "B")]
    again = f", and {100 * told['recomputed']:.0f} % of that again for what is not kept" if told["recomputed"] > 0.005 else ""
    text.append(f"work: {_short(told['flops_per_sample'], 'FLOP')} a sample, of {told['tokens_per_sample']:.4g} tokens{again}")
    if any(told["communication"].values()):
        text += ["sent by each device in a step:", *_rows(told["communication"], "B")]
    if "device" in told:
        seconds = told["seconds"]
        of = ", ".join(f"{name} {1e3 * seconds[name]:.3g} ms" for name in ("products", "communication", "optimizer"))
        text.append(f"a step on {told['device']}: {1e3 * seconds['step']:.3g} ms ({of}), MFU {100 * told['mfu']:.0f} %")
        text.append(f"  {_short(told['samples_per_second'])} samples/s, {_short(told['tokens_per_second'])} tokens/s")
        if not told["fits"]:
            text.append(f"does not fit into the memory of {told['device']}: take fewer rows, remat, accumulate, or more of mesh.fsdp")
    return text
