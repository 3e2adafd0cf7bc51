"""Networks with a memory: cells against numpy, whole sequences against single steps, ends of episodes against fresh starts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks.actor_critic import with_memory
from jaxrl.networks.recurrent_actor_critic import Config, recurrent_actor_critic
from jaxrl.types import ArraySpec, EnvSpec, RecurrentNetwork

T, B = 5, 2
KEY = jax.random.key(0)
OBSERVATION = {"state/a": ArraySpec((2,)), "state/b": ArraySpec((1,)), "privileged/c": ArraySpec((1,))}
SPEC = EnvSpec("sequences", OBSERVATION, ArraySpec((2,)), 100, 0.0)
MEMORIES = ("gru", "lstm", "window")
SMALL = {"memory_size": 3, "actor_hidden": (4,), "critic_hidden": (4,)}


def draw(seed=1):
    return {
        name: jax.random.normal(jax.random.fold_in(jax.random.key(seed), i), (T, B, *s.shape))
        for i, (name, s) in enumerate(OBSERVATION.items())
    }


def begins(*places):
    marked = np.zeros((T, B), bool)
    for place in places:
        marked[place] = True
    return marked


@functools.cache
def parts(memory, **fields):
    networks = with_memory(recurrent_actor_critic(Config(memory=memory, **SMALL, **fields), SPEC))
    return {"actor": networks.actor, "critic": networks.critic}


def by_steps(network: RecurrentNetwork, params, observation, carry, begin):
    """Outputs and carries of one step after the other, each row alone; it starts anew where an episode begins."""
    outputs, carries = [], []
    for t in range(T):
        rows = []
        for b in range(B):
            own = network.carry(1) if begin[t, b] else jax.tree.map(lambda x, b=b: x[b : b + 1], carry)
            rows.append(network.remember(params, {name: x[t, b : b + 1] for name, x in observation.items()}, own))
        carry = jax.tree.map(lambda *x: jnp.concatenate(x), *rows)
        outputs.append(network.apply(params, {name: x[t] for name, x in observation.items()}, carry))
        carries.append(carry)
    return jax.tree.map(lambda *x: jnp.stack(x), *outputs), jax.tree.map(lambda *x: jnp.stack(x), *carries)


def along(network: RecurrentNetwork, params, observation, carry, begin):
    carries = network.unroll(params, observation, carry, jnp.asarray(begin))
    return network.apply(params, observation, carries), carries


def some_carry(network: RecurrentNetwork, params):
    """That of rows which have seen something, each something else."""
    return network.remember(params, {name: x[0] for name, x in draw(7).items()}, network.carry(B))


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_sequence_is_its_steps_and_so_is_its_gradient(memory):
    network, observation, begin = parts(memory, encoder_hidden=(5,))["critic"], draw(), begins((0, 1), (2, 0), (3, 0))
    params = network.init(KEY)
    carry = some_carry(network, params)

    def loss(params, carry, way):
        outputs, carries = way(network, params, observation, carry, begin)
        weights = iter(jax.random.split(KEY, 20))
        return sum((x * jax.random.normal(next(weights), x.shape)).sum() for x in jax.tree.leaves((outputs, carries))), (outputs, carries)

    slopes = jax.grad(loss, argnums=(0, 1), has_aux=True)
    (whole, told), (stepped, expected) = (jax.jit(slopes, static_argnums=2)(params, carry, way) for way in (along, by_steps))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), (whole, told), (stepped, expected))
    # A row that begins anew at once owes nothing to what was before; the other does.
    reached = sum(np.abs(x).reshape(B, -1).sum(1) for x in jax.tree.leaves(whole[1]))
    assert reached[1] == 0 and reached[0] > 0


@pytest.mark.parametrize("memory", MEMORIES)
def test_what_follows_an_episodes_end_is_a_fresh_start(memory):
    network, observation = parts(memory)["actor"], draw()
    params, cut = network.init(KEY), 2
    carry = some_carry(network, params)
    outputs, _ = along(network, params, observation, carry, begins(*[(cut, b) for b in range(B)]))
    tail = {name: x[cut:] for name, x in observation.items()}
    fresh, _ = along(network, params, tail, network.carry(B), begins()[cut:])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[cut:], b, atol=1e-7), outputs, fresh)
    through, _ = along(network, params, observation, carry, begins())
    assert jnp.abs(through["mean"] - outputs["mean"])[cut:].max() > 1e-4, "nothing was remembered"
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[:cut], b[:cut], atol=1e-7), outputs, through)


@pytest.mark.parametrize("memory", ["gru", "lstm"])
def test_cells_are_those_of_the_papers(memory):
    network, observation = parts(memory)["actor"], draw()
    params = network.init(KEY)
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params["cell"])
    p = jax.tree.map(lambda x: x + 0.1 * np.arange(x.size).reshape(x.shape), p)  # biases begin at zero
    x = np.concatenate([observation["state/a"], observation["state/b"]], -1)
    carries = network.unroll(params | {"cell": jax.tree.map(jnp.float32, p)}, observation, network.carry(B), jnp.asarray(begins()))
    sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    dense = lambda name, v: v @ p[name]["kernel"] + p[name].get("bias", 0.0)  # noqa: E731
    hidden = cell = np.zeros((B, 3))
    for t in range(T):
        if memory == "gru":
            reset, keep = (sigmoid(dense(f"i{gate}", x[t]) + dense(f"h{gate}", hidden)) for gate in "rz")
            hidden = (1 - keep) * np.tanh(dense("in", x[t]) + reset * dense("hn", hidden)) + keep * hidden
        else:
            gates = {gate: dense(f"i{gate}", x[t]) + dense(f"h{gate}", hidden) for gate in "ifgo"}
            cell = sigmoid(gates["f"]) * cell + sigmoid(gates["i"]) * np.tanh(gates["g"])
            hidden = sigmoid(gates["o"]) * np.tanh(cell)
            np.testing.assert_allclose(carries["cell"][t], cell, atol=1e-5)
        np.testing.assert_allclose(carries["hidden"][t], hidden, atol=1e-5)


def test_a_window_holds_the_last_steps_and_begins_with_copies_of_the_first():
    network, observation = parts("window")["actor"], draw()
    carries = network.unroll(network.init(KEY), observation, network.carry(B), jnp.asarray(begins((3, 1))))
    x = np.concatenate([observation["state/a"], observation["state/b"]], -1)
    one, two = [(0, 0, 0), (0, 0, 1), (0, 1, 2), (1, 2, 3), (2, 3, 4)], [(3, 3, 3), (3, 3, 4)]
    np.testing.assert_array_equal(carries["window"][:, 0], x[np.array(one), 0])
    np.testing.assert_array_equal(carries["window"][:, 1], x[np.array(one[:3] + two), 1])


@pytest.mark.parametrize("memory", MEMORIES)
def test_the_memory_takes_in_no_privileged_group_and_the_critics_head_does(memory):
    observation = draw()
    other = observation | {"privileged/c": observation["privileged/c"] + 1.0}
    for part, sees in (("actor", False), ("critic", True)):
        network = parts(memory)[part]
        params = network.init(KEY)
        (one, carries), (two, others) = (along(network, params, x, network.carry(B), begins()) for x in (observation, other))
        jax.tree.map(np.testing.assert_array_equal, carries, others)
        public = {name: x for name, x in other.items() if name.startswith("state/")}
        jax.tree.map(np.testing.assert_array_equal, carries, network.unroll(params, public, network.carry(B), jnp.asarray(begins())))
        assert jax.tree.all(jax.tree.map(lambda a, b: bool((a != b).any()), one, two)) == sees


def test_groups_that_are_not_remembered_are_seen_as_they_are_now():
    network = parts("gru", remembered=("state/a",))["actor"]
    observation, params = draw(), network.init(KEY)
    other = observation | {"state/b": observation["state/b"].at[1].add(1.0)}
    one, two = (along(network, params, x, network.carry(B), begins())[0]["mean"] for x in (observation, other))
    assert ((one != two).any((1, 2)) == (jnp.arange(T) == 1)).all()


def test_a_critic_without_memory_is_that_of_the_plain_network():
    networks = recurrent_actor_critic(Config(critic_memory=False, **SMALL), SPEC)
    critic = with_memory(networks).critic
    assert critic.carry(B) == () and with_memory(networks).actor.carry(B) != ()
    observation, params = draw(), networks.critic.init(KEY)
    np.testing.assert_array_equal(along(critic, params, observation, (), begins((1, 1)))[0], networks.critic.apply(params, observation))
    assert networks.critic.apply(params, observation).shape == (T, B)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"memory_size": 0}, "memory_size is 0, but must be at least 1"),
        ({"initial_std": 0.0}, "initial_std is 0.0, but must be above minimum_std, 0.001"),
        ({"remembered": ("state/aa",)}, "cannot remember state/aa, which is no state group; did you mean state/a?"),
        ({"remembered": ("privileged/c",)}, "cannot remember privileged/c, which is no state group"),
        ({"activation": "sine"}, "activation 'sine' is unknown"),
    ],
)
def test_impossible_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        recurrent_actor_critic(Config(**fields), SPEC)


def test_actions_that_are_no_vectors_are_refused():
    with pytest.raises(ValueError, match=r"recurrent_actor_critic needs continuous actions, .* are of the shape \(2, 2\)"):
        recurrent_actor_critic(Config(), SPEC._replace(action=ArraySpec((2, 2))))
