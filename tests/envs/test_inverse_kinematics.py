"""Inverse kinematics: its formulas against numpy with MuJoCo's Jacobians, what it reaches, and what it does where it reaches nothing."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from jaxrl.ops import poses, rotations
from jaxrl.ops.inverse_kinematics import Config, error, solve, velocity
from jaxrl.ops.kinematics import advance, site_poses
from jaxrl_envs import robots
from jaxrl_envs.kinematics import chain


def load(name):
    model = mujoco.MjModel.from_xml_string(robots.xml(name))
    return model, chain(model)


PANDA, ARM = load("panda")
GRIPPER = PANDA.site("gripper").id
HOME = PANDA.key_qpos[0]
FREE_ARM = ARM._replace(range=np.tile([-np.inf, np.inf], (9, 1)))
TWO_LINK, PLANAR = load("two_link")
PLANE = Config(rows=(0, 1))
place = jax.jit(jax.vmap(lambda qpos: site_poses(ARM, qpos)[GRIPPER]))


def within_range(count, seed):
    return np.random.default_rng(seed).uniform(*PANDA.jnt_range.T, (count, 9)).astype(np.float32)


def at(qpos, model=PANDA, site=GRIPPER):
    """Position, rotation and Jacobian [6, V] of the site, by MuJoCo."""
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    jacobian = np.zeros((6, model.nv))
    mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], site)
    return data.site_xpos[site].copy(), Rotation.from_matrix(data.site_xmat[site].reshape(3, 3)), jacobian


def expected_velocity(qpos, target, config):
    """Damped least squares by singular values, in numpy."""
    position, turned, jacobian = at(qpos)
    goal = Rotation.from_quat(target[:4], scalar_first=True)
    weight = np.array([1, 1, 1, *[config.length] * 3])
    off = weight * np.concatenate((target[4:] - position, (goal * turned.inv()).as_rotvec()))
    wanted = config.gain * off * min(1, config.reach / np.linalg.norm(off))
    left, size, right = np.linalg.svd(weight[:, None] * jacobian, full_matrices=False)
    trace = (config.damping / 10) ** 2
    smallest = np.sum((size**2 + trace) ** -8.0) ** (-1 / 8) - trace  # a smooth lower bound
    assert 0.79 * size.min() ** 2 - 0.21 * trace <= smallest <= size.min() ** 2 + 1e-12
    squared = config.damping**2 * max(0, 1 - smallest / config.damping**2)
    squared = max(squared, 0.25 * config.dt * np.linalg.norm(wanted) * np.linalg.norm(weight[:, None] * jacobian, axis=0).max())
    return right.T @ (size / (size**2 + squared) * (left.T @ wanted)), size.min()


def test_a_step_is_damped_least_squares():
    """With Nakamura's damping where a singular value is small, and Chan's where the error is large."""
    config = Config(damping=0.07, gain=1.0)
    qpos, targets = within_range(60, 0), place(within_range(60, 1))
    found = jax.jit(jax.vmap(lambda q, t: velocity(FREE_ARM, q, GRIPPER, t, config)))(qpos, targets)
    sizes = []
    for row in range(60):
        wanted, size = expected_velocity(qpos[row], np.asarray(targets[row], float), config)
        np.testing.assert_allclose(found[row], wanted, atol=2e-3 * np.abs(wanted).max())
        sizes.append(size)
    assert 10 < np.sum(np.array(sizes) < config.damping) < 50


def test_reachable_targets_are_reached_from_random_starts():
    """Measured, 256 targets: 48 % from one start, as many paths end at limits of joints, and 99.6 % from one of sixteen."""
    targets, starts = place(within_range(24, 2)), within_range(24 * 8, 3).reshape(24, 8, 9)
    found = jax.jit(jax.vmap(jax.vmap(partial(solve, ARM), (0, None, None)), (0, None, 0)))(starts, GRIPPER, targets)
    assert np.mean(found.converged) > 0.35 and np.mean(np.any(found.converged, 1)) > 0.9
    assert np.isfinite(found.qpos).all()
    low, high = PANDA.jnt_range.T
    assert (np.asarray(found.qpos) >= low - 1e-6).all() and (np.asarray(found.qpos) <= high + 1e-6).all()
    for row, column in zip(*np.nonzero(np.asarray(found.converged)), strict=True):
        position, turned, _ = at(found.qpos[row, column])
        goal = np.asarray(targets[row], float)
        assert np.linalg.norm(position - goal[4:]) < 1.1e-4
        assert (turned.inv() * Rotation.from_quat(goal[:4], scalar_first=True)).magnitude() < 1.1e-3
    assert (np.asarray(found.position_error) <= 1e-4)[found.converged].all() and np.median(found.iterations[found.converged]) < 20


def test_speeds_stay_bounded_through_a_singular_pose():
    """The planar arm asked to draw itself in along its own line: what the pseudoinverse asks of the joints has no bound."""
    elbows = np.array([1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-5, 0.0])
    qpos = jnp.asarray(np.stack((0.2 - elbows / 2, elbows), -1), jnp.float32)
    step = jax.jit(jax.vmap(lambda q, t: velocity(PLANAR, q, 0, t, PLANE)))
    tips = jax.vmap(lambda q: site_poses(PLANAR, q)[0])(qpos)
    along = np.array([np.cos(0.2), np.sin(0.2)])
    inwards, across = -0.002 * along, 0.002 * np.array([-along[1], along[0]])
    drawn, pushed = (np.asarray(step(qpos, tips.at[:, 4:6].add(jnp.asarray(way)[None])), float) for way in (inwards, across))
    jacobians = np.stack([at(row, TWO_LINK, 0)[2][:2] for row in np.asarray(qpos, float)])
    assert np.abs(drawn).max() <= PLANE.gain * 0.002 / PLANE.damping
    undamped = np.array([np.linalg.norm(np.linalg.pinv(jacobian, rcond=0) @ (PLANE.gain * inwards)) for jacobian in jacobians[:-1]])
    assert undamped[-1] > 1000 and np.linalg.norm(drawn[-2]) < 1e-3
    np.testing.assert_allclose(drawn[-1], 0, atol=1e-5)
    moved = np.einsum("nij,nj->ni", jacobians, drawn)
    np.testing.assert_allclose(moved[:2], PLANE.gain * np.tile(inwards, (2, 1)), rtol=0.02)  # hardly damped where the elbow is bent
    np.testing.assert_allclose(jacobians[-1] @ pushed[-1], PLANE.gain * across, rtol=0.02)  # nor across the line, where it is straight


def test_joints_stop_at_their_limits_and_others_take_over():
    config = Config(gain=50.0)
    qpos = np.array(HOME, np.float32)
    qpos[0] = PANDA.jnt_range[0, 1] - 1e-3
    position, turned, jacobian = at(qpos)
    wanted = np.array([*0.02 * np.cross([0, 0, 1], position / np.linalg.norm(position[:2])), 0, 0, 0])
    ahead = np.concatenate((turned.as_quat(scalar_first=True), position + wanted[:3]))
    step = jax.jit(lambda q, chain=ARM: velocity(chain, q, GRIPPER, jnp.asarray(ahead, jnp.float32), config))
    free, found = np.asarray(step(qpos, FREE_ARM)), np.asarray(step(qpos, ARM))
    assert qpos[0] + config.dt * free[0] > PANDA.jnt_range[0, 1] + 0.01
    after = qpos + config.dt * found
    assert after[0] == pytest.approx(PANDA.jnt_range[0, 1], abs=1e-6)
    for moved in (free, found):
        np.testing.assert_allclose(jacobian @ moved, config.gain * wanted, atol=0.2 * config.gain * 0.02)
    outside = np.array(HOME, np.float32)
    outside[0] = 3.1
    assert np.asarray(step(outside, ARM))[0] * config.dt == pytest.approx(PANDA.jnt_range[0, 1] - 3.1, abs=1e-5)
    slow = replace(config, speed=1.5)
    back = np.asarray(jax.jit(lambda q: velocity(ARM, q, GRIPPER, jnp.asarray(ahead, jnp.float32), slow))(outside))
    assert back[0] == pytest.approx(-1.5) and np.abs(back).max() < 1.5 + 1e-5


@pytest.mark.parametrize("speed", [np.inf, 0.4])
def test_joints_that_are_found_outside_come_back_without_a_jump(speed):
    """A sensor's offset of 0.3 rad at one joint's upper limit, of 0.2 at another's lower: a servo of 150 steps, that holds the gripper."""
    config = Config(speed=speed)
    start = np.array(HOME, np.float32)
    start[0], start[3] = PANDA.jnt_range[0, 1] + 0.3, PANDA.jnt_range[3, 0] - 0.2
    target = place(jnp.asarray(start)[None])[0]

    @jax.jit
    def servo(start):
        def step(qpos, _):
            found = velocity(ARM, qpos, GRIPPER, target, config)
            after = advance(ARM, qpos, config.dt * found)
            return after, (found, after, jnp.linalg.norm(error(site_poses(ARM, after)[GRIPPER], target)))

        return jax.lax.scan(step, start, length=150)[1]

    found, after, off = map(np.asarray, servo(jnp.asarray(start)))
    way = np.concatenate((start[None], after))
    beyond = np.stack((way[:, 0] - PANDA.jnt_range[0, 1], PANDA.jnt_range[3, 0] - way[:, 3]))
    assert np.abs(found).max() <= speed * (1 + 1e-5)
    back = np.stack((-found[:, 0], found[:, 3]))
    assert (
        back >= np.minimum(config.gain * beyond[:, :-1], speed) - 1e-3
    ).all()  # as fast as errors go, or faster where the task asks for it
    assert (back[:, 0] < config.gain * beyond[:, 0] * 1.01 + 1e-6).all()  # the first step is no jump
    assert (beyond[:, -1] < 1e-3).all() and np.isfinite(off).all()
    low, high = PANDA.jnt_range.T
    rest = [1, 2, 4, 5, 6, 7, 8]
    assert (way[:, rest] > low[rest] - 1e-4).all() and (way[:, rest] < high[rest] + 1e-4).all()


def test_a_solution_is_within_the_ranges_also_from_outside_and_where_it_is_there_already():
    outside = np.array(HOME, np.float32)
    outside[0] = PANDA.jnt_range[0, 1] + 0.3
    target = place(jnp.asarray(outside)[None])[0]
    found = jax.jit(lambda q, t: solve(ARM, q, GRIPPER, t))(jnp.asarray(outside), target)
    assert (np.asarray(found.qpos) <= PANDA.jnt_range[:, 1] + 1e-6).all()
    assert found.iterations > 0


def test_all_joints_are_slowed_alike():
    limits = (2.175,) * 4 + (2.61,) * 3 + (0.05,) * 2
    target = poses.compose(place(HOME[None].astype(np.float32))[0], jnp.array([1.0, 0, 0, 0, 0.3, 0.2, 0.1]))
    fast, slow = (
        np.asarray(
            jax.jit(lambda q, speed=speed: velocity(ARM, q, GRIPPER, target, Config(gain=20.0, speed=speed)))(
                jnp.asarray(HOME, jnp.float32)
            )
        )
        for speed in (np.inf, limits)
    )
    assert (np.abs(fast) > limits).any()
    assert np.max(np.abs(slow) / limits) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(slow, fast / np.max(np.abs(fast) / limits), atol=1e-5)


def test_the_posture_is_taken_as_far_as_the_site_stays():
    """A servo of 300 steps towards a place behind the elbow: it gets there, and stays while the arm turns to its posture."""
    config = Config(posture_gain=5.0)
    target = place(HOME[None].astype(np.float32))[0]
    start = jnp.asarray(HOME, jnp.float32).at[:7].add(jnp.array([0.3, 0.1, -0.4, 0.1, 0.3, 0.2, 0.1]))

    @jax.jit
    def servo(start):
        def step(qpos, _):
            change = config.dt * velocity(ARM, qpos, GRIPPER, target, config, jnp.asarray(HOME, jnp.float32))
            return advance(ARM, qpos, change), jnp.linalg.norm(error(site_poses(ARM, qpos)[GRIPPER], target))

        return jax.lax.scan(step, start, length=300)

    end, off = servo(start)
    assert off[0] > 0.3 and off[-1] < 1e-4
    np.testing.assert_allclose(end, HOME, atol=1e-3)
    assert (np.diff(off[5:100]) < 1e-6).all()


def test_what_cannot_be_reached_is_approached_as_far_as_it_goes():
    """Position alone, against scipy's bounded least squares through MuJoCo."""
    config = Config(rows=(0, 1, 2))
    targets = np.array([[2.0, 0.5, 0.5], [-0.3, 0.2, 2.0], [5.0, -9.0, 1.0], [0.4, 0.1, -2.0]])
    poses_ = jnp.concatenate((jnp.tile(jnp.array([[1.0, 0, 0, 0]]), (4, 1)), jnp.asarray(targets, jnp.float32)), -1)
    found = jax.jit(jax.vmap(lambda t: solve(ARM, jnp.asarray(HOME, jnp.float32), GRIPPER, t, config, iterations=300)))(poses_)
    assert not found.converged.any() and np.isfinite(found.qpos).all()
    for row, target in enumerate(targets):
        starts = (np.clip(np.asarray(found.qpos[row], float), PANDA.jnt_range[:, 0] + 1e-6, PANDA.jnt_range[:, 1] - 1e-6), HOME)
        search = partial(
            least_squares, lambda q, t=target: at(q)[0] - t, jac=lambda q: at(q)[2][:3], bounds=PANDA.jnt_range.T, max_nfev=300
        )
        best = min(np.linalg.norm(search(start).fun) for start in starts)  # from where it ended and from home: nothing better is near
        assert float(found.position_error[row]) == pytest.approx(best, abs=1e-3)


def test_the_planar_arm_ends_on_its_circle():
    target = jnp.array([1.0, 0, 0, 0, 1.2, 1.6, 0.0])
    found = jax.jit(lambda q: solve(PLANAR, q, 0, target, PLANE))(jnp.array([0.1, 0.7]))
    assert not found.converged and float(found.position_error) == pytest.approx(2.0 - 0.9, abs=1e-4)
    np.testing.assert_allclose(site_poses(PLANAR, found.qpos)[0, 4:6], [0.54, 0.72], atol=2e-3)


def test_gradients_of_a_solution_are_those_of_the_implicit_function():
    """By the target the pseudoinverse of the Jacobian; by the length of the hand what brings the gripper back to where it was."""
    tree = jax.tree.map(jnp.asarray, ARM)
    home = jnp.asarray(HOME, jnp.float32)

    @jax.jit
    def solved(target):
        def found(target, length):
            longer = tree._replace(site_place=tree.site_place.at[GRIPPER, 6].set(length))
            qpos = solve(longer, home, GRIPPER, target, position_tolerance=1e-5, rotation_tolerance=1e-5).qpos
            return qpos, qpos

        return jax.jacrev(found, (0, 1), has_aux=True)(target, 0.1)

    (by_target, by_length), qpos = solved(place(home[None])[0].at[4:].add(0.05))
    assert np.abs(qpos - home).max() > 0.1
    weight = np.array([1, 1, 1, *[Config().length] * 3])[:, None]
    _, turned, jacobian = at(qpos)
    inverse = np.linalg.pinv(weight * jacobian) * weight.T
    np.testing.assert_allclose(by_target[:, 4:], inverse[:, :3], atol=0.01)
    np.testing.assert_allclose(by_length, -inverse[:, :3] @ turned.as_matrix()[:, 2], atol=0.01)


def test_gradients_are_finite_where_formulas_divide_by_0():
    """Singular poses, no error, half a turn, joints at limits."""
    home = jnp.asarray(HOME, jnp.float32)
    straight = jnp.zeros(9).at[3].set(-0.0698)
    here = place(jnp.stack((home, straight)))
    half_turn = poses.compose(here[0], jnp.array([0.0, 1, 0, 0, 0, 0, 0]))
    cases = [
        (home, here[0]),
        (straight, here[1]),
        (straight, here[0]),
        (home, half_turn),
        (jnp.asarray(PANDA.jnt_range[:, 1], jnp.float32), here[0]),
    ]

    @jax.jit
    @jax.vmap
    def slopes(qpos, target):
        return jax.grad(lambda q, t: jnp.sum(velocity(ARM, q, GRIPPER, t, Config(speed=2.0), home) ** 2), (0, 1))(qpos, target)

    for part in slopes(*(jnp.stack(column) for column in zip(*cases, strict=True))):
        assert np.isfinite(part).all() and (np.abs(part[1:]).max(-1) > 0).all()


def test_a_target_that_moves_is_followed_without_lag_when_its_twist_is_told():
    start, twist = jnp.asarray(HOME, jnp.float32), jnp.array([-0.05, 0.05, 0.02, 0.0, 0.0, 0.2])
    first, config = place(start[None])[0], Config()

    @partial(jax.jit, static_argnums=0)
    def lag(told):
        def step(qpos, k):
            time = config.dt * k
            turned = rotations.multiply(rotations.read(time * twist[3:], "vector"), first[:4])
            target = jnp.concatenate((turned, first[4:] + time * twist[:3]))
            change = velocity(ARM, qpos, GRIPPER, target, config, twist=twist if told else None)
            return advance(ARM, qpos, config.dt * change), jnp.linalg.norm(error(site_poses(ARM, qpos)[GRIPPER], target))

        return jax.lax.scan(step, start, jnp.arange(100.0))[1][-1]

    assert lag(True) < 0.005 and lag(False) > 10 * lag(True)


def test_a_floating_robot_brings_its_foot_to_a_place_by_the_velocities_that_may_move():
    model, robot = load("go2")
    standing = jnp.asarray(model.key_qpos[0], jnp.float32)
    foot = model.site("FL_foot").id
    moving = np.flatnonzero(robot.moves[:, robot.site_link[foot]])
    assert list(moving[:6]) == list(range(6)) and len(moving) == 9  # base and leg
    numbers = tuple(int(v) for v in moving if v not in (0, 1))  # the base may neither go forwards nor sideways
    target = site_poses(robot, standing)[foot].at[4:].add(jnp.array([0.05, 0.02, 0.06]))
    found = jax.jit(lambda t: solve(robot, standing, foot, t, Config(rows=(0, 1, 2), velocities=numbers)))(target)
    assert found.converged and np.linalg.norm(at(found.qpos, model, foot)[0] - target[4:]) < 1.1e-4
    moved = np.abs(found.qpos - standing)
    assert moved[3:7].max() > 1e-3 and np.linalg.norm(found.qpos[3:7]) == pytest.approx(1, abs=1e-6)
    assert moved[:2].max() < 1e-6 and np.sum(moved[7:] > 1e-6) == 3


def test_nothing_is_left_to_lapack():
    """See `_inverse`: two of its calls at once can wait for each other for ever, which a test would show now and then."""
    given = (ARM, jnp.zeros(9), GRIPPER, jnp.array([1.0, 0, 0, 0, 0, 0, 0]))
    assert "custom_call" not in jax.jit(jax.vmap(solve, (None, None, None, 0))).lower(*given[:3], given[3][None]).as_text()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"damping": 0.0}, "damping is 0.0, but must be positive"),
        ({"gain": 60.0}, "gain 60.0 times dt 0.02 is 1.2: a step removes a share"),
        ({"posture_gain": -1.0}, "posture_gain -1.0 times dt"),
        ({"speed": (1.0, 0.0)}, "speed is"),
        ({"rows": (0, 6)}, r"rows is \(0, 6\), but names numbers from 0 to 5"),
        ({"velocities": (3, 1)}, "velocities is"),
    ],
)
def test_impossible_numbers_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        Config(**changed)


def test_what_does_not_fit_the_chain_is_refused():
    qpos, target = jnp.asarray(HOME, jnp.float32), jnp.array([1.0, 0, 0, 0, 0, 0, 0])
    with pytest.raises(ValueError, match="speed has 7 numbers, but the chain has 9 velocities"):
        velocity(ARM, qpos, GRIPPER, target, Config(speed=(1.0,) * 7))
    with pytest.raises(ValueError, match=r"velocities is \(0, 9\), but the chain has 9, counted from 0"):
        velocity(ARM, qpos, GRIPPER, target, Config(velocities=(0, 9)))
