"""Ranges, draws and what they do to the model."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from scipy import stats

from jaxrl_envs.physics import make
from jaxrl_envs.randomization import QUANTITIES, Parameters, Range, Ranges, randomised
from jaxrl_envs.randomization.inertia import add_point, principal, rotational_inertia, second_moment, stretch
from jaxrl_envs.randomization.parameters import _pair
from jaxrl_envs.randomization.ranges import place, quantile
from jaxrl_envs.tasks._go2 import model

READS = frozenset(name for name, quantity in QUANTITIES.items() if quantity.is_read or not quantity.touches)
INTERVALS = {
    "friction": (0.4, 1.2),
    "friction_torsion": (0.8, 1.2),
    "contact_time": (0.012, 0.03),
    "contact_damping": (0.8, 1.2),
    "contact_width": (0.0005, 0.05),
    "gravity": (-0.2, 0.2),
    "terrain": (0.0, 1.0),
    "push_velocity": (0.0, 0.5),
    "link_mass": (0.9, 1.1),
    "inertia": (-0.1, 0.1),
    "center_of_mass": (-0.01, 0.01),
    "payload": (0.0, 2.0),
    "payload_place": (-0.1, 0.1),
    "joint_damping": (0.8, 1.2),
    "armature": (0.9, 1.3),
    "motor_gain": (0.85, 1.15),
    "motor_strength": (0.85, 1.15),
    "motor_speed": (20.0, 30.0),
    "deadband": (0.0, 0.1),
    "backlash": (0.0, 0.02),
    "joint_offset": (-0.03, 0.03),
    "action_delay": (0.0, 0.02),
    "action_jitter": (0.0, 0.004),
    "action_drop": (0.0, 0.1),
    "observation_noise": (0.5, 1.5),
    "observation_drift": (0.0, 1.0),
    "observation_resolution": (0.5, 1.0),
    "observation_delay": (0.0, 0.02),
    "observation_drop": (0.0, 0.1),
}
NAMED = {name: {"base": INTERVALS[name]} for name in ("payload", "payload_place")}
ALL = Ranges(**INTERVALS | NAMED)
WITHOUT = {"joint_friction"}  # the robot has none that a factor could change


@pytest.fixture(scope="module")
def physics():
    return make(model(), "native")


@pytest.fixture(scope="module")
def worlds(physics):
    return randomised(physics, ALL, READS)


@pytest.fixture(scope="module")
def draws(worlds):
    return jax.jit(jax.vmap(worlds.sample))(jax.random.split(jax.random.key(0), 1000))


def test_every_quantity_is_a_parameter_with_a_range():
    assert [*QUANTITIES, "fields"] == list(Parameters._fields)
    assert [*QUANTITIES, "correlations"] == list(Ranges.__dataclass_fields__)
    assert set(INTERVALS) | WITHOUT == set(QUANTITIES)


@pytest.mark.parametrize("name", INTERVALS)
def test_draws_fill_their_range(physics, worlds, draws, name):
    low, high = INTERVALS[name]
    values, own = np.asarray(getattr(draws, name)), np.asarray(getattr(worlds.nominal, name))
    varying = np.ravel(np.ptp(values, 0) > 0)
    where = {"payload": [1], "payload_place": [3, 4, 5]}.get(name)
    if name in ("link_mass", "inertia", "center_of_mass"):  # the world has no mass
        assert varying.reshape(physics.model.nbody, -1)[1:].all() and not varying.reshape(physics.model.nbody, -1)[0].any()
    else:
        np.testing.assert_array_equal(np.flatnonzero(varying), np.arange(varying.size) if where is None else where)
    np.testing.assert_array_equal(
        np.reshape(values, (1000, -1))[:, ~varying], np.broadcast_to(np.ravel(own)[~varying], (1000, (~varying).sum()))
    )
    drawn = np.reshape(values, (1000, -1))[:, varying]
    assert drawn.min() >= low - 1e-6 and drawn.max() <= high + 1e-6
    assert drawn.min() < low + 0.05 * (high - low) and drawn.max() > high - 0.05 * (high - low)
    np.testing.assert_allclose(drawn.mean(), (low + high) / 2, atol=0.05 * (high - low))


def test_worlds_differ_and_keys_repeat(worlds, draws):
    assert len(np.unique(np.asarray(draws.friction))) > 990
    again = jax.jit(worlds.sample)(jax.random.split(jax.random.key(0), 1000)[7])
    np.testing.assert_array_equal(again.link_mass, draws.link_mass[7])


def test_nominal_is_the_model_with_the_same_tree(physics, worlds, draws):
    assert jax.tree.structure(worlds.nominal) == jax.tree.structure(draws)
    for name, value in worlds.nominal.fields.items():
        own = physics.model.opt.gravity if name == "opt.gravity" else getattr(physics.model, name)
        np.testing.assert_allclose(value, own, rtol=1e-7)
    assert float(worlds.nominal.friction) == pytest.approx(0.8)
    plain = randomised(physics)
    assert plain.nominal.fields == {} and plain.space is None
    jax.tree.map(np.testing.assert_array_equal, plain.sample(jax.random.key(0)), plain.nominal)


def test_the_middle_of_the_space_is_the_nominal_world(worlds):
    found = worlds.space.at(jnp.asarray(worlds.space.center))
    symmetric = set(INTERVALS) - {"friction", "contact_time", "contact_width", "motor_speed", "observation_noise", "armature"}
    for name in symmetric | {"friction", "armature"}:
        low = max(INTERVALS[name][0], -np.inf)
        np.testing.assert_allclose(
            getattr(found, name), np.maximum(getattr(worlds.nominal, name), low) if low > 0 else getattr(worlds.nominal, name), atol=1e-6
        )
    np.testing.assert_allclose(found.motor_speed, 30.0, rtol=1e-6)  # unlimited in the model: the end nearest to it


def test_simple_fields_follow_the_draws(physics, draws):
    compiled, row = physics.model, jax.tree.map(lambda x: np.asarray(x[11]), draws)
    fields = row.fields
    floor = compiled.geom("floor").id
    assert fields["geom_friction"][floor, 0] == row.friction
    np.testing.assert_allclose(fields["geom_friction"][floor, 1:], compiled.geom_friction[floor, 1:] * row.friction_torsion, rtol=1e-6)
    np.testing.assert_allclose(fields["geom_solref"][floor], [row.contact_time, row.contact_damping], rtol=1e-6)
    foot = compiled.geom("FL_foot").id
    np.testing.assert_allclose(
        fields["geom_solimp"][foot], [*compiled.geom_solimp[foot, :2], row.contact_width, *compiled.geom_solimp[foot, 3:]], rtol=1e-6
    )
    shell = np.flatnonzero((compiled.geom_contype == 0) & (compiled.geom_conaffinity == 0))[0]
    np.testing.assert_allclose(fields["geom_friction"][shell], compiled.geom_friction[shell], rtol=1e-6)
    np.testing.assert_allclose(fields["opt.gravity"], compiled.opt.gravity + row.gravity, rtol=1e-6)
    np.testing.assert_allclose(fields["dof_damping"][6:], compiled.dof_damping[6:] * row.joint_damping[1:], rtol=1e-6)
    np.testing.assert_allclose(fields["dof_armature"][6:], compiled.dof_armature[6:] * row.armature[1:], rtol=1e-6)
    np.testing.assert_allclose(fields["actuator_gainprm"][:, 0], 50 * row.motor_gain, rtol=1e-6)
    np.testing.assert_allclose(fields["actuator_biasprm"][:, 1], -50 * row.motor_gain, rtol=1e-6)
    np.testing.assert_allclose(fields["actuator_forcerange"][:, 1], compiled.actuator_forcerange[:, 1] * row.motor_strength, rtol=1e-6)


def test_masses_alone_keep_shape_and_axes(physics):
    worlds = randomised(physics, Ranges(link_mass=(0.5, 1.5)))
    assert set(worlds.nominal.fields) == {"body_mass", "body_inertia"}
    row = worlds.sample(jax.random.key(0))
    np.testing.assert_allclose(row.fields["body_mass"], physics.model.body_mass * row.link_mass, rtol=1e-6)
    np.testing.assert_allclose(row.fields["body_inertia"], physics.model.body_inertia * np.asarray(row.link_mass)[:, None], rtol=1e-6)


# Inertias


def pseudo(mass, center, inertia):
    """The second moments about the frame's origin beside the first moment and the mass: positive definite for a body."""
    moments = np.trace(inertia) / 2 * np.eye(3) - inertia + mass * np.outer(center, center)
    return np.block([[moments, mass * center[:, None]], [mass * center[None, :], np.full((1, 1), mass)]])


def in_frame(diagonal, quaternion):
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, np.asarray(quaternion, np.float64))
    matrix = matrix.reshape(3, 3)
    return matrix @ np.diag(diagonal) @ matrix.T


def test_drawn_inertias_are_those_of_bodies(physics, draws):
    f = {name: np.asarray(value[:200], np.float64) for name, value in draws.fields.items()}
    for row in range(200):
        for body in range(1, physics.model.nbody):
            inertia = in_frame(f["body_inertia"][row, body], f["body_iquat"][row, body])
            lowest = np.linalg.eigvalsh(pseudo(f["body_mass"][row, body], f["body_ipos"][row, body], inertia))[0]
            assert lowest > 0
    np.testing.assert_allclose(np.linalg.norm(f["body_iquat"][:, 1:], axis=-1), 1.0, rtol=1e-5)


def test_a_payload_is_a_point_mass(physics):
    """Against a body with that mass welded on, which MuJoCo fuses."""
    worlds = randomised(physics, Ranges(payload={"base": (1.5, 1.5)}, payload_place={"base": (0.1, 0.1)}))
    row = worlds.sample(jax.random.key(0))
    total, base = row.fields["body_mass"][1], physics.model.body("base")
    assert float(total) == pytest.approx(base.mass[0] + 1.5, rel=1e-4)
    place = np.full(3, 0.1)
    center = (base.mass[0] * base.ipos + 1.5 * place) / (base.mass[0] + 1.5)
    np.testing.assert_allclose(row.fields["body_ipos"][1], center, atol=1e-5)
    arm, lever = base.ipos - center, place - center
    parallel = lambda m, r: m * (r @ r * np.eye(3) - np.outer(r, r))  # noqa: E731
    expected = in_frame(base.inertia, base.iquat) + parallel(base.mass[0], arm) + parallel(1.5, lever)
    np.testing.assert_allclose(in_frame(row.fields["body_inertia"][1], row.fields["body_iquat"][1]), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(row.fields["body_mass"][2:], physics.model.body_mass[2:], rtol=1e-6)


def test_stretching_a_box_gives_the_stretched_box():
    size, mass = np.array([0.3, 0.2, 0.1]), 2.0

    def box(size):
        return mass / 12 * np.diag([size[1] ** 2 + size[2] ** 2, size[0] ** 2 + size[2] ** 2, size[0] ** 2 + size[1] ** 2])

    factors = np.array([1.2, 0.9, 1.1])
    change = stretch(jnp.asarray([*np.log(factors), 0.0, 0.0, 0.0]))
    moments = change @ second_moment(jnp.asarray(box(size))) @ change.T
    np.testing.assert_allclose(rotational_inertia(moments), box(size * factors), rtol=1e-5, atol=1e-7)


def test_principal_axes_are_a_rotation():
    random = np.random.default_rng(0)
    for _ in range(20):
        root = random.normal(size=(3, 3))
        inertia = rotational_inertia(jnp.asarray(root @ root.T, jnp.float32))
        moments, quaternion = principal(inertia)
        np.testing.assert_allclose(in_frame(moments, quaternion), inertia, rtol=1e-4, atol=1e-4)
        assert moments[0] + moments[1] >= moments[2] * (1 - 1e-5)


def test_a_point_on_nothing_is_the_point():
    mass, center, moments = add_point(jnp.zeros(()), jnp.zeros(3), jnp.zeros((3, 3)), jnp.ones(()), jnp.ones(3))
    assert mass == 1
    np.testing.assert_array_equal(center, 1)
    np.testing.assert_array_equal(moments, 0)


# Distributions


DISTRIBUTIONS = {
    "uniform": (Range(1.0, 3.0), stats.uniform(1.0, 2.0)),
    "log_uniform": (Range(0.1, 10.0, "log_uniform"), stats.loguniform(0.1, 10.0)),
    "normal": (Range(1.0, 3.0, "normal"), stats.truncnorm(-2.0, 2.0, 2.0, 0.5)),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distributions_are_those_of_their_names(name):
    of, reference = DISTRIBUTIONS[name]
    places = np.linspace(0.01, 0.99, 33)
    np.testing.assert_allclose(quantile(of, jnp.asarray(places)), reference.ppf(places), rtol=2e-4)
    for value in reference.ppf([0.1, 0.5, 0.7]):
        assert place(of, value) == pytest.approx(float(reference.cdf(value)), abs=1e-4)
    assert place(of, of.bounds[0] - 1) == 0 and place(of, of.bounds[1] + 1) == 1


def test_a_choice_takes_its_values_alike():
    of = Range(distribution="choice", values=(0.2, 0.5, 0.9))
    drawn = np.asarray(quantile(of, jax.random.uniform(jax.random.key(0), (6000,))))
    values, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_allclose(values, [0.2, 0.5, 0.9], rtol=1e-6)
    np.testing.assert_allclose(counts / 6000, 1 / 3, atol=0.02)
    assert place(of, 0.5) == pytest.approx(0.5) and of.bounds == (0.2, 0.9)
    assert quantile(of, jnp.ones(())) == np.float32(0.9)


def test_correlated_numbers_are_uniform_and_correlated(physics):
    ranges = Ranges(
        friction=(0.0, 1.0),
        motor_gain=Range(0.5, 1.5, correlation=0.8),
        link_mass=Range(0.5, 1.5, correlation=1.0),
        correlations=(("friction", "motor_gain", -0.6),),
    )
    points = np.asarray(jax.jit(jax.vmap(randomised(physics, ranges).space.draw))(jax.random.split(jax.random.key(0), 4000)))
    for dimension in (0, 3, 20):
        assert stats.kstest(points[:, dimension], "uniform").pvalue > 0.001
    ranks = stats.spearmanr(points).statistic
    names = np.asarray(randomised(physics, ranges).space.group)
    friction, mass, gain = (np.flatnonzero(names == g) for g in range(3))
    np.testing.assert_allclose(ranks[np.ix_(friction, gain)], 6 / np.pi * np.arcsin(-0.6 / 2), atol=0.04)
    np.testing.assert_allclose(ranks[gain[0], gain[1:]], 6 / np.pi * np.arcsin(0.8 / 2), atol=0.04)
    np.testing.assert_allclose(points[:, mass[1:]], points[:, mass[:1]].repeat(len(mass) - 1, 1), atol=1e-4)
    assert abs(ranks[friction[0], mass[0]]) < 0.05


def test_names_choose_bodies(physics):
    worlds = randomised(physics, Ranges(link_mass={"base": (0.5, 0.7), "FL_calf": Range(2.0, 3.0, "log_uniform")}))
    assert worlds.space.names == ("link_mass",) and len(worlds.space.group) == 2
    many = jax.vmap(worlds.sample)(jax.random.split(jax.random.key(0), 50))
    masses = np.asarray(many.link_mass)
    calf = physics.model.body("FL_calf").id
    assert (np.abs(masses[:, 1] - 0.6) <= 0.1).all() and (masses[:, calf] >= 2).all()
    assert (np.delete(masses, [1, calf], axis=1) == 1).all()
    summary = worlds.space.summary(many)
    np.testing.assert_array_equal(summary["link_mass/base"], masses[:, 1])
    assert set(summary) == {"link_mass/base", "link_mass/FL_calf"}


def test_long_vectors_are_told_by_their_mean(worlds, draws):
    summary = worlds.space.summary(jax.device_get(draws))
    np.testing.assert_allclose(summary["motor_gain/mean"], np.asarray(draws.motor_gain).mean(1), rtol=1e-6)
    np.testing.assert_array_equal(summary["payload/base"], np.asarray(draws.payload)[:, 1])
    assert {"gravity/x", "gravity/y", "gravity/z", "friction", "payload_place/base/z"} <= set(summary)


def test_derived_constants_are_those_of_set_const(physics, draws):
    """What the native batch derives for a row is what MuJoCo derives for a model with that row's fields."""
    from mujoco.batch import Batch

    batch = Batch(physics.model, 4)
    for name, value in draws.fields.items():
        batch.expand(name)[:] = np.asarray(value[:4])
    batch.set_const()
    for row in range(4):
        changed = model()
        for name, value in draws.fields.items():
            holder = changed.opt if name.startswith("opt.") else changed
            getattr(holder, name.removeprefix("opt."))[:] = np.asarray(value[row])
        mujoco.mj_setConst(changed, mujoco.MjData(changed))
        derived = batch.get_model(row)
        for name in ("body_subtreemass", "dof_M0", "dof_invweight0", "body_invweight0", "actuator_acc0"):
            np.testing.assert_allclose(getattr(derived, name), getattr(changed, name), rtol=1e-10, err_msg=name)


# Bad input


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"friction": (1.0, 0.5)}, "friction: the lower bound 1.0 is above the upper bound 0.5"),
        ({"link_mass": {"base": (-0.1, 1.0)}}, "link_mass.base: the lower bound -0.1 1 must be at least 0.01"),
        ({"action_drop": (0.0, 1.5)}, "action_drop: the upper bound 1.5 1 must be at most 1.0"),
        ({"friction": Range(0.5, 1.0), "correlations": (("friction", "motor_gian", 0.5),)}, "correlations: motor_gian is not drawn"),
        ({"payload_place": {"base": (0.0, 0.1)}}, "payload_place: there is no payload"),
        (
            {"payload": {"base": (0, 1)}, "payload_place": {"FL_calf": (0.0, 0.1)}},
            "payload_place: there is no payload on FL_calf, but on base",
        ),
        (
            {"friction": (0, 1), "gravity": (0, 1), "correlations": (("friction", "gravity", 0.3), ("gravity", "friction", -0.9))},
            "correlations: gravity and friction are named twice",
        ),
    ],
)
def test_impossible_ranges_are_refused(ranges, message):
    with pytest.raises(ValueError, match=message):
        Ranges(**ranges)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"distribution": "choice"}, "give at least one"),
        ({"distribution": "choice", "values": (2.0, 1.0)}, "rising order"),
        ({"low": 1.0, "high": 2.0, "values": (1.0,)}, 'only a distribution "choice" has them'),
        ({"low": 0.0, "high": 2.0, "distribution": "log_uniform"}, "must be positive, got 0.0"),
        ({"low": 0.0, "high": float("inf")}, "must be finite"),
        ({"low": 0.0, "high": 1.0, "correlation": 1.5}, "correlation is 1.5"),
    ],
)
def test_impossible_distributions_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Range(**values)


def test_what_only_a_type_would_refuse_is_refused_too():
    for given in ((1.2,), 0.4, (0.4, 1.2, "normal")):
        with pytest.raises(ValueError, match=r"expected \(low, high\) or a Range, got "):
            _pair(given)
    one = Range(0.5, 2.0)
    object.__setattr__(one, "distribution", "log-uniform")
    with pytest.raises(ValueError, match="there is no distribution 'log-uniform'; did you mean log_uniform"):
        one.__post_init__()


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        (Ranges(link_mass={"bse": (0.9, 1.1)}), "link_mass: the model has no body 'bse'; did you mean base?"),
        (Ranges(motor_gain={"FL_hip": (0.9, 1.1)}), "motor_gain: the model has no motor 'FL_hip'"),
        (Ranges(friction={"floor": (0.9, 1.1)}), "friction: is one for the whole world"),
        (Ranges(payload=(0.0, 1.0)), "payload: belongs to one body or a few; name them"),
        (Ranges(joint_friction=(0.9, 1.1)), "joint_friction: is a factor on the model's own value, which is zero"),
        (Ranges(terrain=(0.0, 1.0)), "terrain: this task does not read it, so a range has no effect; it reads none"),
        (Ranges(contact_time=(0.001, 0.02)), "contact_time: the lower bound 0.001 s is below two time steps"),
        (
            Ranges(friction=(0.4, 1.0), gravity=(-1.0, 1.0), motor_gain=(0.9, 1.0),
                   correlations=(("friction", "motor_gain", 0.9), ("gravity", "motor_gain", 0.9), ("friction", "gravity", -0.9))),
            "no numbers can be correlated so",
        ),
    ],
)  # fmt: skip
def test_ranges_that_do_not_fit_the_model_are_refused(physics, ranges, message):
    with pytest.raises(ValueError, match=message):
        randomised(physics, ranges)


def test_bodies_compiled_as_simple_are_named():
    box = """<mujoco><worldbody><body name="box" {}><freejoint/><geom type="box" size="0.1 0.2 0.3"/></body></worldbody></mujoco>"""
    simple, general = (make(mujoco.MjModel.from_xml_string(box.format(word)), "native") for word in ("", 'simple="false"'))
    with pytest.raises(ValueError, match=r'center_of_mass: .* simple ones, .*: box; give them the attribute simple="false"'):
        randomised(simple, Ranges(center_of_mass=(-0.1, 0.1)))
    worlds = randomised(general, Ranges(center_of_mass=(0.05, 0.05)))
    qvel = jnp.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    one = jnp.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    state = general.forward(one, qvel, worlds.sample(jax.random.key(0)).fields)
    after = general.step(state, jnp.zeros((50, 0)), worlds.sample(jax.random.key(0)).fields)
    assert jnp.abs(after.qvel[:2]).max() > 0.001, "it turns about another point"
