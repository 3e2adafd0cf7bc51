"""What becomes of commands on their way to the joints."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxrl_envs.physics import make
from jaxrl_envs.randomization import Ranges, randomised
from jaxrl_envs.randomization.actuation import READS, actuation

SUBSTEPS = 4
ARM = """
<mujoco>
  <option timestep="0.005" gravity="0 0 0" integrator="implicitfast"/>
  <worldbody>
    <body name="link">
      <joint name="hinge" axis="0 1 0" armature="0.1"/>
      <geom size="0.05" pos="0.3 0 0" mass="1"/>
    </body>
  </worldbody>
  <actuator><position name="motor" joint="hinge" kp="20" kv="0.5" forcerange="-5 5"/></actuator>
</mujoco>
"""


@pytest.fixture(scope="module")
def physics():
    return make(mujoco.MjModel.from_xml_string(ARM), "native")


def way(physics, slots=2, **ranges):
    """A step function, the nominal parameters with changes, and the first state and commands."""
    given = Ranges(**ranges)
    motors = actuation(physics, given, SUBSTEPS, slots)
    nominal = randomised(physics, given, READS).nominal
    state = physics.forward(jnp.zeros(1), jnp.zeros(1), nominal.fields)
    step = jax.jit(motors.step)
    return step, nominal, state, motors.init(jnp.zeros(1))


def torque(physics, state, held, speed=None):
    """Of MuJoCo's motor that holds a target."""
    speed = state.qvel if speed is None else speed
    return np.clip(20 * (held - state.qpos) - 0.5 * speed, -5, 5)


DRAWS = jnp.array([0.9, 0.5])  # nothing is lost, no jitter


def test_without_ranges_a_command_holds_at_once(physics):
    step, nominal, state, commands = way(physics)
    target = jnp.array([0.3])
    after, commands, held = step(state, commands, target, nominal, DRAWS)
    plain = physics.step(state, jnp.tile(target[None], (SUBSTEPS, 1)), nominal.fields)
    np.testing.assert_array_equal(after.qpos, plain.qpos)
    assert held == target and commands.sent[0] == target


@pytest.mark.parametrize(("delay", "old"), [(0.0, 0), (0.005, 1), (0.012, 3), (0.02, 4), (0.027, 6), (0.04, 8)])
def test_a_delay_counts_in_steps_of_the_physics(physics, delay, old):
    """After two commands the first `old` steps of the physics, of eight, hold what was there before."""
    step, nominal, start, begun = way(physics, action_delay=(0.0, 0.04))
    late = nominal._replace(action_delay=jnp.asarray(delay))
    state, commands = start, begun
    for _ in range(2):
        state, commands, _ = step(state, commands, jnp.array([0.3]), late, DRAWS)
    rows = np.where(np.arange(2 * SUBSTEPS) < old, 0.0, 0.3)[:, None].astype(np.float32)
    expected = start
    for part in np.split(rows, 2):
        expected = physics.step(expected, jnp.asarray(part), nominal.fields)
    np.testing.assert_array_equal(state.qpos, expected.qpos)


def test_jitter_moves_the_delay_both_ways(physics):
    step, nominal, state, commands = way(physics, action_delay=(0.0, 0.01), action_jitter=(0.0, 0.01))
    late = nominal._replace(action_delay=jnp.asarray(0.01), action_jitter=jnp.asarray(0.01))
    moved = [float(step(state, commands, jnp.array([0.3]), late, jnp.array([0.9, draw]))[0].qpos[0]) for draw in (0.0, 0.5, 0.999)]
    assert moved[0] > moved[1] > moved[2] >= 0


def test_a_lost_command_leaves_the_last_one(physics):
    step, nominal, state, commands = way(physics, action_drop=(0.0, 0.5))
    lossy = nominal._replace(action_drop=jnp.asarray(0.3))
    _, commands, held = step(state, commands, jnp.array([0.3]), lossy, jnp.array([0.5, 0.5]))
    assert held == np.float32(0.3)
    _, commands, held = step(state, commands, jnp.array([0.9]), lossy, jnp.array([0.2, 0.5]))
    assert held == np.float32(0.3) and commands.sent[0] == np.float32(0.3)


def test_backlash_is_the_hysteresis_of_play(physics):
    step, nominal, state, commands = way(physics, backlash=(0.0, 0.2))
    loose = nominal._replace(backlash=jnp.array([0.2]))
    seen = []
    for target in (0.05, 0.3, 0.25, 0.1, -0.3):
        _, commands, held = step(state, commands, jnp.array([target]), loose, DRAWS)
        seen.append(float(held[0]))
    np.testing.assert_allclose(seen, [0.0, 0.2, 0.2, 0.2, -0.2], atol=1e-6)


def test_an_encoder_that_reads_too_much_makes_the_motor_hold_less(physics):
    step, nominal, state, commands = way(physics)
    _, _, held = step(state, commands, jnp.array([0.3]), nominal._replace(joint_offset=jnp.array([0.1])), DRAWS)
    np.testing.assert_allclose(held, 0.2, atol=1e-6)


def test_a_motor_weakens_with_speed_and_brakes_with_all_it_has(physics):
    """Against the acceleration that the torque would give: the hinge has 0.1 + 0.09 kg m^2."""
    step, nominal, state, commands = way(physics, motor_speed=(10.0, 20.0))
    fast = nominal._replace(motor_speed=jnp.array([10.0]))
    inertia = 0.1 + 1.0 * 0.3**2 + 0.4 * 0.05**2
    for speed, target, expected in ((0.0, 1.0, 5.0), (5.0, 9.0, 2.5), (10.0, 9.0, 0.0), (12.0, 9.0, 0.0), (5.0, -9.0, -5.0)):
        moving = state._replace(qvel=jnp.array([speed]))
        after, _, _ = step(moving, commands, jnp.array([target]), fast, DRAWS)
        # Speed changes within the control step, so the limit does: bracket it by its ends.
        mean = (float(after.qvel[0]) - speed) * inertia / 0.02
        at_end = expected if expected <= 0 else 5.0 * max(0.0, 1 - float(after.qvel[0]) / 10.0)
        low, high = sorted((expected, at_end))
        assert low - 0.15 <= mean <= high + 0.15, (speed, mean, low, high)


def test_small_torques_have_no_effect(physics):
    step, nominal, state, commands = way(physics, deadband=(0.0, 1.0))
    stiff = nominal._replace(deadband=jnp.array([1.0]))
    still, _, _ = step(state, commands, jnp.array([0.04]), stiff, DRAWS)  # 0.8 N m
    assert abs(float(still.qvel[0])) < 1e-6
    moves, _, _ = step(state, commands, jnp.array([0.06]), stiff, DRAWS)  # 1.2 N m
    assert float(moves.qvel[0]) > 0.01


def test_what_the_motors_hold_tells_their_torque(physics):
    step, nominal, state, commands = way(physics, deadband=(0.0, 1.0), motor_speed=(10.0, 20.0))
    given = nominal._replace(deadband=jnp.array([1.0]), motor_speed=jnp.array([10.0]))
    for speed, target, expected in ((0.0, 0.04, 0.0), (12.0, 9.0, 0.0), (-1.0, 9.0, 5.0)):
        after, _, held = step(state._replace(qvel=jnp.array([speed])), commands, jnp.array([target]), given, DRAWS)
        np.testing.assert_allclose(torque(physics, after, held), expected, atol=1e-4)


def test_a_limitless_law_is_that_of_mujoco(physics):
    """With a huge speed and no deadband the detour over another target changes nothing."""
    step, nominal, state, commands = way(physics, motor_speed=(1e6, 1e7))
    plain, _, begun, first = way(physics)
    moving = state._replace(qvel=jnp.array([2.0]))
    a, _, _ = step(moving, commands, jnp.array([0.1]), nominal._replace(motor_speed=jnp.array([1e7])), DRAWS)
    b, _, _ = plain(moving, first, jnp.array([0.1]), nominal, DRAWS)
    np.testing.assert_allclose(a.qpos, b.qpos, atol=1e-5)
    np.testing.assert_allclose(a.qvel, b.qvel, atol=1e-3)


def test_what_cannot_be_is_refused(physics):
    with pytest.raises(ValueError, match=r"up to 0.05 s, but the buffer holds 2 control steps of 0.02 s; it needs 3 \(delay_steps=3\)"):
        actuation(physics, Ranges(action_delay=(0.0, 0.04), action_jitter=(0.0, 0.01)), SUBSTEPS, 2)
    pushing = make(
        mujoco.MjModel.from_xml_string(
            ARM.replace('<position name="motor" joint="hinge" kp="20" kv="0.5"', '<motor name="pusher" joint="hinge"')
        ),
        "native",
    )
    for name in ("deadband", "backlash", "joint_offset"):
        with pytest.raises(ValueError, match=f"{name}: only position actuators on joints can have them, and these are none: pusher"):
            actuation(pushing, Ranges(**{name: (0.0, 1.0)}), SUBSTEPS)


@pytest.mark.parametrize("backend", ["native", pytest.param("mjx", marks=pytest.mark.slow)])
def test_the_law_holds_where_it_moves_the_target_out_of_the_models_range(backend):
    """A motor at its no-load speed gives nothing, though the target that says so lies beyond ctrlrange."""
    ranged = ARM.replace('forcerange="-5 5"', 'forcerange="-5 5" ctrlrange="-0.3 0.3"')
    arm = make(mujoco.MjModel.from_xml_string(ranged), backend)
    given = Ranges(motor_speed=(10.0, 20.0))
    motors, worlds = actuation(arm, given, SUBSTEPS), randomised(arm, given, READS)
    parameters = worldwide = worlds.sample(jax.random.key(0))._replace(motor_speed=jnp.array([10.0]))
    moving = arm.forward(jnp.array([-0.2]), jnp.array([10.0]), worldwide.fields)
    after, _, _ = jax.jit(motors.step)(moving, motors.init(jnp.zeros(1)), jnp.array([9.0]), parameters, DRAWS)
    assert abs(float(after.qvel[0]) - 10.0) < 0.02
    # The target itself is held to the range: 20 N m / rad * 0.3 rad from standing still at 0 is all that it may ask for.
    still = arm.forward(jnp.zeros(1), jnp.zeros(1), parameters.fields)
    far, near = (jax.jit(motors.step)(still, motors.init(jnp.zeros(1)), jnp.array([t]), parameters, DRAWS)[0] for t in (9.0, 0.3))
    np.testing.assert_allclose(far.qvel, near.qvel, rtol=1e-6)
