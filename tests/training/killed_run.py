"""A run to be killed: goes on from whatever checkpoint is in its folder and leaves the state it ends with in final.npz."""

import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxrl.algorithms import ppo
from jaxrl.curricula.static import fixed
from jaxrl.networks.actor_critic import Config as Networks
from jaxrl.networks.actor_critic import actor_critic
from jaxrl.ops.paths import flatten_names
from jaxrl.rollout.rollout import Config as Rollout
from jaxrl.rollout.rollout import rollout
from jaxrl.training import fit
from jaxrl.training.callbacks import Callback
from jaxrl.training.checkpoint import open_checkpoints
from jaxrl.training.compilation_cache import enable_compilation_cache
from jaxrl.types import Source
from tests.probes import PROBES, probe_env

UPDATES = 100
BALLAST = 3_000_000  # floats in the state, so that a save takes long enough to be hit


def heavy(source: Source) -> Source:
    """The source with an array that counts batches beside its state."""

    def init(key, behaviour):
        return source.init(key, behaviour), jnp.zeros(BALLAST)

    def advance(state, behaviour, key):
        own, batch = source.next(state[0], behaviour, key)
        return (own, state[1] + 1.0), batch

    def observe(state, feedback):
        return source.observe(state[0], feedback), state[1]

    return source._replace(init=init, next=advance, observe=observe, metrics=lambda state: source.metrics(state[0]))


def main(workdir: Path) -> None:
    enable_compilation_cache()
    env = probe_env(PROBES["policy and value"].numbers)
    algorithm = ppo.ppo(
        ppo.Config(num_minibatches=2, num_epochs=1), env.spec, actor_critic(Networks(actor_hidden=(8,), critic_hidden=(8,)), env.spec)
    )
    source = heavy(rollout(Rollout(num_worlds=8, unroll_length=4, pool_size=4), env, fixed(env.sample), algorithm.explore))
    checkpoints = open_checkpoints(workdir / "checkpoints")
    extras = fit.Extras(
        callback=Callback(lambda report: print(report.update, flush=True), lambda: None), checkpoints=checkpoints, say=print
    )
    config = fit.Config(total_updates=UPDATES, updates_per_call=2, checkpoint_seconds=1e-6)
    result = fit.fit(config, algorithm, source, extras, resume=checkpoints.latest() is not None)
    checkpoints.close()
    np.savez(workdir / "final.npz", **{name: np.asarray(leaf) for name, leaf in flatten_names(result.run).items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
