"""Images as observations: that they show the right thing, that nothing leaks from one row to another, and what is refused."""

import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxrl.algorithms import ppo
from jaxrl.curricula.static import fixed
from jaxrl.evaluation.play import play
from jaxrl.networks import conv_actor_critic
from jaxrl.rollout.auto_reset import Draws, auto_reset
from jaxrl.rollout.rollout import Config as Rollout
from jaxrl.rollout.rollout import rollout
from jaxrl.training.fit import initial, many_updates
from jaxrl.types import ArraySpec, Steering
from jaxrl_envs.randomization import Ranges, visual
from jaxrl_envs.randomization.visual import Visual
from jaxrl_envs.rendering import Pool, open_gl
from jaxrl_envs.tasks import cartpole
from jaxrl_envs.wrappers.pixels import Config, Parameters, pixels
from tests.envs.scenes import ALL, KEY, LENGTH, PLACES, SIZE, ball, build, centres, compiled, expected_centres, many, model, shown


@pytest.fixture(scope="module", autouse=True)
def opengl():
    try:
        return open_gl()
    except RuntimeError as error:
        pytest.skip(str(error))


def test_shows_the_known_colours_at_the_known_places():
    images = shown(PLACES)
    assert images.shape == (len(PLACES), SIZE, SIZE, 3) and images.dtype == np.uint8
    for place, image in zip(PLACES, images, strict=True):
        np.testing.assert_allclose(centres(image), expected_centres(place), atol=0.8)


def test_a_row_depends_on_nothing_but_itself():
    env = build(visual=ALL)
    parameters = jax.vmap(env.sample)(jax.random.split(KEY, 5))
    together = shown(PLACES, parameters, visual=ALL)
    np.testing.assert_array_equal(together, shown(PLACES, parameters, visual=ALL))
    backwards = shown(PLACES[::-1], jax.tree.map(lambda x: x[::-1], parameters), visual=ALL)
    np.testing.assert_array_equal(together, backwards[::-1])
    for i in range(5):
        alone = shown(PLACES[i : i + 1], jax.tree.map(lambda x, i=i: x[i : i + 1], parameters), visual=ALL)
        np.testing.assert_array_equal(together[i], alone[0])
    assert len({image.tobytes() for image in together}) == 5


def test_nested_vmap_scan_and_shard_map_draw_the_same():
    images = compiled()
    places = jnp.linspace(-0.8, 0.8, 8)[:, None]
    nominal = many(build().nominal, 8)
    flat = images(places, nominal)["image/above"]
    nested = jax.jit(jax.vmap(images))(places.reshape(2, 4, 1), many(many(build().nominal, 4), 2))["image/above"]
    np.testing.assert_array_equal(nested.reshape(flat.shape), flat)
    scanned = jax.jit(lambda x: jax.lax.scan(lambda _, place: ((), images(place[None], many(build().nominal, 1))), (), x)[1])(places)
    np.testing.assert_array_equal(scanned["image/above"][:, 0], flat)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    data = PartitionSpec("data")
    sharded = jax.jit(jax.shard_map(images, mesh=mesh, in_specs=(data, data), out_specs=data, check_vma=False))(places, nominal)
    np.testing.assert_array_equal(sharded["image/above"], flat)


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Visual) if f.name not in ("materials", "geoms")])
def test_each_part_of_the_look_changes_the_picture_and_only_it(field):
    env = build(visual=Visual(**{field: getattr(ALL, field) if field != "retexture" else 1.0}))
    first, second = (jax.jit(env.sample)(jax.random.key(i)) for i in range(2))
    assert jax.tree.structure(first) == jax.tree.structure(env.nominal)
    draw = Pool(model(), ("side",), SIZE, SIZE, threads=1)
    out = [np.empty((4, SIZE, SIZE, 3), np.uint8)]
    looks = [env.nominal, first, second, first]
    fields = {name: np.stack([np.asarray(look.fields[name]) for look in looks]) for name in env.nominal.fields}
    draw.draw({"qpos": np.full((4, 1), 0.3)}, fields, out)
    plain, one, other, again = out[0]
    np.testing.assert_array_equal(one, again)
    assert len({plain.tobytes(), one.tobytes(), other.tobytes()}) == 3, f"{field} leaves the picture as it is"
    bare = [np.empty((1, SIZE, SIZE, 3), np.uint8)]
    draw.draw({"qpos": np.full((1, 1), 0.3)}, {}, bare)
    # Without fields the model looks as it was compiled, in float64.
    assert np.abs(bare[0][0].astype(int) - plain).mean() < 0.05
    draw.close()


def test_named_materials_and_geoms_alone_change_their_colour():
    def fields(**names):
        return visual.distribution(model(), Visual(recolour=1.0, **names))(KEY)

    own = visual.nominal(model(), Visual(recolour=1.0))
    some = fields(materials=("red",), geoms=())
    assert [bool((some["mat_rgba"][i] != own["mat_rgba"][i]).any()) for i in range(2)] == [False, True]
    np.testing.assert_array_equal(some["geom_rgba"], own["geom_rgba"])
    assert (fields(materials=(), geoms=("ball",))["geom_rgba"] != own["geom_rgba"]).any(1).tolist() == [False, True, False]
    assert (fields()["geom_rgba"] != own["geom_rgba"]).any(1).tolist() == [False, False, True]  # the others show their materials'


def test_the_nominal_world_looks_as_the_model_says_whatever_varies():
    np.testing.assert_array_equal(shown(PLACES), shown(PLACES, visual=ALL))


def test_the_final_image_is_the_true_one():
    env = build()
    worlds, draws = auto_reset(env, fixed(env.sample), pool_size=2, stagger=False), Draws((), ())

    def run(key):
        starts = worlds.pool(key, draws)
        first = worlds.init(key, jnp.arange(3, dtype=jnp.int32), starts, draws)

        def body(state, key):
            state, _, result, ended = worlds.step(state, jnp.full((3, 1), 0.2), starts, draws, key)
            return state, (result.observation, state.observation, ended)

        return jax.lax.scan(body, first, jax.random.split(key, LENGTH + 1))[1]

    true, following, ended = jax.device_get(jax.jit(run)(KEY))
    assert ended[LENGTH - 1].all() and not ended[LENGTH - 2].any()
    wanted = shown([0.2 * (t + 1) for t in range(LENGTH)])
    place = true["state/place"][:LENGTH, :, 0]
    np.testing.assert_allclose(place, np.tile(0.2 * np.arange(1, LENGTH + 1)[:, None], 3), rtol=1e-6)
    np.testing.assert_array_equal(true["image/above"][LENGTH - 1, 0], wanted[LENGTH - 1])
    np.testing.assert_array_equal(following["image/above"][LENGTH - 1, 0], shown([0.0])[0])
    np.testing.assert_array_equal(true["image/above"][LENGTH, 0], wanted[0])


def test_several_frames_are_the_latest_and_begin_with_the_first():
    env = build(frames=3, cameras=("above", "side"))
    state, observation = env.reset(KEY, env.nominal)
    seen = [observation]
    for _ in range(3):
        state, result = env.step(state, jnp.array([0.3]), env.nominal, KEY)
        seen.append(result.observation)
    stacks = [np.asarray(each["image/above"]) for each in seen]
    single = shown([0.0, 0.3, 0.6, 0.9])
    for i, stack in enumerate(stacks):
        assert stack.shape == (SIZE, SIZE, 9)
        wanted = [single[max(0, i - back)] for back in (2, 1, 0)]
        np.testing.assert_array_equal(stack, np.concatenate(wanted, -1))
    assert set(observation) == set(env.spec.observation) == {"state/place", "image/above", "image/side"}
    assert (seen[-1]["image/side"] != seen[-1]["image/above"]).any()
    restarted, again = env.restart(state, env.nominal, KEY)
    np.testing.assert_array_equal(again["image/above"], np.tile(single[3], (1, 1, 3)))
    assert jax.tree.structure(restarted) == jax.tree.structure(state)


def test_state_observations_are_kept_or_dropped():
    assert set(build().spec.observation) == {"state/place", "image/above"}
    env = build(keep_state=False)
    assert set(env.reset(KEY, env.nominal)[1]) == set(env.spec.observation) == {"image/above"}
    assert env.spec.observation["image/above"] == ArraySpec((SIZE, SIZE, 3), "uint8")


def test_a_world_that_is_not_finite_is_black_and_harms_no_other():
    images = shown([0.3, np.nan, np.inf, 0.3])
    assert not images[1].any() and not images[2].any()
    np.testing.assert_array_equal(images[[0, 3]], shown([0.3, 0.3]))


def test_parameters_are_those_of_the_task_and_the_look():
    env = build(visual=Visual(field_of_view=(0.5, 0.6)))
    drawn = env.sample(KEY)
    assert isinstance(drawn, Parameters) and set(drawn.fields) == {"cam_fovy", "cam_intrinsic"}
    assert ((drawn.fields["cam_fovy"] >= 22.4) & (drawn.fields["cam_fovy"] <= 27.1)).all()


def test_what_a_curriculum_varies_and_a_person_steers_is_that_of_the_task():
    task = cartpole.cartpole(cartpole.Config(randomization=Ranges(joint_damping=(0.5, 2.0))))
    steering = Steering(("force",), (-1.0,), (1.0,), lambda state, command: state._replace(target=command))
    env = pixels(Config(("side",), 8, 8, visual=Visual(recolour=1.0)), task._replace(steering=steering))
    first, other = (jax.jit(env.space.at)(jnp.full(task.space.draw(KEY).shape, x)) for x in (0.25, 0.75))
    jax.tree.map(np.testing.assert_array_equal, first.physics, task.space.at(jnp.full(task.space.draw(KEY).shape, 0.25)))
    assert jax.tree.structure(first) == jax.tree.structure(env.nominal)
    assert (first.fields["mat_rgba"] != other.fields["mat_rgba"]).any()
    rows = jax.tree.map(lambda x: x[None], first)
    assert env.space.summary(rows).keys() == task.space.summary(rows.physics).keys()
    state = jax.jit(env.reset)(KEY, first)[0]
    assert env.steering.set(state, jnp.array([0.5])).world.target == 0.5


def test_videos_are_drawn_as_of_the_task():
    env = build()
    state, _ = jax.vmap(env.reset)(jax.random.split(KEY, 2), many(env.nominal, 2))
    np.testing.assert_array_equal(env.render(jax.device_get(state), 24, 16), ball().render(np.zeros((2, 1), np.float32), 24, 16))


def test_a_process_that_drew_ends_in_peace():
    code = (
        "import numpy as np; from jaxrl_envs.tasks import cartpole; from jaxrl_envs.rendering import Pool\n"
        "pool = Pool(cartpole.model(), ('side',), 8, 8, threads=2)\n"
        "pool.draw({'qpos': np.zeros((3, 2))}, {}, [np.empty((3, 8, 8, 3), np.uint8)])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_closed_pool_begins_anew_and_faults_reach_the_caller():
    pool, out = Pool(model(), ("above",), 8, 8, threads=1), [np.empty((1, 8, 8, 3), np.uint8)]
    pool.draw({"qpos": np.zeros((1, 1))}, {}, out)
    first = out[0].copy()
    pool.close()
    pool.draw({"qpos": np.zeros((1, 1))}, {}, out)
    np.testing.assert_array_equal(out[0], first)
    with pytest.raises(AttributeError, match="no_such_field"):
        pool.draw({"no_such_field": np.zeros((1, 1))}, {}, out)
    pool.close()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cameras": ()}, "cameras is empty"),
        ({"cameras": ("above", "above")}, "names one twice"),
        ({"width": 0}, "width is 0, but must be at least 1"),
        ({"cameras": ("abov",)}, r"cameras: 'abov' is unknown; did you mean above\?"),
        ({"visual": Visual(materials=("rde",))}, r"materials: 'rde' is unknown; did you mean red\?"),
        ({"visual": Visual(geoms=("bal",))}, r"geoms: 'bal' is unknown; did you mean ball\?"),
    ],
)
def test_refuses(fields, message):
    with pytest.raises(ValueError, match=message):
        pixels(Config(**{"cameras": ("above",)} | fields), ball())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"light_shift": -1.0}, "light_shift is -1.0, but must not be negative"),
        ({"recolour": 1.5}, "recolour is 1.5, but is a share of at most 1"),
        ({"camera_turn": 200.0}, "camera_turn is 200.0 degrees"),
        ({"brightness": (1.0, 0.5)}, "brightness: the lower bound 1.0 is above the upper bound 0.5"),
        ({"brightness": (-1.0, 0.5)}, "brightness: the lower bound -1.0 is negative"),
        ({"field_of_view": (0.0, 0.5)}, "field_of_view: the lower bound 0.0 is not positive"),
    ],
)
def test_the_look_refuses(fields, message):
    with pytest.raises(ValueError, match=message):
        Visual(**fields)


@pytest.mark.slow
def test_ppo_learns_from_pixels_alone():
    env = pixels(Config(("above",), SIZE, SIZE, keep_state=False), ball(spread=0.9))
    layers = conv_actor_critic.Config(layers=((8, 8, 8), (16, 2, 1)), features=32)
    networks = conv_actor_critic.conv_actor_critic(layers, env.spec)
    numbers = ppo.Config(learning_rate=3e-3, gamma=0.9, value_clip=None, entropy_weight=0.0)
    algorithm = ppo.ppo(numbers, env.spec, networks)
    assert set(algorithm.policy.spec.observation) == {"image/above"}
    source = rollout(Rollout(num_worlds=32, unroll_length=8, pool_size=32), env, fixed(env.sample), algorithm.explore)
    run = jax.jit(initial(algorithm, source, None))(KEY)
    update = jax.jit(many_updates(algorithm, source, 20))
    episodes = play(env, algorithm.policy, num_episodes=64)

    def mean_reward(run):
        return float(episodes(algorithm.deployable(run.train_state), many(env.nominal, 64), KEY).kept["reward"].mean())

    before = mean_reward(run)
    for _ in range(4):
        run, _ = update(run, KEY)
    after = mean_reward(run)
    assert before < -0.35 and after > -0.12, f"mean distance {-before:.2f} before, {-after:.2f} after"


def test_a_task_without_a_scene_is_refused():
    with pytest.raises(ValueError, match="ball cannot be drawn for pixels"):
        pixels(Config(("above",)), ball()._replace(render=None))
    with pytest.raises(ValueError, match="has an observation image/above already"):
        pixels(Config(("above",)), build())
