"""What is told before it is allocated, and refused where it does not fit."""

import pytest

from jaxrl.training import memory_plan


def test_parts_and_sum(monkeypatch):
    monkeypatch.setattr(memory_plan, "available", lambda: {"host": 2**32})
    lines = memory_plan.memory_plan({"replay/a": 2**30, "replay/b": 2**29}, copies=2)
    assert lines[0] == "allocates 3.000 GiB for 2 seeds:"
    assert lines[1].split() == ["replay/a", "2.000", "GiB"]
    assert memory_plan.memory_plan({}) == []


def test_more_than_there_is_is_refused(monkeypatch):
    monkeypatch.setattr(memory_plan, "available", lambda: {"host": 2**30})
    memory_plan.memory_plan({"replay/a": 2**31}, devices=2)
    with pytest.raises(ValueError, match=r"would allocate 2.000 GiB, but the host has 1.000 GiB; lower the capacity(.|\n)*replay/a"):
        memory_plan.memory_plan({"replay/a": 2**31})


def test_what_lies_on_the_host_does_not_fill_the_device(monkeypatch):
    monkeypatch.setattr(memory_plan, "available", lambda: {"host": 2**32, "device": 2**30})
    whole = {"replay/a": 2**30, "host/replay/images": 2**32}
    assert memory_plan.memory_plan(whole)[0] == "allocates 5.000 GiB:"
    with pytest.raises(ValueError, match=r"would allocate 2.000 GiB, but the device has 1.000 GiB"):
        memory_plan.memory_plan(whole | {"replay/b": 2**30})
    with pytest.raises(ValueError, match=r"would allocate 5.000 GiB, but the host has 4.000 GiB"):
        memory_plan.memory_plan(whole | {"host/b": 2**30})


def test_this_machine_has_memory():
    assert memory_plan.available()["host"] > 2**28
