"""What every algorithm, objective, network, policy, source and environment must keep to.

Each is found by the type that its factory returns, and made from small arguments that are chosen by the types of the factory's
parameters (SUPPLIES). A new one is therefore tested without a line here, unless it takes something new: then the failing test says
what to add.
"""

import functools
import inspect
import re
import typing
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import config as configs
from jaxrl.networks.actor_critic import ActorCritic
from jaxrl.networks.interface import ActingModel, Autoencoder, Denoiser, Energy, TokenDecoder
from jaxrl.ops.paths import flatten_names
from jaxrl.ops.specs import check_spec
from jaxrl.types import (
    Algorithm,
    ArraySpec,
    Curriculum,
    Env,
    HostEnv,
    Key,
    Network,
    Objective,
    Params,
    Policy,
    PyTree,
    RecurrentNetwork,
    Source,
    StatefulNetwork,
)
from tests.conformance import (
    KEY,
    OFF_POLICY,
    SPEC,
    SUPPLIES,
    assert_equal,
    build,
    cases,
    draw,
    factories,
    make,
    modules,
    remembering,
    rows,
    shapes,
    spec_of,
    supplies,
)

# What the modules of a package make, one each. The packages of sources hold other modules too.
PACKAGES: dict[str, tuple[type, ...]] = {
    "jaxrl.algorithms": (Algorithm,),
    "jaxrl.bonuses": (Algorithm,),
    "jaxrl.objectives": (Objective,),
    "jaxrl.networks": (Network, StatefulNetwork, ActorCritic, Autoencoder, Denoiser, Energy, TokenDecoder, *OFF_POLICY),
    "jaxrl.networks.vla": (ActingModel, Denoiser, TokenDecoder),
    "jaxrl.policies": (Policy,),
    "jaxrl.curricula": (Curriculum,),
    "jaxrl_envs.tasks": (Env, HostEnv),
    "jaxrl_envs.adapters": (Env, HostEnv),
    "jaxrl_envs.wrappers": (Env,),
    "jaxrl_envs.scripted": (Policy,),
}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_is_found(package):
    found = {path for returned in PACKAGES[package] for path in factories(returned)}
    for path, module in modules().items():
        parent, _, name = path.rpartition(".")
        is_package = hasattr(module, "__path__")  # of parts, such as jaxrl.networks.vision
        if parent == package and not name.startswith("_") and name != "interface" and not is_package:  # interfaces hold contracts
            wanted = " or ".join(returned.__name__ for returned in PACKAGES[package])
            assert f"{path}.{name}" in found, f"{path} has no factory `{name}(...) -> {wanted}`; write one, or begin the file's name with _"


@pytest.mark.parametrize("kind", configs.PACKAGES)
def test_a_config_can_name_what_is_available(kind):
    names = configs.available(kind)
    package = configs.PACKAGES[kind]
    assert names or not any(path.startswith(f"{package}.") for path in modules())
    for name in names:
        try:
            _, factory = configs.resolve(name, kind)
        except ImportError as error:  # other people's packages need not be there
            assert "pip install" in str(error) and kind == "adapter"
            continue
        assert factory in {f for returned in (*PACKAGES.get(package, ()), Source) for f in factories(returned).values()}


def test_spec_of_arrays_and_of_shapes():
    tree = {"observation": {"state/joint": jnp.zeros((4, 2, 3))}, "action": jnp.zeros((4, 2, 5), jnp.int32)}
    expected = {"observation/state/joint": ArraySpec(("time", "world", 3)), "action": ArraySpec(("time", "world", 5), "int32")}
    assert spec_of(tree, ("time", "world")) == expected
    assert spec_of(jax.eval_shape(lambda: tree), ("time", "world")) == expected


# Networks


def network_parts(network: Any) -> dict[str, Network]:
    """The parts that can be called; what has a memory begins with an empty one."""
    own = {"": network} if isinstance(network, Network) else network._asdict()
    parts = {n: first_step(p) if isinstance(p, RecurrentNetwork) else p for n, p in own.items()}
    parts = {n: p for n, p in parts.items() if isinstance(p, Network)}
    assert parts, f"{type(network).__name__} has no part of type Network: say here how to call it"
    return parts


def first_step(network: RecurrentNetwork) -> Network:
    def apply(params: Params, x: Any, key: Any = None, train: bool = False) -> Any:
        axes = jax.tree.leaves(x)[0].shape[:-1]
        carry = jax.tree.map(
            lambda leaf: jnp.broadcast_to(jnp.expand_dims(leaf[0], range(len(axes))), (*axes, *leaf.shape[1:])), network.carry(1)
        )
        return network.apply(params, x, network.remember(params, x, carry))

    return Network(network.init, apply)


NETWORKS = [case for returned in (Network, ActorCritic) for case in cases(returned)]


@pytest.mark.parametrize(("path", "factory"), NETWORKS)
def test_network(path, factory):
    takes_arrays = "input_size" in inspect.signature(factory).parameters
    x = draw({"x": ArraySpec((SUPPLIES["input_size"](),))}, 3)["x"] if takes_arrays else draw(SPEC.observation, 3)
    for part in network_parts(build(path, factory)).values():
        init, apply = jax.jit(part.init), jax.jit(part.apply)
        params = init(KEY)
        assert_equal(params, init(KEY))
        assert not [name for name, shape in flatten_names(shapes(params)).items() if shape.startswith("weak")]
        for name in flatten_names(params):
            assert not re.search(r"(^|/)[A-Z]\w*_\d+(/|$)", name), f"{path}: the parameter {name} has a name that flax chose; give one"
        output = apply(params, x)
        train = functools.partial(part.apply, train=True)
        assert jax.tree.structure(output) == jax.tree.structure(jax.eval_shape(train, params, x, jax.random.key(1)))
        assert all(leaf.shape[0] == 3 and leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(output))
        time_major = apply(params, jax.tree.map(lambda a: jnp.stack([a, a]), x))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, atol=1e-5), time_major, output)
        single = apply(params, rows(x, slice(1, 2)))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b[1], atol=1e-5), single, output)


@pytest.mark.parametrize(("path", "factory"), cases(StatefulNetwork))
def test_stateful_network(path, factory):
    """One that an objective learns with, from observations to any shape."""
    network, x = build(path, factory), draw(SPEC.observation, 3)
    init, apply = jax.jit(network.init), jax.jit(network.apply)
    params, statistics = init(KEY)
    assert_equal((params, statistics), init(KEY))
    assert not [name for name, shape in flatten_names(shapes((params, statistics))).items() if shape.startswith("weak")]
    for name in flatten_names(params):
        assert not re.search(r"(^|/)[A-Z]\w*_\d+(/|$)", name), f"{path}: the parameter {name} has a name that flax chose; give one"
    output, same = apply(params, statistics, x)
    assert output.shape == (3, *SUPPLIES["output_shape"]()) and output.dtype == jnp.float32
    assert_equal(same, statistics)
    alone, _ = apply(params, statistics, rows(x, slice(1, 2)))
    np.testing.assert_allclose(alone[0], output[1], atol=1e-5)
    _, after = jax.eval_shape(functools.partial(network.apply, train=True), params, statistics, x, jax.random.key(1))
    assert shapes(after) == shapes(statistics)


RECURRENT = [
    pytest.param(path, part, id=f"{path} {name}")
    for path, factory in factories(ActorCritic).items()
    for name, part in build(path, factory)._asdict().items()
    if isinstance(part, RecurrentNetwork)
]


@pytest.mark.parametrize(("path", "network"), RECURRENT)
def test_recurrent_network(path, network):
    params, x = network.init(KEY), draw(SPEC.observation, 3)
    carry = network.carry(3)
    assert isinstance(carry, dict), f"{path}: a carry is a dict, so that its arrays have names"
    later = network.remember(params, x, carry)
    assert shapes(later) == shapes(carry), f"{path}: the carry must keep its structure"
    assert_equal(rows(later, slice(1)), rows(network.remember(params, jax.tree.map(lambda a: a.at[1:].set(0.0), x), carry), slice(1)))
    begins = jnp.zeros((2, 3), bool).at[1].set(True)
    carries = network.unroll(params, jax.tree.map(lambda a: jnp.stack([a, a]), x), later, begins)
    assert jax.tree.structure(carries) == jax.tree.structure(carry)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, atol=1e-5), carries, later)  # what began anew saw x once
    assert any((a[0] != b).any() for a, b in zip(jax.tree.leaves(carries), jax.tree.leaves(later), strict=True))


# Objectives


@functools.cache
def stored_batch() -> dict[str, Any]:
    source = build("jaxrl.replay.memory.memory", factories(Source)["jaxrl.replay.memory.memory"])
    batch = source.next(source.init(KEY, ()), (), KEY)[1]
    answer = jax.random.randint(KEY, (16, 4), -1, 8)
    return batch | {"text": {"answer": answer}}


@pytest.mark.parametrize(("path", "factory"), cases(Objective))
def test_objective(path, factory):
    objective = build(path, factory)
    init = jax.jit(objective.init)
    params, statistics = init(KEY)
    assert_equal((params, statistics), init(KEY))
    batch = stored_batch()
    check_spec(objective.batch_spec, spec_of(batch), path, "the stored batch")
    elements, mask, after, metrics = jax.jit(objective.loss)(params, statistics, batch, KEY)
    assert elements.shape == mask.shape and elements.shape[0] == 16 and jnp.isfinite(elements).all()
    assert shapes(after) == shapes(statistics) and all(value.shape == () for value in metrics.values())
    if objective.sample is None:  # it only teaches
        return
    observation, keys = rows(batch["observation"], slice(3)), jax.random.split(KEY, 3)
    sample = jax.jit(objective.sample)
    sampled = sample(params, statistics, observation, keys)
    chunk, extras = sampled if objective.spec.extras else (sampled, {})
    assert chunk.shape == (3, objective.spec.horizon, *objective.spec.action.shape) and jnp.isfinite(chunk).all()
    assert spec_of(extras, ("row",)) == {name: ArraySpec(("row", *s.shape), s.dtype) for name, s in objective.spec.extras.items()}
    others = jax.tree.map(lambda x: x.at[1:].add(1.0), observation)
    other_keys = jnp.concatenate([keys[:1], jax.random.split(jax.random.key(6), 2)])
    assert_equal(rows(sampled, slice(1)), rows(sample(params, statistics, others, other_keys), slice(1)))


@pytest.mark.parametrize(("path", "factory"), cases(Objective))
def test_padding_counts_neither_in_the_loss_nor_in_the_gradient(path, factory):
    objective = build(path, factory)
    params, statistics = jax.jit(objective.init)(KEY)
    batch = stored_batch()
    padded = batch["mask"] == 0
    assert padded.any() and not padded.all()

    @jax.jit
    @jax.value_and_grad
    def mean(params, action):
        elements, mask, _, _ = objective.loss(params, statistics, batch | {"action": action}, KEY)
        return jnp.where(mask > 0, elements * mask, 0).sum() / mask.sum()

    for garbage in (1e20, jnp.nan):
        assert_equal(mean(params, batch["action"]), mean(params, jnp.where(padded, garbage, batch["action"])))


# Sources


@pytest.mark.parametrize(("path", "factory"), cases(Source))
def test_source(path, factory):
    source = build(path, factory)
    step = jax.jit(source.next) if source.pure else source.next
    first = source.init(KEY, ())
    second, batch = step(first, (), jax.random.key(1))
    check_spec(source.spec, spec_of(batch), "the spec", "the batch")
    assert set(source.spec) == set(flatten_names(batch))
    assert shapes(first) == shapes(second), "a source state must keep its structure, or it cannot be scanned"
    if source.steps_per_batch and not source.pure:  # worlds on the host cannot go back: they begin anew
        again = make(path, factory, supplies(path))
        assert_equal(again.next(again.init(KEY, ()), (), jax.random.key(1)), (second, batch))
        again.close()
    else:
        assert_equal(step(first, (), jax.random.key(1)), (second, batch))
        restored = jax.tree.map(jnp.asarray, jax.tree.map(np.asarray, second))
        assert_equal(step(restored, (), jax.random.key(2)), step(second, (), jax.random.key(2)))
    assert shapes(source.observe(second, ())) == shapes(second)
    assert all(jnp.shape(value) == () for value in source.metrics(second).values())
    if source.pure:
        keys = jnp.stack([jax.random.key(1), jax.random.key(2)])
        last, batches = jax.jit(lambda s: jax.lax.scan(lambda s, k: source.next(s, (), k), s, keys))(first)
        assert shapes(last) == shapes(first)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, atol=1e-6), batches, batch)
        several = jax.eval_shape(jax.vmap(lambda k: source.next(source.init(k, ()), (), k)[1]), keys)
        assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(several))
    source.close()


# Policies


def assert_policy(path: str, policy: Policy, params: Params) -> None:
    spec = policy.spec
    teaches = path.startswith("jaxrl_envs.scripted")  # and is on no robot
    assert teaches or not any(name.startswith("privileged/") for name in spec.observation), f"{path}: a policy must not see privileged ones"
    assert 1 <= spec.executed_steps <= spec.horizon
    act = jax.jit(policy.act)
    observation, keys = draw(spec.observation, 3), jax.random.split(KEY, 3)
    carry = policy.init(3)
    chunk, after, extras = act(params, observation, carry, keys)
    assert chunk.shape == (3, spec.horizon, *spec.action.shape) and str(chunk.dtype) == spec.action.dtype and jnp.isfinite(chunk).all()
    assert shapes(after) == shapes(carry), f"{path}: the carry must keep its structure"
    assert spec_of(extras, ("row",)) == {name: ArraySpec(("row", *s.shape), s.dtype) for name, s in spec.extras.items()}
    assert_equal((chunk, after, extras), act(params, observation, carry, keys))
    assert shapes(policy.remember(observation, after)) == shapes(carry), f"{path}: the carry must keep its structure"
    others = jax.tree.map(lambda a, b: jnp.concatenate([a[:1], b[1:]]), observation, draw(spec.observation, 3, jax.random.key(5)))
    other_keys = jnp.concatenate([keys[:1], jax.random.split(jax.random.key(6), 2)])
    assert_equal(rows((chunk, after, extras), slice(1)), rows(act(params, others, carry, other_keys), slice(1)))
    alone = act(params, rows(observation, slice(1)), policy.init(1), keys[:1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[:1], atol=1e-5), alone, (chunk, after, extras))


@pytest.mark.parametrize(("path", "factory"), cases(Policy))
def test_policy(path, factory):
    assert_policy(path, build(path, factory), ())


# Algorithms


def with_memory(factory: Callable[..., Algorithm]) -> Callable[..., Algorithm]:
    """The factory, whatever networks it is given, with those that have a memory."""

    @functools.wraps(factory)
    def make_recurrent(**arguments: Any) -> Algorithm:
        return factory(**arguments | {name: remembering() for name, value in arguments.items() if isinstance(value, ActorCritic)})

    return make_recurrent


ALGORITHMS = cases(Algorithm) + [
    pytest.param(path, with_memory(factory), id=f"{path} with a memory")
    for path, factory in factories(Algorithm).items()
    if ActorCritic in typing.get_type_hints(factory).values()
]


@functools.cache
def fed(path: str, factory: Callable[..., Algorithm]) -> tuple[Algorithm, PyTree, PyTree]:
    """The algorithm as it begins, and a batch from a source that offers what it needs."""
    algorithm = build(path, factory)
    state = jax.jit(algorithm.init)(KEY)
    for name, source_factory in factories(Source).items():
        try:  # a source too may refuse what it is made of
            source = make(name, source_factory, supplies(path) | {Policy: lambda: algorithm.explore})
            check_spec(algorithm.batch_spec, source.spec, path, name)
        except ValueError:
            continue
        if not source.pure:
            continue
        behaviour = algorithm.behaviour(state)
        return algorithm, state, jax.jit(source.next)(source.init(KEY, behaviour), behaviour, KEY)[1]
    pytest.fail(f"no source offers what {path} needs: {dict(algorithm.batch_spec)}; make one buildable from SUPPLIES in {__file__}")


@pytest.mark.parametrize(("path", "factory"), ALGORITHMS)
def test_update_keeps_the_state_and_depends_on_its_arguments_alone(path, factory):
    algorithm, state, batch = fed(path, factory)
    assert_equal(state, jax.jit(algorithm.init)(KEY))
    update = jax.jit(algorithm.update)
    after, metrics, feedback = update(state, batch, jax.random.key(1))
    before, now = flatten_names(shapes(state)), flatten_names(shapes(after))
    assert before == now, {name: (before.get(name), now.get(name)) for name in before | now if before.get(name) != now.get(name)}
    assert_equal((after, metrics, feedback), update(state, batch, jax.random.key(1)))
    assert after.step == 1 and after.step.dtype == jnp.int32
    assert all(value.shape == () and jnp.isfinite(value) for value in metrics.values())
    assert_equal(after.frozen, state.frozen)
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(after.params), strict=True))


@pytest.mark.parametrize(("path", "factory"), ALGORITHMS)
def test_pretrained_parameters_are_laid_over_fresh_ones_if_they_fit(path, factory):
    algorithm, state, _ = fed(path, factory)
    name, part = next(iter(state.params.items()))
    given = {name: jax.tree.map(lambda x: x + 1.0, part)}
    begun = jax.jit(algorithm.init)(KEY, given)
    assert_equal(begun.params, state.params | given)
    assert shapes(begun) == shapes(state)
    for wrong in ({f"no_{name}": part}, {name: jax.tree.map(lambda x: jnp.stack([x, x]), part)}):
        with pytest.raises(ValueError, match="^pretrained .* has the shape .*, but this model has "):
            jax.eval_shape(algorithm.init, KEY, wrong)


@pytest.mark.parametrize(("path", "factory"), ALGORITHMS)
def test_update_may_be_scanned_and_mapped_over_seeds(path, factory):
    algorithm, _, batch = fed(path, factory)

    def train(key: Key) -> PyTree:
        keys = jax.random.split(key, 2)
        return jax.lax.scan(lambda state, key: algorithm.update(state, batch, key)[:2], algorithm.init(key), keys)

    seeds = jax.random.split(KEY, 2)
    many, metrics = jax.jit(jax.vmap(train))(seeds)
    assert (many.step == 2).all() and all(value.shape == (2, 2) for value in metrics.values())
    assert any((leaf[0] != leaf[1]).any() for leaf in jax.tree.leaves(many.params))
    one, _ = jax.jit(train)(seeds[1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-3, atol=1e-3), many.params, one.params)


@pytest.mark.parametrize(("path", "factory"), ALGORITHMS)
def test_algorithm_acts(path, factory):
    algorithm, state, _ = fed(path, factory)
    assert_policy(f"{path}: explore", algorithm.explore, algorithm.behaviour(state))
    assert_policy(f"{path}: policy", algorithm.policy, algorithm.deployable(state))


@pytest.mark.parametrize(("path", "factory"), ALGORITHMS)
def test_deployable_holds_nothing_of_the_optimizer(path, factory):
    algorithm, state, _ = fed(path, factory)
    other = state._replace(step=state.step + 7, opt_state=jax.tree.map(lambda x: x + jnp.ones_like(x), state.opt_state))
    assert_equal(algorithm.deployable(state), algorithm.deployable(other))
    size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))  # noqa: E731
    assert size(algorithm.deployable(state)) <= size((state.params, state.frozen, state.statistics))


@pytest.mark.parametrize(("path", "factory"), ALGORITHMS)
def test_source_that_lacks_something_is_refused(path, factory):
    algorithm, _, batch = fed(path, factory)
    assert algorithm.batch_spec
    offered = spec_of(batch)
    for name in algorithm.batch_spec:
        with pytest.raises(ValueError, match=f"{re.escape(name)}: missing"):
            check_spec(algorithm.batch_spec, {n: s for n, s in offered.items() if n != name}, path, "the batch")


def test_something_of_each_kind_was_found():
    for returned in (
        Algorithm,
        Objective,
        Network,
        StatefulNetwork,
        ActorCritic,
        Autoencoder,
        Denoiser,
        Energy,
        TokenDecoder,
        *OFF_POLICY,
        Policy,
        Source,
        Env,
    ):
        assert factories(returned), f"no factory that returns {returned.__name__} was found"
