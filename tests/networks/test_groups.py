"""Which groups of an observation a network takes: the same rules for every network."""

import jax
import jax.numpy as jnp
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


@pytest.mark.parametrize("make", [build, lambda observation: state_mlp.state_mlp(state_mlp.Config((4,)), observation, (2,))])
@pytest.mark.parametrize(
    ("observation", "message"),
    [
        ({"privileged/a": ArraySpec((3,))}, "needs at least one state/<group> observation; offered are privileged/a"),
        ({}, "needs at least one state/<group> observation; offered are none"),
        ({"state/a": ArraySpec((3,)), "state/map": ArraySpec((4, 4))}, r"takes vectors, but state/map has the shape \(4, 4\)"),
    ],
)
def test_every_network_refuses_the_same(make, observation, message):
    with pytest.raises(ValueError, match=rf"^(actor_critic|state_mlp) {message}$"):
        make(observation)
