"""The facts of the robots that are drawn from primitive shapes, and that they hold themselves up."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxrl_envs import robots
from jaxrl_envs.physics import make
from jaxrl_envs.physics.interface import at_rest

# As published: range, N m, N m/rad, N m s/rad, kg m^2. Left and middle; what is on the right mirrors what is on the left.
HUMANOID = {
    "left_hip_pitch": (-2.5307, 2.8798, 88, 75, 2.0, 0.01017752),
    "left_hip_roll": (-0.5236, 2.9671, 139, 75, 2.0, 0.025101925),
    "left_hip_yaw": (-2.7576, 2.7576, 88, 75, 2.0, 0.01017752),
    "left_knee": (-0.087267, 2.8798, 139, 75, 2.0, 0.025101925),
    "left_ankle_pitch": (-0.87267, 0.5236, 50, 20, 1.0, 0.00721945),
    "left_ankle_roll": (-0.2618, 0.2618, 50, 2, 0.2, 0.00721945),
    "waist_yaw": (-2.618, 2.618, 88, 75, 2.0, 0.01017752),
    "waist_roll": (-0.52, 0.52, 50, 75, 2.0, 0.00721945),
    "waist_pitch": (-0.52, 0.52, 50, 75, 2.0, 0.00721945),
    "left_shoulder_pitch": (-3.0892, 2.6704, 25, 75, 2.0, 0.003609725),
    "left_shoulder_roll": (-1.5882, 2.2515, 25, 75, 2.0, 0.003609725),
    "left_shoulder_yaw": (-2.618, 2.618, 25, 75, 2.0, 0.003609725),
    "left_elbow": (-1.0472, 2.0944, 25, 75, 2.0, 0.003609725),
    "left_wrist_roll": (-1.97222, 1.97222, 25, 2, 0.2, 0.003609725),
    "left_wrist_pitch": (-1.61443, 1.61443, 5, 2, 0.2, 0.00425),
    "left_wrist_yaw": (-1.61443, 1.61443, 5, 2, 0.2, 0.00425),
}
# Rolling one leg or arm outwards is rolling the other one the opposite way.
MIRRORED = ("right_hip_roll", "right_shoulder_roll")
PANDA = {
    "joint1": (-2.8973, 2.8973, 87, 1000),
    "joint2": (-1.7628, 1.7628, 87, 1000),
    "joint3": (-2.8973, 2.8973, 87, 750),
    "joint4": (-3.0718, -0.0698, 87, 750),
    "joint5": (-2.8973, 2.8973, 12, 300),
    "joint6": (-0.0175, 3.7525, 12, 300),
    "joint7": (-2.8973, 2.8973, 12, 300),
}


def load(name):
    return mujoco.MjModel.from_xml_string(robots.xml(name))


def right(facts):
    """What is published of the right side, from the left's."""
    both = {name.replace("left", "right"): values for name, values in facts.items() if name.startswith("left")}
    return {name: (-v[1], -v[0], *v[2:]) if name in MIRRORED else v for name, v in both.items()}


def motors(model, names):
    rows = []
    for name in names:
        actuator, joint = model.actuator(name), model.joint(name)
        assert model.joint(actuator.trnid[0]).name == name
        np.testing.assert_array_equal(actuator.ctrlrange, joint.range)
        np.testing.assert_array_equal(actuator.forcerange[0], -actuator.forcerange[1])
        rows.append((*joint.range, actuator.forcerange[1], actuator.gainprm[0], joint.damping[0], joint.armature[0]))
    return np.array(rows)


def test_humanoid_has_the_published_mass_joints_and_limits():
    model = load("humanoid")
    facts = HUMANOID | right(HUMANOID)
    assert (model.nu, model.nv, model.nbody) == (29, 35, 31)
    assert {model.joint(i).name for i in range(1, 30)} == set(facts)
    np.testing.assert_allclose(motors(model, facts), np.array(list(facts.values())), rtol=1e-6)
    assert model.body_mass.sum() == pytest.approx(33.341142, abs=1e-6)
    assert model.body("torso").mass == pytest.approx(7.818) and model.body("left_knee").mass == pytest.approx(1.932)
    np.testing.assert_array_equal(model.dof_frictionloss[6:], 0.1)
    assert model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_AUTORESET  # bad states must be seen, not silently reset


@pytest.mark.parametrize("pose", ["home", "knees_bent"])
def test_humanoid_stands_with_its_soles_on_the_ground(pose):
    model = load("humanoid")
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, model.key(pose).id)
    mujoco.mj_forward(model, data)
    soles = np.array([data.sensor(f"{side}_position").data for side in ("left", "right")])
    np.testing.assert_allclose(soles[:, 2], 0.0, atol=3e-3)
    np.testing.assert_allclose(soles[0] * [1, -1, 1], soles[1], atol=1e-4)
    normals = [data.sensor(f"{side}_normal").data for side in ("left", "right")]
    np.testing.assert_allclose(normals, [[0, 0, 1]] * 2, atol=0.1)
    middle = data.subtree_com[1]
    assert 0.6 < middle[2] < 0.75 and abs(middle[0] - soles[:, 0].mean()) < 0.02  # balanced


def test_humanoid_stands_for_two_seconds_on_its_ankles():
    """The published ankles are too soft to stand on, 40 N m/rad against a fall that pulls with 220: held still, it falls in a second."""
    model = load("humanoid")
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    held = model.key_ctrl[0].copy()
    ankles = [model.actuator(f"{side}_ankle_pitch").id for side in ("left", "right")]
    angles = [model.joint(f"{side}_ankle_pitch").qposadr[0] for side in ("left", "right")]
    jacobian, weight = np.zeros((3, model.nv)), 9.81 * model.body_mass.sum()
    while data.time < 2.0:
        mujoco.mj_jacSubtreeCom(model, data, jacobian, 1)
        ahead = data.subtree_com[1, 0] - data.body("left_ankle_roll").xpos[0]
        torque = weight * ahead + 400.0 * (ahead - 0.02) + 150.0 * (jacobian @ data.qvel)[0]
        data.ctrl[:] = held
        data.ctrl[ankles] = data.qpos[angles] + np.clip(torque / 2, -6.0, 14.0) / 20.0
        mujoco.mj_step(model, data)
    assert data.qpos[2] > 0.75 and np.abs(data.qvel[:6]).max() < 0.3
    contacts = [data.sensor(f"{side}_{spot}_contact").data[0] for side in ("left", "right") for spot in ("heel_outer", "toe_inner")]
    assert (np.array(contacts) > 0).all()


def test_humanoid_legs_do_not_pass_through_each_other():
    model = load("humanoid")
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    data.qpos[2] += 1.0
    crossed = {"left_hip_roll": -0.2, "right_hip_roll": 0.2}
    for name, angle in crossed.items():
        data.qpos[model.joint(name).qposadr[0]] = angle
    mujoco.mj_forward(model, data)
    pairs = [{model.geom(g).name for g in contact.geom} for contact in data.contact]
    assert {"left_shin", "right_shin"} in pairs and {"left_instep", "right_instep"} in pairs


def test_solver_comes_close_to_the_solution():
    """Velocities after one step, by joint targets off by 0.2 rad, against fifty iterations."""
    model, exact = load("humanoid"), load("humanoid")
    exact.opt.iterations, exact.opt.ls_iterations = 50, 50
    one, other = mujoco.MjData(model), mujoco.MjData(exact)
    rng, gaps = np.random.default_rng(0), []
    for _ in range(5):
        mujoco.mj_resetDataKeyframe(exact, other, 0)
        for _ in range(20):
            other.ctrl[:] = np.clip(exact.key_ctrl[0] + 0.2 * rng.normal(size=29), *exact.actuator_ctrlrange.T)
            for _ in range(4):
                one.qpos[:], one.qvel[:], one.qacc_warmstart[:], one.ctrl[:] = other.qpos, other.qvel, other.qacc_warmstart, other.ctrl
                mujoco.mj_step(model, one)
                mujoco.mj_step(exact, other)
                gaps.append(np.abs(one.qvel - other.qvel).max())
    assert np.quantile(gaps, 0.95) < 0.1


def test_arm_has_the_published_joints_and_limits():
    model = load("panda")
    assert (model.nq, model.nu) == (9, 8)
    assert model.body_mass.sum() == pytest.approx(17.451901, abs=1e-6)
    np.testing.assert_allclose(motors(model, PANDA)[:, :4], np.array(list(PANDA.values())), rtol=1e-6)


def test_arm_holds_still_and_closes_its_hand():
    model = load("panda")
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    mujoco.mj_forward(model, data)
    np.testing.assert_allclose(data.sensor("gripper_position").data, [0.5545, 0, 0.5245], atol=1e-3)
    np.testing.assert_allclose(np.abs(data.sensor("gripper_orientation").data), [0, np.sqrt(0.5), np.sqrt(0.5), 0], atol=1e-2)  # down
    mujoco.mj_step(model, data, nstep=1000)
    np.testing.assert_allclose(data.qpos[:7], model.key_qpos[0, :7], atol=0.04)  # its gains give way under gravity by 3 cm at the hand
    assert np.abs(data.qvel).max() < 1e-6
    data.ctrl[7] = 0.0
    mujoco.mj_step(model, data, nstep=500)
    np.testing.assert_allclose(data.qpos[7:], 0.0, atol=1e-4)


@pytest.mark.slow  # the humanoid takes MJX half a minute to compile
@pytest.mark.parametrize("name", ["humanoid", "panda"])
def test_robot_steps_alike_on_both_backends(name):
    """With a solver that converges: what an unfinished one leaves depends on the engine's line search."""
    model = load(name)
    model.opt.iterations, model.opt.ls_iterations = 20, 20
    start = at_rest(model)._replace(qpos=jnp.asarray(model.key_qpos[0], jnp.float32))
    ctrl = jnp.tile(jnp.asarray(model.key_ctrl[0] + 0.05, jnp.float32), (4, 1))
    after = {}
    for backend in ("native", "mjx"):
        physics = make(model, backend)
        after[backend] = jax.jit(lambda s, c, p=physics: p.step(s, c, {}))(start, ctrl)
    np.testing.assert_allclose(after["mjx"].qpos, after["native"].qpos, atol=1e-5)
    np.testing.assert_allclose(after["mjx"].qvel, after["native"].qvel, atol=2e-3)
    assert np.abs(after["native"].qvel).max() > 0.1
