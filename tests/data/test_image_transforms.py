"""Images: out of their files, into one size, and made different each time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from jaxrl.types import ArraySpec
from jaxrl_data.transforms.augment import ColourJitter, Crop, ProprioceptionDropout, Shift, colour_matrix
from jaxrl_data.transforms.images import Decode, Resize, decoded, padded, resized
from jaxrl_data.transforms.interface import apply, invert, spec_after

RANDOM = np.random.default_rng(0)  # for calls that draw nothing
PRIMARY, WRIST, GOAL = "observation/image/primary", "observation/image/wrist", "observation/task/goal_image/primary"
DEPTH = "observation/depth/primary"


def _picture(height: int = 24, width: int = 32, seed: int = 0) -> np.ndarray:
    """Smooth colours with an edge, and red told from blue."""
    noise = np.random.default_rng(seed).uniform(0, 255, (height // 4, width // 4, 3))
    picture = cv2.resize(noise.astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    picture[: height // 2, : width // 2] = (250, 20, 5)
    return picture


def _png(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", picture if picture.shape[-1] != 3 else picture[..., ::-1])[1].tobytes()


def _jpeg(picture: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def test_files_become_red_green_blue() -> None:
    picture = _picture()
    np.testing.assert_array_equal(decoded(_png(picture)), picture)
    found = decoded(_jpeg(picture)).astype(int)
    assert np.abs(found - picture).mean() < 12 < 40 < np.abs(found[..., ::-1] - picture).mean()
    depth = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    np.testing.assert_array_equal(decoded(cv2.imencode(".png", depth)[1].tobytes(), depth=True)[..., 0], depth)


@pytest.mark.parametrize(
    ("size", "pad", "shape"), [(16, True, (12, 16)), (24, True, (24, 32)), (24, False, (24, 32)), (4, True, (6, 8)), (40, True, (48, 64))]
)
def test_a_jpeg_is_not_decoded_larger_than_needed(size: int, pad: bool, shape: tuple[int, int]) -> None:
    """48 x 64 pixels: with its proportions and 16 wide it is 12 x 16, a quarter; as a square of 24 its height halves at most."""
    picture, random = _picture(48, 64), RANDOM
    resize = Resize(size, size, pad)
    part = Decode(then=resize)({PRIMARY: [_jpeg(picture)]}, random)
    whole = Decode()({PRIMARY: [_jpeg(picture)]}, random)
    assert part[PRIMARY].shape == (1, *shape, 3) and whole[PRIMARY].shape == (1, 48, 64, 3)
    assert Decode(then=resize)({PRIMARY: [_png(picture)]}, random)[PRIMARY].shape == (1, 48, 64, 3)


def test_depth_in_floats_is_four_channels_of_a_png() -> None:
    metres = np.random.default_rng(0).uniform(0, 5, (3, 4, 1)).astype(np.float32)
    as_tfds_writes = cv2.imencode(".png", metres.view(np.uint8)[..., [2, 1, 0, 3]])[1].tobytes()  # OpenCV takes blue first
    np.testing.assert_array_equal(decoded(as_tfds_writes, depth=True), metres)
    found = Decode()({DEPTH: [as_tfds_writes, b""]}, RANDOM)[DEPTH]
    assert found.dtype == np.float32 and found.shape == (2, 3, 4, 1) and not found[1].any()


def test_decode_takes_what_is_encoded_and_leaves_what_is_not() -> None:
    pictures = [_picture(seed=0), _picture(seed=1)]
    depth = cv2.imencode(".png", np.full((4, 4), 700, np.uint16))[1].tobytes()
    sample = {PRIMARY: [_png(one) for one in pictures], WRIST: [b"", b""], DEPTH: [depth, b""], GOAL: [_png(pictures[0])]}
    found = Decode()(sample, RANDOM)
    np.testing.assert_array_equal(found[PRIMARY], np.stack(pictures))
    assert found[WRIST].shape == (2, 1, 1, 3) and not found[WRIST].any()
    assert found[DEPTH].dtype == np.uint16 and found[DEPTH][:, 0, 0, 0].tolist() == [700, 0]
    assert found[GOAL].shape == (1, 24, 32, 3)
    robot = {PRIMARY: np.stack(pictures)}
    assert Decode()(robot, RANDOM)[PRIMARY] is robot[PRIMARY]
    np.testing.assert_array_equal(Decode(bgr=("primary",))(sample, RANDOM)[PRIMARY], np.stack(pictures)[..., ::-1])
    told = spec_after([Decode()], {PRIMARY: ArraySpec((2,), "bytes"), DEPTH: ArraySpec((2,), "bytes")})
    assert told[PRIMARY] == ArraySpec((2, "height", "width", 3), "uint8") and told[DEPTH].dtype == "uint16"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda png: png[:-40], "a PNG that is cut off"),
        (lambda png: b"GIF89a" + png, "neither JPEG nor PNG"),
        (lambda png: png[:8] + bytes(40) + b"IEND", "cannot be decoded"),
        (lambda png: _jpeg(_picture())[:-200], "a JPEG that is cut off"),
    ],
)
def test_a_damaged_image_is_named(damage: Callable[[bytes], bytes], message: str) -> None:
    sample = {"name": "kitchen/train/12, step 7", PRIMARY: [_png(_picture()), damage(_png(_picture()))]}
    with pytest.raises(ValueError, match=f"kitchen/train/12, step 7: primary, frame 1 of the history: .*{message}"):
        Decode()(sample, RANDOM)


def test_a_camera_that_changes_its_size_is_named() -> None:
    sample = {"name": "kitchen/train/12, step 7", PRIMARY: [_png(_picture()), _png(_picture(48))]}
    with pytest.raises(ValueError, match="step 7: primary changes its size within a history"):
        Decode()(sample, RANDOM)


def test_shrinking_takes_the_mean_of_the_area() -> None:
    picture = _picture(24, 32)
    expected = picture.reshape(12, 2, 16, 2, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(resized(picture, 12, 16) - expected).max() <= 0.5
    assert np.array_equal(resized(picture, 24, 32), picture)
    assert resized(picture, 12, 64).shape == (12, 64, 3)  # one side shrinks, one grows


def test_proportions_are_kept_in_the_middle_of_black() -> None:
    found = padded(np.full((24, 32, 3), 200, np.uint8), 16, 16)
    np.testing.assert_array_equal(found[:, 0, 0], [0, 0, *[200] * 12, 0, 0])
    tall = padded(np.full((32, 24, 3), 200, np.uint8), 40, 60)
    assert tall.shape == (40, 60, 3)
    np.testing.assert_array_equal(np.flatnonzero(tall[20, :, 0])[[0, -1]], [15, 44])
    assert (padded(np.full((480, 640, 3), 9, np.uint8), 224, 224)[:, 0, 0] > 0).sum() == 168


@pytest.mark.parametrize(("height", "width"), [(24, 32), (64, 16), (16, 16), (40, 8)])
@pytest.mark.parametrize("make", [padded, resized])
def test_an_image_is_written_into_the_row_of_its_batch(make: Callable[..., np.ndarray], height: int, width: int) -> None:
    picture, batch = _picture(height, width), np.full((3, 1, 16, 16, 3), 99, np.uint8)
    sample = {PRIMARY: picture[None], "room": {PRIMARY: batch[1]}}
    found = Resize(16, 16, pad=make is padded)(sample, RANDOM)[PRIMARY]
    assert found is sample["room"][PRIMARY]
    np.testing.assert_array_equal(batch[1, 0], make(picture, 16, 16))
    assert (batch[[0, 2]] == 99).all()


def test_every_image_gets_its_size_and_depth_keeps_its_numbers() -> None:
    depth = np.random.default_rng(0).choice([100, 60000], (2, 24, 32, 1)).astype(np.uint16)
    sample = {
        PRIMARY: np.stack([_picture(), _picture(seed=1)]),
        WRIST: np.zeros((2, 1, 1, 3), np.uint8),
        DEPTH: depth,
        GOAL: _picture()[None],
    }
    found = Resize(12, 16)(sample, RANDOM)
    assert {key: value.shape for key, value in found.items()} == {
        PRIMARY: (2, 12, 16, 3),
        WRIST: (2, 12, 16, 3),
        DEPTH: (2, 12, 16, 1),
        GOAL: (1, 12, 16, 3),
    }
    assert set(np.unique(found[DEPTH])) == {100, 60000} and found[DEPTH].dtype == np.uint16
    only = Resize(12, 16, cameras=("wrist",))(sample, RANDOM)
    assert only[PRIMARY].shape == (2, 24, 32, 3) and only[WRIST].shape == (2, 12, 16, 3)
    told = Resize(12, 16).spec({PRIMARY: ArraySpec((2, "height", "width", 3), "uint8")})
    assert told[PRIMARY].shape == (2, 12, 16, 3)
    plain = {DEPTH: np.arange(48, dtype=np.float32).reshape(1, 6, 8)}  # as some sets store depth
    assert Resize(3, 4)(plain, RANDOM)[DEPTH].shape == Resize(3, 4).spec({DEPTH: ArraySpec((1, 6, 8))})[DEPTH].shape == (1, 3, 4, 1)
    with pytest.raises(ValueError, match="still encoded; Decode comes first"):
        Resize(12, 16).spec({PRIMARY: ArraySpec((2,), "bytes")})
    with pytest.raises(ValueError, match="still encoded; Decode comes before"):
        Resize(12, 16)({PRIMARY: [_png(_picture())]}, RANDOM)
    with pytest.raises(ValueError, match="0 x 16 is no size"):
        Resize(0, 16)


def test_beside_tensorflow_an_image_of_a_robot_differs_little(test_data: Path) -> None:
    av = pytest.importorskip("av")
    video = sorted((test_data / "g1_yellow_bottle").rglob("*.mp4"))[0]
    with av.open(str(video)) as opened:
        picture = next(iter(opened.decode(video=0))).to_ndarray(format="rgb24")
    tensorflow = pytest.importorskip("tensorflow")
    for size, allowed in ((256, 0.5), (64, 1.0)):
        theirs = tensorflow.image.resize(picture, (size, size), antialias=True).numpy()
        assert np.abs(resized(picture, size, size) - theirs).mean() < allowed
    small = resized(picture, 64, 64)
    theirs = tensorflow.image.resize(small, (256, 256)).numpy()
    assert np.abs(resized(small, 256, 256) - theirs).max() <= 1.0
    theirs = tensorflow.image.resize_with_pad(picture, 224, 224, antialias=True).numpy()
    assert np.abs(padded(picture, 224, 224) - theirs).mean() < 0.7
    encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    theirs = tensorflow.image.resize_with_pad(tensorflow.io.decode_jpeg(encoded), 224, 224, antialias=True).numpy()
    resize = Resize(224, 224, pad=True)
    for decode in (Decode(), Decode(then=resize)):
        found = apply((decode, resize), {PRIMARY: [encoded]}, RANDOM)[PRIMARY]
        assert np.abs(found[0] - theirs).mean() < 1.0, f"{decode}: half of that is how TensorFlow rounds frequencies"


def _training() -> dict[str, Any]:
    pictures = np.stack([_picture(), _picture()])
    return {PRIMARY: pictures, WRIST: pictures.copy(), GOAL: pictures[:1].copy(), "action": np.zeros((1, 2), np.float32)}


AUGMENTATIONS = (Crop(0.8), Shift(4), ColourJitter())


@pytest.mark.parametrize("transform", AUGMENTATIONS)
def test_each_camera_has_its_own_randomness_and_one_camera_is_changed_alike(transform: Any) -> None:
    sample = _training()
    kept = sample[PRIMARY].copy()
    found = transform(sample, np.random.default_rng(3))
    np.testing.assert_array_equal(sample[PRIMARY], kept)
    np.testing.assert_array_equal(found[PRIMARY][0], found[PRIMARY][1])  # of a history
    np.testing.assert_array_equal(found[PRIMARY][0], found[GOAL][0])
    assert not np.array_equal(found[PRIMARY], found[WRIST])
    assert found[PRIMARY].shape == kept.shape and found[PRIMARY].dtype == np.uint8
    again = transform(sample, np.random.default_rng(3))
    np.testing.assert_array_equal(again[WRIST], found[WRIST])
    assert not np.array_equal(transform(sample, np.random.default_rng(4))[PRIMARY], found[PRIMARY])
    alone = transform({key: value for key, value in sample.items() if key != WRIST}, np.random.default_rng(3))
    np.testing.assert_array_equal(alone[PRIMARY], found[PRIMARY])  # whichever other cameras there are
    assert invert([transform], {"action": sample["action"]})["action"] is sample["action"]
    spec = {PRIMARY: ArraySpec((2, 24, 32, 3), "uint8")}
    assert transform.spec(spec) == spec


@pytest.mark.parametrize("transform", [Shift(4), ColourJitter(), ProprioceptionDropout(1.0)])
def test_on_a_robot_nothing_is_made_up(transform: Any) -> None:
    robot = {PRIMARY: _picture()[None], "observation/state/arm": np.ones((1, 2))}
    found = transform(robot, np.random.default_rng(0))
    assert all(found[key] is robot[key] for key in robot)


def test_on_a_robot_a_crop_is_the_middle() -> None:
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[5:15, 10:30] = 255  # the middle quarter of the area
    found = Crop(0.25)({PRIMARY: picture[None]}, np.random.default_rng(0))[PRIMARY][0]
    assert found.shape == (20, 40, 3) and found.min() == 255


def test_a_crop_is_anywhere_and_as_large_as_told() -> None:
    across = np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (100, 1, 3))
    random = np.random.default_rng(0)
    lefts, spans = [], []
    for _ in range(200):
        found = Crop(0.64)({PRIMARY: across[None], "action": 0}, random)[PRIMARY][0, 50, :, 0].astype(int)
        lefts.append(found[0])
        spans.append(found[-1] - found[0])
    assert min(spans) >= 157 and max(spans) <= 161  # 0.8 of each side
    assert min(lefts) <= 2 and max(lefts) >= 37 and np.std(lefts) > 9


def test_a_shift_moves_by_every_distance_and_repeats_the_border() -> None:
    across = np.tile(np.arange(20, dtype=np.uint8)[None, :, None], (20, 1, 3))
    random, moved = np.random.default_rng(0), set()
    for _ in range(200):
        row = Shift(2)({PRIMARY: across[None], "action": 0}, random)[PRIMARY][0, 0, :, 0].astype(int)
        moved.add(int(row[10]) - 10)
        np.testing.assert_array_equal(row, np.clip(np.arange(20) + row[10] - 10, 0, 19))
    assert moved == {-2, -1, 0, 1, 2}


def test_a_colour_matrix_is_four_changes_one_after_the_other() -> None:
    pixels = np.random.default_rng(0).uniform(60, 190, (50, 3))
    mean, (brightness, contrast, saturation, hue) = pixels.mean(axis=0), (0.05, 1.2, 0.7, 0.1)
    lit = pixels + 255 * brightness
    contrasted = (lit - lit.mean(axis=0)) * contrast + lit.mean(axis=0)
    grey = contrasted @ np.array([0.299, 0.587, 0.114])
    saturated = grey[:, None] + saturation * (contrasted - grey[:, None])
    matrix = colour_matrix(mean, brightness, contrast, saturation, 0.0)
    np.testing.assert_allclose(pixels @ matrix[:, :3].T + matrix[:, 3], saturated, atol=1e-9)
    turned = colour_matrix(mean, 0.0, 1.0, 1.0, hue)
    found = pixels @ turned[:, :3].T + turned[:, 3]
    np.testing.assert_allclose(found @ np.array([0.299, 0.587, 0.114]), pixels @ np.array([0.299, 0.587, 0.114]), atol=1e-9)  # as bright
    np.testing.assert_allclose(np.array([[90.0, 90, 90]]) @ turned[:, :3].T + turned[:, 3], [[90, 90, 90]], atol=1e-4)  # grey stays grey
    still = colour_matrix(mean, 0.0, 1.0, 1.0, 0.0)
    np.testing.assert_allclose(still, np.concatenate((np.eye(3), np.zeros((3, 1))), axis=1), atol=1e-9)


def test_jitter_of_nothing_changes_nothing_and_clips_at_white() -> None:
    sample = _training()
    found = ColourJitter(0, 0, 0, 0)(sample, RANDOM)
    np.testing.assert_array_equal(found[PRIMARY], sample[PRIMARY])
    white = {PRIMARY: np.full((1, 4, 4, 3), 250, np.uint8), "action": 0}
    seen = {int(ColourJitter(1.0, 0, 0, 0)(white, np.random.default_rng(seed))[PRIMARY][0, 0, 0, 0]) for seed in range(20)}
    assert max(seen) == 255 and min(seen) < 200


def test_state_is_dropped_as_often_as_told_and_then_not_present() -> None:
    sample = {f"observation/state/{name}": np.ones((2, 3), np.float32) for name in ("arm", "hand")}
    sample |= {f"present/state/{name}": np.ones(2, np.float32) for name in ("arm", "hand")}
    sample["action"] = np.zeros((1, 1), np.float32)
    random = np.random.default_rng(0)
    dropped = {"arm": 0, "hand": 0}
    both = 0
    for _ in range(400):
        found = ProprioceptionDropout(0.25)(sample, random)
        gone = {name: not found[f"observation/state/{name}"].any() for name in dropped}
        for name in dropped:
            assert found[f"present/state/{name}"].any() != gone[name]
            dropped[name] += gone[name]
        both += all(gone.values())
    assert all(70 < count < 130 for count in dropped.values()) and 10 < both < 45  # independent of each other
    only = ProprioceptionDropout(1.0, groups=("hand",))(sample, random)
    assert only["observation/state/arm"].all() and not only["observation/state/hand"].any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Crop(0.0), "share is 0.0"),
        (lambda: Shift(-1), "pixels is -1"),
        (lambda: ColourJitter(hue=0.6), "hue is 0.6, but is between 0 and 0.5"),
        (lambda: ProprioceptionDropout(1.5), "probability is 1.5"),
    ],
)
def test_impossible_numbers_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_from_files_to_a_batch() -> None:
    sample = {
        "name": "kitchen/train/12, step 7",
        PRIMARY: [_jpeg(_picture())] * 2,
        WRIST: [b""] * 2,
        "action": np.zeros((1, 2), np.float32),
    }
    transforms = [Decode(), Resize(16, 16, pad=True), Crop(), Shift(), ColourJitter()]
    found = apply(transforms, sample, np.random.default_rng(0))
    assert found[PRIMARY].shape == found[WRIST].shape == (2, 16, 16, 3)
    told = spec_after(transforms, {PRIMARY: ArraySpec((2,), "bytes"), WRIST: ArraySpec((2,), "bytes")})
    assert told[PRIMARY] == told[WRIST] == ArraySpec((2, 16, 16, 3), "uint8")
