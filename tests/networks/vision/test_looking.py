"""What encoders make of states and pictures: by camera, with a history, made different while training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks._observation import encoder
from jaxrl.networks.vision.cameras import Config as Cameras
from jaxrl.networks.vision.pooling import Vision
from jaxrl.ops.paths import flatten_names
from jaxrl.types import ArraySpec

KEY = jax.random.key(0)
SPEC = {
    "image/side": ArraySpec((2, 20, 24, 3), "uint8"),
    "image/wrist": ArraySpec((2, 20, 24, 3), "uint8"),
    "state/a": ArraySpec((2, 3)),
    "task/instruction": ArraySpec((7,), "int32"),
}
LIGHT = {"brightness": 0.3, "contrast": 0.4, "saturation": 0.5, "hue": 0.05}


def observed(batch=3):
    """The same picture everywhere in a row: at both steps, of both cameras."""
    picture = np.random.default_rng(0).integers(0, 256, (batch, 1, 20, 24, 3), np.uint8)
    pictures = jnp.asarray(np.repeat(picture, 2, 1))
    return {"image/side": pictures, "image/wrist": pictures, "state/a": jnp.ones((batch, 2, 3))}


def build(spec=SPEC, cameras=None, only=False, **fields):
    seen = encoder(spec, "the test", Vision(Cameras("resnet_debug", **cameras or {}), **{"keypoints": 4, "head": (6,)} | fields))
    if only:
        return jax.jit(seen.network.apply, static_argnums=4)
    params, statistics = jax.jit(seen.network.init)(KEY)
    return seen, params, statistics, jax.jit(seen.network.apply, static_argnums=4)


def test_each_camera_is_changed_by_a_draw_of_its_own_and_all_steps_of_a_row_alike():
    seen, params, statistics, apply = build(
        cameras={"shared": True, "crop": (16, 16), "shift": 2, "rotation": 9.0, **LIGHT}, state_dropout=0.5
    )
    assert (seen.steps, seen.size) == (2, 3 + 6 + 6)
    params = params | {"fused": dict.fromkeys(params["fused"], params["fused"]["camera_side"])}  # so that both cameras are seen alike
    x, calm = observed(6), None
    for key in (None, KEY):
        calm, _ = apply(params, statistics, x, key, False)
        assert calm.shape == (6, 2, 15)
        np.testing.assert_allclose(calm[:, :, 3:9], calm[:, :, 9:], atol=1e-5)
    changed, _ = apply(params, statistics, x, KEY, True)
    np.testing.assert_allclose(changed[:, 0], changed[:, 1], atol=1e-5)
    side, wrist = changed[:, 0, 3:9], changed[:, 0, 9:]
    assert (jnp.abs(side - wrist).max(-1) > 1e-3).all() and (jnp.abs(side - calm[:, 0, 3:9]).max(-1) > 1e-3).all()
    assert {tuple(row) for row in np.asarray(changed[:, 0, :3])} == {(0.0, 0.0, 0.0), (1.0, 1.0, 1.0)}
    unchanged, _ = apply(params, statistics, x, None, True)
    np.testing.assert_array_equal(unchanged, calm)
    time_major = jax.tree.map(lambda part: jnp.stack([part, part[::-1]]), x)
    axes = jax.eval_shape(lambda x: seen.network.apply(params, statistics, x, KEY, True)[0], time_major).shape
    assert axes == (2, 6, 2, 15)


def test_evaluation_sees_the_middle_and_each_picture_as_it_is():
    _, params, statistics, apply = build(cameras={"crop": (16, 16)})
    smaller = {name: ArraySpec((2, 16, 16, 3), "uint8") if name.startswith("image/") else part for name, part in SPEC.items()}
    bare = build(smaller, only=True)
    x = observed()
    middle = {name: part[:, :, 2:18, 4:20] if name.startswith("image/") else part for name, part in x.items()}
    np.testing.assert_allclose(apply(params, statistics, x, None, False)[0], bare(params, statistics, middle, None, False)[0], atol=1e-5)
    one, _ = apply(params, statistics, x | {"image/wrist": x["image/wrist"].at[1, 0].set(0)}, None, False)
    differs = jnp.abs(one - apply(params, statistics, x, None, False)[0]).max(-1) > 1e-4
    np.testing.assert_array_equal(differs, [[False, False], [True, False], [False, False]])


def test_a_frozen_backbone_gets_no_gradient_and_what_adapts_it_does():
    spec = {"image/side": ArraySpec((32, 32, 3), "uint8"), "state/a": ArraySpec((3,))}
    x = {"image/side": jnp.arange(3 * 32 * 32 * 3, dtype=jnp.uint8).reshape(3, 32, 32, 3), "state/a": jnp.ones((3, 3))}
    config = Vision(Cameras("vit_debug", frozen=True), "none", head=(8,), fusion="attention", heads=2)
    seen = encoder(spec, "the test", config)
    params, statistics = jax.jit(seen.network.init)(KEY)
    slopes = jax.jit(jax.grad(lambda params: jnp.square(seen.network.apply(params, statistics, x)[0]).sum()))(params)
    moved = {name: bool(jnp.abs(leaf).sum() > 0) for name, leaf in flatten_names(slopes).items() if not name.endswith("key/bias")}
    assert len(moved) > 25 and all(moves == name.startswith("fused/") for name, moves in moved.items())


def test_numbers_of_16_bits_and_a_class_token():
    spec, x = (
        {"image/side": ArraySpec((32, 32, 3), "uint8")},
        {"image/side": jnp.arange(2 * 32 * 32 * 3, dtype=jnp.uint8).reshape(2, 32, 32, 3)},
    )
    looks = [encoder(spec, "the test", Vision(Cameras("vit_debug", bfloat16=bfloat16), "class")) for bfloat16 in (False, True)]
    params, statistics = jax.jit(looks[0].network.init)(KEY)
    exact, rounded = (jax.jit(look.network.apply)(params, statistics, x)[0] for look in looks)
    assert exact.shape == rounded.shape == (2, 1, 64) and rounded.dtype == jnp.float32
    np.testing.assert_allclose(rounded, exact, atol=0.05 * float(jnp.abs(exact).max()))
    assert (rounded != exact).any()


def test_backbones_are_shared_or_not_and_cameras_are_chosen():
    def owners(**fields):
        params, _ = jax.eval_shape(encoder(SPEC, "the test", Vision(Cameras("resnet_debug", **fields))).network.init, KEY)
        return set(params["backbone"])

    assert owners() == {"side", "wrist"} and owners(shared=True) == {"shared"} and owners(cameras=("wrist",)) == {"wrist"}
    assert encoder(SPEC, "the test").size == 3


@pytest.mark.parametrize(
    ("spec", "cameras", "fields", "message"),
    [
        ({"image/a": ArraySpec((20, 20, 4), "uint8")}, {}, {}, "the test takes pictures .* of uint8, but image/a has the shape"),
        ({"image/a": ArraySpec((20, 20, 3))}, {}, {}, "of float32"),
        (SPEC | {"image/a": ArraySpec((20, 20, 3), "uint8")}, {}, {}, "takes pictures of one history, but they differ"),
        (SPEC | {"state/a": ArraySpec((3,))}, {}, {}, "states have 1 steps and pictures 2"),
        (SPEC, {"crop": (21, 20)}, {}, r"crop is \(21, 20\), but image/side is 20 x 24"),
        (SPEC, {"crop": (21,)}, {}, "must be .height, width."),
        (SPEC, {"cameras": ("top",)}, {}, "there is no camera 'top'; offered are image/side, image/wrist"),
        (SPEC, {"norm": "batch"}, {}, "takes the statistics of a file of weights"),
        (SPEC, {"prefix": "a."}, {}, "prefix: has no effect without weights"),
        (SPEC, {"remat": True}, {}, "remat: has no effect on resnet_debug"),
        (SPEC, {"hue": 0.6}, {}, "hue is 0.6, but must be at least 0 and at most 0.5"),
        (SPEC, {}, {"pool": "class"}, "resnet_debug has no class token"),
        (SPEC, {}, {"fusion": "attention"}, "nothing is pooled"),
        (SPEC, {}, {"fusion": "attention", "pool": "none", "head": (6,)}, "multiple of 4"),
        (SPEC, {}, {"state_dropout": 1.0}, "state_dropout is 1.0"),
        ({"task/a": ArraySpec((3,))}, {}, {}, "needs at least one state/<group> or image/<camera> observation; offered are task/a"),
        ({"state/a": ArraySpec((3,))}, {}, {"state_dropout": 0.5}, "without pictures nothing would be left to see"),
    ],
)
def test_what_does_not_fit_is_refused(spec, cameras, fields, message):
    with pytest.raises(ValueError, match=message):
        build(spec, cameras, **fields)


def test_a_picture_that_a_transformer_does_not_take():
    with pytest.raises(ValueError, match="the test: vit_debug takes 32 x 32, not 20 x 24 as image/side; resize the pictures, or set crop"):
        encoder(SPEC, "the test", Vision(Cameras("vit_debug"), "class"))
    with pytest.raises(ValueError, match="no backbone 'resnet19'; did you mean resnet18"):
        Cameras("resnet19")
