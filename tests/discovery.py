"""Finds the factories of the project by what they say they return, so that nothing has to be registered to be tested."""

import functools
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable
from types import ModuleType
from typing import Any

PACKAGES = ("jaxrl", "jaxrl_envs", "jaxrl_data")


@functools.cache
def modules() -> dict[str, ModuleType]:
    """Every module of the project, but those that need a package which is not installed."""
    found = {}
    for package in PACKAGES:
        try:
            root = importlib.import_module(package)
        except ModuleNotFoundError:
            continue
        for module in pkgutil.walk_packages(root.__path__, f"{package}."):
            try:
                found[module.name] = importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                if (error.name or "").partition(".")[0] in PACKAGES:
                    raise
    return found


def factories(returned: type) -> dict[str, Callable[..., Any]]:
    """The functions that bear their module's name and are annotated to return this type, by path."""
    found = {}
    for path, module in modules().items():
        name = path.rpartition(".")[2]
        function = getattr(module, name, None)
        if inspect.isfunction(function) and typing.get_type_hints(function).get("return") is returned:
            found[f"{path}.{name}"] = function
    return found
