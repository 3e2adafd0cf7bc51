"""What the networks for images see, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks.conv_actor_critic import Config, conv_actor_critic
from jaxrl.ops.paths import flatten_names
from jaxrl.types import ArraySpec, PolicySpec

SIZE = 20
OBSERVATION = {
    "image/side": ArraySpec((SIZE, SIZE, 3), "uint8"),
    "image/top": ArraySpec((SIZE, SIZE, 6), "uint8"),
    "state/a": ArraySpec((2,)),
    "privileged/b": ArraySpec((4,)),
}
KEY = jax.random.key(0)


def build(observation=OBSERVATION, **fields):
    config = Config(**{"layers": ((4, 4, 4), (8, 2, 1)), "features": 5} | fields)
    return conv_actor_critic(config, PolicySpec(observation, ArraySpec((2,))))


def seen(size=3, observation=OBSERVATION):
    drawn = np.random.default_rng(0)
    return {
        name: jnp.asarray(drawn.integers(0, 256, (size, *s.shape)) if s.dtype == "uint8" else drawn.normal(size=(size, *s.shape)), s.dtype)
        for name, s in observation.items()
    }


@pytest.mark.parametrize("image_critic", [True, False])
def test_what_each_part_depends_on(image_critic):
    networks, x = build(image_critic=image_critic), seen()
    for part, dependencies in (
        (networks.actor, {"image/side", "image/top", "state/a"}),
        (networks.critic, set(OBSERVATION) if image_critic else {"state/a", "privileged/b"}),
    ):
        params = part.init(KEY)
        output = part.apply(params, x)
        for name in OBSERVATION:
            other = part.apply(params, x | {name: x[name][::-1]})
            same = jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a[0], b[0]), output, other))
            assert same == (name not in dependencies), f"{name} of {sorted(dependencies)}"


def test_a_critic_without_images_may_see_privileged_groups_alone():
    observation = {name: OBSERVATION[name] for name in ("image/side", "privileged/b")}
    critic = build(observation, image_critic=False).critic
    assert critic.apply(critic.init(KEY), {"privileged/b": jnp.ones((3, 4))}).shape == (3,)


def test_images_have_a_gradient_and_every_parameter_a_given_name():
    actor = build().actor
    params, x = actor.init(KEY), seen()
    gradient = jax.grad(lambda p: jnp.square(actor.apply(p, x)["mean"] - 1.0).sum())(params)
    encoder = flatten_names(gradient["encoder"])
    assert set(encoder) == {f"{layer}/{leaf}" for layer in ("conv_0", "conv_1", "features") for leaf in ("kernel", "bias")} | {
        "norm/scale",
        "norm/bias",
    }
    assert all(np.abs(leaf).sum() > 0 for leaf in encoder.values())


def test_time_major_rows_are_independent():
    actor, x = build().actor, seen(6)
    params = actor.init(KEY)
    whole = actor.apply(params, x)["mean"]
    folded = actor.apply(params, {name: value.reshape(2, 3, *value.shape[1:]) for name, value in x.items()})["mean"]
    np.testing.assert_allclose(folded.reshape(6, 2), whole, atol=1e-6)


@pytest.mark.parametrize(
    ("observation", "fields", "message"),
    [
        ({"image/side": ArraySpec((SIZE, SIZE, 3))}, {}, r"images \[height, width, channels\] of uint8, but image/side has .* of float32"),
        ({"image/side": ArraySpec((SIZE, SIZE), "uint8")}, {}, r"image/side has the shape \(20, 20\)"),
        (OBSERVATION | {"image/small": ArraySpec((8, 8, 3), "uint8")}, {}, "images of one size, but they differ"),
        (OBSERVATION, {"layers": ((4, 16, 8), (4, 3, 1))}, "images of 20 x 20 are too small for the layers"),
        ({"privileged/b": ArraySpec((4,))}, {}, "needs at least one state/<group>"),
        ({"image/side": OBSERVATION["image/side"]}, {"image_critic": False}, "there is no flat group for the critic"),
    ],
)
def test_refuses(observation, fields, message):
    with pytest.raises(ValueError, match=message):
        build(observation, **fields)


@pytest.mark.parametrize("fields", [{"layers": ()}, {"layers": ((4, 4, 0),)}, {"features": 0}])
def test_config_refuses(fields):
    with pytest.raises(ValueError, match="positive|at least"):
        Config(**fields)
