"""What the networks of DrQ-v2 see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks._torsos import Torso
from jaxrl.networks.actor_q import Config as Head
from jaxrl.networks.conv_actor_critic import FEATURES
from jaxrl.networks.pixel_actor_q import Config, PixelActorQ, pixel_actor_q
from jaxrl.ops.paths import flatten_names
from jaxrl.types import ArraySpec, PolicySpec, StatefulNetwork

SIZE, ACTIONS = 14, 2
OBSERVATION = {
    "image/side": ArraySpec((SIZE, SIZE, 3), "uint8"),
    "image/top": ArraySpec((SIZE, SIZE, 6), "uint8"),
    "state/a": ArraySpec((2,)),
    "privileged/b": ArraySpec((4,)),
}
ACTION = ArraySpec((ACTIONS,))
KEY = jax.random.key(0)


def build(observation=OBSERVATION, action=ACTION, **fields):
    torso = Torso(width=8, depth=1)
    small = {"layers": ((4, 3, 2), (4, 3, 1)), "features": 5, "head": Head(torso, torso, deterministic=True, actor_scale=1.0)}
    networks = pixel_actor_q(Config(**small | fields), PolicySpec(observation, action))
    parts = [StatefulNetwork(jax.jit(p.init), jax.jit(p.apply, static_argnames="train"), p.project) for p in networks[:-1]]
    return PixelActorQ(*parts, networks.returns)  # one program is compiled faster than many small ones


def seen(size=3):
    drawn = np.random.default_rng(0)
    return {
        name: jnp.asarray(drawn.integers(0, 256, (size, *s.shape)) if s.dtype == "uint8" else drawn.normal(size=(size, *s.shape)), s.dtype)
        for name, s in OBSERVATION.items()
    }


def test_what_each_part_depends_on():
    networks, x = build(), seen()
    action = jnp.linspace(-1.0, 1.0, 3 * ACTIONS).reshape(3, ACTIONS)
    (encoder, _), actor, critic, value_head = (part.init(KEY) for part in networks[:-1])

    def answer(x, action=action):
        encoded, _ = networks.encoder.apply(encoder, {}, x)
        assert set(encoded) == {"state/a", "privileged/b", FEATURES}
        public = {name: part for name, part in encoded.items() if name != "privileged/b"}
        assert networks.value.apply(*value_head, encoded)[0].shape == (3, 1)
        return networks.actor.apply(*actor, public)[0]["mean"][0], networks.critic.apply(*critic, (encoded, action))[0][:, 0]

    mean, value = answer(x)
    assert mean.shape == (ACTIONS,) and value.shape == (2, 1) and value[0] != value[1]
    for name in OBSERVATION:
        other_mean, other_value = answer(x | {name: x[name][::-1]})
        assert (mean != other_mean).all() == (name != "privileged/b") and (value != other_value).all(), name
    assert (answer(x, action[::-1])[1] != value).all()


def test_what_is_in_which_parameters_and_learns():
    networks, x = build(), seen()
    (encoder, _), (critic, _) = networks.encoder.init(KEY), networks.critic.init(KEY)
    action = jnp.zeros((3, ACTIONS))

    def loss(encoder, critic):
        encoded, _ = networks.encoder.apply(encoder, {}, x)
        return jnp.square(networks.critic.apply(critic, {}, (encoded, action))[0] - 1.0).sum()

    slopes = jax.jit(jax.grad(loss, (0, 1)))(encoder, critic)
    assert set(flatten_names(slopes[0])) == {f"conv_{i}/{leaf}" for i in range(2) for leaf in ("kernel", "bias")}
    assert set(critic) == {"trunk", "head"} and critic["head"]["output"]["kernel"].shape[0] == 2  # one trunk, two heads
    assert all(np.abs(leaf).sum() > 0 for leaf in jax.tree.leaves(slopes))
    kernel = np.asarray(encoder["conv_0"]["kernel"]).reshape(-1, 4)
    np.testing.assert_allclose(kernel.T @ kernel, 2.0 * np.eye(4), atol=1e-5)


def test_time_major_rows_and_statistics():
    networks, x = build(head=Head(Torso("flash", 8, 1), Torso("flash", 8, 1))), seen(6)
    params, _ = networks.encoder.init(KEY)
    encoded, _ = networks.encoder.apply(params, {}, x)
    folded = {name: value.reshape(2, 3, *value.shape[1:]) for name, value in x.items()}
    again, _ = networks.encoder.apply(params, {}, folded)
    actor, statistics = networks.actor.init(KEY)
    whole, after = networks.actor.apply(actor, statistics, encoded, train=True)
    assert set(whole) == {"mean", "log_std"} and jax.tree.structure(after) == jax.tree.structure(statistics)
    parts, _ = networks.actor.apply(actor, statistics, again, train=True)
    np.testing.assert_allclose(parts["mean"].reshape(6, ACTIONS), whole["mean"], atol=1e-5)
    longer = networks.actor.project(jax.tree.map(lambda leaf: 2.0 * leaf, actor))
    np.testing.assert_allclose(longer["head"]["output"]["kernel"], actor["head"]["output"]["kernel"], atol=1e-5)
    np.testing.assert_array_equal(longer["trunk"]["features"]["kernel"], 2.0 * actor["trunk"]["features"]["kernel"])


def test_sizes_of_the_paper():
    images = {"image/side": ArraySpec((84, 84, 9), "uint8")}
    networks = pixel_actor_q(Config(), PolicySpec(images, ArraySpec((6,))))
    shapes = {name: jax.eval_shape(part.init, KEY)[0] for name, part in zip(("encoder", "actor", "critic"), networks[:3], strict=True)}
    assert [shapes["encoder"][f"conv_{i}"]["kernel"].shape for i in range(4)] == [(3, 3, 9, 32)] + [(3, 3, 32, 32)] * 3
    assert shapes["actor"]["trunk"]["features"]["kernel"].shape == (39_200, 50)
    assert shapes["actor"]["head"]["torso"]["hidden_0"]["kernel"].shape == (50, 1024)
    assert shapes["critic"]["head"]["torso"]["hidden_1"]["kernel"].shape == (2, 1024, 1024)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"observation": {"state/a": ArraySpec((2,))}}, "needs at least one image/<camera> observation; offered are state/a"),
        ({"observation": {"image/a": ArraySpec((SIZE, SIZE, 3))}}, "image/a has the shape .* of float32"),
        ({"layers": ((4, 3, 4), (4, 5, 1))}, "images of 14 x 14 are too small"),
        ({"layers": ()}, "expected at least one"),
        ({"features": 0}, "features is 0"),
        ({"action": ArraySpec((), "int32", low=0, high=3)}, "actor_q needs"),
    ],
)
def test_what_does_not_fit_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        build(**fields)
