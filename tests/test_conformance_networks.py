"""What the networks of off-policy methods and of objectives must keep to; they are found as those of `test_conformance` are."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks.actor_q import ActorQ
from jaxrl.networks.interface import ActingModel, Autoencoder, Denoiser, Energy, TokenDecoder
from jaxrl.networks.pixel_actor_q import PixelActorQ
from jaxrl.networks.q_network import QNetwork
from jaxrl.ops.paths import flatten_names
from jaxrl.types import PyTree, Spec, StatefulNetwork
from tests.conformance import (
    CHOOSING,
    ENV,
    KEY,
    OFF_POLICY,
    SEEING,
    SPEC,
    SUPPLIES,
    assert_equal,
    build,
    cases,
    draw,
    rows,
    shapes,
    supplies,
)


def stateful_parts(networks: Any) -> dict[str, tuple[StatefulNetwork, PyTree, int]]:
    """Each part with a batch of 3 of what it takes, and the axis of its output that is the batch."""
    env = {ActorQ: ENV, PixelActorQ: SEEING, QNetwork: CHOOSING}[type(networks)].spec
    seen, parts = draw(env.observation, 3), {}
    if isinstance(networks, PixelActorQ):
        parts["encoder"] = (networks.encoder, seen, 0)
        seen = networks.encoder.apply(*networks.encoder.init(KEY), seen)[0]
    public = {name: x for name, x in seen.items() if not name.startswith("privileged/")}
    if isinstance(networks, QNetwork):
        return {"critic": (networks.critic, public, 1)}
    action = draw({"action": env.action}, 3)["action"]
    return parts | {"actor": (networks.actor, public, 0), "critic": (networks.critic, (seen, action), 1)}


def begun(path: str, network: Any) -> tuple[PyTree, PyTree]:
    """Parameters and statistics, which follow from the key alone and have types and names of their own."""
    init = jax.jit(network.init)
    params, statistics = init(KEY)
    assert_equal((params, statistics), init(KEY))
    assert not [name for name, shape in flatten_names(shapes((params, statistics))).items() if shape.startswith("weak")]
    for name in flatten_names(params):
        assert not re.search(r"(^|/)[A-Z]\w*_\d+(/|$)", name), f"{path}: the parameter {name} has a name that flax chose; give one"
    return params, statistics


@pytest.mark.parametrize(("path", "factory"), [case for returned in OFF_POLICY for case in cases(returned)])
def test_off_policy_networks(path, factory):
    networks = build(path, factory)
    for part, x, axis in stateful_parts(networks).values():
        params, statistics = begun(path, part)
        output, same = part.apply(params, statistics, x)
        assert_equal(same, statistics)
        pairs = lambda f, a, b, axis=axis: jax.tree.map(lambda a, b: np.testing.assert_allclose(*f(a, b, axis), atol=1e-5), a, b)  # noqa: E731
        single, _ = part.apply(params, statistics, rows(x, slice(1, 2)))
        pairs(lambda a, b, axis: (jnp.take(a, 0, axis), jnp.take(b, 1, axis)), single, output)
        time_major, _ = part.apply(params, statistics, jax.tree.map(lambda a: jnp.stack([a, a]), x))
        pairs(lambda a, b, axis: (jnp.take(a, 1, axis), b), time_major, output)
        _, after = part.apply(params, statistics, x, jax.random.key(1), train=True)
        assert shapes(after) == shapes(statistics)
        assert shapes(part.project(params)) == shapes(params)
    critic, x, _ = stateful_parts(networks)["critic"]
    output, _ = critic.apply(*critic.init(KEY), x)
    assert output.shape[1] == 3 and output.shape[-1] == networks.returns.size
    assert all((output[0] != other).any() for other in output[1:]), "the critics are all the same"
    value = networks.returns.mean(output)
    target = networks.returns.backup(output, value, jnp.zeros_like(value))
    assert target.shape == output.shape and networks.returns.loss(output, target).shape == value.shape == output.shape[:-1]


def disturbed(params: PyTree) -> PyTree:
    """Parameters none of which is 0, so that nothing is hidden from what follows it."""
    keys = iter(jax.random.split(KEY, len(jax.tree.leaves(params))))
    return jax.tree.map(lambda x: x + 0.3 * jax.random.normal(next(keys), x.shape), params)


def moved(tree: PyTree) -> PyTree:
    """Other rows but for the first."""
    return jax.tree.map(lambda x: x.at[1:].add(jnp.ones((), x.dtype)), tree)


@pytest.mark.parametrize(("path", "factory"), cases(Denoiser) + cases(ActingModel))
def test_denoisers(path, factory):
    network = build(path, factory)
    params, statistics = begun(path, network)
    params, shape = disturbed(params), SUPPLIES["output_shape"]()
    seen, noisy, time = draw(supplies(path)[Spec](), 3), jax.random.normal(KEY, (3, *shape)), jnp.array([0.0, 0.5, 1.0])

    @jax.jit
    def run(seen, noisy, time):
        condition, same = network.encode(params, statistics, seen)
        assert shapes(same) == shapes(statistics)
        return network.denoise(params, noisy, time, condition)

    output = run(seen, noisy, time)
    assert output.shape == (3, *shape) and output.dtype == jnp.float32 and jnp.isfinite(output).all()
    others = moved((seen, noisy, time))
    assert_equal(output[0], run(*others)[0])
    np.testing.assert_allclose(run(*rows((seen, noisy, time), slice(1, 2)))[0], output[1], atol=1e-5)
    for changed in (others[0], noisy, time), (seen, others[1], time), (seen, noisy, others[2]):
        assert (run(*changed)[1:] != output[1:]).any((1, 2)).all(), f"{path}: the output must depend on observation, noisy chunk and time"
    condition, after = network.encode(params, statistics, seen, jax.random.key(1), train=True)
    assert shapes(after) == shapes(statistics)
    assert network.denoise(params, noisy, time, condition, jax.random.key(2), train=True).shape == output.shape


@pytest.mark.parametrize(("path", "factory"), cases(Autoencoder))
def test_autoencoders(path, factory):
    network = build(path, factory)
    params, statistics = begun(path, network)
    params, shape = disturbed(params), SUPPLIES["output_shape"]()
    seen, chunk, latent = draw(SPEC.observation, 3), jax.random.normal(KEY, (3, *shape)), jax.random.normal(KEY, (3, network.latent_size))
    mask = jnp.ones((3, shape[0])).at[1, -1].set(0.0)

    @jax.jit
    def run(seen, chunk, mask, latent):
        condition, same = network.encode(params, statistics, seen)
        assert shapes(same) == shapes(statistics)
        return network.decode(params, latent, condition), network.posterior(params, seen, chunk, mask)

    output, posterior = run(seen, chunk, mask, latent)
    assert output.shape == (3, *shape) and output.dtype == jnp.float32 and jnp.isfinite(output).all()
    assert all(part.shape == (3, network.latent_size) for part in posterior)
    others = jax.tree.map(lambda x: x.at[1:].add(1.0), (seen, chunk, mask, latent))
    assert_equal(rows((output, posterior), slice(1)), rows(run(*others), slice(1)))
    alone = run(*rows((seen, chunk, mask, latent), slice(1, 2)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b[1], atol=1e-5), alone, (output, posterior))
    for changed in (others[0], chunk, mask, latent), (seen, chunk, mask, others[3]):
        assert (run(*changed)[0][1:] != output[1:]).any((1, 2)).all(), f"{path}: the output must depend on observation and latent vector"
    padded = run(seen, chunk.at[1, -1].set(9.0), mask, latent)
    assert_equal(padded, (output, posterior))
    assert all((part[1] != other[1]).any() for part, other in zip(run(seen, others[1], mask, latent)[1], posterior, strict=True))
    condition, after = network.encode(params, statistics, seen, jax.random.key(1), train=True)
    assert shapes(after) == shapes(statistics)
    assert network.decode(params, latent, condition, jax.random.key(2), train=True).shape == output.shape


@pytest.mark.parametrize(("path", "factory"), cases(Energy))
def test_energies(path, factory):
    network = build(path, factory)
    params, statistics = begun(path, network)
    params = disturbed(params)
    seen, chunks = draw(SPEC.observation, 3), jax.random.normal(KEY, (3, 4, *SUPPLIES["output_shape"]()))

    @jax.jit
    def run(seen, chunks):
        condition, same = network.encode(params, statistics, seen)
        assert shapes(same) == shapes(statistics)
        return network.energy(params, chunks, condition)

    output = run(seen, chunks)
    assert output.shape == (3, 4) and output.dtype == jnp.float32 and jnp.isfinite(output).all()
    others = jax.tree.map(lambda x: x.at[1:].add(1.0), (seen, chunks))
    assert_equal(output[0], run(*others)[0])
    np.testing.assert_allclose(run(*rows((seen, chunks), slice(1, 2)))[0], output[1], atol=1e-5)
    np.testing.assert_allclose(run(seen, chunks[:, 2:3])[:, 0], output[:, 2], atol=1e-5)  # no chunk touches another
    for changed in (others[0], chunks), (seen, others[1]):
        assert (run(*changed)[1:] != output[1:]).all(), f"{path}: the energy must depend on observation and chunk"
    condition, after = network.encode(params, statistics, seen, jax.random.key(1), train=True)
    assert shapes(after) == shapes(statistics)
    assert network.energy(params, chunks, condition, jax.random.key(2), train=True).shape == output.shape


@pytest.mark.parametrize(("path", "factory"), cases(TokenDecoder) + cases(ActingModel))
def test_token_decoders(path, factory):
    """What `step` says, one token after the other, is what `logits` says of them all."""
    network = build(path, factory)
    params, statistics = begun(path, network)
    written = (network.longest, network.vocabulary) if isinstance(network, ActingModel) else supplies(path)["output_shape"]()
    params, (length, vocabulary) = disturbed(params), written
    seen, tokens = draw(supplies(path)[Spec](), 3), jax.random.randint(KEY, (3, length), 0, vocabulary)

    @jax.jit
    def run(seen, tokens):
        condition, same = network.encode(params, statistics, seen)
        assert shapes(same) == shapes(statistics)
        return network.logits(params, tokens, condition)

    @jax.jit
    def one_by_one(seen, tokens):
        condition, _ = network.encode(params, statistics, seen)

        def step(cache, last):
            logits, after = network.step(params, last, cache, condition)
            assert shapes(after) == shapes(cache), f"{path}: the cache must keep its structure"
            return after, logits

        last = jnp.concatenate([tokens[:, -1:], tokens[:, :-1]], 1)  # before the first one any token stands for it
        return jnp.moveaxis(jax.lax.scan(step, network.begin(params, condition), last.T)[1], 0, 1)

    output = run(seen, tokens)
    assert output.shape == (3, length, vocabulary) and output.dtype == jnp.float32 and jnp.isfinite(output).all()
    np.testing.assert_allclose(one_by_one(seen, tokens), output, atol=1e-5)
    later = run(seen, tokens.at[:, 0].set((tokens[:, 0] + 1) % vocabulary))
    assert_equal(later[:, 0], output[:, 0])  # no token is told by itself
    assert (later[:, 1:] != output[:, 1:]).any((1, 2)).all(), f"{path}: a token must depend on those before it"
    others = moved(seen)
    assert_equal(output[0], run(others, tokens)[0])
    assert (run(others, tokens)[1:] != output[1:]).any((1, 2)).all(), f"{path}: tokens must depend on the observation"
    np.testing.assert_allclose(run(*rows((seen, tokens), slice(1, 2)))[0], output[1], atol=1e-5)
    condition, after = network.encode(params, statistics, seen, jax.random.key(1), train=True)
    assert shapes(after) == shapes(statistics)
    assert network.logits(params, tokens, condition, jax.random.key(2), train=True).shape == output.shape
