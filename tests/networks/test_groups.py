"""Which groups of an observation a network takes: the same rules for every network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks import actor_critic, state_mlp
from jaxrl.types import ArraySpec, PolicySpec

GROUPS = {
    "state/b": ArraySpec((2,)),
    "privileged/a": ArraySpec((3,)),
    "state/a": ArraySpec((1,)),
    "image/front": ArraySpec((4, 4, 3), "uint8"),
}


def build(observation, **fields):
    return actor_critic.actor_critic(actor_critic.Config((4,), (4,), **fields), PolicySpec(observation, ArraySpec((2,))))


@pytest.mark.parametrize(("fields", "width"), [({}, 6), ({"privileged_critic": False}, 3)])
def test_the_actor_sees_the_state_and_the_critic_also_what_is_privileged(fields, width):
    networks = build(GROUPS, **fields)
    params = networks.actor.init(jax.random.key(0)), networks.critic.init(jax.random.key(0))
    kernels = params[0]["torso"]["hidden_0"]["kernel"], params[1]["hidden_0"]["kernel"]
    assert [kernel.shape[0] for kernel in kernels] == [3, width]
    seen = {name: jnp.zeros((1, *s.shape)) for name, s in GROUPS.items()}
    value = networks.critic.apply(params[1], seen)
    assert (networks.critic.apply(params[1], seen | {"privileged/a": jnp.ones((1, 3))}) != value).item() == (width == 6)


def build_mlp(observation):
    return state_mlp.state_mlp(state_mlp.Config((4,)), observation, (2,))


@pytest.mark.parametrize("make", [build, build_mlp])
@pytest.mark.parametrize(
    ("observation", "message"),
    [
        ({"privileged/a": ArraySpec((3,))}, "needs at least one state/<group> observation; offered are privileged/a"),
        ({}, "needs at least one state/<group> observation; offered are none"),
    ],
)
def test_every_network_refuses_the_same(make, observation, message):
    with pytest.raises(ValueError, match=rf"^(actor_critic|state_mlp) {message}$"):
        make(observation)


def test_groups_that_are_no_vectors():
    groups = {"state/a": ArraySpec((3,)), "state/map": ArraySpec((4, 4))}
    with pytest.raises(ValueError, match=r"^actor_critic takes vectors, but state/map has the shape \(4, 4\)$"):
        build(groups)
    with pytest.raises(ValueError, match=r"^state_mlp takes states of one history, but they differ: .*'state/a': 1, 'state/map': 4"):
        build_mlp(groups)
    with pytest.raises(ValueError, match=r"^state_mlp takes states \[n\] or \[history, n\], but state/a has the shape \(2, 3, 4\)$"):
        build_mlp({"state/a": ArraySpec((2, 3, 4))})


def test_a_history_is_seen_step_by_step():
    network = build_mlp({"state/a": ArraySpec((2, 3)), "state/b": ArraySpec((2, 1))})
    params, statistics = network.init(jax.random.key(0))
    assert params["hidden_0"]["kernel"].shape == (8, 4)
    a, b = jax.random.normal(jax.random.key(1), (5, 2, 3)), jax.random.normal(jax.random.key(2), (5, 2, 1))
    flat = build_mlp({"state/all": ArraySpec((8,))})
    joined = {"state/all": jnp.concatenate([a, b], -1).reshape(5, 8)}
    output, _ = network.apply(params, statistics, {"state/a": a, "state/b": b})
    np.testing.assert_allclose(output, flat.apply(params, statistics, joined)[0], rtol=1e-5, atol=1e-6)
