"""Configs of algorithms that learn from memory: what fits together, and what is refused before anything is compiled."""

from typing import Any

import numpy as np
import pytest

from jaxrl import config as configs
from jaxrl.cli.assemble import assemble
from jaxrl.cli.settings import Settings, check_acts_in
from jaxrl.ops.specs import policy_spec
from jaxrl.replay.recording import Recording, save

SAC: dict[str, Any] = {
    "env": {"name": "jaxrl_envs.tasks.cartpole", "backend": "native"},
    "source": {"name": "jaxrl.rollout.rollout", "num_worlds": 2, "unroll_length": 1},
    "replay": {"name": "jaxrl.replay.replay", "capacity": 100, "initial_steps": 7},
    "networks": {"name": "jaxrl.networks.actor_q"},
    "algorithm": {"name": "jaxrl.algorithms.sac"},
}
PPO = {"networks": {"name": "jaxrl.networks.actor_critic"}, "algorithm": {"name": "jaxrl.algorithms.ppo"}}


def made(**changes: Any) -> Any:
    return assemble(configs.build(Settings, SAC | changes))


def test_a_rollout_behind_a_memory():
    parts = made()
    assert parts.source.spec["observation/state/position"].shape[:2] == (1, 256)
    assert (parts.source.initial_steps, parts.source.steps_per_batch) == (8, 2)
    assert sum(parts.source.allocation.values()) > 0


def test_demonstrations_beyond_the_range_of_the_policy_are_told_of(tmp_path):
    spec = made().algorithm.policy.spec
    seen = {name: np.zeros((5, *part.shape), np.float32) for name, part in spec.observation.items()}
    action = np.array([[0.0], [3.0], [1.0], [-1.1], [0.5]], np.float32)
    last = {name: array[:1] for name, array in seen.items()}
    save(tmp_path / "episode.npz", Recording(seen, action, np.ones(5, np.float32), np.array([5]), spec, last, np.ones(1, bool)))
    shown = {"data": {"path": str(tmp_path / "episode.npz")}, "demonstrations": {"name": "jaxrl.replay.demonstrations"}}
    with pytest.warns(UserWarning, match="2 of 5 recorded actions lie outside of the range that the policy fills"):
        made(**shown)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"replay": {}}, r"config.replay.name: missing; jaxrl.algorithms.sac learns from a memory"),
        (PPO, r"config.replay: has no effect on jaxrl.algorithms.ppo"),
        ({"replay": SAC["replay"] | {"capacity": 4, "initial_steps": 2}}, r"capacity is 4 steps, 2 for each of 2 worlds"),
        ({"algorithm": {"name": "jaxrl.algorithms.sac", "subset": 3}}, r"subset is 3, but there are 2 critics"),
        ({"mirror": True}, r"config.mirror: cartpole_\w+ has no mirror image"),
        (PPO | {"replay": {}, "mirror": True}, r"config.mirror: has no effect on jaxrl.algorithms.ppo"),
        ({"networks": SAC["networks"] | {"deterministic": True}}, r"sac: the actor tells no log_std, .* set that to False"),
        (
            {"networks": {"name": "jaxrl.networks.actor_critic"}},
            r"config.networks.name: jaxrl.algorithms.sac takes ActorQ or PixelActorQ, which jaxrl.networks.actor_critic does not make",
        ),
        (
            {"replay": SAC["replay"] | {"maximum_return": 5.0, "gamma": 0.9}},
            r"config.replay.gamma is 0.9, but config.algorithm.gamma 0.99; they have to be the same",
        ),
        ({"networks": {"name": "jaxrl.networks.q_network"}, "algorithm": {"name": "jaxrl.algorithms.dqn"}}, r"needs discrete actions"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        made(**changes)


def test_a_policy_of_another_rate_does_not_act():
    env = made().env
    spec = policy_spec(env.spec)
    check_acts_in(env, spec, "the policy")
    with pytest.raises(ValueError, match=r"the policy acts 25 times per second, but the environment cartpole_swingup takes \d+ actions"):
        check_acts_in(env, spec._replace(rate=25.0), "the policy")
