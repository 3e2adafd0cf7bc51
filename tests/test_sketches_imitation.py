"""Methods that do not exist yet, in small, through the contracts as they are: each must train in the same scanned body as the real ones.

A contract that only the first two algorithms satisfy is not enough. The real methods replace these as they come. Here: methods fed by data.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrl.algorithms import supervised
from jaxrl.curricula.static import fixed
from jaxrl.objectives import bc
from jaxrl.ops.paths import flatten_names
from jaxrl.rollout.rollout import Config as Rollout
from jaxrl.rollout.rollout import rollout
from jaxrl.types import Network, Objective, Policy
from tests.probes import observe
from tests.sketching import ADAM, CHUNK, ENV, KEY, SPEC, batch_spec, demonstrations, imitate, linear, masked, stateful, train

# Dropout and batch statistics: noise from the key in the loss only, statistics that the loss moves and the sampler reads.


def noisy_objective() -> Objective:
    first, last = linear((8,)), Network(lambda key: 0.1 * jax.random.normal(key, (8, *CHUNK)), lambda p, x: jnp.tensordot(x, p, 1))

    def init(key):
        return {"first": first.init(key), "last": last.init(key)}, {"mean": jnp.zeros(8), "variance": jnp.ones(8)}

    def apply(params, statistics, observation, key, train):
        hidden = first.apply(params["first"], observation["state/which"])
        if train:
            seen = {"mean": hidden.mean(0), "variance": hidden.var(0)}
            hidden = hidden * jax.random.bernoulli(key, 0.5, hidden.shape) / 0.5
            statistics = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, statistics, seen)
        else:
            seen = statistics
        hidden = (hidden - seen["mean"][None]) * jax.lax.rsqrt(seen["variance"] + 1e-5)[None]
        return last.apply(params["last"], hidden), statistics

    def loss(params, statistics, batch, key):
        prediction, statistics = apply(params, statistics, batch["observation"], key, True)
        return jnp.square(prediction - jnp.where(masked(batch) > 0, batch["action"], 0)), masked(batch), statistics, {}

    def sample(params, statistics, observation, key, context=None):
        return apply(params, statistics, observation, None, False)[0]

    return Objective(init, loss, sample, SPEC, batch_spec())


def test_dropout_and_batch_statistics():
    algorithm, source = imitate(noisy_objective()), demonstrations()
    before, after, _ = train(algorithm, source)
    moved = [run.train_state.statistics.objectives["mean"] for run in (before, after)]
    assert (moved[0] != moved[1]).any()
    _, batch = source.next(before.source_state, (), KEY)
    losses = [algorithm.update(before.train_state, batch, jax.random.key(k))[1]["loss"] for k in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    deployable = algorithm.deployable(after.train_state)
    both, _, _ = algorithm.policy.act(deployable, observe(jnp.arange(2)), (), jax.random.split(KEY, 2))
    one, _, _ = algorithm.policy.act(deployable, observe(jnp.arange(1)), (), jax.random.split(jax.random.key(9), 1))
    np.testing.assert_allclose(one, both[:1], rtol=1e-5)  # neither the key nor the neighbour matters


# Two-stage VQ (Lee et al. 2024, https://arxiv.org/abs/2403.03181): a tokenizer of chunks, then a policy over its codes.

CODES = 4


def quantise(codebook: jax.Array, latent: jax.Array) -> jax.Array:
    return jnp.square(latent[:, None] - codebook[None]).sum(-1).argmin(-1)


def tokenizer_objective() -> Objective:
    def init(key):
        encoder, decoder, codes = jax.random.split(key, 3)
        params = {"encoder": jax.random.normal(encoder, (4, 3)), "decoder": jax.random.normal(decoder, (3, 4))}
        return {"tokenizer": params}, {"codebook": jax.random.normal(codes, (CODES, 3))}

    def loss(params, statistics, batch, key):
        chunk = jnp.where(masked(batch) > 0, batch["action"], 0)[..., 0]
        latent = chunk @ params["tokenizer"]["encoder"]
        code = quantise(statistics["codebook"], latent)
        chosen = jax.nn.one_hot(code, CODES)
        centre = jax.lax.stop_gradient(chosen.T @ latent / jnp.maximum(chosen.sum(0), 1)[:, None])
        codebook = jnp.where(chosen.any(0)[:, None], 0.8 * statistics["codebook"] + 0.2 * centre, statistics["codebook"])
        quantised = latent + jax.lax.stop_gradient(statistics["codebook"][code] - latent)
        decoded = (quantised @ params["tokenizer"]["decoder"])[..., None]
        return jnp.square(decoded - chunk[..., None]), masked(batch), {"codebook": codebook}, {}

    def sample(params, statistics, observation, key, context=None):
        return jnp.zeros((len(key), *CHUNK))

    return Objective(init, loss, sample, SPEC, batch_spec())


def codes_objective() -> Objective:
    """The tokenizer with its codebook is part of the parameters, so that a checkpoint is enough to act; it is kept frozen."""
    network = linear((CODES,))

    def init(key):
        empty = {"encoder": jnp.zeros((4, 3)), "decoder": jnp.zeros((3, 4)), "codebook": jnp.zeros((CODES, 3))}
        return {"tokenizer": empty, "codes": network.init(key)}, {}

    def loss(params, statistics, batch, key):
        chunk = jnp.where(masked(batch) > 0, batch["action"], 0)[..., 0]
        code = quantise(params["tokenizer"]["codebook"], chunk @ params["tokenizer"]["encoder"])
        logits = network.apply(params["codes"], batch["observation"]["state/which"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, code), jnp.ones(len(code)), statistics, {}

    def sample(params, statistics, observation, key, context=None):
        code = jax.vmap(jax.random.categorical)(key, network.apply(params["codes"], observation["state/which"]))
        return (params["tokenizer"]["codebook"][code] @ params["tokenizer"]["decoder"])[..., None]

    return Objective(init, loss, sample, SPEC, batch_spec())


def test_two_stage_vq():
    first = imitate(tokenizer_objective())
    before, trained, _ = train(first, demonstrations())
    stage = first.deployable(trained.train_state)
    assert (stage.statistics.objectives["codebook"] != before.train_state.statistics.objectives["codebook"]).any()
    pretrained = {"tokenizer": stage.params["tokenizer"] | stage.statistics.objectives}
    second = imitate(codes_objective(), supervised.Config(ADAM, frozen=("^tokenizer/",)))
    _, after, _ = train(second, demonstrations(), pretrained=pretrained)
    jax.tree.map(np.testing.assert_array_equal, after.train_state.frozen, pretrained)
    chunk, _, _ = second.policy.act(second.deployable(after.train_state), observe(jnp.arange(2)), (), jax.random.split(KEY, 2))
    decoded = (pretrained["tokenizer"]["codebook"] @ pretrained["tokenizer"]["decoder"])[..., None]
    assert all(jnp.abs(decoded - row[None]).max((1, 2)).min() < 1e-4 for row in chunk)  # each is one of the chunks that codes stand for


# LoRA (Hu et al. 2022, https://arxiv.org/abs/2106.09685): the base in bfloat16 without gradients, the rest trained.


def lora_objective() -> Objective:
    def init(key):
        base, a = jax.random.split(key)
        return {"base": jax.random.normal(base, (2, 4)), "lora": {"a": jax.random.normal(a, (2, 1)), "b": jnp.zeros((1, 4))}}, {}

    def sample(params, statistics, observation, key, context=None):
        kernel = params["base"].astype(jnp.float32) + params["lora"]["a"] @ params["lora"]["b"]
        return (observation["state/which"] @ kernel)[..., None]

    def loss(params, statistics, batch, key):
        target = jnp.where(masked(batch) > 0, batch["action"], 0)
        return jnp.square(sample(params, statistics, batch["observation"], key) - target), masked(batch), statistics, {}

    return Objective(init, loss, sample, SPEC, batch_spec())


def test_lora_trains_beside_a_frozen_base():
    base = jnp.arange(8.0).reshape(2, 4).astype(jnp.bfloat16)
    algorithm = imitate(lora_objective(), supervised.Config(ADAM, frozen=("^base$",), frozen_dtype="bfloat16"))
    before, after, _ = train(algorithm, demonstrations(), pretrained={"base": base})
    state = before.train_state
    assert set(flatten_names(state.params)) == {"lora/a", "lora/b"} and state.frozen["base"].dtype == jnp.bfloat16
    observation, keys = observe(jnp.arange(2)), jax.random.split(KEY, 2)
    chunk, _, _ = algorithm.policy.act(algorithm.deployable(state), observation, (), keys)
    np.testing.assert_allclose(chunk[..., 0], base.astype(jnp.float32), rtol=1e-3)  # untrained, it is the base
    np.testing.assert_array_equal(after.train_state.frozen["base"], base)
    assert (after.train_state.params["lora"]["b"] != 0).any()
    assert not [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.shape == base.shape]


# A chunk with context (Black et al. 2025, https://arxiv.org/abs/2506.07339): the sampler is told of the chunk in flight.


def inpainting_objective() -> Objective:
    network = Network(linear(CHUNK).init, lambda p, x, key=None, train=False: jnp.tensordot(x["state/which"], p, 1))
    plain = bc.bc(bc.Config(), SPEC, stateful(network))

    def sample(params, statistics, observation, key, context=None):
        chunk = plain.sample(params, statistics, observation, key)
        if context is None:
            return chunk
        fixed = jnp.arange(SPEC.horizon)[None] < context["prefix_length"][:, None]
        return jnp.where(fixed[..., None], context["prefix"], chunk)

    return plain._replace(sample=sample, spec=SPEC._replace(executed_steps=2))


def in_flight(policy: Policy, delay: int = 1) -> Policy:
    """The carry holds the chunk that is being executed; its next `delay` steps are settled before the new one is there."""
    spec = policy.spec

    def init(size):
        return policy.init(size), jnp.zeros((size, spec.horizon, *spec.action.shape)), jnp.zeros(size, jnp.int32)

    def act(params, observation, carry, key, context=None):
        inner, chunk, settled = carry
        rest = jnp.roll(chunk, -spec.executed_steps, 1)
        context = {"prefix": rest, "prefix_length": settled, "inference_delay": settled}
        chunk, inner, extras = policy.act(params, observation, inner, key, context)
        return chunk, (inner, chunk, jnp.full_like(settled, delay)), extras

    return Policy(spec, init, act)


def test_chunk_with_context():
    algorithm = imitate(inpainting_objective())
    policy = in_flight(algorithm.policy)
    _, after, _ = train(algorithm, demonstrations())
    deployable = algorithm.deployable(after.train_state)
    keys, first = jax.random.split(KEY, 2), observe(jnp.array([0, 0]))
    old, carry, _ = policy.act(deployable, first, policy.init(2), keys)
    new, _, _ = policy.act(deployable, observe(jnp.array([1, 1])), carry, keys)
    free, _, _ = algorithm.policy.act(deployable, observe(jnp.array([1, 1])), (), keys)
    np.testing.assert_allclose(new[:, 0], old[:, 2], rtol=1e-4, atol=1e-6)  # two steps were executed, the third is settled
    np.testing.assert_allclose(new[:, 1:], free[:, 1:], rtol=1e-5)
    assert (new[:, 0] != free[:, 0]).all()
    source = rollout(Rollout(num_worlds=3, unroll_length=4, pool_size=2), ENV, fixed(ENV.sample), policy)
    batch = jax.eval_shape(lambda key: source.next(source.init(key, deployable), deployable, key)[1], KEY)
    assert batch.action.shape == (4, 3, 1)
