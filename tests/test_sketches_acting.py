"""Methods that do not exist yet, in small, through the contracts as they are: each must train in the same scanned body as the real ones.

A contract that only the first two algorithms satisfy is not enough. The real methods replace these as they come. Here: methods that act.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl.algorithms import supervised
from jaxrl.curricula.static import fixed
from jaxrl.objectives import bc
from jaxrl.ops.specs import check_spec
from jaxrl.rollout.rollout import Config as Rollout
from jaxrl.rollout.rollout import rollout
from jaxrl.types import Algorithm, ArraySpec, EnvSpec, Network, Policy, PolicySpec, PyTree, Source, TrainState, Transition
from tests.sketching import ADAM, CHUNK, ENV, KEY, NORMALISER, SPEC, demonstrations, linear, stateful, train

# Prioritised replay (Schaul et al. 2016, https://arxiv.org/abs/1511.05952): the loss of a row comes back as its priority.


class ReplayState(NamedTuple):
    rows: PyTree
    priority: jax.Array  # [N]


def prioritised(size: int = 16, batch_size: int = 4) -> Source:
    def init(key, behaviour):
        which = jax.random.randint(key, (size,), 0, 2)
        return ReplayState({"state": jax.nn.one_hot(which, 2), "reward": 1.0 * which}, jnp.ones(size))

    def following(state, behaviour, key):
        index = jax.random.categorical(key, jnp.log(state.priority), shape=(batch_size,))
        weight = 1.0 / (size * (state.priority / state.priority.sum())[index])
        return state, jax.tree.map(lambda x: x[index], state.rows) | {"index": index, "weight": weight}

    def observe_feedback(state, feedback):
        return state._replace(priority=state.priority.at[feedback["index"]].set(feedback["priority"]))

    spec = {"state": ArraySpec(("batch", 2)), "reward": ArraySpec(("batch",)), "weight": ArraySpec(("batch",))}
    return Source(spec | {"index": ArraySpec(("batch",), "int32")}, init, following, observe_feedback)


def test_prioritised_replay():
    tx, network = optax.sgd(0.1), linear(())

    def init(key, pretrained=None):
        params = network.init(key)
        return TrainState(jnp.zeros((), jnp.int32), params, {}, {}, tx.init(params), ())

    def update(state, batch, key):
        def loss(params):
            error = network.apply(params, batch["state"]) - batch["reward"]
            return (batch["weight"] * jnp.square(error)).mean(), jnp.abs(error)

        (value, error), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, opt_state = tx.update(gradient, state.opt_state)
        state = state._replace(step=state.step + 1, params=optax.apply_updates(state.params, updates), opt_state=opt_state)
        return state, {"loss": value}, {"index": batch["index"], "priority": error + 1e-3}

    policy = Policy(SPEC, lambda size: (), lambda params, observation, carry, key, context=None: (jnp.zeros((len(key), 4, 1)), carry, {}))
    source = prioritised()
    algorithm = Algorithm(init, update, policy, policy, lambda state: state.params, lambda state: state.params, source.spec)
    before, after, _ = train(algorithm, source, 1)
    changed = np.asarray(before.source_state.priority != after.source_state.priority)
    assert 1 <= changed.sum() <= 4  # the rows of one batch
    error = jnp.abs(network.apply(before.train_state.params, before.source_state.rows["state"]) - before.source_state.rows["reward"])
    np.testing.assert_allclose(after.source_state.priority[changed], error[changed] + 1e-3, rtol=1e-5)


# A recurrent world model (Hafner et al. 2023, https://arxiv.org/abs/2301.04104): memory in the carry, sequences in the batch.


class WorldModel(NamedTuple):
    init: Any
    observe: Any  # (params, memory, observation, action) -> memory
    imagine: Any  # (params, memory, action) -> memory
    decode: Any  # (params, memory) -> state, reward


def world_model(size: int = 6) -> WorldModel:
    def init(key):
        names = {"memory": (size, size), "observation": (2, size), "action": (1, size), "state": (size, 2), "reward": (size, 1)}
        keys = jax.random.split(key, len(names))
        return {name: 0.5 * jax.random.normal(k, shape) for (name, shape), k in zip(names.items(), keys, strict=True)}

    def imagine(params, memory_, action):
        return jnp.tanh(memory_ @ params["memory"] + action @ params["action"])

    def correct(params, memory_, observation, action):
        return jnp.tanh(imagine(params, memory_, action) + observation["state/which"] @ params["observation"])

    def decode(params, memory_):
        return memory_ @ params["state"], (memory_ @ params["reward"])[..., 0]

    return WorldModel(init, correct, imagine, decode)


def dreamer(spec: EnvSpec, size: int = 6) -> Algorithm:
    model, tx = world_model(size), optax.adam(1e-2)
    kept = {"memory": ArraySpec((size,)), "last": ArraySpec((1,))}

    def init(key, pretrained=None):
        params = {"model": model.init(key), "actor": jnp.zeros((size, 1))}
        return TrainState(jnp.zeros((), jnp.int32), params, {}, {}, tx.init(params), ())

    def loss(params, batch: Transition):
        ended = (batch.discount == 0) | (batch.truncation > 0)
        begins = jnp.concatenate([jnp.zeros_like(ended[:1]), ended[:-1]])[..., None]

        def step(carry, now):
            observation, action, start = now
            memory_, last = (jnp.where(start, 0, x) for x in carry)  # the collector began anew here, too
            memory_ = model.observe(params["model"], memory_, observation, last)
            return (memory_, action), memory_

        first = batch.extras["memory"][0], batch.extras["last"][0]  # as it was when the actions were chosen
        _, memories = jax.lax.scan(step, first, (batch.observation, batch.action, begins))
        imagined = model.imagine(params["model"], memories, batch.action)
        state, reward = model.decode(params["model"], imagined)
        reconstruction = jnp.square(state - batch.next_observation["state/which"]).mean() + jnp.square(reward - batch.reward).mean()
        fixed, dreamt = jax.lax.stop_gradient((params["model"], memories))
        _, hoped = model.decode(fixed, model.imagine(fixed, dreamt, jnp.tanh(dreamt @ params["actor"])))
        return reconstruction - hoped.mean(), memories

    def update(state, batch, key):
        (value, memories), gradient = jax.value_and_grad(loss, has_aux=True)(state.params, batch)
        updates, opt_state = tx.update(gradient, state.opt_state)
        state = state._replace(step=state.step + 1, params=optax.apply_updates(state.params, updates), opt_state=opt_state)
        return state, {"loss": value}, memories

    def act(params, observation, carry, key, context=None):
        memory_ = model.observe(params["model"], *carry[:1], observation, carry[1])
        noise = 0.1 * jax.vmap(jax.random.normal, (0, None))(key, (1,))
        action = jnp.tanh(memory_ @ params["actor"]) + noise
        return action[:, None], (memory_, action), {"memory": carry[0], "last": carry[1]}

    policy_spec = PolicySpec({"state/which": spec.observation["state/which"]}, spec.action, extras=kept)
    policy = Policy(policy_spec, lambda batch_size: (jnp.zeros((batch_size, size)), jnp.zeros((batch_size, 1))), act)
    needed = {f"extras/{name}": ArraySpec(("time", "world", *part.shape)) for name, part in kept.items()}
    return Algorithm(init, update, policy, policy, lambda state: state.params, lambda state: state.params, needed)


def test_recurrent_world_model():
    algorithm = dreamer(ENV.spec)
    source = rollout(Rollout(num_worlds=4, unroll_length=6, pool_size=4, stagger=False), ENV, fixed(ENV.sample), algorithm.explore)
    before, after, _ = train(algorithm, source)
    assert (after.train_state.params["actor"] != before.train_state.params["actor"]).any()
    behaviour = algorithm.behaviour(after.train_state)
    collect = jax.jit(source.next)
    source_state, batch = collect(after.source_state, behaviour, KEY)
    _, _, memories = jax.jit(algorithm.update)(after.train_state, batch, KEY)
    _, following = collect(source_state, behaviour, KEY)
    ended = (batch.truncation > 0)[..., None]
    collected = jnp.concatenate([batch.extras["memory"][1:], following.extras["memory"][:1]])
    # What the update computes over the sequence is what the policy remembered while it acted; after an episode's end it forgot.
    np.testing.assert_allclose(jnp.where(ended, 0, memories), collected, atol=1e-5)
    assert ended.any() and (memories != 0).all()


# Mixed sources: what is collected beside what is stored, under their names.


def mixture(sources: Mapping[str, Source]) -> Source:
    def init(key, behaviour):
        keys = jax.random.split(key, len(sources))
        return {name: source.init(k, behaviour) for (name, source), k in zip(sources.items(), keys, strict=True)}

    def following(state, behaviour, key):
        keys = jax.random.split(key, len(sources))
        drawn = {name: source.next(state[name], behaviour, k) for (name, source), k in zip(sources.items(), keys, strict=True)}
        return {name: pair[0] for name, pair in drawn.items()}, {name: pair[1] for name, pair in drawn.items()}

    return Source(
        spec={f"{name}/{path}": part for name, source in sources.items() for path, part in source.spec.items()},
        init=init,
        next=following,
        observe=lambda state, feedback: {name: source.observe(state[name], feedback) for name, source in sources.items()},
        pure=all(source.pure for source in sources.values()),
        steps_per_batch=sum(source.steps_per_batch for source in sources.values()),
        metrics=lambda state: {f"{name}/{m}": v for name, source in sources.items() for m, v in source.metrics(state[name]).items()},
    )


def test_mixed_sources():
    network = Network(linear(CHUNK).init, lambda p, x, key=None, train=False: jnp.tensordot(x["state/which"], p, 1))
    table = {name: bc.bc(bc.Config(loss), SPEC, stateful(network)) for name, loss in {"lab": "mse", "field": "l1"}.items()}
    config = supervised.Config(ADAM, named_sources=True, policy="field")
    algorithm = supervised.supervised(config, table, {"lab": 1.0, "field": 0.5}, NORMALISER)
    acting = rollout(Rollout(num_worlds=3, unroll_length=2, pool_size=2), ENV, fixed(ENV.sample), algorithm.explore)
    source = mixture({"lab": demonstrations(), "field": demonstrations(), "own": acting})
    _, after, metrics = train(algorithm, source)
    assert list(after.train_state.params) == ["bc"]  # one policy, taught by both
    assert source.steps_per_batch == 6 and after.source_state["lab"].batches == 3
    assert {"loss/lab", "loss/field", "lab/data/epochs", "own/episode/return"} <= metrics.keys()
    with pytest.raises(ValueError, match="lab/action: missing"):
        check_spec(algorithm.batch_spec, mixture({"field": demonstrations()}).spec, "supervised", "mixture")
