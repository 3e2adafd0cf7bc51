"""What ranges do to contacts and motors of other models than the Go2's, and what they refuse there."""

import jax
import mujoco
import numpy as np
import pytest

from jaxrl_envs.physics import make
from jaxrl_envs.randomization import Ranges, randomised

LEG = """<mujoco><worldbody>
  <geom type="plane" size="1 1 1"/>
  <body name="leg"><joint name="hinge" range="-1 1"/><geom size="0.1" friction="0.4 0.01 0.02" {}/></body>
</worldbody><actuator>{}</actuator></mujoco>"""


def leg(geom="", actuator=""):
    return make(mujoco.MjModel.from_xml_string(LEG.format(geom, actuator)), "native")


@pytest.mark.parametrize(
    ("drawn", "field", "column", "value"),
    [
        ("friction", "geom_friction", 0, 0.7),
        ("friction_torsion", "geom_friction", [1, 2], [0.007, 0.014]),
        ("contact_time", "geom_solref", 0, 0.7),
        ("contact_damping", "geom_solref", 1, 0.7),
        ("contact_width", "geom_solimp", 2, 0.7),
    ],
)
def test_what_no_range_names_of_a_contact_is_each_geoms_own(drawn, field, column, value):
    physics = leg('solref="0.05 0.3"')
    fields = randomised(physics, Ranges(**{drawn: (0.7, 0.7)})).sample(jax.random.key(0)).fields
    expected = getattr(physics.model, field).copy()
    expected[:, column] = value
    if drawn == "friction_torsion":  # a factor
        expected[0, column] = 0.7 * physics.model.geom_friction[0, column]
    np.testing.assert_allclose(fields[field], expected, rtol=1e-6)


def test_contacts_of_explicit_pairs_are_told_of():
    words = """<mujoco><worldbody>
      <geom name="floor" type="plane" size="1 1 1"/><body><joint/><geom name="foot" size="1"/></body>
    </worldbody><contact><pair name="step" geom1="floor" geom2="foot"/></contact></mujoco>"""
    physics = make(mujoco.MjModel.from_xml_string(words), "native")
    for name in ("friction", "friction_torsion", "contact_width"):
        with pytest.raises(
            ValueError, match=f"{name}: contacts of explicit pairs have numbers of their own, .*: step; leave out the pairs"
        ):
            randomised(physics, Ranges(**{name: (0.5, 1.0)}))


@pytest.mark.parametrize(
    ("geom", "actuator", "ranges", "message"),
    [
        ('contype="0" conaffinity="0"', "", {"friction": (0.1, 0.2)}, None),
        ('solref="-1000 -10"', "", {"contact_time": (0.02, 0.03)}, "contact_time: has no meaning where a geom's solref is stiffness"),
        (
            "",
            '<muscle name="calf" joint="hinge" force="10" lengthrange="0 1"/>',
            {"motor_gain": (2.0, 2.0)},
            "motor_gain: is for motors, and these are muscles: calf",
        ),
        (
            "",
            '<motor joint="hinge" forcerange="-1 1" forcelimited="false"/>',
            {"motor_strength": (0.5, 1.0)},
            "motor_strength: is a factor on the model's own value, which is zero for motor 0",
        ),
    ],
)
def test_ranges_without_effect_or_meaning_are_refused(geom, actuator, ranges, message):
    physics = leg(geom, actuator)
    if message is None:  # the floor collides still
        randomised(physics, Ranges(**ranges))
        bare = make(
            mujoco.MjModel.from_xml_string(f'<mujoco><worldbody><body><joint/><geom size="1" {geom}/></body></worldbody></mujoco>'),
            "native",
        )
        with pytest.raises(ValueError, match="friction: has no effect, for no geom of the model collides"):
            randomised(bare, Ranges(**ranges))
        return
    with pytest.raises(ValueError, match=message):
        randomised(physics, Ranges(**ranges))
