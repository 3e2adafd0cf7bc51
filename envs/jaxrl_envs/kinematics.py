"""The kinematic tree of a MuJoCo model as the arrays that `jaxrl.ops.kinematics` computes with."""

from typing import Any

import mujoco
import numpy as np

from jaxrl.ops.kinematics import Chain

_IDENTITY = np.array([1.0, 0, 0, 0, 0, 0, 0])
_NONE = np.zeros(3)


def chain(model: mujoco.MjModel) -> Chain:
    """Bodies, sites and velocities count as in the model: `model.site("gripper").id` is the site's number. Arrays are float64 and int32.

    What is no part of the tree is not there: equality constraints do not hold, and a mocap body stays where the model puts it.

    Raises:
        ValueError: the model has no joint.
    """
    if not model.njnt:
        raise ValueError("the model has no joint, so nothing in it can move: a kinematic chain takes one joint or more")
    links, last = _links(model)
    before = np.array([link["before"] for link in links])
    moves = np.zeros((model.nv, len(links)), bool)
    velocities: dict[int, tuple[int, np.ndarray, np.ndarray, int]] = {}  # by their numbers: link, axes of hinge and slide, where in qpos
    for number, link in enumerate(links):
        moves[:, number] = moves[:, before[number]]
        for k, (hinge, slide) in enumerate(link["axes"]):
            velocities[link["velocity"] + k] = (number, hinge, slide, link["coordinate"])
            moves[link["velocity"] + k, number] = True
    balls = [number for number, link in enumerate(links) if link["ball"]]
    of_velocity = [velocities[number] for number in range(model.nv)]
    body_link = np.array(last, np.int32)
    arrays: dict[str, Any] = dict(
        ancestors=_ancestors(before),
        place=np.array([link["place"] for link in links]),
        hinge=np.array([_NONE if link["ball"] or not link["axes"] else link["axes"][0][0] for link in links]),
        slide=np.array([link["axes"][0][1] if link["axes"] else _NONE for link in links]),
        pivot=np.array([link["pivot"] for link in links]),
        coordinate=np.array([link["coordinate"] for link in links], np.int32),
        reference=np.array([link["reference"] for link in links], np.float64),
        ball=np.array(balls, np.int32),
        ball_coordinate=np.array([links[number]["coordinate"] for number in balls], np.int32),
        ball_velocity=np.array([links[number]["velocity"] for number in balls], np.int32),
        body_link=body_link,
        site_link=body_link[model.site_bodyid],
        site_place=np.concatenate((model.site_quat, model.site_pos), -1).reshape(-1, 7),
        velocity_link=np.array([link for link, _, _, _ in of_velocity], np.int32),
        velocity_hinge=np.array([hinge for _, hinge, _, _ in of_velocity]),
        velocity_slide=np.array([slide for _, _, slide, _ in of_velocity]),
        velocity_coordinate=np.array([coordinate for _, _, _, coordinate in of_velocity], np.int32),
        moves=moves,
        range=_ranges(model),
    )
    return Chain(**arrays)


def _kind(model: mujoco.MjModel, joint: int) -> mujoco.mjtJoint:
    return mujoco.mjtJoint(model.jnt_type[joint])


def _links(model: mujoco.MjModel) -> tuple[list[dict[str, Any]], list[int]]:
    """The links from the world outwards, and the last one of each body."""
    still = {"before": 0, "place": _IDENTITY, "pivot": _NONE, "coordinate": 0, "reference": 0.0, "ball": False, "velocity": 0, "axes": []}
    links: list[dict[str, Any]] = [still]
    last = [0]
    for body in range(1, model.nbody):
        before = last[model.body_parentid[body]]
        place = np.concatenate((model.body_quat[body], model.body_pos[body]))
        joints = range(model.body_jntadr[body], model.body_jntadr[body] + model.body_jntnum[body])
        # A free joint tells where the body is in the world, whatever the place that the model gives it.
        parts = [part for joint in joints for part in _parts(model, joint)] or [{}]
        free = any(_kind(model, joint) == mujoco.mjtJoint.mjJNT_FREE for joint in joints)
        for k, part in enumerate(parts):
            links.append({**still, "before": before, "place": _IDENTITY if k or free else place, **part})
            before = len(links) - 1
        last.append(before)
    return links, last


def _parts(model: mujoco.MjModel, joint: int) -> list[dict[str, Any]]:
    """The links of a joint, one behind the other."""
    kind, axis, unit = _kind(model, joint), model.jnt_axis[joint], np.eye(3)
    coordinate, velocity = int(model.jnt_qposadr[joint]), int(model.jnt_dofadr[joint])
    at = {"coordinate": coordinate, "velocity": velocity, "pivot": model.jnt_pos[joint].copy()}
    turning = {"ball": True, "axes": [(unit[k], _NONE) for k in range(3)]}
    if kind == mujoco.mjtJoint.mjJNT_HINGE:
        return [{**at, "reference": model.qpos0[coordinate], "axes": [(axis.copy(), _NONE)]}]
    if kind == mujoco.mjtJoint.mjJNT_SLIDE:
        return [{**at, "reference": model.qpos0[coordinate], "axes": [(_NONE, axis.copy())]}]
    if kind == mujoco.mjtJoint.mjJNT_BALL:
        return [{**at, **turning}]
    slides = [{"coordinate": coordinate + k, "velocity": velocity + k, "axes": [(_NONE, unit[k])]} for k in range(3)]
    return [*slides, {"coordinate": coordinate + 3, "velocity": velocity + 3, **turning}]


def _ancestors(before: np.ndarray) -> np.ndarray:
    """[K, L] from the link before each; 2^K is at least the number of links on the longest path."""
    depth = np.zeros(len(before), int)
    for number in range(1, len(before)):
        depth[number] = depth[before[number]] + 1
    steps = before.astype(np.int32)
    found = []
    for _ in range(int(depth.max() - 1).bit_length()):
        found.append(steps)
        steps = steps[steps]
    return np.array(found, np.int32).reshape(-1, len(before))


def _ranges(model: mujoco.MjModel) -> np.ndarray:
    """[nq, 2] of hinges and slides that are limited; infinite of others."""
    ranges = np.tile([-np.inf, np.inf], (model.nq, 1))
    for joint in range(model.njnt):
        if model.jnt_limited[joint] and _kind(model, joint) in (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE):
            ranges[model.jnt_qposadr[joint]] = model.jnt_range[joint]
    return ranges
