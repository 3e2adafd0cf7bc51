"""What a run of ours has learnt, as safetensors: flat names of a tree, and metadata that say what it is."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxrl.networks._pretrained import among, listed
from jaxrl.ops.paths import flatten_names, map_with_path
from jaxrl.types import Params

FORMAT = "jaxrl"  # of the metadata's "format"
PARAMS = "params/"  # parameters of all networks, each below its objective's name; what else is there is for whoever acts with them


def difference(ours: Mapping[str, tuple[int, ...]], theirs: Mapping[str, tuple[int, ...]]) -> list[str]:
    """How two trees differ, given the shapes of their leaves by name."""

    def told(names: set[str], shapes: Mapping[str, tuple[int, ...]]) -> str:
        return listed([f"{name} {shapes[name]}" for name in sorted(names)])

    missing, left = set(ours) - set(theirs), set(theirs) - set(ours)
    others = [
        f"{name} {theirs[name]}, which is {ours[name]} here" for name in sorted(set(ours) & set(theirs)) if ours[name] != theirs[name]
    ]
    return (
        [f"lacks {told(missing, ours)}"] * bool(missing)
        + [f"has what this network does not: {told(left, theirs)}"] * bool(left)
        + [f"has another size: {listed(others)}"] * bool(others)
    )


def placed(names: Sequence[str], read: Callable[[str], np.ndarray], template: Params, fresh: Sequence[str] = ()) -> Params:
    """Of the networks whose parameters are called `names` the one that has the tree of `template`, in the types that its file has.

    `fresh` is as of `openpi.placed`; of theirs, patterns are looked for in names without what is in front of the network's own.

    Raises:
        ValueError: there is no network with this tree; tells how the nearest one differs.
    """
    networks: dict[str, dict[str, np.ndarray]] = {}
    for name in names:
        if name.startswith(PARAMS):
            network, _, path = name.removeprefix(PARAMS).partition("/")
            networks.setdefault(network, {})[path] = read(name)
    if not networks:
        raise ValueError(f"has no parameters, whose names begin with {PARAMS}; there are {listed(sorted(names))}")
    ours = {path: tuple(leaf.shape) for path, leaf in flatten_names(template).items() if not among(fresh, path)}
    found: dict[str, list[str]] = {}
    for network, arrays in networks.items():
        found[network] = difference(ours, {path: x.shape for path, x in arrays.items() if path in ours or not among(fresh, path)})
        if not found[network]:
            return map_with_path(lambda path, leaf, arrays=arrays: arrays[path] if path in ours else leaf, template)
    nearest = min(found, key=lambda network: len(set(ours) ^ set(networks[network])))
    raise ValueError(f"its network {nearest} {' and '.join(found[nearest])}")
