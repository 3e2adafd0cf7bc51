"""What a robot's joints may do: the numbers that the safety filter keeps to, and sets of them for robots that many have.

The sets are where to start from: a lab lowers them to what its task needs. Numbers that no maker publishes are said to be chosen here.
"""

import math
from dataclasses import dataclass, replace

Vector = tuple[float, ...]


@dataclass(frozen=True)
class Limits:
    """Limits of D joints whose positions are commanded once per `period`. SI units: radians, or metres where a joint slides.

    A vector has an entry for each joint, or one for all; () where there is no such limit.
    """

    names: tuple[str, ...]
    lower: Vector
    upper: Vector
    velocity: Vector
    period: float  # seconds from one command to the next
    acceleration: Vector = ()
    jerk: Vector = ()
    effort: Vector = ()  # of a measured force or torque, above which the robot stops
    tracking: Vector = ()  # of the distance from what was commanded to what is measured, above which it stops
    box: tuple[Vector, Vector] | None = None  # lower and upper corner, of points that forward kinematics gives [m]
    max_age: float = 1.0  # seconds since the oldest part of what an action was decided by, after which it is not executed
    patience: float = 0.2  # seconds without an action, after which the robot stops and latches
    stall: float = 0.1  # seconds from one step to the next, above which it does so too: this computer was not there
    source: str = ""

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"names are {self.names}: expected one or more, each once")
        for field in ("period", "max_age", "patience", "stall"):
            if not 0 < getattr(self, field) < math.inf:
                raise ValueError(f"{field} is {getattr(self, field)} s, expected a positive number")
        if self.stall <= self.period:
            raise ValueError(f"stall is {self.stall} s, which is not above the period of {self.period} s: every step would stop the robot")
        for field in ("lower", "upper", "velocity", "acceleration", "jerk", "effort", "tracking"):
            given = getattr(self, field)
            if len(given) not in (1, len(self.names)) and (given or field in ("lower", "upper", "velocity")):
                raise ValueError(f"{field} has {len(given)} entries, expected 1 or {len(self.names)}")
            if any(math.isnan(value) for value in given) or (field not in ("lower", "upper") and any(value <= 0 for value in given)):
                raise ValueError(f"{field} is {given}, expected positive numbers")
        each = zip(self.names, *(self.of_each(field) for field in ("lower", "upper", "velocity", "acceleration", "jerk")), strict=True)
        for name, lower, upper, velocity, acceleration, jerk in each:
            if not lower < upper:
                raise ValueError(f"{name}: lower {lower} is not below upper {upper}")
            if math.isinf(velocity):
                raise ValueError(f"{name}: has no limit of velocity; without one it jumps to wherever it is told to")
            if math.isinf(acceleration) and not math.isinf(jerk):
                raise ValueError(f"{name}: has a limit of jerk, but none of acceleration")
        if self.box is not None and not all(low < high for low, high in zip(*self.box, strict=True)):
            raise ValueError(f"box is {self.box}, expected a lower corner below an upper one")

    def of_each(self, field: str) -> Vector:
        """A limit for each joint; infinite where there is none."""
        values: Vector = getattr(self, field) or (math.inf,)
        return values if len(values) == len(self.names) else values * len(self.names)


def slower(limits: Limits, factor: float) -> Limits:
    """The same robot at `factor` of its speed: what moves along the same way takes 1 / factor as long.

    Raises:
        ValueError: the factor is not above 0 and at most 1.
    """
    if not 0 < factor <= 1:
        raise ValueError(f"factor is {factor}, expected above 0 and at most 1")

    def scaled(values: Vector, power: int) -> Vector:
        return tuple(value * factor**power for value in values)

    return replace(limits, velocity=scaled(limits.velocity, 1), acceleration=scaled(limits.acceleration, 2), jerk=scaled(limits.jerk, 3))


def panda(period: float = 1e-3) -> Limits:
    """Franka Emika Panda, seven joints. The FR3's limits depend on its position and are not these.

    Velocities leave what three lost packets of a millisecond add, as libfranka's own limiter does.
    """
    acceleration = (15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0)
    velocity = (2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61)
    return Limits(
        names=tuple(f"joint{number}" for number in range(1, 8)),
        lower=(-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973),
        upper=(2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973),
        velocity=tuple(v - 3e-3 * a for v, a in zip(velocity, acceleration, strict=True)),
        acceleration=acceleration,
        jerk=(7500.0, 3750.0, 5000.0, 6250.0, 7500.0, 10000.0, 10000.0),
        effort=(87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0),
        tracking=(0.2,),  # chosen here
        period=period,
        source="libfranka 1ba89c2 include/franka/rate_limiting.h; positions and torques of mujoco_menagerie 1b428b08 panda.xml",
    )


def so101(period: float = 0.02) -> Limits:
    """SO-101, five joints and the gripper, all Feetech STS3215.

    The velocity is half of the servo's 45 revolutions per minute without load; acceleration and jerk are chosen here.
    """
    return Limits(
        names=("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"),
        lower=(-1.91986, -1.7453293, -1.69, -1.658063, -2.7438473, -0.174533),
        upper=(1.91986, 1.7453292, 1.69, 1.658063, 2.7438473, 1.7453292),
        velocity=(2.36,),
        acceleration=(15.0,),
        jerk=(300.0,),
        effort=(2.94,),
        tracking=(0.5,),  # chosen here: these servos sag under load
        period=period,
        source="mujoco_menagerie 191a7ba5 so101.xml (positions, torque); SO-ARM100 #134 (45 rpm by the data sheet, 46 measured)",
    )


def so100(period: float = 0.02) -> Limits:
    """SO-100, with the servos of SO-101; joints as in its MJCF, whose torque is far above that of the servo."""
    return replace(
        so101(period),
        names=("Rotation", "Pitch", "Elbow", "Wrist_Pitch", "Wrist_Roll", "Jaw"),
        lower=(-2.2, -3.14158, 0.0, -2.0, -3.14158, -0.2),
        upper=(2.2, 0.2, 3.14158, 1.8, 3.14158, 2.0),
        source="mujoco_menagerie 13d6c48b so_arm100.xml (positions); the rest as SO-101",
    )


def go2(period: float = 0.02) -> Limits:
    """Unitree Go2, twelve joints in the order of its SDK. Legs have to be quick: there is no limit of acceleration, so none of jerk.

    What a walking policy commands are targets of springs, which jump by intention; the limits keep them where joints can be.
    """
    hip, calf = (-1.0472, 1.0472), (-2.7227, -0.83776)
    front, rear = (hip, (-1.5708, 3.4907), calf), (hip, (-0.5236, 4.5379), calf)
    ranges = (*front, *front, *rear, *rear)
    return Limits(
        names=tuple(f"{leg}_{joint}_joint" for leg in ("FR", "FL", "RR", "RL") for joint in ("hip", "thigh", "calf")),
        lower=tuple(lower for lower, _ in ranges),
        upper=tuple(upper for _, upper in ranges),
        velocity=(30.1, 30.1, 15.7) * 4,
        effort=(23.7, 23.7, 45.43) * 4,
        period=period,
        max_age=0.1,
        patience=0.06,
        source="unitree_ros a3b70cae robots/go2_description/urdf/go2_description.urdf",
    )


ROBOTS = {"panda": panda, "so100": so100, "so101": so101, "go2": go2}
