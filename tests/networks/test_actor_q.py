"""What the networks of off-policy methods see and say, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks._torsos import Torso
from jaxrl.networks.actor_q import Config, Returns, actor_q, return_distribution
from jaxrl.types import ArraySpec, PolicySpec

OBSERVATION = {"state/a": ArraySpec((2,)), "state/b": ArraySpec((1,)), "privileged/c": ArraySpec((3,))}
ACTION = ArraySpec((2,))
SMALL = Torso(width=8, depth=1)
KEY = jax.random.key(0)


def build(observation=OBSERVATION, action=ACTION, **fields):
    return actor_q(Config(**{"actor": SMALL, "critic": SMALL, "actor_scale": 1.0} | fields), PolicySpec(observation, action))


def seen(size=4, scale=1.0):
    drawn = np.random.default_rng(0)
    return {name: jnp.asarray(scale * drawn.normal(size=(size, *s.shape)), jnp.float32) for name, s in OBSERVATION.items()}


def public(x):
    return {name: part for name, part in x.items() if not name.startswith("privileged/")}


@pytest.mark.parametrize("privileged_critic", [True, False])
def test_what_each_part_depends_on(privileged_critic):
    networks, x = build(privileged_critic=privileged_critic), seen()
    action = jnp.linspace(-1.0, 1.0, 8).reshape(4, 2)
    actor, critic = networks.actor.init(KEY), networks.critic.init(KEY)

    def answer(x, action=action):
        return networks.actor.apply(*actor, public(x))[0]["mean"][0], networks.critic.apply(*critic, (x, action))[0][:, 0]

    mean, value = answer(x)
    assert mean.shape == (2,) and value.shape == (2, 1)
    for name in OBSERVATION:
        other_mean, other_value = answer(x | {name: x[name][::-1]})
        privileged = name == "privileged/c"
        assert (mean == other_mean).all() == privileged
        assert (value == other_value).all() == (privileged and not privileged_critic)
    assert (answer(x, action[::-1])[1] != value).all()


def test_standard_deviations_stay_within_their_bounds():
    actor = build(log_std_bounds=(-3.0, 1.0)).actor
    params, _ = actor.init(KEY)
    far = actor.apply(params, {}, public(seen(200, 100.0)))[0]["log_std"]
    assert -3.0 <= far.min() < -2.9 and 0.9 < far.max() <= 1.0
    np.testing.assert_allclose(actor.apply(params, {}, public(seen(3, 0.0)))[0]["log_std"], -1.0)  # the middle


def test_actor_without_standard_deviation():
    actor = build(deterministic=True).actor
    params, _ = actor.init(KEY)
    assert set(actor.apply(params, {}, public(seen()))[0]) == {"mean"} and params["output"]["kernel"].shape == (8, 2)


def test_outputs_that_begin_at_zero():
    networks, x = build(actor_scale=0.0, critic_scale=0.0, returns=Returns("categorical", 11, -2.0, 4.0)), seen()
    assert not networks.actor.apply(*networks.actor.init(KEY), public(x))[0]["mean"].any()
    output, _ = networks.critic.apply(*networks.critic.init(KEY), (x, jnp.zeros((4, 2))))
    assert output.shape == (2, 4, 11)
    np.testing.assert_allclose(networks.returns.mean(output), 1.0, atol=1e-5)  # all bins alike


@pytest.mark.parametrize(("kind", "size"), [("scalar", 1), ("categorical", 7), ("quantile", 7)])
def test_critics_say_as_much_as_their_returns_read(kind, size):
    returns = Returns(kind, 7)
    critic = build(returns=returns, ensemble=3).critic
    output, _ = critic.apply(*critic.init(KEY), (seen(), jnp.zeros((4, 2))))
    assert return_distribution(returns).size == size and output.shape == (3, 4, size)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: build(observation={"privileged/c": ArraySpec((3,))}),
            "needs at least one state/<group> observation; offered are privileged/c",
        ),
        (lambda: build(action=ArraySpec((), "int32", low=0, high=3)), "actor_q needs "),
        (lambda: Config(ensemble=0), "ensemble is 0"),
        (lambda: Config(log_std_bounds=(2.0, -5.0)), "must ascend"),
        (lambda: Config(critic_scale=-1.0), "critic_scale is -1.0"),
        (lambda: Returns("categorical", 1), "bins is 1"),
        (lambda: Returns("categorical", 11, 5.0, -5.0), "must go upwards"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
