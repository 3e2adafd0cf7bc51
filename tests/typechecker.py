"""What the import hook of the tests checks annotations with: beartype, for which an int is a float as in the type system."""

from collections.abc import Callable
from typing import TypeVar

from beartype import BeartypeConf, beartype

F = TypeVar("F", bound=Callable)
_CONFIGURED = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: F) -> F:
    """`function`, checking what it is given and what it returns."""
    return _CONFIGURED(function)
