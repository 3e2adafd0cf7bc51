"""What is told before it is allocated, and refused where it does not fit."""

import pytest

from jaxrl.training import memory_plan


def test_parts_and_sum(monkeypatch):
    monkeypatch.setattr(memory_plan, "available", lambda: 2**32)
    lines = memory_plan.memory_plan({"replay/a": 2**30, "replay/b": 2**29}, copies=2)
    assert lines[0] == "allocates 3.000 GiB for 2 seeds:"
    assert lines[1].split() == ["replay/a", "2.000", "GiB"]
    assert memory_plan.memory_plan({}) == []


def test_more_than_there_is_is_refused(monkeypatch):
    monkeypatch.setattr(memory_plan, "available", lambda: 2**30)
    memory_plan.memory_plan({"replay/a": 2**31}, devices=2)
    with pytest.raises(ValueError, match=r"would allocate 2.000 GiB, but there are 1.000 GiB; lower the capacity(.|\n)*replay/a"):
        memory_plan.memory_plan({"replay/a": 2**31})


def test_this_machine_has_memory():
    assert memory_plan.available() > 2**28
