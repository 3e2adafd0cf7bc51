"""Forward kinematics against the depth of the tree, and what inverse kinematics reaches and costs; on this machine's CPU.

    python experiments/benchmarks/kinematics.py

Serial chains of hinges, 256 configurations at a time: seconds to compile and milliseconds to run, of ours and of the same composition
level by level, as in MJX, under XLA's own flags. Then the Panda, whose targets are the poses of its gripper at random configurations:
the share reached from one and from several random starts, and the time of one velocity, for one arm and for 256. `ratio` is the time to
run level by level over ours at depth 10; expected at least 10. Takes about three minutes.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import harness
import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.ops import poses, rotations
from jaxrl.ops.inverse_kinematics import Config, solve, velocity
from jaxrl.ops.kinematics import Chain, like, link_poses, site_poses
from jaxrl_envs import robots
from jaxrl_envs.kinematics import chain

ROWS = 256
DEPTHS = (4, 8, 10, 32, 64)
LEVELS = (4, 8, 10)
TARGETS, STARTS = 256, 16


def serial(depth: int) -> Chain:
    """A chain of `depth` hinges."""
    opened = "".join(f'<body pos="0.1 0 0.05"><joint axis="{k % 2} 1 {k % 3}"/><geom size="0.01"/>' for k in range(depth))
    return chain(mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{opened}{'</body>' * depth}</worldbody></mujoco>"))


def level_by_level(tree: Chain, qpos: jax.Array) -> jax.Array:
    """`link_poses` of such a chain, with an array for each level, gathered from that before it."""
    tree = like(tree, qpos)
    turn = rotations.read(tree.hinge * qpos[tree.coordinate][:, None], "vector")
    local = poses.compose(tree.place, jnp.concatenate((turn, jnp.zeros_like(turn[:, :3])), -1))
    found = [local[:1]]
    for k in range(1, len(local)):
        found.append(poses.compose(found[-1][jnp.zeros(1, int)], local[k : k + 1]))
    return jnp.concatenate(found)


def measured(function: Callable[..., Any], *arguments: Any) -> tuple[float, float]:
    """Seconds to compile, and milliseconds to run: the best of at least five, over at least half a second."""
    lowered = jax.jit(function).lower(*arguments)
    compiling, compiled = harness.timed(lowered.compile)
    harness.timed(compiled, *arguments)
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - began < 0.5:
        times.append(harness.timed(compiled, *arguments)[0])
    return compiling, 1e3 * min(times)


def forward() -> dict[str, dict[int, tuple[float, float]]]:
    """form -> depth -> seconds to compile, milliseconds to run."""
    found: dict[str, dict[int, tuple[float, float]]] = {"ours": {}, "level by level": {}}
    for depth in DEPTHS:
        tree, qpos = serial(depth), jax.random.normal(jax.random.key(0), (ROWS, depth))
        found["ours"][depth] = measured(jax.vmap(partial(link_poses, tree)), qpos)
        if depth in LEVELS:
            found["level by level"][depth] = measured(jax.vmap(partial(level_by_level, tree)), qpos)
    cells = [[f"{s:.2f} s, {ms:.2f} ms" for s, ms in by_depth.values()] for by_depth in found.values()]
    rows = [(str(depth), *(column[i] if i < len(column) else "" for column in cells)) for i, depth in enumerate(DEPTHS)]
    harness.table([("depth", *found), *rows])
    return found


def inverse() -> dict[str, float]:
    """Of the Panda's gripper."""
    model = mujoco.MjModel.from_xml_string(robots.xml("panda"))
    arm, gripper = chain(model), model.site("gripper").id
    low, high = model.jnt_range.T
    random = np.random.default_rng(0)
    goals, starts = (jnp.asarray(random.uniform(low, high, (*rows, 9)), jnp.float32) for rows in ((TARGETS,), (TARGETS, STARTS)))
    targets = jax.jit(jax.vmap(lambda qpos: site_poses(arm, qpos)[gripper]))(goals)
    compiling = measured(lambda q, t: solve(arm, q, gripper, t), starts[0, 0], targets[0])[0]
    reached = jax.jit(jax.vmap(jax.vmap(partial(solve, arm), (0, None, None)), (0, None, 0)))(starts, gripper, targets)
    converged = np.asarray(reached.converged)
    home = jnp.asarray(model.key_qpos[0], jnp.float32)
    from_home = jax.jit(jax.vmap(partial(solve, arm), (None, None, 0)))(home, gripper, targets)
    step = partial(velocity, arm, site=gripper, config=Config())
    one = measured(lambda q, t: step(qpos=q, target=t), home, targets[0])[1]
    many = measured(jax.vmap(lambda q, t: step(qpos=q, target=t)), starts[:ROWS, 0], targets[:ROWS])[1]
    found = {
        "reached from one random start": float(converged.mean()),
        f"reached from one of {STARTS}": float(converged.any(1).mean()),
        "reached from home": float(from_home.converged.mean()),
        "iterations, median": float(np.median(np.asarray(reached.iterations)[converged])),
        "iterations, 90 %": float(np.percentile(np.asarray(reached.iterations)[converged], 90)),
        "seconds to compile solve": compiling,
        "ms for a velocity of one arm": one,
        f"ms for those of {ROWS}": many,
    }
    harness.table([("Panda", ""), *((name, f"{value:.3g}") for name, value in found.items())])
    return found


def main() -> int:
    compiled = forward()
    panda = inverse()
    ours, theirs = (compiled[form][10][1] for form in ("ours", "level by level"))
    harness.report("kinematics", theirs / ours, ours, theirs, "ms", forward=compiled, panda=panda, setup=harness.setup(rows=ROWS))
    return 0 if theirs >= 10 * ours else 1


if __name__ == "__main__":
    sys.exit(main())
