"""What several tests of data share."""

import pytest

from jaxrl_data.open import Apart
from jaxrl_data.streaming import members
from tests.data.episodes import dataset
from tests.data.streams import LENGTHS


@pytest.fixture
def sets(monkeypatch):
    """Data sets in memory, by path."""
    known = {"made": dataset(LENGTHS)}
    monkeypatch.setattr(members, "splits", lambda path: ("train",))
    monkeypatch.setattr(members, "open_apart", lambda asked: Apart({name: known[path] for name, (path, _) in asked.items()}, lambda: None))
    return known
