"""What a robot sees goes through the transforms of training, and what the policy returns comes back as the robot's own."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from jaxrl_data.dataset_source import Config, dataset_source
from jaxrl_data.members import Set
from jaxrl_data.mixture import Goal, Images
from jaxrl_data.samples import open_mixture
from jaxrl_data.serving import serving
from jaxrl_data.transforms.instruction import Tokenise
from jaxrl_data.transforms.stored import from_json, to_json
from tests.data.batches import counts
from tests.data.caches import COLUMNS, made
from tests.data.episodes import FEATURES, episode
from tests.data.test_mixture import DELTA, OWN, mixture


def kept_of(chosen, name="made"):
    """What a checkpoint keeps, as it comes out of one."""
    config = Config(**{field: getattr(chosen, field) for field in chosen.__dataclass_fields__}, batch_size=4)
    return json.loads(json.dumps(dataset_source(config).kept()))[name]


@pytest.mark.parametrize("history", [1, 2])
def test_a_robot_sees_and_does_what_was_trained(tmp_path, history):
    cache = made(tmp_path / "cache")
    changes = {
        "goal": Goal(("front",)),
        "normalise": "quantile",
        "horizon": 3,
        "history": history,
        "tokens": Tokenise(length=8),
        "images": Images(16, pad=True),
    }
    chosen = mixture(cache, of={"transforms": (DELTA,)}, **changes)
    served, batch = serving(kept_of(chosen)), open_mixture(chosen).batch(range(34))
    plain = open_mixture(mixture(cache, history=history, images=Images(16, pad=True))).batch(range(34))
    row = [n for n in range(34) if int(counts_of(plain, history)[n]) == 4002][0]
    one, at = episode(4, 6), [1, 2][-history:]
    seen = {
        "state/pose": one.arrays["state"][at] if history > 1 else one.arrays["state"][2],
        "image/front": [one.images["front"][step] for step in at] if history > 1 else one.images["front"][2],
        "task/instruction": one.texts["task"][2],
        "task/goal_image/front": one.images["front"][5],
    }
    observation, reference = served.observe(seen)
    assert observation.keys() == batch["observation"].keys()
    shown = plain["observation"]["image/front"][[n for n in range(34) if int(counts_of(plain, history)[n]) == 4005][0]]
    np.testing.assert_array_equal(observation.pop("task/goal_image/front")[0], shown[-1] if history > 1 else shown)
    for name, expected in batch["observation"].items():
        if name == "task/goal_image/front":
            continue
        np.testing.assert_allclose(observation[name], expected[row], rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(served.act(batch["action"][row], reference), one.arrays["action"][2:5], rtol=1e-4, atol=2e-3)


def counts_of(batch, history):
    pose = batch["observation"]["state/pose"]
    return counts({"observation": {"state/pose": pose[:, -1] if history > 1 else pose}})


def test_each_robot_of_a_mixture_takes_its_own_out_of_the_space(tmp_path):
    def named(names):
        spec = replace(FEATURES.arrays["action"], names=names, unit="rad")
        return replace(FEATURES, arrays=FEATURES.arrays | {"action": spec})

    own = {name: of for name, of in COLUMNS.items() if name in ("state/pose", "action")}
    robots = {"one": ("elbow", "wrist"), "other": ("gripper", "elbow")}
    sets = {name: Set(str(made(tmp_path / name, features=named(names))), columns=own) for name, names in robots.items()}
    chosen = mixture(tmp_path, normalise="bounds")
    chosen = replace(chosen, sets=sets)
    chunk = np.array([[0.5, -1.0, 1.0]], np.float32)  # elbow, wrist, gripper
    held = open_mixture(chosen).statistics
    for name, taken in (("one", [0.5, -1.0]), ("other", [1.0, 0.5])):
        column = held[name].columns["action"]
        expected = (np.array(taken) + 1) / 2 * (column.max - column.min) + column.min
        np.testing.assert_allclose(serving(kept_of(chosen, name)).act(chunk, {})[0], expected, rtol=1e-5)


def test_what_does_not_fit_is_said(tmp_path):
    kept = kept_of(mixture(made(tmp_path / "cache"), {name: of for name, of in OWN.items() if not name.startswith("image")}))
    with pytest.raises(ValueError, match="state/pose: has 3 steps of history, but the policy reads 2"):
        serving({**kept, "history": 2}).observe({"state/pose": np.zeros(3)})
    for seen, message in (
        ({}, "state/pose: is missing in what the robot sees"),
        ({"state/pose": np.zeros(4)}, r"state/pose: has the shape \(4,\), but the policy reads 3 numbers"),
        ({"state/pose": np.array([0.0, np.nan, 1.0])}, "state/pose: is not finite"),
        ({"state/pose": np.zeros((2, 3))}, r"state/pose: has the shape \(1, 2, 3\) with its history"),
        ({"state/pose": np.zeros(3), "state/pse": np.zeros(3)}, "state/pse: the policy reads no such thing; did you mean state/pose"),
    ):
        with pytest.raises(ValueError, match=message):
            serving(kept).observe(seen)
    with pytest.raises(ValueError, match="the policy's chunk is not finite"):
        serving(kept).act(np.full((3, 2), np.nan), {})
    reads = {**kept, "observation": {"image/front": None}}
    for image in (np.zeros((8, 8, 3)), np.zeros((8, 8), np.uint8), np.zeros((3, 8, 8), np.uint8)):
        with pytest.raises(ValueError, match=r"image/front: is .* but the policy reads uint8 \[height, width, 3\]"):
            serving(reads).observe({"image/front": image})
    with pytest.raises(ValueError, match=r"jaxrl_data.transforms.poses.Gone: cannot be made by this version"):
        from_json([{"type": "jaxrl_data.transforms.poses.Gone"}])
    with pytest.raises(ValueError, match=r"os.system: cannot be made by this version of jaxrl: it is no part of jaxrl_data"):
        from_json([{"type": "os.system", "command": "true"}])

    @dataclass(frozen=True)
    class Odd:
        table: object = frozenset()

    with pytest.raises(ValueError, match="a transform holds frozenset"):
        to_json([Odd()])
