"""What a policy acting in gymnasium's environments costs beside the environments themselves.

    python experiments/benchmarks/host_rollout.py

16 worlds of HalfCheetah-v5, one after the other in this process: batches of `host_rollout` with PPO's policy (64 x 64), against gymnasium's
own `SyncVectorEnv` stepped with fixed actions, without a policy, in turns. `ratio` is ours over theirs, in steps per second; it is
below 1 by what the policy and the bookkeeping cost. With --async each world has a process of its own, for ours alone. Takes half a minute.
"""

import argparse
import statistics
import time

import harness

WORLDS, LENGTH, BLOCKS = 16, 64, 11


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--id", default="HalfCheetah-v5", help="gymnasium's name of the environment")
    parser.add_argument("--async", action="store_true", dest="processes", help="our worlds in processes of their own")
    options = parser.parse_args()

    import gymnasium as gym
    import jax
    import numpy as np

    from jaxrl.algorithms import ppo
    from jaxrl.networks import actor_critic
    from jaxrl.rollout import host_rollout
    from jaxrl_envs.adapters import gymnasium

    env = gymnasium.gymnasium(gymnasium.Config(id=options.id, vectorisation="async" if options.processes else "sync"))
    networks = actor_critic.actor_critic(actor_critic.Config((64, 64), (64, 64)), env.spec)
    algorithm = ppo.ppo(ppo.Config(), env.spec, networks)
    behaviour = algorithm.behaviour(algorithm.init(jax.random.key(0)))
    source = host_rollout.host_rollout(host_rollout.Config(WORLDS, LENGTH), env, algorithm.explore)
    began = time.perf_counter()
    state = source.init(jax.random.key(1), behaviour)
    opening = time.perf_counter() - began
    theirs = gym.make_vec(options.id, WORLDS, vectorization_mode="sync", vector_kwargs={"autoreset_mode": "SameStep"})
    theirs.reset(seed=0)
    action = np.zeros(theirs.action_space.shape, np.float32)
    count = 0

    def own() -> float:
        nonlocal state, count
        count += 1
        seconds, (state, _) = harness.timed(source.next, state, behaviour, jax.random.key(count))
        return WORLDS * LENGTH / seconds

    def bare() -> float:
        start = time.perf_counter()
        for _ in range(LENGTH):
            theirs.step(action)
        return WORLDS * LENGTH / (time.perf_counter() - start)

    own(), bare()  # compile
    rates = harness.alternate(BLOCKS, {"ours": own, "theirs": bare})
    source.close()
    theirs.close()
    middle = {name: statistics.median(values) for name, values in rates.items()}
    harness.table([("steps/s", "median (lowest to highest)"), *((name, harness.spread(values)) for name, values in rates.items())])
    described = harness.setup(id=options.id, worlds=WORLDS, processes=options.processes, seconds_to_open=opening)
    harness.report("host_rollout", middle["ours"] / middle["theirs"], middle["ours"], middle["theirs"], "steps/s", setup=described)


if __name__ == "__main__":
    main()
