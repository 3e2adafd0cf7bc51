"""Robots and mechanisms as MJCF, one file each."""

from importlib import resources


def xml(name: str) -> str:
    """The text of `<name>.xml`."""
    return (resources.files(__name__) / f"{name}.xml").read_text()
