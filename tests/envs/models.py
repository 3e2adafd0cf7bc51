"""Models for the tests of the physics backends, and the backends that are installed."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import mujoco
import pytest

from jaxrl_envs.physics import BACKENDS
from jaxrl_envs.tasks import _go2, cartpole


def backends(*names: str) -> list[Any]:
    """The parameters of a test, by default all backends; those that are not installed are skipped, and say why."""
    missing = pytest.mark.skip(reason="warp-lang is not installed: pip install 'jaxrl[warp]'")
    absent = {"warp"} if find_spec("warp") is None else set()
    return [pytest.param(name, marks=missing) if name in absent else name for name in names or BACKENDS]


# Every kind of joint, a tendon, a site transmission, an actuator with a state, contacts of all condims and sensors of all stages.
_JOINTS = """
<mujoco>
  <compiler autolimits="true"/>
  <option timestep="0.002"><flag autoreset="disable"/></option>
  <default><geom contype="0"/></default>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 0.1" contype="1"/>
    <body name="sled" pos="0 0 0.8">
      <joint name="rail" type="slide" axis="1 0.2 0" armature="0.05" damping="0.5"/>
      <geom type="box" size="0.1 0.2 0.1" mass="1.3" pos="0.1 0 0.2"/>
      <body name="swing" pos="0.3 0 0">
        <joint name="ball" type="ball" pos="0 0 0.1" damping="0.05"/>
        <geom type="capsule" size="0.05 0.2" mass="0.4" pos="0 0.2 0.05" euler="20 30 10"/>
        <body name="tip" pos="0 0.4 0">
          <joint name="elbow" axis="0 1 1" damping="0.1" range="-60 60" frictionloss="0.02"/>
          <geom type="sphere" size="0.05" mass="0.2" pos="0.1 0.1 0"/>
          <site name="tip" pos="0.1 0 0"/>
        </body>
      </body>
    </body>
    <body name="ball" pos="2 0 0.25">
      <freejoint name="free"/>
      <geom name="ball" type="sphere" size="0.2" mass="2" pos="0.02 0.01 0.03" friction="0.7 0.01 0.002" condim="6"/>
    </body>
    <body name="lever" pos="-2 0 2">
      <joint name="lever" axis="0 1 0" damping="0.2" stiffness="1" springref="20"/>
      <geom type="box" size="0.1 0.2 0.3" mass="2" pos="0.1 0.05 0"/>
    </body>
    <body name="fixed" pos="-2 0 4"><geom type="box" size="0.1 0.2 0.3" mass="2"/></body>
  </worldbody>
  <tendon>
    <fixed name="belt" stiffness="1" range="-0.3 0.3"><joint joint="elbow" coef="0.5"/><joint joint="lever" coef="-1"/></fixed>
  </tendon>
  <actuator>
    <motor name="elbow" joint="elbow" gear="2"/>
    <motor name="belt" tendon="belt" gear="3"/>
    <motor name="tip" site="tip" gear="1 0 0 0 0.2 0"/>
    <intvelocity name="rail" joint="rail" kp="20" actrange="-1 1"/>
  </actuator>
  <sensor>
    <jointpos joint="elbow"/>
    <tendonpos tendon="belt"/>
    <framepos objtype="site" objname="tip"/>
    <gyro site="tip"/>
    <accelerometer site="tip"/>
    <subtreelinvel body="sled"/>
    <actuatorfrc actuator="elbow"/>
    <contact geom1="ball" geom2="floor" data="found force" num="1" reduce="mindist"/>
  </sensor>
</mujoco>
"""

# Everything that a physics parameter acts on, small: a sprung arm between two motors, and a box with a round foot that slides.
_PARAMETERS = """
<mujoco>
  <compiler autolimits="true"/>
  <option timestep="0.002" iterations="20" ls_iterations="20"><flag autoreset="disable"/></option>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 0.1"/>
    <body name="arm" pos="0 0 1">
      <joint name="arm" axis="0 1 0" pos="0 0 0.1" damping="0.3" armature="0.02" frictionloss="0.1" stiffness="2" range="-2 2"/>
      <geom type="box" size="0.05 0.1 0.2" pos="0.1 0.02 -0.1" mass="1.2" contype="0" conaffinity="0"/>
      <site name="hand" pos="0 0 -0.3"/>
    </body>
    <body name="slider" pos="2 0 0.095">
      <freejoint name="free"/>
      <geom name="foot" size="0.1" pos="0.02 0.01 0" mass="1" friction="0.4 0.01 0.002" condim="4" priority="1"/>
      <geom type="box" size="0.1 0.05 0.03" pos="0 0.05 0.1" mass="0.7" contype="0" conaffinity="0"/>
    </body>
  </worldbody>
  <actuator>
    <motor name="strong" joint="arm" gear="3" forcerange="-0.5 0.5"/>
    <position name="servo" joint="arm" kp="4" kv="0.2"/>
  </actuator>
  <sensor>
    <jointpos joint="arm"/>
    <jointvel joint="arm"/>
    <framepos objtype="site" objname="hand"/>
    <accelerometer site="hand"/>
    <contact geom1="foot" geom2="floor" data="found force" num="1" reduce="mindist"/>
  </sensor>
</mujoco>
"""


def joints() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(_JOINTS)


def parameters() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(_PARAMETERS)


# Two links, one of them limited and with dry friction, and sensors of all stages: small enough to be compiled often.
_PENDULUM = """
<mujoco>
  <compiler autolimits="true"/>
  <option timestep="0.01" integrator="{integrator}" iterations="{iterations}" ls_iterations="10"><flag autoreset="disable"/></option>
  <default><geom type="sphere" size="0.1" pos="0 0 -0.5" contype="0"/></default>
  <worldbody>
    <body>
      <joint name="upper" axis="0 1 0" range="-90 90" damping="0.1" frictionloss="0.05"/><geom/>
      <body pos="0 0 -0.5"><joint name="lower" axis="0 1 0" damping="0.1"/><geom/><site name="tip" pos="0 0 -0.5"/></body>
    </body>
  </worldbody>
  <actuator><motor joint="upper"/></actuator>
  <sensor><jointpos joint="upper"/><jointvel joint="lower"/><framepos objtype="site" objname="tip"/><accelerometer site="tip"/></sensor>
</mujoco>
"""


def pendulum(integrator: str = "Euler", iterations: int = 10) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(_PENDULUM.format(integrator=integrator, iterations=iterations))


MODELS: dict[str, Callable[[], mujoco.MjModel]] = {
    "joints": joints,
    "cartpole": cartpole.model,
    "go2": _go2.model,
}
