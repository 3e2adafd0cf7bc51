"""Objectives of a config that have one network."""

from dataclasses import replace

import jax
import pytest

from jaxrl.cli.imitation import supervised
from jaxrl.cli.settings import Settings, resolved
from jaxrl.config import plain
from jaxrl.ops import running_statistics
from jaxrl.types import ArraySpec, PolicySpec
from tests.conformance import EXPERT, READING

SPEC = PolicySpec({"image/a": ArraySpec((8, 8, 3), "uint8"), "task/instruction": ArraySpec((3,), "int32")}, ArraySpec((2,)), horizon=2)
VLA = {"name": "jaxrl.networks.vla.pi05", "seeing": plain(READING), "action": plain(EXPERT), "action_dim": 4, "state": "hidden"}
WORDS = READING.text.vocabulary


def settings(**objectives) -> Settings:
    return Settings(algorithm={"name": "supervised", "policy": "act"}, source={"name": "x"}, objectives=objectives)


def made(found: Settings):
    return supervised(found, SPEC, running_statistics.init({"action": SPEC.action}))


def test_three_objectives_have_one_network():
    found = settings(
        act={"name": "flow", "network": VLA},
        fast={"name": "tokens", "bins": WORDS, "network": "act", "weight": 0.5},
        talk={"name": "text", "length": 3, "vocabulary": WORDS, "network": "act"},
    )
    algorithm = made(found)
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    assert set(state.params) == {"flow"} and set(state.statistics.objectives) == {"flow", "tokens_code"}
    assert {"action", "text/answer", "observation/task/instruction"} <= set(algorithm.batch_spec)
    alone = made(settings(act={"name": "flow", "network": VLA}))
    assert jax.tree.map(lambda x: x.shape, jax.eval_shape(alone.init, jax.random.key(0)).params) == jax.tree.map(
        lambda x: x.shape, state.params
    )
    whole = resolved(replace(found, source={"name": "jaxrl.replay.memory", "horizon": 2, "batch_size": 2}))
    assert whole["objectives"]["fast"]["network"] == "act" and whole["objectives"]["act"]["network"]["longest"] == 256


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ({"fast": {"name": "tokens", "network": "act"}}, "config.objectives.fast.network: is 'act', but no objective of that name has a"),
        (
            {"act": {"name": "flow", "network": VLA}, "copy": {"name": "bc", "network": "act"}},
            "config.objectives.copy.network: bc has no network together with others",
        ),
        (
            {"act": {"name": "flow", "network": VLA}, "fast": {"name": "tokens", "bins": 8, "network": "act"}},
            "tokens has sequences of 4 out of 8 tokens, but the network writes up to 256 out of 12",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused(objectives, message):
    with pytest.raises(ValueError, match=message):
        made(settings(**objectives))
