"""Pictures and videos of episodes."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from jaxrl.types import ArraySpec
from jaxrl_data.episode import Episode, Features
from jaxrl_data.view import HEIGHT, drawn, picture, save_picture, save_video, title

STEPS = 12
FEATURES = Features(
    arrays={
        "observation/state": ArraySpec((3,), "float32", ("x", "y", "angle"), "m, m, rad"),
        "action": ArraySpec((2,), "float32", ("left", "right"), "N m"),
        "embedding": ArraySpec((64,), "float32"),
        "reward": ArraySpec((), "float32"),
        "step": ArraySpec((), "int64"),
    },
    images={"observation/front": ArraySpec((24, 31, 3), "uint8"), "observation/depth": ArraySpec((10, 10, 1), "uint16")},
    texts=("instruction",),
    rate=5.0,
)


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def episode() -> Episode:
    random = np.random.default_rng(0)
    arrays = {name: random.normal(size=(STEPS, *spec.shape)).astype(spec.dtype) for name, spec in FEATURES.arrays.items()}
    colours = [np.full((24, 31, 3), 20 * step, np.uint8) for step in range(STEPS)]
    depth = [_png(np.full((10, 10), 3000, np.uint16))] * (STEPS - 1) + [b""]
    return Episode(
        "episode 4",
        arrays,
        {"observation/front": list(map(_png, colours)), "observation/depth": depth},
        {"instruction": ["pay $5"] * STEPS},
    )


def test_a_picture_shows_cameras_curves_names_and_units(episode: Episode, tmp_path: Path) -> None:
    figure = picture(episode, FEATURES, frames=4)
    depths, strips, action, state = figure.subfigs  # by name
    assert len(strips.axes) == len(depths.axes) == 4
    shades = [int(axes.images[0].get_array()[0, 0, 0]) for axes in strips.axes]
    assert shades == [0, 80, 140, 220]  # steps 0, 4, 7, 11: first and last are among them
    assert [axes.get_xlabel() for axes in strips.axes] == ["0.0 s", "0.8 s", "1.4 s", "2.2 s"]
    assert depths.axes[0].images[0].get_array().max() == 255 and depths.axes[3].images[0].get_array().max() == 0  # none is black
    assert action.axes[0].get_ylabel() == "action [N m]" and state.axes[0].get_ylabel() == "state"
    assert [text.get_text() for text in state.axes[0].get_legend().get_texts()] == ["x [m]", "y [m]", "angle [rad]"]
    np.testing.assert_array_equal(state.axes[0].lines[1].get_ydata(), episode.arrays["observation/state"][:, 1])
    np.testing.assert_allclose(state.axes[0].lines[1].get_xdata(), np.arange(STEPS) / 5)
    save_picture(tmp_path / "new" / "picture.png", episode, FEATURES)
    assert np.asarray(Image.open(tmp_path / "new" / "picture.png")).std() > 10


def test_what_is_not_drawn_is_told(episode: Episode) -> None:
    assert drawn(episode) == ["action", "observation/state"]
    assert title(episode, FEATURES) == "pay \\$5\nepisode 4: 12 steps, 2.4 s at 5 Hz; without embedding of more than 32 dimensions"


def test_a_video_has_all_steps_at_the_rate(episode: Episode, tmp_path: Path) -> None:
    save_video(tmp_path / "video.mp4", episode, FEATURES)
    with av.open(str(tmp_path / "video.mp4")) as container:
        assert container.streams.video[0].average_rate == 5
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == STEPS and frames[0].shape == (HEIGHT + 320, 640, 3)
    shades = np.array([frame[HEIGHT // 2, HEIGHT + 50].mean() for frame in frames])
    np.testing.assert_allclose(shades, 20 * np.arange(STEPS), atol=12)
    reds = [(frame[HEIGHT:].astype(int)[..., 0] - frame[HEIGHT:].astype(int)[..., 1]).sum(axis=0).argmax() for frame in frames]
    assert all(now < after for now, after in zip(reds[1:], reds[2:], strict=False))  # the line runs to the right
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]


def test_without_cameras_rate_or_names(episode: Episode, tmp_path: Path) -> None:
    bare = Episode("one", {"action": episode.arrays["action"]}, {}, {})
    figure = picture(bare, Features())
    assert figure.axes[0].get_xlabel() == "step" and title(bare, Features()) == "one: 12 steps"
    save_video(tmp_path / "video.mp4", bare, Features())
    with pytest.raises(ValueError, match="neither cameras nor curves"):
        save_video(tmp_path / "none.mp4", Episode("one", {"step": np.arange(3)}, {}, {}), Features())
