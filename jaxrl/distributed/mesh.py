"""The devices of a run as a mesh."""

from dataclasses import dataclass

import jax
from jax.sharding import AxisType, Mesh

AXES = ("data", "fsdp", "tensor")


@dataclass(frozen=True)
class Rule:
    """Arrays of a path in which `pattern` is found lie over these axes of the mesh: one for each of their last axes, "" for none."""

    pattern: str
    axes: tuple[str, ...]

    def __post_init__(self) -> None:
        named = [axis for axis in self.axes if axis]
        if odd := [axis for axis in named if axis not in AXES]:
            raise ValueError(f"axes of the rule {self.pattern!r} name {odd[0]!r}, but a mesh has {', '.join(AXES)}")
        if len(set(named)) < len(named):
            raise ValueError(f"axes of the rule {self.pattern!r} are {self.axes}, but each may be named once")


@dataclass(frozen=True)
class Config:
    """How devices are shared out: each row of a batch goes to a group of `tensor` devices, and train states lie over `fsdp` such groups.

    What is left of the devices are copies of these, along `data`. The first of the `rules` that matches a parameter says how it lies, with
    its optimizer state and its average; what none matches lies over `fsdp` by its longest axis that divides, unless it has fewer elements
    than `smallest`.
    """

    fsdp: int = 1
    tensor: int = 1
    rules: tuple[Rule, ...] = ()
    smallest: int = 2**16

    def __post_init__(self) -> None:
        for name in ("fsdp", "tensor", "smallest"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if self.tensor > 1 and not any("tensor" in rule.axes for rule in self.rules):
            raise ValueError(f"tensor is {self.tensor}, but no rule says what lies over it; give rules, or more fsdp in its place")


def _found(devices: int) -> list[jax.Device]:
    if devices > jax.device_count():
        raise ValueError(f"devices is {devices}, but there are {jax.device_count()}")
    return jax.devices()[:devices]


def data_mesh(devices: int) -> Mesh | None:
    """The first `devices` devices along the axis `data`; None for one device, which needs no mesh.

    Raises:
        ValueError: there are fewer devices.
    """
    if devices == 1:
        return None
    # Auto: the compiler shares out whatever nobody has said how to.
    return jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=_found(devices))


def sizes(config: Config, devices: int) -> tuple[int, int, int]:
    """Of the axes `data`, `fsdp` and `tensor`. Raises ValueError where devices are no multiple of the last two."""
    if devices % (config.fsdp * config.tensor):
        raise ValueError(f"devices is {devices}, but must be a multiple of mesh.fsdp * mesh.tensor, {config.fsdp} * {config.tensor}")
    return devices // (config.fsdp * config.tensor), config.fsdp, config.tensor


def learning_mesh(config: Config, devices: int) -> Mesh | None:
    """The first `devices` devices along `data`, `fsdp` and `tensor`, neighbours along the last; None for one device.

    Raises:
        ValueError: there are fewer devices, or the numbers do not divide.
    """
    shape = sizes(config, devices)
    return None if devices == 1 else jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 3, devices=_found(devices))
