"""Weights at random that follow from their names alone, so that golden files need not hold them; numpy is all this needs."""

import json
import sys
import zlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


def write(script: str, found: Mapping[str, Any], *peers: str) -> None:
    """All that a script found, and of which versions of its peers, into the file that its command names, or else beside it."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(script).with_suffix(".npz")
    versions = {name: version(name) for name in peers}
    np.savez_compressed(file, versions=json.dumps(versions), **found)
    print(file, file.stat().st_size, versions)


def draws(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal, float32, the same wherever the name is the same."""
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, np.float32)


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Sized so that what passes through keeps its size; counters are 0."""
    if not shape:
        return np.zeros(shape, np.float32)
    drawn = draws(name, shape)
    if len(shape) > 1:
        return drawn / np.float32(np.sqrt(np.prod(shape[1:])))
    if name.endswith("running_var"):
        return 0.5 + np.abs(drawn)
    return drawn * np.float32(0.1) + np.float32(name.endswith((".weight", "lambda1")))


def weights(shapes: Mapping[str, tuple[int, ...]], prefix: str = "") -> dict[str, np.ndarray]:
    """Of every array of a network, by its name; `prefix` tells networks apart."""
    return {name: weight(prefix + name, tuple(shape)) for name, shape in shapes.items()}


def centred(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those of a Gemma, whose RMS norms hold what is added to 1."""
    return {name: value - np.float32(name.endswith(("layernorm.weight", "model.norm.weight"))) for name, value in weights.items()}


def told(gradients: Mapping[str, np.ndarray]) -> np.ndarray:
    """[leaves, 3]: of each, in the order of the names, its norm and what it comes to along two directions, of norm 1 each."""
    rows = []
    for name in sorted(gradients):
        slope = np.asarray(gradients[name], np.float64)
        ways = [draws(f"{name} {i}", slope.shape).astype(np.float64) for i in range(2)]
        rows.append([np.linalg.norm(slope), *((slope * way).sum() / np.linalg.norm(way) for way in ways)])
    return np.array(rows)


def pixels(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """uint8, the same wherever the name is the same."""
    return np.random.default_rng(zlib.crc32(name.encode())).integers(0, 256, shape, np.uint8)
