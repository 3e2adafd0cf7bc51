"""The height field's tiles, its heights against MuJoCo's own surface, and what rests on it."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxrl_envs import robots
from jaxrl_envs.physics import make
from jaxrl_envs.physics.interface import at_rest
from jaxrl_envs.terrain import KINDS, Config, height_at, height_scan, replace_floor, scan_points, terrain

SMALL = Config(kinds=tuple(KINDS), levels=3, tile_size=5.0, border=1.0, stair_depth=(0.4, 0.4), gap_depth=0.3)
LAND = terrain(SMALL, seed=1)

_BALL = """
<mujoco>
  <option timestep="0.005"/>
  <worldbody>
    <geom name="floor" type="plane" size="1 1 0.1"/>
    <body name="ball">
      <joint name="x" type="slide" axis="1 0 0"/><joint name="y" type="slide" axis="0 1 0"/><joint name="z" type="slide" axis="0 0 1"/>
      <geom type="sphere" size="0.05" mass="1"/>
    </body>
  </worldbody>
  <actuator><motor joint="x"/></actuator>
</mujoco>
"""


def on_land(xml):
    spec = mujoco.MjSpec.from_string(xml)
    replace_floor(spec, LAND)
    return spec.compile()


def tile_of(land, level, kind):
    """[51, 51] vertices of one tile."""
    row, column = 10 + 50 * land.kinds.index(kind), 10 + 50 * level
    return land.heights[row : row + 51, column : column + 51]


def rays_down(model, points):
    """[...] m, the height at which a ray from above meets the world's geoms."""
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    met, down = np.zeros(1, np.int32), np.array([0.0, 0.0, -1.0])
    return np.array([9.0 - mujoco.mj_ray(model, data, np.array([x, y, 9.0]), down, None, 1, 1, met, None) for x, y in points.astype(float)])


@pytest.mark.parametrize("kind", KINDS)
def test_tiles_fit_each_other_and_start_flat(kind):
    for level in range(3):
        heights = tile_of(LAND, level, kind)
        assert not heights[[0, -1]].any() and not heights[:, [0, -1]].any()
        middle = heights[15:36, 15:36]
        np.testing.assert_array_equal(middle, middle[10, 10])
        np.testing.assert_allclose(LAND.origins[level, LAND.kinds.index(kind), 2], middle[10, 10])


def test_kinds_are_what_their_names_say_from_the_middle_outwards():
    way = {kind: tile_of(LAND, 2, kind)[25, 25:] for kind in KINDS}  # along x, from the middle to the edge
    slopes = np.diff(way["slope_up"][10:])
    np.testing.assert_allclose(slopes, slopes[0], atol=1e-6)
    assert 0.1 * 0.4 * 2 / 3 <= slopes[0] <= 0.1 * 0.4
    rise = np.diff(way["stairs_up"])
    assert (rise[10::4][:3] > 0.1).all() and np.count_nonzero(rise) == 3  # cells of 0.1 m, 0.4 m deep, three in 1.5 m
    assert (np.diff(way["slope_down"]) <= 0).all() and (np.diff(way["stairs_down"]) <= 0).all()
    assert np.unique(np.round(np.abs(tile_of(LAND, 2, "obstacles")), 5)).size == 3  # ground, half and full height
    trench = np.flatnonzero(way["gap"] < -0.2)
    assert trench[0] == 11 and 0.4 <= 0.1 * (trench.size + 1) <= 0.7
    assert not tile_of(LAND, 2, "flat").any()


def test_higher_levels_are_harder():
    for kind in ("slope_up", "slope_down", "rough", "stairs_up", "stairs_down", "obstacles"):
        extents = [np.ptp(tile_of(LAND, level, kind)) for level in range(3)]
        assert extents[0] < extents[1] < extents[2], kind


def test_a_seed_is_a_set_of_tiles():
    np.testing.assert_array_equal(terrain(SMALL, seed=1).heights, LAND.heights)
    other = terrain(SMALL, seed=2)
    for kind in set(KINDS) - {"flat"}:
        assert any((tile_of(other, level, kind) != tile_of(LAND, level, kind)).any() for level in range(3)), kind
    few = terrain(Config(kinds=("flat", "slope_up"), levels=3, tile_size=5.0, border=1.0), seed=1)
    np.testing.assert_array_equal(tile_of(few, 1, "slope_up"), tile_of(LAND, 1, "slope_up"))  # whatever else is there


def test_tiles_are_where_their_origins_say():
    assert LAND.origins.shape == (3, len(KINDS), 3)
    np.testing.assert_allclose(np.diff(LAND.origins[:, 0, 0]), 5.0)
    np.testing.assert_allclose(np.diff(LAND.origins[0, :, 1]), 5.0)
    np.testing.assert_allclose(LAND.origins[..., :2].mean((0, 1)), 0.0, atol=1e-6)
    flat = LAND.origins.reshape(-1, 3)
    np.testing.assert_allclose(height_at(LAND, flat[:, :2]), flat[:, 2], atol=1e-6)
    np.testing.assert_allclose(rays_down(on_land(_BALL), flat[:, :2]), flat[:, 2], atol=1e-5)


def test_heights_are_those_of_mujocos_surface():
    reach = (np.array(LAND.heights.shape[::-1]) - 1) * 0.05 - 1e-3
    points = np.random.default_rng(0).uniform(-reach, reach, (3000, 2)).astype(np.float32)
    surface = rays_down(on_land(_BALL), points)
    assert np.ptp(surface) > 1.0
    np.testing.assert_allclose(jax.jit(lambda xy: height_at(LAND, xy))(points), surface, atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 7), (7, 4)])
def test_heights_at_vertices_edges_and_beyond(shape):
    heights = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    land = LAND._replace(heights=heights, resolution=0.5)
    y, x = ((np.arange(n) - (n - 1) / 2) * 0.5 for n in shape)
    vertices = np.stack(np.meshgrid(x, y), -1).astype(np.float32)
    np.testing.assert_allclose(height_at(land, vertices), heights, atol=1e-6)
    far = np.array([[x[0] - 3.0, y[0] - 9.0], [x[-1] + 2.0, y[1]]], np.float32)
    np.testing.assert_allclose(height_at(land, far), [heights[0, 0], heights[1, -1]], atol=1e-6)


@pytest.mark.parametrize("backend", ["native", "mjx"])
def test_a_ball_comes_to_rest_on_the_surface(backend):
    """In the middle of tiles and on treads of stairs."""
    middles = LAND.origins[2, [LAND.kinds.index(k) for k in ("flat", "rough", "stairs_up", "stairs_down")], :2]
    treads = middles[2:] + np.array([1.0 + 0.4 + 0.26, 0.02], np.float32)
    places = jnp.asarray(np.concatenate([middles + np.array([0.03, -0.06], np.float32), treads]))
    physics = make(on_land(_BALL), backend)
    ground = height_at(LAND, places)
    qpos = jnp.concatenate([places, (ground + 0.15)[:, None]], 1)
    start = at_rest(physics.model)
    start = jax.tree.map(lambda x: jnp.broadcast_to(x[None], (len(qpos), *x.shape)), start)._replace(qpos=qpos)
    after = jax.jit(jax.vmap(lambda s: physics.step(s, jnp.zeros((300, 1)), {})))(start)
    np.testing.assert_allclose(after.qpos[:, 2] - ground, 0.05, atol=2e-3)
    np.testing.assert_allclose(after.qpos[:, :2], places, atol=0.02)


def test_a_quadruped_stands_on_stairs():
    physics = make(on_land(robots.xml("go2")), "native")
    model = physics.model
    x, y, z = LAND.origins[1, LAND.kinds.index("stairs_up")]
    feet = [model.sensor(f"{leg}_position").adr[0] + np.arange(3) for leg in ("FL", "FR", "RL", "RR")]
    qpos = model.key_qpos[0].astype(np.float32)  # hind feet on the platform, front feet on the first step
    rise = float(height_at(LAND, np.array([x + 1.25, y], np.float32))) - z
    pitch = -np.arctan2(rise, 0.387)
    qpos[:7] = (x + 1.1, y, z + rise / 2 + 0.29, np.cos(pitch / 2), 0.0, np.sin(pitch / 2), 0.0)
    state = physics.forward(jnp.asarray(qpos), jnp.zeros(model.nv), {})
    state = jax.jit(lambda s: physics.step(s, jnp.tile(jnp.asarray(model.key_ctrl[0], jnp.float32), (300, 1)), {}))(state)
    places = state.sensordata[np.stack(feet)]
    ground = height_at(LAND, places[:, :2])
    assert ground.max() - ground.min() > 0.05  # or it stands beside the stairs
    np.testing.assert_allclose(places[:, 2] - ground, 0.022, atol=0.012)  # the feet's contacts are soft: they sink 7 mm on a plane too
    contact = [model.sensor(f"{leg}_contact").adr[0] for leg in ("FL", "FR", "RL", "RR")]
    np.testing.assert_array_equal(state.sensordata[np.array(contact)] > 0, True)
    assert np.linalg.norm(state.qvel[:3]) < 0.05


def test_scan_turns_with_the_robot():
    tilted = np.tile(np.arange(41, dtype=np.float32) * 0.1, (41, 1))  # rises along x, 1 m per m, 2 m at the origin
    land = LAND._replace(heights=tilted, resolution=0.1)
    position = jnp.array([0.3, -0.2, 2.5])
    points = np.array([[0.5, 0.0], [0.0, 0.5], [-1.0, 0.0]], np.float32)
    np.testing.assert_allclose(height_scan(land, position, jnp.zeros(()), points), [0.3, -0.2, -1.0], atol=1e-5)
    turned = height_scan(land, position, jnp.asarray(np.pi / 2, jnp.float32), points)  # forward is y, left is -x
    np.testing.assert_allclose(turned, [-0.2, -0.7, -0.2], atol=1e-5)
    np.testing.assert_allclose(height_scan(land, position, jnp.zeros(()), points, limit=0.25), [0.25, -0.2, -0.25], atol=1e-5)


def test_scan_points_cover_a_rectangle():
    points = scan_points(0.8, 0.5, 0.1)
    assert points.shape == (17 * 11, 2)
    np.testing.assert_allclose(points.min(0), [-0.8, -0.5], atol=1e-6)
    np.testing.assert_allclose(points.max(0), [0.8, 0.5], atol=1e-6)
    np.testing.assert_allclose(points[1] - points[0], [0.0, 0.1], atol=1e-6)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"kinds": ("stair_up",)}, "kinds: 'stair_up' is unknown; did you mean stairs_up"),
        ({"kinds": ()}, "kinds: empty; name at least one of flat"),
        ({"slope": (0.4, 0.1)}, r"slope: expected 0 <= lowest <= highest, got \(0.4, 0.1\)"),
        ({"resolution": 0.0}, "resolution: expected more than 0 m, got 0.0"),
        ({"levels": 0}, "expected levels >= 1"),
        ({"resolution": 0.3}, "tile_size: expected a multiple, at least fourfold, of the resolution 0.3 m, got 8.0 m"),
        ({"platform": 8.0}, "platform: 8.0 m leaves no room in a tile of 8.0 m"),
        ({"gap": (0.1, 4.0)}, "gap: up to 4.0 m do not fit between platform and edge, 3.0 m apart"),
    ],
)
def test_impossible_numbers_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        Config(**numbers)


def test_a_floor_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="geom 'ground': the model has floor"):
        replace_floor(mujoco.MjSpec.from_string(_BALL), LAND, geom="ground")
    with pytest.raises(ValueError, match="seed: expected at least 0, got -1"):
        terrain(SMALL, seed=-1)


def test_a_flat_field_is_a_floor():
    land = terrain(Config(kinds=("flat",), levels=1, tile_size=4.0))
    spec = mujoco.MjSpec.from_string(_BALL)
    replace_floor(spec, land)
    np.testing.assert_allclose(rays_down(spec.compile(), np.array([[0.0, 0.0], [1.3, -0.7]])), 0.0, atol=1e-7)
