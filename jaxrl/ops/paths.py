"""Leaves of a tree chosen by regular expressions over their paths, such as `actor/torso/hidden_0/kernel`."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from jaxrl.types import PyTree, flatten_names


def map_with_path(function: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """`function(path, leaf, *leaves of rest)` at every leaf; the path is its keys, fields and indices joined by "/"."""
    return jax.tree_util.tree_map_with_path(
        lambda path, *leaves: function(jax.tree_util.keystr(path, simple=True, separator="/"), *leaves), tree, *rest
    )


def matching(patterns: Sequence[str], tree: PyTree) -> PyTree:
    """True at every leaf in whose path some pattern is found (`re.search`)."""
    return map_with_path(lambda path, _: any(re.search(p, path) for p in patterns), tree)


def check_patterns(patterns: Sequence[str], tree: PyTree, option: str) -> None:
    """Raises ValueError where a pattern of `option` is found in no path: it is misspelt, or for another network."""
    paths = list(flatten_names(tree))
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in paths):
            raise ValueError(f"{option}: the pattern {pattern!r} matches no parameter; there are {', '.join(paths)}")


def split(patterns: Sequence[str], tree: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """Nested dicts as two: the leaves that match, and the rest. `merge` puts them together again."""
    chosen: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for name, node in tree.items():
        path = f"{prefix}{name}"
        if isinstance(node, Mapping):
            for side, part in zip((chosen, rest), split(patterns, node, f"{path}/"), strict=True):
                if part:
                    side[name] = part
        else:
            (chosen if any(re.search(p, path) for p in patterns) else rest)[name] = node
    return chosen, rest


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """One nested dict with the leaves of both; where both have a leaf, that of `second`."""
    merged = dict(first)
    for name, node in second.items():
        both = isinstance(node, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = merge(merged[name], node) if both else node
    return merged
