"""What the commands set for a physics backend before JAX starts, and that they say so."""

import dataclasses
import os
import sys
import types

import pytest

from jaxrl.cli.run import prepare_backend
from jaxrl.config import ConfigDict


@pytest.mark.parametrize(
    ("backend", "platform", "lines"), [("native", "cpu", 0), ("auto", "cpu", 0), ("mjx", "cpu", 1), ("mjx", "cuda", 0)]
)
def test_the_flags_are_set_and_told_for_mjx_on_a_cpu_alone(monkeypatch, capsys, backend, platform, lines):
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setenv("JAX_PLATFORMS", platform)
    prepare_backend(ConfigDict({"env": {"name": "jaxrl_envs.tasks.cartpole", "backend": backend}}))
    assert len(capsys.readouterr().out.splitlines()) == lines
    assert bool(os.environ["XLA_FLAGS"]) == bool(lines)


def test_a_task_may_have_a_backend_by_default(monkeypatch, capsys):
    made = types.ModuleType("mine.pushing")
    made.Config = dataclasses.make_dataclass("Config", [("backend", str, "mjx")])
    made.pushing = lambda config: None
    monkeypatch.setitem(sys.modules, "mine", types.ModuleType("mine"))
    monkeypatch.setitem(sys.modules, "mine.pushing", made)
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    prepare_backend(ConfigDict({"env": {"name": "mine.pushing", "backend": "native"}}))
    assert not capsys.readouterr().out
    prepare_backend(ConfigDict({"env": {"name": "mine.pushing"}}))
    assert "XLA_FLAGS=" in capsys.readouterr().out
