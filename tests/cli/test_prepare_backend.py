"""What the commands set for a physics backend before JAX starts, and that they say so."""

import os

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
