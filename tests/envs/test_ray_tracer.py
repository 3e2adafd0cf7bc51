"""Images by MuJoCo Warp's ray tracer, on a CPU: the same things at the same places as OpenGL draws."""

import dataclasses

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxrl_envs.randomization.visual import Visual
from tests.envs.scenes import ALL, KEY, PLACES, SIZE, build, centres, compiled, expected_centres, many, shown

pytest.importorskip("warp", reason="warp-lang is not installed: pip install 'jaxrl[warp]'", exc_type=ModuleNotFoundError)

TRACED = {"renderer": "warp"}


def test_shows_the_known_colours_at_the_known_places():
    images = shown(PLACES, **TRACED)
    assert images.shape == (len(PLACES), SIZE, SIZE, 3) and images.dtype == np.uint8
    for place, image in zip(PLACES, images, strict=True):
        np.testing.assert_allclose(centres(image), expected_centres(place), atol=0.8)


def test_a_row_depends_on_nothing_but_itself():
    env = build(visual=ALL, **TRACED)
    parameters = jax.vmap(env.sample)(jax.random.split(KEY, 5))
    together = shown(PLACES, parameters, visual=ALL, **TRACED)
    backwards = shown(PLACES[::-1], jax.tree.map(lambda x: x[::-1], parameters), visual=ALL, **TRACED)
    np.testing.assert_array_equal(together, backwards[::-1])
    alone = shown(PLACES[1:2], jax.tree.map(lambda x: x[1:2], parameters), visual=ALL, **TRACED)
    np.testing.assert_array_equal(together[1], alone[0])
    assert len({image.tobytes() for image in together}) == 5


def test_nested_vmap_and_scan_draw_the_same():
    images = compiled(**TRACED)
    places, nominal = jnp.linspace(-0.8, 0.8, 4)[:, None], build(**TRACED).nominal
    flat = images(places, many(nominal, 4))["image/above"]
    nested = jax.jit(jax.vmap(images))(places.reshape(2, 2, 1), many(many(nominal, 2), 2))["image/above"]
    np.testing.assert_array_equal(nested.reshape(flat.shape), flat)
    scanned = jax.jit(lambda x: jax.lax.scan(lambda _, place: ((), images(place[None], many(nominal, 1))), (), x)[1])(places)
    np.testing.assert_array_equal(scanned["image/above"][:, 0], flat)


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Visual) if f.name not in ("materials", "geoms")])
def test_each_part_of_the_look_changes_the_picture(field):
    visual = Visual(**{field: getattr(ALL, field)})
    env = build(visual=visual, **TRACED)
    plain, varied = (
        shown((0.4,), **TRACED)[0].astype(int),
        shown((0.4,) * 3, jax.vmap(env.sample)(jax.random.split(KEY, 3)), visual=visual, **TRACED),
    )
    assert max(np.abs(image - plain).max() for image in varied) > 8
    np.testing.assert_array_equal(shown((0.4,), visual=visual, **TRACED)[0], plain)  # nominal parameters


def test_a_world_that_is_not_finite_is_black_and_harms_no_other():
    images, sound = shown((0.4, np.nan, -0.3), **TRACED), shown((0.4, 0.0, -0.3), **TRACED)
    assert not images[1].any()
    np.testing.assert_array_equal(images[[0, 2]], sound[[0, 2]])


def test_a_brightness_without_effect_is_refused():
    from jaxrl_envs.rendering.ray_tracer import ray_tracer

    dark = mujoco.MjModel.from_xml_string('<mujoco><worldbody><camera name="eye"/><geom size="1"/></worldbody></mujoco>')
    with pytest.raises(ValueError, match="brightness: MuJoCo Warp compiles the headlight in"):
        ray_tracer(dark, ("eye",), 8, 8, ("headlight_diffuse",))
