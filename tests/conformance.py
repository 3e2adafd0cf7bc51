"""Finds the factories of the project by what they say they return, and makes small ones of everything that they make.

Nothing has to be registered to be tested. A factory is called with arguments chosen by the types of its parameters (SUPPLIES).
"""

import functools
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest

from jaxrl.algorithms import reinforce
from jaxrl.curricula.static import fixed
from jaxrl.networks import act, actor_q, energy_mlp, pixel_actor_q, q_network, recurrent_actor_critic, state_mlp, token_decoder, unet1d
from jaxrl.networks._torsos import Torso
from jaxrl.networks.actor_critic import ActorCritic, actor_critic
from jaxrl.networks.actor_critic import Config as ActorCriticConfig
from jaxrl.networks.actor_q import ActorQ
from jaxrl.networks.interface import ActingModel, Autoencoder, Denoiser, Energy, TokenDecoder
from jaxrl.networks.pixel_actor_q import PixelActorQ
from jaxrl.networks.q_network import QNetwork
from jaxrl.networks.transformer import gemma
from jaxrl.networks.transformer.experts import Computing
from jaxrl.networks.transformer.paligemma import Config as PaliGemma
from jaxrl.networks.vision import vit
from jaxrl.objectives import bc, tokens, vqbet
from jaxrl.ops import running_statistics
from jaxrl.ops.paths import flatten_names
from jaxrl.policies import overseen
from jaxrl.policies.constant import constant
from jaxrl.replay import demonstrations, replay
from jaxrl.replay.recording import Recording
from jaxrl.rollout import rollout
from jaxrl.tokenizers import residual_vq
from jaxrl.types import (
    Algorithm,
    ArraySpec,
    Curriculum,
    Env,
    EnvSpec,
    HostEnv,
    Key,
    Mirror,
    Objective,
    Params,
    Policy,
    PolicySpec,
    PyTree,
    Reflection,
    Source,
    Spec,
    StatefulNetwork,
)
from tests.hosts import on_host
from tests.probes import PROBES, lines, probe_env, with_pictures

OFF_POLICY = (ActorQ, PixelActorQ, QNetwork)  # networks of off-policy methods
AROUND_CHUNKS = ("blended", "history", "latency_matched", "receding_horizon", "smoothed", "temporal_ensemble")
PACKAGES = ("jaxrl", "jaxrl_envs", "jaxrl_data")


@functools.cache
def modules() -> dict[str, ModuleType]:
    """Every module of the project, but those that need a package which is not installed."""
    found = {}
    for package in PACKAGES:
        try:
            root = importlib.import_module(package)
        except ModuleNotFoundError:
            continue
        for module in pkgutil.walk_packages(root.__path__, f"{package}."):
            try:
                found[module.name] = importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                if (error.name or "").partition(".")[0] in PACKAGES:
                    raise
    return found


def factories(returned: type) -> dict[str, Callable[..., Any]]:
    """The functions that bear their module's name and are annotated to return this type, by path."""
    found = {}
    for path, module in modules().items():
        name = path.rpartition(".")[2]
        function = getattr(module, name, None)
        if inspect.isfunction(function) and typing.get_type_hints(function).get("return") is returned:
            found[f"{path}.{name}"] = function
    return found


KEY = jax.random.key(0)
ENV = probe_env(PROBES["policy and value"].numbers)
VARYING = ENV._replace(space=lines())
CHOOSING = probe_env(PROBES["policy and value"].numbers, 5)  # the same with discrete actions
SEEING = with_pictures(ENV)
_SMALL_HEAD = actor_q.Config(Torso(width=8), Torso(width=8), deterministic=True)
PIXELS = pixel_actor_q.Config(((4, 3, 2),), 6, _SMALL_HEAD)
SPEC = PolicySpec({"state/a": ArraySpec((3,)), "state/b": ArraySpec((1,))}, ArraySpec((2,)), horizon=2)
# What models that see and read are shown, and one of them.
TOLD = SPEC.observation | {"image/a": ArraySpec((8, 8, 3), "uint8"), "task/instruction": ArraySpec((3,), "int32")}
READING = PaliGemma(vit.Config("siglip", 8, 4, 8, 1, 2, 8), gemma.Config(8, 1, 2, 1, 4, 8, 12, computing=Computing("float32")))
EXPERT = gemma.Config(8, 1, 2, 1, 4, 8, 0)
STORED = SPEC.observation | {"action": SPEC.action}


def recording() -> Recording:
    """Six steps in three episodes, so that chunks of two are cut short."""
    arrays = {name: np.asarray(jax.random.normal(jax.random.key(i), (6, *s.shape))) for i, (name, s) in enumerate(STORED.items())}
    seen, ends = {n: arrays[n] for n in SPEC.observation}, np.array([1, 3, 6])
    final = {n: x[ends - 1] for n, x in seen.items()}
    return Recording(seen, arrays["action"], np.zeros(6, np.float32), ends, SPEC, final, np.array([True, False, True]))


def network() -> StatefulNetwork:
    return state_mlp.state_mlp(state_mlp.Config((8,)), SPEC.observation, (SPEC.horizon, *SPEC.action.shape))


def autoencoder() -> Autoencoder:
    return act.act(act.Config(**SMALL["jaxrl.networks.act"]), SPEC.observation, (SPEC.horizon, *SPEC.action.shape))


def coder() -> StatefulNetwork:
    shape = vqbet.output_shape(vqbet.Config(**SMALL["jaxrl.objectives.vqbet"]), SPEC)
    return state_mlp.state_mlp(state_mlp.Config((8,)), SPEC.observation, shape)


def teller() -> TokenDecoder:
    config = token_decoder.Config(**SMALL["jaxrl.networks.token_decoder"])
    return token_decoder.token_decoder(
        config, SPEC.observation, tokens.output_shape(tokens.Config(**SMALL["jaxrl.objectives.tokens"]), SPEC)
    )


def denoiser() -> Denoiser:
    config = unet1d.Config(**SMALL["jaxrl.networks.unet1d"])
    return unet1d.unet1d(config, SPEC.observation, (SPEC.horizon, *SPEC.action.shape))


def energy() -> Energy:
    config = energy_mlp.Config(**SMALL["jaxrl.networks.energy_mlp"])
    return energy_mlp.energy_mlp(config, SPEC.observation, (SPEC.horizon, *SPEC.action.shape))


def remembering() -> ActorCritic:
    config = recurrent_actor_critic.Config(memory_size=4, actor_hidden=(8,), critic_hidden=(8,))
    return recurrent_actor_critic.recurrent_actor_critic(config, ENV.spec)


def env_policy(env: Env = ENV) -> Policy:
    return constant(PolicySpec({"state/which": env.spec.observation["state/which"]}, env.spec.action), 0.1)


def chunked() -> Policy:
    """Looks at two steps and predicts twelve."""
    return constant(PolicySpec({"state/which": ArraySpec((2, 3))}, ENV.spec.action, 12, rate=10.0), 0.1)


def told_from_the_gripper() -> Policy:
    return constant(PolicySpec({"state/eef": ArraySpec((6,))}, ArraySpec((10,)), 4), 0.1)


def replayed() -> Source:
    """Two batches of 8 steps out of a memory."""
    config = replay.Config(**SMALL["jaxrl.replay.replay"])
    return replay.replay(config, collector(), 4, collector())


def mirror() -> Mirror:
    """Swaps the entries of every vector."""

    def swapped(spec: ArraySpec) -> Reflection:
        size = int(spec.shape[0])
        return Reflection(tuple(reversed(range(size))), (-1.0,) * size)

    return Mirror({name: swapped(spec) for name, spec in ENV.spec.observation.items()}, swapped(ENV.spec.action))


def collector(env: Env = ENV, policy: Policy | None = None) -> Source:
    """Unrolls of 4 steps in 4 worlds."""
    return rollout.rollout(rollout.Config(4, 4, 4), env, fixed(env.sample), policy or env_policy(env))


# By the annotation of a parameter, or for plain numbers by its name.
SUPPLIES: dict[Any, Callable[[], Any]] = {
    Algorithm: lambda: reinforce.reinforce(reinforce.Config(), ENV.spec, SUPPLIES[ActorCritic]()),
    ActorQ: lambda: actor_q.actor_q(actor_q.Config(Torso(width=8), Torso(width=8)), ENV.spec),
    ActorQ | PixelActorQ: lambda: SUPPLIES[ActorQ](),
    Autoencoder: autoencoder,
    ActorCritic: lambda: actor_critic(ActorCriticConfig((8,), (8,)), ENV.spec),
    Callable[[Key], Params]: lambda: ENV.sample,
    Curriculum: lambda: fixed(ENV.sample),
    Denoiser: denoiser,
    Denoiser | ActingModel: denoiser,
    Energy: energy,
    Env: lambda: VARYING,
    EnvSpec: lambda: ENV.spec,
    HostEnv: lambda: on_host(ENV),
    EnvSpec | PolicySpec: lambda: SPEC,
    Mapping[str, Objective]: lambda: {"bc": bc.bc(bc.Config(), SPEC, network())},
    Mapping[str, Source]: lambda: {name: demonstrations.demonstrations(demonstrations.Config(4), recording()) for name in "ab"},
    Mapping[str, float]: lambda: {"bc": 1.0},
    Mirror: mirror,
    StatefulNetwork: network,
    TokenDecoder: teller,
    TokenDecoder | ActingModel: teller,
    PixelActorQ: lambda: pixel_actor_q.pixel_actor_q(PIXELS, SEEING.spec),
    Policy: env_policy,
    PolicySpec: lambda: SPEC,
    QNetwork: lambda: q_network.q_network(q_network.Config(Torso(width=8)), CHOOSING.spec),
    Recording: recording,
    Source: collector,
    Spec: lambda: SPEC.observation,
    running_statistics.RunningStatistics: lambda: running_statistics.init(STORED),
    "hidden": lambda: (8,),
    "names": lambda: (),
    "num_worlds": lambda: 4,
    "params": lambda: (),
    "expert_params": lambda: (),
    "input_size": lambda: 4,
    "output_shape": lambda: (2, 3),
    "output_size": lambda: 3,
}
# Fields of a Config that differ from its defaults, by module, to keep the arrays small.
SMALL: dict[str, dict[str, Any]] = {
    "jaxrl.networks.act": {"size": 8, "heads": 2, "hidden": 8, "encoder_layers": 1, "posterior_layers": 1, "latent_size": 2},
    "jaxrl.networks.energy_mlp": {"hidden": (8, 8)},
    "jaxrl.networks.gpt": {"width": 8, "layers": 1, "heads": 2},
    "jaxrl.networks.mlp_denoiser": {"width": 8, "depth": 1, "time_size": 4},
    "jaxrl.networks.recurrent_actor_critic": {"memory_size": 3},
    "jaxrl.objectives.ibc": {"negatives": 4, "samples": 4, "gradient_penalty": 1.0},
    "jaxrl.networks.token_decoder": {"width": 8, "layers": 2, "heads": 2},
    "jaxrl.networks.transformer_denoiser": {"layers": 1, "heads": 2, "size": 8},
    "jaxrl.networks.unet1d": {"channels": (4, 8), "groups": 2, "time_size": 4},
    "jaxrl.networks.vla.pi0": {"seeing": READING, "action": EXPERT, "action_dim": 4},
    "jaxrl.networks.vla.pi05": {"seeing": READING, "action": EXPERT, "action_dim": 4, "state": "hidden", "longest": 3},
    "jaxrl.networks.vla.pi0_fast": {"seeing": READING, "state": "hidden"},
    "jaxrl.objectives.consistency": {"num_steps": 4, "points": 3},
    "jaxrl.objectives.diffusion": {"num_steps": 4},
    "jaxrl.objectives.flow": {"inference_steps": 2},
    "jaxrl.objectives.text": {"length": 4, "vocabulary": 8},
    "jaxrl.objectives.tokens": {"bins": 8, "temperature": 1.0},
    "jaxrl.objectives.vqbet": {"chunk": 1, "codebooks": residual_vq.Config(codes=3, size=4), "hidden": (8,), "offset_weight": 10.0},
    "jaxrl.rollout.rollout": {"num_worlds": 4, "unroll_length": 4, "pool_size": 4},
    "jaxrl.rollout.host_rollout": {"num_worlds": 4, "unroll_length": 4},
    "jaxrl_envs.wrappers.pixels": {"cameras": ("side",), "width": 8, "height": 8, "frames": 2},
    "jaxrl.replay.replay": {"capacity": 80, "batch_size": 8, "num_updates": 2, "initial_steps": 30},
    "jaxrl.replay.host_replay": {"capacity": 80, "batch_size": 8, "num_updates": 2, "initial_steps": 30, "image_gib": 0.01},
    "jaxrl.replay.dagger": {"capacity": 80, "batch_size": 8, "horizon": 2, "initial_steps": 30},
    "jaxrl.replay.sequences": {"capacity": 80, "batch_size": 8, "num_updates": 2, "length": 5, "initial_steps": 30},
    "jaxrl.networks.pixel_actor_q": {"layers": PIXELS.layers, "features": PIXELS.features, "head": PIXELS.head},
    "jaxrl.networks.actor_q": {"actor": Torso(width=8), "critic": Torso(width=8, layer_norm=True, dropout=0.1)},
    "jaxrl.replay.memory": {"batch_size": 16, "horizon": SPEC.horizon},
    "jaxrl_envs.adapters.brax": {"task": "fast", "episode_length": 10},
    "jaxrl_envs.adapters.playground": {"task": "PendulumSwingup", "episode_length": 10},
}


def drawn_env() -> Env:
    """One that has something to draw, where there is OpenGL to draw it."""
    from jaxrl_envs.rendering import open_gl
    from jaxrl_envs.tasks import cartpole

    try:
        open_gl()
    except RuntimeError as error:
        pytest.skip(str(error))
    return cartpole.cartpole()


# What a factory takes in place of what its parameter's type says, by module.
SPECIAL: dict[str, dict[Any, Callable[[], Any]]] = {
    "jaxrl.objectives.vqbet": {StatefulNetwork: coder},
    "jaxrl.replay.host_replay": {Source: lambda: collector(SEEING)},
    "jaxrl.replay.mirrored": {Source: replayed},
    "jaxrl.replay.dagger": {Source: lambda: collector(policy=overseen.overseen(overseen.Config(), env_policy(), env_policy(), ()))},
    **{f"jaxrl.policies.{name}": {Policy: chunked} for name in AROUND_CHUNKS},
    "jaxrl.policies.relative_pose": {Policy: told_from_the_gripper},
    "jaxrl.networks.vla.pi0": {Spec: lambda: TOLD},
    "jaxrl.networks.vla.pi05": {Spec: lambda: TOLD},
    "jaxrl.networks.vla.pi0_fast": {Spec: lambda: TOLD, "output_shape": lambda: (3, 12)},
    "jaxrl_envs.wrappers.pixels": {Env: drawn_env},
    "jaxrl.algorithms.drqv2": {EnvSpec: lambda: SEEING.spec, Env: lambda: SEEING, Source: lambda: collector(SEEING)},
    "jaxrl.networks.actor_q": {EnvSpec | PolicySpec: lambda: ENV.spec},
    "jaxrl.networks.pixel_actor_q": {EnvSpec | PolicySpec: lambda: SEEING.spec},
    "jaxrl.networks.q_network": {EnvSpec | PolicySpec: lambda: CHOOSING.spec},
    # What an algorithm's source is made of counts too.
    "jaxrl.algorithms.dqn": {EnvSpec: lambda: CHOOSING.spec, Env: lambda: CHOOSING, Source: lambda: collector(CHOOSING)},
}


@functools.cache
def build(path: str, factory: Callable[..., Any]) -> Any:
    """What the factory makes from small arguments, made once."""
    return make(path, factory, supplies(path))


def supplies(path: str) -> dict[Any, Callable[[], Any]]:
    """What a factory is given."""
    return SUPPLIES | SPECIAL.get(path.rpartition(".")[0], {})


def make(path: str, factory: Callable[..., Any], supplies: Mapping[Any, Callable[[], Any]]) -> Any:
    """What the factory makes from the arguments supplied."""
    hints, arguments = typing.get_type_hints(factory), {}
    for name, parameter in inspect.signature(factory).parameters.items():
        if name == "config":
            module = path.rpartition(".")[0]
            arguments[name] = modules()[module].Config(**SMALL.get(module, {}))
        elif parameter.default is not inspect.Parameter.empty:
            continue
        elif hints.get(name) in supplies or name in supplies:
            arguments[name] = supplies[hints[name] if hints.get(name) in supplies else name]()
        else:
            pytest.fail(f"{path} takes {name}: {hints.get(name)}, which this test cannot supply: add it to SUPPLIES in {__file__}")
    return factory(**arguments)


def cases(returned: type) -> list[Any]:
    return [pytest.param(path, factory, id=path) for path, factory in factories(returned).items()]


def shapes(tree: PyTree) -> Any:
    """Structure, shapes and types; a weak type counts as another, for it compiles a second time."""

    def tell(x: Any) -> str:
        return f"{'weak ' if getattr(x, 'weak_type', False) else ''}{x.dtype}{list(x.shape)}"

    return jax.tree.map(tell, jax.eval_shape(lambda: tree))


def spec_of(tree: PyTree, axes: tuple[str, ...] = ()) -> dict[str, ArraySpec]:
    """The spec of a tree of arrays or shapes; the first axes take the names in `axes`."""
    return {name: ArraySpec((*axes, *leaf.shape[len(axes) :]), str(leaf.dtype)) for name, leaf in flatten_names(tree).items()}


def assert_equal(a: PyTree, b: PyTree) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


def rows(tree: PyTree, chosen: slice) -> PyTree:
    return jax.tree.map(lambda x: x[chosen], tree)


def draw(spec: Spec, size: int, key: Key = KEY) -> dict[str, jax.Array]:
    """Random arrays of a spec of one row, [size, ...]."""
    keys = dict(zip(spec, jax.random.split(key, len(spec)), strict=True))
    return {name: jax.random.normal(keys[name], (size, *s.shape)).astype(s.dtype) for name, s in spec.items()}
