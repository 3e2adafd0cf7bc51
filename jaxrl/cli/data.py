"""`jaxrl data`: looks at data sets of robot episodes. What it does is in jaxrl_data, which an installation may lack."""

from collections.abc import Sequence
from importlib import import_module


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit status. Raises ImportError that says what to install."""
    try:
        return int(import_module("jaxrl_data.commands").main(arguments))
    except ModuleNotFoundError as error:
        root = (error.name or "").partition(".")[0]
        if root == "jaxrl" or (root == "jaxrl_data" and error.name != "jaxrl_data"):
            raise  # a fault of ours, not of the installation
        raise ImportError(f"{root} is not installed: pip install 'jaxrl[data]'") from error
