"""What randomising every parameter in every episode costs, and a random reset: rollouts of the Go2 on the native backend.

    python experiments/benchmarks/randomisation_cost.py

The same task, policy and worlds, in one process, taking turns: with the model's own physics, and with all parameters drawn anew in each
episode (but those that need a call of the backend for each step of the physics: `motor_speed` and `deadband`, which are measured
apart). The policy is one that explores about standing: a robot that does not move costs the physics less than any that learns, and an
untrained one falls at once. Episodes end every 20 s.

`ratio` is rollout steps per second with all parameters over without any; expected at least 0.95. A reset's cost is told in steps: the
seconds of restarting all worlds over those of one step of all.
"""

import statistics
import sys
from collections.abc import Callable
from typing import Any

import harness

LENGTH = 50
NOISE = 0.6  # of actions, about 0.1 rad of the joints on average
EVERY_STEP = {"motor_speed": (20.0, 30.0), "deadband": (0.0, 0.1)}
DRAWN: dict[str, Any] = {
    "friction": (0.4, 1.2),
    "friction_torsion": (0.8, 1.2),
    "contact_time": (0.015, 0.025),
    "contact_damping": (0.8, 1.2),
    "contact_width": (0.02, 0.04),
    "gravity": (-0.2, 0.2),
    "push_velocity": (0.0, 0.5),
    "link_mass": (0.9, 1.1),
    "inertia": (-0.1, 0.1),
    "center_of_mass": (-0.01, 0.01),
    "payload": {"base": (0.0, 2.0)},
    "payload_place": {"base": (-0.1, 0.1)},
    "joint_damping": (0.8, 1.2),
    "armature": (0.9, 1.1),
    "motor_gain": (0.85, 1.15),
    "motor_strength": (0.85, 1.15),
    "backlash": (0.0, 0.02),
    "joint_offset": (-0.03, 0.03),
    "action_delay": (0.0, 0.015),
    "action_jitter": (0.0, 0.005),
    "action_drop": (0.0, 0.05),
    "observation_noise": (0.5, 1.5),
    "observation_drift": (0.0, 1.0),
    "observation_resolution": (0.0, 1.0),
    "observation_delay": (0.0, 0.02),
    "observation_drop": (0.0, 0.05),
}
VARIANTS: dict[str, dict[str, Any]] = {"none": {}, "all": DRAWN, "every_step": EVERY_STEP}


def env_of(variant: str) -> Any:
    from jaxrl_envs.randomization import Ranges
    from jaxrl_envs.tasks import go2_flat

    return go2_flat.go2_flat(go2_flat.Config(backend="native", randomization=Ranges(**VARIANTS[variant])))


def exploring(env: Any) -> Any:
    """A policy that stands, with noise on its targets."""
    import jax

    from jaxrl.types import Policy, PolicySpec

    def act(params: Any, observation: Any, carry: Any, key: Any, context: Any = None) -> tuple:
        noise = jax.vmap(lambda one: jax.random.uniform(one, env.spec.action.shape, minval=-NOISE, maxval=NOISE))(key)
        return noise[:, None], carry, {}

    return Policy(PolicySpec(env.spec.observation, env.spec.action), lambda size: (), act)


def rollout(env: Any, num_worlds: int) -> Callable[[], float]:
    """Seconds of one batch."""
    import jax

    from jaxrl.curricula.static import fixed
    from jaxrl.rollout import rollout

    source = rollout.rollout(rollout.Config(num_worlds, LENGTH), env, fixed(env.sample), exploring(env))
    advance = jax.jit(source.next, donate_argnums=0)
    state = jax.jit(source.init)(jax.random.key(0), ())
    step = 0

    def run() -> float:
        nonlocal state, step
        step += 1
        seconds, (state, _) = harness.timed(advance, state, (), jax.random.key(step))
        return seconds

    return run


def restart_and_step(env: Any, num_worlds: int) -> tuple[Callable[[], float], Callable[[], float]]:
    """Seconds of a new start of all worlds, under physics drawn anew, and of one step of all."""
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(jax.random.key(0), num_worlds)
    sample = jax.vmap(env.sample)
    parameters = jax.jit(sample)(keys)
    state, _ = jax.jit(jax.vmap(env.reset))(keys, parameters)
    restart = jax.jit(lambda keys: jax.vmap(env.restart)(state, sample(keys), keys))
    step = jax.jit(jax.vmap(env.step))
    still = jnp.zeros((num_worlds, *env.spec.action.shape))
    return lambda: harness.timed(restart, keys)[0], lambda: harness.timed(step, state, still, parameters, keys)[0]


def main() -> int:
    parser = harness.parser(__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--num-worlds", type=int, default=256)
    options = parser.parse_args()
    worlds = options.num_worlds
    envs = {variant: env_of(variant) for variant in VARIANTS}
    runs = {variant: rollout(env, worlds) for variant, env in envs.items()}
    restart, step = restart_and_step(envs["all"], worlds)
    for warm in (*runs.values(), restart, step):
        warm(), warm()
    seconds = harness.alternate(options.repeats, runs | {"restart": restart, "step": step})
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    speed = {name: worlds * LENGTH / medians[name] for name in VARIANTS}
    harness.table([["rollout steps/s", *VARIANTS], ["", *(harness.spread([worlds * LENGTH / s for s in seconds[v]]) for v in VARIANTS)]])
    in_steps = medians["restart"] / medians["step"]
    print(f"a new start of {worlds} worlds takes as long as {in_steps:.2f} steps of them")
    harness.report(
        "randomisation_cost",
        ratio=speed["all"] / speed["none"],
        ours=speed["all"],
        theirs=speed["none"],
        unit="env steps/s",
        every_step_ratio=speed["every_step"] / speed["none"],
        restart_in_steps=in_steps,
        setup=harness.setup(num_worlds=worlds, unroll_length=LENGTH, repeats=options.repeats, drawn=sorted(DRAWN)),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
