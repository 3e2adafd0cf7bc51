"""Leaves of a tree by their paths, such as `actor/torso/hidden_0/kernel`: named, chosen by regular expressions, replaced."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from jaxrl.types import PyTree


def _join(path: Sequence[Any]) -> str:
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def flatten_names(tree: PyTree) -> dict[str, Any]:
    """Leaves by flat name: keys, fields and indices joined by "/"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_join(path): leaf for path, leaf in leaves}


def map_with_path(function: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """`function(path, leaf, *leaves of rest)` at every leaf; the path is its flat name."""
    return jax.tree_util.tree_map_with_path(lambda path, *leaves: function(_join(path), *leaves), tree, *rest)


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


def overlay(fresh: PyTree, pretrained: PyTree) -> PyTree:
    """`fresh` with the leaves that `pretrained` holds, which may lack any part.

    Raises:
        ValueError: `pretrained` has a leaf that `fresh` lacks, or has in another shape.
    """
    shapes = {path: leaf.shape for path, leaf in flatten_names(fresh).items()}
    given = flatten_names(pretrained)
    for path, leaf in given.items():
        if shapes.get(path) != leaf.shape:
            here = shapes.get(path, f"no such parameter; there are {', '.join(shapes)}")
            raise ValueError(f"pretrained {path} has the shape {leaf.shape}, but this model has {here}")
    return map_with_path(lambda path, leaf: given.get(path, leaf), fresh)
