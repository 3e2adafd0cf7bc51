"""Chunks that a data transform told from the gripper, back in the frame of the robot's base."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxrl.ops import rotations
from jaxrl.policies import blended, history, latency_matched, receding_horizon, relative_pose, smoothed, temporal_ensemble
from jaxrl.types import ArraySpec, Policy, PolicySpec
from jaxrl_data import rotations as of_data
from jaxrl_data.transforms.poses import RelativePose

KEYS = jax.random.split(jax.random.key(0), 2)


def poses(form: str, seed: int, *shape: int) -> np.ndarray:
    """[*shape, 3 + D]."""
    count = int(np.prod(shape))
    turned = of_data.write(Rotation.random(count, rng=seed), form, shape)
    return np.concatenate((np.random.default_rng(seed).normal(size=(*shape, 3)), turned), -1).astype(np.float32)


def matrices(values: np.ndarray, form: str) -> np.ndarray:
    """Poses [..., 3 + D] as matrices [..., 4, 4], by scipy."""
    found = np.zeros((*values.shape[:-1], 4, 4))
    found[..., :3, 3], found[..., 3, 3] = values[..., :3], 1
    found[..., :3, :3] = of_data.read(np.asarray(values[..., 3:], float), form).as_matrix().reshape(*values.shape[:-1], 3, 3)
    return found


def saying(chunks: jax.Array, width: int, steps: int | None = None) -> Policy:
    """Gives out `chunks` [N, B, H, A] one after the other; what it reads comes back among its extras."""
    shape = (width,) if steps is None else (steps, width)
    spec = PolicySpec({"state/eef": ArraySpec(shape)}, ArraySpec((chunks.shape[-1],)), chunks.shape[2], rate=10.0)

    def act(params, observation, carry, key, context=None):
        read = {"read": observation["state/eef"]} | ({} if context is None else {"prefix": context["prefix"]})
        return chunks[carry["asked"][0]], {"asked": carry["asked"] + 1}, read

    return Policy(spec, lambda size: {"asked": jnp.zeros(size, jnp.int32)}, act)


@pytest.mark.parametrize("steps", [None, 3])
@pytest.mark.parametrize(("form", "of_state"), [("rotation_6d", "euler"), ("quaternion", "vector"), ("matrix", "quaternion")])
def test_what_the_transform_tells_comes_back(form, of_state, steps):
    """Two rows, a gripper's width and another number beside the poses."""
    state = np.concatenate((np.ones((2, steps or 1, 2)), poses(of_state, 0, 2, steps or 1)), -1).astype(np.float32)
    action = np.concatenate((poses(form, 1, 2, 4), np.full((2, 4, 1), 0.3)), -1).astype(np.float32)
    transform = RelativePose("observation/state/eef", 0, 2, form, of_state, history_too=steps is not None)
    samples = [transform({"observation/state/eef": s, "action": a}, np.random.default_rng(0)) for s, a in zip(state, action, strict=True)]
    told = jnp.stack([jnp.asarray(sample["action"]) for sample in samples])
    assert np.abs(told[..., :3] - action[..., :3]).max() > 0.1
    config = relative_pose.Config(state_first=2, rotation=form, state_rotation=of_state, history_too=steps is not None)
    policy = relative_pose.relative_pose(config, saying(told[None], state.shape[-1], steps))
    seen = jnp.asarray(state if steps else state[:, -1])
    context = {"prefix": jnp.asarray(action), "prefix_length": jnp.array([2, 3]), "inference_delay": jnp.array([1, 1])}
    chunk, _, extras = jax.jit(policy.act)((), {"state/eef": seen}, policy.init(2), KEYS, context)
    width = 3 + rotations.width(form)
    np.testing.assert_allclose(matrices(chunk[..., :width], form), matrices(action[..., :width], form), atol=1e-5)
    np.testing.assert_array_equal(chunk[..., width:], action[..., width:])
    np.testing.assert_allclose(matrices(extras["prefix"][..., :width], form), matrices(np.asarray(told[..., :width]), form), atol=1e-5)
    if steps:
        shown = np.stack([sample["observation/state/eef"] for sample in samples])
        np.testing.assert_allclose(matrices(extras["read"][..., 2:], of_state), matrices(shown[..., 2:], of_state), atol=1e-5)
    else:
        np.testing.assert_array_equal(extras["read"], seen)


def test_two_arms_take_two():
    action, state = (np.concatenate((poses("rotation_6d", i, 2, 4), poses("rotation_6d", i + 1, 2, 4)), -1) for i in (0, 2))
    transforms = [RelativePose("observation/state/eef", first, first, "rotation_6d", "rotation_6d") for first in (0, 9)]
    told = []
    for a, s in zip(action, state[:, :1], strict=True):
        sample = {"observation/state/eef": s, "action": a}
        for transform in transforms:
            sample = transform(sample, np.random.default_rng(0))
        told.append(sample["action"])
    policy = saying(jnp.asarray(np.stack(told))[None], 18)
    for first in (0, 9):
        config = relative_pose.Config(action_first=first, state_first=first, state_rotation="rotation_6d")
        policy = relative_pose.relative_pose(config, policy)
    chunk, _, _ = jax.jit(policy.act)((), {"state/eef": jnp.asarray(state[:, 0])}, policy.init(2), KEYS)
    np.testing.assert_allclose(chunk, action, atol=1e-5)


CONFIG = relative_pose.Config(state_rotation="rotation_6d")


def relative(absolute: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Chunks [B, H, 9] as seen from poses [B, 9], by matrices."""
    found = np.linalg.inv(matrices(base, "rotation_6d"))[:, None] @ matrices(absolute, "rotation_6d")
    return np.concatenate((found[..., :3, 3], found[..., :3, 0], found[..., :3, 1]), -1).astype(np.float32)


def test_a_chunk_keeps_the_pose_that_it_was_chosen_at():
    """Three of four steps are executed, while the gripper moves on."""
    wanted = np.stack([poses("rotation_6d", i, 2, 4) for i in range(2)])
    way = poses("rotation_6d", 9, 6, 2)
    told = np.stack([relative(chunk, way[3 * i]) for i, chunk in enumerate(wanted)])
    inner = relative_pose.relative_pose(CONFIG, saying(jnp.asarray(told), 9))
    policy = receding_horizon.receding_horizon(receding_horizon.Config(3), inner)
    carry, chunk, executed = policy.init(2), None, []
    for step, seen in enumerate(way):
        if step % policy.spec.executed_steps == 0:
            chunk, carry, _ = policy.act((), {"state/eef": jnp.asarray(seen)}, carry, KEYS)
        else:
            carry = policy.remember({"state/eef": jnp.asarray(seen)}, carry)
        executed.append(chunk[:, step % 3])
    np.testing.assert_allclose(executed, np.concatenate((wanted[0].swapaxes(0, 1)[:3], wanted[1].swapaxes(0, 1)[:3])), atol=1e-5)


def test_an_ensemble_averages_poses_in_the_frame_of_the_base():
    """Told from wherever the gripper is, one way through space stays one way: the mean of what was said of a step is that step."""
    way, absolute = poses("rotation_6d", 9, 6, 2), poses("rotation_6d", 3, 2, 10)
    told = np.stack([relative(absolute[:, step : step + 4], seen) for step, seen in enumerate(way)])
    inner = relative_pose.relative_pose(CONFIG, saying(jnp.asarray(told), 9))
    policy = temporal_ensemble.temporal_ensemble(temporal_ensemble.Config(), inner)
    carry = policy.init(2)
    for step, seen in enumerate(way):
        chunk, carry, _ = jax.jit(policy.act)((), {"state/eef": jnp.asarray(seen)}, carry, KEYS)
        np.testing.assert_allclose(chunk[:, 0], absolute[:, step], atol=1e-5)
    np.testing.assert_allclose(carry["mean"][:, 0], absolute[:, 6], atol=1e-5)


def test_the_past_is_told_from_the_present_pose():
    way = poses("rotation_6d", 9, 3, 2)
    config = relative_pose.Config(state_rotation="rotation_6d", history_too=True)
    inner = relative_pose.relative_pose(config, saying(jnp.zeros((3, 2, 4, 9)), 9, 2))
    policy = history.history(history.Config(2), inner)
    carry = policy.init(2)
    for seen in way:
        _, carry, extras = policy.act((), {"state/eef": jnp.asarray(seen)}, carry, KEYS)
    np.testing.assert_allclose(extras["read"], relative(way[-2:].swapaxes(0, 1), way[-1]), atol=1e-5)


@pytest.mark.parametrize("around", [temporal_ensemble, blended, smoothed])
def test_chunks_that_are_mixed_are_refused(around):
    policy = getattr(around, around.__name__.rpartition(".")[2])(around.Config(), saying(jnp.zeros((1, 2, 8, 9)), 9))
    policy = latency_matched.latency_matched(latency_matched.Config(0.0), policy)
    with pytest.raises(ValueError, match="these chunks are mixed with earlier ones, told from elsewhere; put it before what mixes them"):
        relative_pose.relative_pose(CONFIG, policy)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"state": "state/arm"}, "the policy does not read state/arm; it reads state/eef"),
        ({"rotation": "matrix"}, r"a pose with matrix from column 0 on ends at 12, but the action has the shape \(9,\)"),
        ({"state_first": 4}, r"a pose with euler from column 4 on ends at 10, but state/eef has the shape \(9,\)"),
        ({"rotation": "rpy"}, "rpy is no way to write a rotation"),
        ({"action_first": -1}, "action_first and state_first are columns"),
    ],
)
def test_what_does_not_fit_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        relative_pose.relative_pose(relative_pose.Config(**fields), saying(jnp.zeros((1, 2, 8, 9)), 9))
