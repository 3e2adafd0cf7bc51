"""What the dimensions of standardised actions and states are called, and their units."""

Names = tuple[tuple[str, str], ...]  # name, unit

GRIPPER: Names = (("gripper", "1"),)  # 1 open, 0 closed


def _joints(count: int, prefix: str = "", suffix: str = "") -> Names:
    return tuple((f"{prefix}joint_{index + 1}{suffix}", "rad") for index in range(count))


def _arm(side: str) -> Names:
    return (*_joints(6, f"{side}_"), (f"{side}_gripper", "1"))


EULER: Names = (("roll", "rad"), ("pitch", "rad"), ("yaw", "rad"))
POSITION: Names = (("x", "m"), ("y", "m"), ("z", "m"))

ACTIONS: dict[str, Names] = {
    "EEF_POS": tuple((f"delta_{name}", unit) for name, unit in (*POSITION, *EULER)) + GRIPPER,
    "JOINT_POS": _joints(7, "delta_") + GRIPPER,
    "JOINT_POS_BIMANUAL": (*_arm("left"), *_arm("right")),
    "JOINT_POS_BIMANUAL_NAV": (*_arm("left"), *_arm("right"), ("base_velocity_x", "m/s"), ("base_velocity_yaw", "rad/s")),
    "NAV_2D": (("base_delta_x", "m"), ("base_delta_y", "m")),
}

STATES: dict[str, Names] = {
    "POS_EULER": (*POSITION, *EULER),
    "POS_QUAT": (*POSITION, ("qw", "1"), ("qx", "1"), ("qy", "1"), ("qz", "1")),
    "POS": POSITION,
    "POS_2D": (("x", "m"), ("y", "m")),
    "JOINT_6": _joints(6),
    "JOINT_7": _joints(7),
    "JOINT_BIMANUAL": (*_arm("left"), *_arm("right")),
    "NAV": (("x", "m"), ("y", "m"), ("yaw", "rad")),
    "GRIPPER": GRIPPER,
    "GRIPPER_WIDTH": (("gripper_width", "m"),),
    "FINGERS": (("finger_1", "m"), ("finger_2", "m")),
}
