"""Models for the tests of the physics backends."""

from collections.abc import Callable

import mujoco

from jaxrl_envs.tasks import _go2, cartpole

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


def joints() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(_JOINTS)


MODELS: dict[str, Callable[[], mujoco.MjModel]] = {
    "joints": joints,
    "cartpole": cartpole.model,
    "go2": _go2.model,
}
