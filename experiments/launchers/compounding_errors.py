"""The textbook experiment: the cost of naive behaviour cloning grows with the square of the horizon, that of DAgger with the horizon.

    python experiments/launchers/compounding_errors.py --workdir runs/compounding_errors

Ross & Bagnell 2010, https://proceedings.mlr.press/v9/ross10a.html; Ross et al. 2011, https://arxiv.org/abs/1011.0686, section 2. On a rope
each step shows a new picture (4 numbers), of which one linear function tells the first entry of the right action; a wrong sign and the
walker falls off. Off the rope, where no demonstration ever is, other functions tell it, and eight signs have to be right to come back. A
step off the rope costs 1.

Both students get as many labels from the same expert, who acts in all episodes of the one and in none of the other but its first ones.
Costs are means over episodes of the same length that both begin alike. Writes costs.json and costs.png.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import optimizers
from jaxrl.algorithms import supervised
from jaxrl.curricula.static import fixed
from jaxrl.evaluation.play import play
from jaxrl.networks import state_mlp
from jaxrl.objectives import bc
from jaxrl.ops import running_statistics
from jaxrl.ops.specs import policy_spec
from jaxrl.policies import overseen
from jaxrl.replay import dagger
from jaxrl.rollout import rollout
from jaxrl.training.fit import initial, many_updates
from jaxrl.types import Algorithm, Array, ArraySpec, Env, EnvSpec, Key, Params, Policy, TimeStep

LONGEST = 128  # steps
SEEN, SIGNS = 4, 8
TRUTH = jax.random.normal(jax.random.key(7), (2, SIGNS, SEEN))  # on the rope, and off it
WORLDS, UPDATES, FIRST = 16, 3_000, 2_048


def wanted(picture: Array, off: Array) -> Array:
    """The right signs, [..., SIGNS], for what is seen, [..., SEEN], on the rope (`off` [..., 1] is 0) or off it."""
    return jnp.sign(jnp.where(off > 0, picture @ TRUTH[1].T, picture @ TRUTH[0].T))


class State(NamedTuple):
    picture: Array  # [SEEN]
    off: Array  # [] 1 off the rope
    clock: Array  # []


def rope() -> Env:
    """The walk. Its only metric is whether the walker was off the rope, which is minus the reward."""

    def observe(state: State) -> dict[str, Array]:
        return {"state/picture": state.picture, "state/off": state.off[None]}

    def reset(key: Key, parameters: Params) -> tuple[State, dict[str, Array]]:
        state = State(jax.random.normal(key, (SEEN,)), jnp.zeros(()), jnp.zeros(()))
        return state, observe(state)

    def step(state: State, action: Array, parameters: Params, key: Key) -> tuple[State, TimeStep]:
        right = jnp.sign(action) == wanted(state.picture, state.off[None])
        off = 1.0 - jnp.where(state.off > 0, right.all(), right[0]).astype(jnp.float32)
        clock = state.clock + 1
        state = State(jax.random.normal(key, (SEEN,)), off, clock)
        ended = (clock == LONGEST).astype(jnp.float32)
        return state, TimeStep(observe(state), -off, jnp.ones(()), ended, {"off": off})

    seen = {"state/picture": ArraySpec((SEEN,)), "state/off": ArraySpec((1,))}
    spec = EnvSpec("rope", seen, ArraySpec((SIGNS,), low=-1.0, high=1.0), LONGEST, 0.0, ("off",))
    return Env(spec, reset, step, lambda state, parameters, key: (state, observe(state)), jnp.zeros(()), lambda key: jnp.zeros(()))


def expert(env: Env) -> Policy:
    def act(params: Params, observation: dict[str, Array], carry: Any, key: Any, context: Any = None) -> tuple[Array, Any, dict]:
        return wanted(observation["state/picture"], observation["state/off"])[:, None], carry, {}

    return Policy(policy_spec(env.spec), lambda size: (), act)


def student(env: Env) -> Algorithm:
    spec = policy_spec(env.spec)
    network = state_mlp.state_mlp(state_mlp.Config((64, 64)), spec.observation, (1, SIGNS))
    config = supervised.Config(optimizers.Config(learning_rate=1e-3), ema_decay=0.999)
    normaliser = running_statistics.init({**spec.observation, "action": spec.action})
    return supervised.supervised(config, {"bc": bc.bc(bc.Config(), spec, network)}, {"bc": 1.0}, normaliser)


def costs(beta: float, seed: int, episodes: int) -> np.ndarray:
    """[LONGEST] of episodes of each length, by a student whose teacher acted in a share `beta` of the episodes."""
    env = rope()
    algorithm, teacher = student(env), expert(env)

    def collect(share: float) -> Any:
        policy = overseen.overseen(overseen.Config(beta=share), algorithm.explore, teacher, ())
        return rollout.rollout(rollout.Config(WORLDS, 1, WORLDS), env, fixed(env.sample), policy)

    memory = dagger.Config(capacity=WORLDS * (UPDATES + FIRST), batch_size=256, initial_steps=FIRST)
    source = dagger.dagger(memory, collect(beta), WORLDS, collect(1.0))
    key = jax.random.key(seed)
    run = jax.jit(initial(algorithm, source))(key)
    run, _ = jax.jit(many_updates(algorithm, source, UPDATES))(run, key)
    played = play(env, algorithm.policy, LONGEST, keep=lambda step: step.result.metrics["off"], num_episodes=episodes)
    off = played(algorithm.deployable(run.train_state), jnp.zeros(episodes), jax.random.key(1000 + seed)).kept
    return np.asarray(jnp.cumsum(off, 0).mean(1))


def exponent(cost: np.ndarray) -> float:
    """Of the power of the horizon that the cost grows with, over lengths from an eighth of the longest on."""
    lengths = np.arange(1, LONGEST + 1)
    far = lengths >= LONGEST // 8
    return float(np.polyfit(np.log(lengths[far]), np.log(cost[far]), 1)[0])


def draw(path: Path, cost: dict[str, np.ndarray]) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5.5, 4), layout="constrained")
    lengths = np.arange(1, LONGEST + 1)
    for name, each in cost.items():
        mean = each.mean(0)
        axes.loglog(lengths, mean, label=f"{name}: horizon to the power of {exponent(mean):.2f}")
        axes.fill_between(lengths, each.min(0), each.max(0), alpha=0.2)
    axes.set(xlabel="horizon [steps]", ylabel="steps off the rope", title="errors of imitation")
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=2048)
    options = parser.parse_args()
    options.workdir.mkdir(parents=True, exist_ok=True)
    shares = {"behaviour cloning": 1.0, "DAgger": 0.0}
    cost = {name: np.stack([costs(beta, seed, options.episodes) for seed in range(options.seeds)]) for name, beta in shares.items()}
    found = {
        name: {"exponent": exponent(each.mean(0)), "each": [exponent(one) for one in each], "cost": each.mean(0)[-1].item()}
        for name, each in cost.items()
    }
    (options.workdir / "costs.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(options.workdir / "costs.png", cost)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
