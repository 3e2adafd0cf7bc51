"""What devices can do, by their names: makers' figures, of one device."""

import re
from typing import NamedTuple

import jax


class Device(NamedTuple):
    """Rates are per second; `link` is what it can send to others in its node or pod."""

    name: str
    pattern: str  # of what JAX calls it, `jax.Device.device_kind`
    flops: float  # of dense products of bfloat16, summed in float32
    bandwidth: float  # bytes, of its memory
    memory: float  # bytes
    link: float  # bytes


_TERA, _GIGA = 1e12, 1e9

# Data sheets of NVIDIA: H100 SXM, H200 SXM, A100 80 GB SXM, L40S; for the RTX 4090 the white paper on Ada: it sums in float32 at half its
# rate. Figures "with sparsity" are halved. Of TPUs, the pages of their versions at https://cloud.google.com/tpu/docs. NVLink and PCIe
# are taken in one direction.
DEVICES = (
    Device("H200", r"H200", 989 * _TERA, 4800 * _GIGA, 141 * _GIGA, 450 * _GIGA),
    Device("H100", r"H100", 989 * _TERA, 3350 * _GIGA, 80 * _GIGA, 450 * _GIGA),
    Device("A100", r"A100", 312 * _TERA, 2039 * _GIGA, 80 * _GIGA, 300 * _GIGA),
    Device("L40S", r"L40S", 362 * _TERA, 864 * _GIGA, 48 * _GIGA, 32 * _GIGA),
    Device("RTX 4090", r"RTX 4090", 165 * _TERA, 1008 * _GIGA, 24 * _GIGA, 32 * _GIGA),
    Device("TPU v4", r"TPU v4$", 275 * _TERA, 1200 * _GIGA, 32 * _GIGA, 300 * _GIGA),
    Device("TPU v5e", r"TPU v5( lite|e)", 197 * _TERA, 819 * _GIGA, 16 * _GIGA, 200 * _GIGA),
    Device("TPU v5p", r"TPU v5p?$", 459 * _TERA, 2765 * _GIGA, 95 * _GIGA, 600 * _GIGA),
)


def named(name: str) -> Device:
    """Raises ValueError where the table has no such device."""
    for device in DEVICES:
        if device.name.lower().replace(" ", "") == name.lower().replace(" ", "").replace("_", ""):
            return device
    raise ValueError(f"device is {name!r}, but known are {', '.join(device.name for device in DEVICES)}")


def here() -> Device | None:
    """The kind of this process's devices; None where the table does not have it, as a CPU."""
    kind = jax.devices()[0].device_kind
    return next((device for device in DEVICES if re.search(device.pattern, kind)), None)
