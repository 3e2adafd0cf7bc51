"""Specs as JSON, as they travel with checkpoints and recordings."""

import json
from dataclasses import asdict
from typing import Any

from jaxrl.types import ArraySpec, PolicySpec

TABLES = ("observation", "extras")  # the fields of a policy's spec that hold arrays by name


def to_json(spec: PolicySpec) -> str:
    """The spec as one line of JSON."""
    tables = {field: {name: asdict(part) for name, part in getattr(spec, field).items()} for field in TABLES}
    return json.dumps(spec._asdict() | tables | {"action": asdict(spec.action)})


def from_json(text: str) -> PolicySpec:
    """The inverse of `to_json`.

    Raises:
        ValueError: the text is no spec.
    """
    try:
        fields = json.loads(text)
        tables = {field: {name: _array_spec(part) for name, part in fields[field].items()} for field in TABLES}
        return PolicySpec(**fields | tables | {"action": _array_spec(fields["action"])})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"this is no policy spec ({type(error).__name__}: {error}): {text[:200]}") from error


def _array_spec(fields: dict[str, Any]) -> ArraySpec:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return ArraySpec(**values)
