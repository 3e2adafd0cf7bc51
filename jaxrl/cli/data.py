"""`jaxrl data`: looks at data sets of robot episodes. What it does is in jaxrl_data, which an installation may lack."""

import contextlib
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from jaxrl.types import PolicySpec

SOURCES = ("jaxrl_data.dataset_source", "jaxrl_data.stream_source")


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit status. Raises ImportError that says what to install."""
    with installed():
        return int(import_module("jaxrl_data.commands").main(arguments, _experiment))


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Where what jaxrl_data needs is not installed, an ImportError says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        root = (error.name or "").partition(".")[0]
        if root == "jaxrl" or (root == "jaxrl_data" and error.name != "jaxrl_data"):
            raise  # a fault of ours, not of the installation
        raise ImportError(f"{root} is not installed: pip install 'jaxrl[data]'") from error


def _experiment(path: str, overrides: Sequence[str]) -> Any:
    """What of an experiment file `jaxrl data` tells of. Raises ValueError: it does not train on data sets."""
    import jax

    from jaxrl import config as configs
    from jaxrl.cli.assemble import for_evaluation
    from jaxrl.cli.settings import Settings

    settings = configs.build(Settings, configs.load(path, overrides), "config")
    if (name := settings.source.get("name")) not in SOURCES:
        raise ValueError(f"{path}: config.source.name is {name!r}, but data sets are read by {' or '.join(SOURCES)}")
    _, source = configs.part(settings.source, "source", "config.source")

    def train_state(spec: PolicySpec) -> int:
        shapes = jax.eval_shape(for_evaluation(settings, spec, None).init, jax.random.key(0))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))

    return import_module("jaxrl_data.planning").Experiment(source, settings.training.total_updates, settings.devices, train_state)
