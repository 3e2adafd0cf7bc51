"""Functions that a config names by their dotted path."""

import importlib
from collections.abc import Callable
from typing import Any


def function_at(path: str, field: str) -> Callable[..., Any]:
    """The function at `path`, such as "my_tasks.push.make".

    Raises:
        ValueError: there is no such module or function; the message names the field of the config.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name) if module else None
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise
        found = None
    except AttributeError:
        found = None
    if not callable(found):
        raise ValueError(f'{field}: no function {path!r}; write it as "module.function", and start where the module can be imported')
    return found
