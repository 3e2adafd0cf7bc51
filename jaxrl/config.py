"""From an experiment file to frozen dataclasses: every name and type is checked before anything is compiled.

An experiment file has `get_config()`, which returns an `ml_collections.ConfigDict`. A section that says which algorithm, task or
other part to use holds its module path as `name` and, beside it, the fields of that module's dataclass `Config`.
"""

import ast
import dataclasses
import importlib
import importlib.util
import inspect
import math
import pkgutil
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from ml_collections import ConfigDict

from jaxrl.ops.suggestion import suggestion

T = TypeVar("T")

# Where a name without dots is looked for.
PACKAGES = {
    "algorithm": "jaxrl.algorithms",
    "objective": "jaxrl.objectives",
    "network": "jaxrl.networks",
    "source": "jaxrl.rollout",
    "replay": "jaxrl.replay",
    "curriculum": "jaxrl.curricula",
    "bonus": "jaxrl.bonuses",
    "task": "jaxrl_envs.tasks",
    "adapter": "jaxrl_envs.adapters",
    "wrapper": "jaxrl_envs.wrappers",
    "policy": "jaxrl_envs.scripted",
    "policy wrapper": "jaxrl.policies",
}
_EXTRA_OF = {
    "mujoco": "envs",
    "dm_control": "suite",
    "warp": "warp",
    "tensorflow": "data",
    "tensorflow_datasets": "data",
    "rlds": "data",
    "pyarrow": "data",
    "tokenizers": "vla",
    "sentencepiece": "vla",
    "grpc": "serve",
    "wandb": "wandb",
    "brax": "adapters",
    "gymnasium": "adapters",
    "mujoco_playground": "adapters",
}
_WORDS = {"true": True, "false": False, "none": None}
_INFINITE = ("inf", "-inf")  # how a config writes what JSON has no number for
_SCALARS = (bool, int, float, str, type(None))


def build(cls: type[T], values: Any, where: str = "config") -> T:
    """The frozen dataclass `cls` from a ConfigDict or mapping, with nested dataclasses, tuples, unions, Literals and dict[str, X].

    Lists become tuples, and ints and the texts "inf" and "-inf" floats where a field asks for them; nothing else is converted.

    Raises:
        ValueError: one line per fault, each with the dotted path from `where`: unknown and missing keys, wrong types, and what
            `__post_init__` of a dataclass refuses.
    """
    faults: list[str] = []
    result = _convert(cls, values, where, faults)
    if faults:
        raise ValueError("\n".join(faults))
    return result


def available(kind: str) -> tuple[str, ...]:
    """The names that `resolve` takes for this kind, without their package; none where the package is not installed.

    The modules are read, not imported: what they need may be missing, or slow to load.
    """
    try:
        package = importlib.import_module(PACKAGES[kind])
    except ModuleNotFoundError:
        return ()
    return _nameable(package)


def resolve(name: str, kind: str) -> tuple[type, Callable[..., Any]]:
    """The `Config` and the factory of the module `name`, a dotted path or the last part of one in the package of `kind`.

    The factory is the module's function that bears the module's own name: `jaxrl.algorithms.ppo` holds `ppo(config, ...)`.

    Raises:
        ValueError: there is no such module, or it has no Config or no factory.
        ImportError: the module needs a package that is not installed; says which extra holds it.
    """
    path = name if "." in name else f"{PACKAGES[kind]}.{name}"
    package, _, last = path.rpartition(".")
    if not all(word.isidentifier() for word in path.split(".")):
        raise ValueError(f"{kind} {name!r}: not the path of a module")
    try:
        module = importlib.import_module(path)
    except ImportError as error:
        missing = error.name or ""
        if isinstance(error, ModuleNotFoundError) and f"{path}.".startswith(f"{missing}."):
            raise ValueError(_unknown_module(kind, name, package, last)) from None
        if extra := _EXTRA_OF.get(missing.partition(".")[0]):
            raise ImportError(f'{kind} {name}: {path} needs {missing}: pip install "jaxrl[{extra}]"', name=missing) from error
        raise
    for member in ("Config", last):
        if not hasattr(module, member):
            raise ValueError(f"{kind} {name}: {path} has no {member}; it needs a dataclass Config and a function {last}(config, ...)")
    return module.Config, getattr(module, last)


def part(section: Any, kind: str, where: str) -> tuple[Callable[..., Any], Any]:
    """The factory that a section names, and its Config built from the rest of the section.

    Raises:
        ValueError, ImportError: as `build` and `resolve` do; a section without `name` is refused too.
    """
    values = _plain(section)
    if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
        raise ValueError(f'{where}.name: missing; name the {kind} by its module, such as "{PACKAGES[kind]}.{_first(available(kind))}"')
    cls, factory = resolve(values["name"], kind)
    return factory, build(cls, {key: value for key, value in values.items() if key != "name"}, where)


def load(path: str | Path, overrides: Sequence[str] = ()) -> ConfigDict:
    """What `get_config()` of the experiment file returns, after overrides such as "--config.algorithm.learning_rate=3e-4".

    `path` may end in ":" and a word, which `get_config` is called with: "experiments/ppo_control_suite.py:cheetah_run".

    A value is read as a Python literal, else as text; a field that holds text keeps the text. A field that the file leaves at its
    default may be set too: `build` knows all names and types and refuses the wrong ones.

    Raises:
        ValueError: no such file, a file without `get_config`, or an override that is not of that form or replaces a section.
    """
    name, colon, argument = str(path).rpartition(":")
    path, arguments = (Path(name), [argument]) if colon and name.endswith(".py") else (Path(path), [])
    if not path.is_file():
        others = [str(file) for file in sorted(path.parent.glob("*.py"))]
        raise ValueError(f"{path}: no such experiment file; {suggestion(str(path), others)}")
    spec = importlib.util.spec_from_file_location(f"experiment_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, "get_config", None)):
        raise ValueError(f"{path}: has no get_config(); an experiment file returns its ConfigDict from it")
    try:
        inspect.signature(module.get_config).bind(*arguments)
    except TypeError:
        expected = "takes no word after the colon" if arguments else "needs a word after the file's name and a colon"
        raise ValueError(f"{path}: its get_config {expected}") from None
    config = module.get_config(*arguments)
    if not isinstance(config, ConfigDict):
        raise ValueError(f"{path}: get_config() must return an ml_collections.ConfigDict, not {type(config).__name__}")
    for word in overrides:
        override(config, word)
    return config


def plain(values: Any) -> dict[str, Any]:
    """A ConfigDict, dataclass or mapping as nested dicts. Sequences become tuples and infinity the text "inf": a config read from JSON
    equals the written one.
    """
    result = _plain(values)
    if not isinstance(result, dict):
        raise TypeError(f"a config is a ConfigDict, a dataclass or a mapping, not {type(values).__name__}")
    return result


def difference(old: Any, new: Any, where: str = "config") -> list[str]:
    """One line "path: old -> new" per key that two configs do not share, sorted; empty if they are the same."""
    before, after = dict(_leaves(plain(old), where)), dict(_leaves(plain(new), where))
    return [
        f"{path}: {before.get(path, 'absent')} -> {after.get(path, 'absent')}"
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    ]


def _leaves(values: Any, where: str) -> Iterable[tuple[str, str]]:
    """Dotted path and text of each leaf; the text tells 1 from 1.0 and from "1"."""
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from _leaves(value, f"{where}.{key}")
    else:
        yield where, repr(values)


def _plain(values: Any) -> Any:
    if isinstance(values, ConfigDict):
        values = dict(values.items())
    elif dataclasses.is_dataclass(values) and not isinstance(values, type):
        values = {field.name: getattr(values, field.name) for field in dataclasses.fields(values)}
    if isinstance(values, Mapping):
        return {str(key): _plain(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return tuple(_plain(value) for value in values)
    return str(values) if isinstance(values, float) and math.isinf(values) else values


def override(config: ConfigDict, word: str) -> None:
    """Sets one field in place from "--config.section.field=value". Raises ValueError as `load` does."""
    path, equals, text = word.partition("=")
    root, *sections = path.removeprefix("--").split(".")
    if not (word.startswith("--") and equals and root == "config" and all(sections) and sections):
        raise ValueError(f"{word}: not an override; write --config.section.field=value, such as --config.algorithm.learning_rate=3e-4")
    *sections, field = sections
    with config.unlocked(), config.ignore_type():
        at = config
        for depth, section in enumerate(sections):
            if section not in at:
                at[section] = ConfigDict()
            at = at[section]
            if not isinstance(at, ConfigDict):
                raise ValueError(f"{path.removeprefix('--')}: {'.'.join(['config', *sections[: depth + 1]])} is a value, not a section")
        old = at.get(field)
        if isinstance(old, ConfigDict):
            raise ValueError(f"{path.removeprefix('--')}: is a section; set one of its fields: {', '.join(sorted(old))}")
        at[field] = text if isinstance(old, str) else _literal(text)


def _literal(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return _plain(value)


def _nameable(package: types.ModuleType) -> tuple[str, ...]:
    """The modules that define both a class `Config` and a function of their own name."""
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(name for name in names if {"Config", name} <= _definitions(f"{package.__name__}.{name}"))


def _definitions(path: str) -> set[str]:
    """The names of the classes and functions that a module defines."""
    found = importlib.util.find_spec(path)
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        return set()
    tree = ast.parse(Path(found.origin).read_text(encoding="utf-8"), found.origin)
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def _unknown_module(kind: str, name: str, package: str, last: str) -> str:
    try:
        module = importlib.import_module(package) if package else None
    except ModuleNotFoundError:
        module = None
    if module is None or not hasattr(module, "__path__"):
        return f"{kind} {name}: there is no package {package}; jaxrl's own are in {PACKAGES[kind]}, yours here or installed"
    return f"{kind} {name}: {package} has no such module; {suggestion(last, _nameable(module))}"


def _first(names: Sequence[str]) -> str:
    return names[0] if names else "..."


def _describe(value: Any) -> str:
    return "a section" if isinstance(value, Mapping) else f"{value!r} ({type(value).__name__})"


def _expected(annotation: Any) -> str:
    if dataclasses.is_dataclass(annotation):
        return f"a section ({getattr(annotation, '__name__', annotation)})"
    if typing.get_origin(annotation) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in typing.get_args(annotation))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return " or ".join(_expected(member) for member in typing.get_args(annotation))
    if annotation is type(None):
        return "None"
    return annotation.__name__ if isinstance(annotation, type) and not typing.get_args(annotation) else str(annotation)


def _convert(annotation: Any, value: Any, where: str, faults: list[str]) -> Any:
    """`value` as the annotation asks; appends to `faults`, and then the result means nothing."""
    value = dict(value.items()) if isinstance(value, ConfigDict) else value
    origin = typing.get_origin(annotation)
    if annotation is Any:
        return _plain(value)
    if annotation in _SCALARS and type(value) is annotation:
        return value
    if annotation is float and (type(value) is int or (type(value) is str and value in _INFINITE)):
        return float(value)
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        if isinstance(value, annotation):
            return value
        if isinstance(value, Mapping):
            return _convert_dataclass(annotation, value, where, faults)
    elif origin is Literal:
        if any(type(value) is type(choice) and value == choice for choice in typing.get_args(annotation)):
            return value
    elif origin in (typing.Union, types.UnionType):
        return _convert_union(annotation, value, where, faults)
    elif origin is tuple:
        if isinstance(value, list | tuple):
            return _convert_tuple(annotation, value, where, faults)
    elif origin in (dict, Mapping):
        if isinstance(value, Mapping):
            member = typing.get_args(annotation)[1]
            return {str(key): _convert(member, entry, f"{where}.{key}", faults) for key, entry in value.items()}
    elif annotation not in _SCALARS:
        raise TypeError(f"{where}: a config field cannot have the type {annotation}")
    faults.append(f"{where}: expected {_expected(annotation)}, got {_describe(value)}")
    return None


def _convert_dataclass(cls: Any, values: Mapping[str, Any], where: str, faults: list[str]) -> Any:
    annotations = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    own: list[str] = [f"{where}.{key}: unknown; {suggestion(key, list(fields))}" for key in values if key not in fields]
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            own.append(f"{where}.{name}: missing; expected {_expected(annotations[name])}")
    present = {key: value for key, value in values.items() if key in fields}
    arguments = {key: _convert(annotations[key], value, f"{where}.{key}", own) for key, value in present.items()}
    faults.extend(own)
    if own:
        return None
    try:
        return cls(**arguments)
    except ValueError as error:
        faults.append(f"{where}: {error}")
        return None


def _convert_union(annotation: Any, value: Any, where: str, faults: list[str]) -> Any:
    """The first member that takes the value as it is, else the first that can convert it."""
    members = typing.get_args(annotation)
    if type(value) in members:
        return value
    tried = []
    for member in members:
        own: list[str] = []
        result = _convert(member, value, where, own)
        if not own:
            return result
        tried.append((member, own))
    # A section was meant for the dataclass among the members: its faults say more than that the union does not fit.
    sections = [own for member, own in tried if dataclasses.is_dataclass(member) and isinstance(value, Mapping)]
    faults.extend(sections[0] if len(sections) == 1 else [f"{where}: expected {_expected(annotation)}, got {_describe(value)}"])
    return None


def _convert_tuple(annotation: Any, value: Sequence[Any], where: str, faults: list[str]) -> Any:
    members = typing.get_args(annotation)
    if len(members) == 2 and members[1] is Ellipsis:
        members = (members[0],) * len(value)
    if len(members) != len(value):
        faults.append(f"{where}: expected {len(members)} entries, got {len(value)}: {value!r}")
        return None
    pairs = enumerate(zip(members, value, strict=True))
    return tuple(_convert(member, entry, f"{where}[{index}]", faults) for index, (member, entry) in pairs)
