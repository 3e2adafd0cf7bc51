"""Learning curves and videos hold what they were made from."""

import json
import math
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from jaxrl.evaluation import video
from jaxrl.evaluation.curves import _lines, _mean, learning_curve, read_records
from jaxrl.evaluation.video import write_mp4


def _write(path: Path, returns: list[float | None], **more: list[float]) -> Path:
    records = [
        {"kind": "training", "update": i, "env_steps": 1000 * i, "seconds": 6.0 * i, "episode/return": value}
        | {name.replace("__", "/"): values[i] for name, values in more.items()}
        for i, value in enumerate(returns)
    ]
    records.append({"kind": "evaluation", "update": 2, "env_steps": 2000, "seconds": 12.0, "episode/return": 5.0})
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def _pixels(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def _share(pixels: np.ndarray, colour: tuple[int, int, int]) -> float:
    return float((np.abs(pixels.astype(int) - colour).max(-1) < 12).mean())


def test_a_run_becomes_a_picture_without_pyplot(tmp_path):
    path = _write(tmp_path / "metrics.jsonl", [None, 1.0, 2.0, 4.0], episode__velocity_error=[0.5, 0.4, 0.3, 0.2])
    learning_curve(path, tmp_path / "new" / "curve.png", ("episode/return", "episode/velocity_error", "never"), title="cartpole")
    both = _pixels(tmp_path / "new" / "curve.png")
    assert _share(both, (0x2A, 0x6F, 0x97)) > 1e-4  # the return
    assert _share(both, (0xE0, 0x7A, 0x5F)) > 1e-4  # the velocity error
    learning_curve(path, tmp_path / "one.png", metrics=("episode/return",), axes=("updates",))
    one = _pixels(tmp_path / "one.png")
    assert one.shape[0] < both.shape[0] and one.shape[1] < both.shape[1]
    assert _share(one, (0xE0, 0x7A, 0x5F)) == 0
    assert "matplotlib.pyplot" not in sys.modules


def test_seeds_in_files_and_in_one_file_are_lines_with_a_mean(tmp_path):
    files = [_write(tmp_path / f"{seed}.jsonl", [seed, 1.0 + seed, 2.0 + seed]) for seed in range(3)]
    lines = _lines([read_records(path) for path in files], "episode/return")
    assert [line.value.tolist() for line in lines] == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    together = {"episode__return/seed_0": [0.0, 1.0, 2.0], "episode__return/seed_1": [4.0, 5.0, 6.0]}
    one = _write(tmp_path / "one.jsonl", [2.0, 3.0, 4.0], **together)
    x, mean = _mean(_lines([read_records(one)], "episode/return"), "env_steps")
    assert (x.tolist(), mean.tolist()) == ([0, 1000, 2000], [2, 3, 4])
    learning_curve(files, tmp_path / "curve.png", metrics=("episode/return",))
    assert _share(_pixels(tmp_path / "curve.png"), (0x2A, 0x6F, 0x97)) > 1e-4


def test_the_mean_stands_only_where_every_seed_has_values(tmp_path):
    files = [_write(tmp_path / "a.jsonl", [None, 1.0, 2.0, 3.0]), _write(tmp_path / "b.jsonl", [1.0, 3.0, 4.0])]
    _, mean = _mean(_lines([read_records(path) for path in files], "episode/return"), "update")
    np.testing.assert_array_equal(mean, [math.nan, 2.0, 3.0, math.nan])


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path):
    path = _write(tmp_path / "metrics.jsonl", [1.0, 2.0])
    with path.open("a") as file:
        file.write('{"kind": "training", "upd')
    assert len(read_records(path)) == 2
    path.write_text("no json\n" + path.read_text())
    with pytest.raises(ValueError, match="metrics.jsonl, line 1: no JSON"):
        read_records(path)


def test_evaluations_alone_are_drawn(tmp_path):
    path = _write(tmp_path / "metrics.jsonl", [None, None])
    learning_curve(path, tmp_path / "dots.png", ("episode/return",))
    assert _share(_pixels(tmp_path / "dots.png"), (0x22, 0x22, 0x22)) > 1e-5


def test_says_what_cannot_be_drawn(tmp_path):
    path = _write(tmp_path / "metrics.jsonl", [None, None])
    with pytest.raises(ValueError, match="no values of loss, entropy in .*metrics.jsonl"):
        learning_curve(path, tmp_path / "x.png", ("loss", "entropy"))
    with pytest.raises(ValueError, match="must be among minutes, env_steps, updates"):
        learning_curve(path, tmp_path / "x.png", ("loss",), axes=("hours",))
    with pytest.raises(FileNotFoundError):
        learning_curve(tmp_path / "absent.jsonl", tmp_path / "x.png", ("loss",))
    path = _write(tmp_path / "metrics.jsonl", [1.0, 2.0])
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=f"cannot write {tmp_path / 'file' / 'a' / 'x.png'}: Not a directory"):
        learning_curve(path, tmp_path / "file" / "a" / "x.png", ("episode/return",))


def _frames(count: int, height: int, width: int) -> list[np.ndarray]:
    """A white square that moves 4 pixels a frame over a blue ground."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[..., 2] = 200
    for i in range(count):
        frames[i, 8:24, 4 * i : 4 * i + 16] = 255
    return list(frames)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 65)])
def test_a_video_holds_its_frames(tmp_path, height, width):
    frames = _frames(10, height, width)
    encoder = write_mp4(iter(frames), tmp_path / "new" / "walk.mp4", fps=50)
    with av.open(str(tmp_path / "new" / "walk.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == 50
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.codec_context.name == {"libx264": "h264", "mpeg4": "mpeg4"}[encoder]
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(decoded) == 10
    for new, old in zip(decoded, frames, strict=True):
        assert new.shape == (height + height % 2, width + width % 2, 3)
        assert np.abs(new[:height, :width].astype(int) - old).mean() < 12
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["walk.mp4"]


def test_a_video_without_h264_is_mpeg4(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "CODECS", ("no_such_codec", "mpeg4"))
    assert write_mp4(_frames(3, 32, 32), tmp_path / "walk.mp4", fps=29.97) == "mpeg4"
    with av.open(str(tmp_path / "walk.mp4")) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(29.97, rel=1e-3)
    monkeypatch.setattr(video, "CODECS", ("no_such_codec",))
    with pytest.raises(RuntimeError, match="has none of the encoders no_such_codec"):
        write_mp4(_frames(3, 32, 32), tmp_path / "walk.mp4", fps=30)


def test_a_video_that_cannot_be_made_leaves_the_old_one(tmp_path):
    path = tmp_path / "walk.mp4"
    path.write_text("old")
    wrong = [*_frames(2, 32, 32), np.zeros((16, 32, 3), np.uint8)]
    with pytest.raises(ValueError, match=r"frame 2 is uint8 \(16, 32, 3\)"):
        write_mp4(wrong, path, fps=30)
    with pytest.raises(ValueError, match=r"frame 0 is float64"):
        write_mp4([np.zeros((32, 32, 3))], path, fps=30)
    with pytest.raises(ValueError, match="no frames for .*walk.mp4"):
        write_mp4([], path, fps=30)
    with pytest.raises(ValueError, match="fps is 0"):
        write_mp4(_frames(2, 32, 32), path, fps=0)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=f"cannot write {tmp_path / 'file' / 'a' / 'walk.mp4'}: Not a directory"):
        write_mp4(_frames(2, 32, 32), tmp_path / "file" / "a" / "walk.mp4", fps=30)
