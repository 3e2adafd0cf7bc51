"""A policy as a folder: it comes back as it was, without training code, and nothing that was changed is taken."""

import json
import subprocess
import sys

import numpy as np
import pytest

from jaxrl.deploy import artifact
from jaxrl.deploy.export import export
from jaxrl.types import ArraySpec
from tests.deploy import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "tiny"
    tiny.written(folder)
    return folder


@pytest.fixture
def copy(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_it_acts_as_the_policy_does(folder):
    made = artifact.load(folder)
    carry = made.begin()
    for asked in range(3):
        chunk, carry = made.act(tiny.seen(asked), carry, 5, asked)
        np.testing.assert_allclose(chunk, tiny.expected(tiny.seen(asked), asked), rtol=1e-5)
    again, _ = made.act(tiny.seen(), made.begin(), 5, 0)
    np.testing.assert_allclose(again, tiny.expected(tiny.seen(), 0), rtol=1e-5)


def test_the_manifest_says_what_it_means(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    spec, made = manifest["spec"], artifact.load(folder, manifest["hash"][:8])
    assert spec["action"]["names"] == ["a", "b"] and spec["action"]["units"] == ["rad", "m"] and spec["action"]["low"] == [-1.0, -2.0]
    assert (spec["rate"], spec["horizon"], spec["executed_steps"], spec["profile"]) == (20.0, 4, 2, "joint_position_absolute")
    assert [part["name"] for part in spec["observation"]] == ["state/q", "image/wrist"] and manifest["run"] == {"update": 7}
    assert made.spec.observation[0].units == ("m",) and made.hash.hex() == manifest["hash"]


def test_loading_imports_no_training_code(folder):
    script = f"""
import sys, pathlib, numpy as np
from jaxrl.deploy import artifact, server
made = artifact.load(pathlib.Path({str(folder)!r}))
made.act({{"state/q": np.zeros(3, np.float32), "image/wrist": np.zeros((4, 4, 3), np.uint8)}}, made.begin(), 0, 0)
print(*sys.modules)
"""
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "jaxrl.deploy.artifact" in loaded
    kinds = ("objectives", "algorithms", "networks", "training", "config", "cli", "replay", "rollout")
    assert not [name for name in loaded if name.startswith(tuple(f"jaxrl.{kind}" for kind in kinds)) or name in ("flax", "optax", "orbax")]


@pytest.mark.parametrize("name", ["weights.safetensors", "act.stablehlo"])
def test_a_changed_file_is_refused_by_its_name(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[-1] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: its sha256 is"):
        artifact.load(copy)
    (copy / name).unlink()
    with pytest.raises(ValueError, match=f"{name}: is missing"):
        artifact.load(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["spec"] | {"rate": 50.0}, "manifest.json: is not as it was exported"),
        (None, "manifest.json: is no manifest"),
    ],
)
def test_a_changed_manifest_is_refused(copy, change, message):
    file = copy / "manifest.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps(manifest | {"spec": change(manifest)}) if change else "{")
    with pytest.raises(ValueError, match=message):
        artifact.load(copy)


def _rewritten(folder, **changes):
    """As if it had been exported so."""
    manifest = json.loads((folder / "manifest.json").read_text()) | changes
    (folder / "manifest.json").write_text(json.dumps(manifest | {"hash": artifact.own_hash(manifest)}))


def test_another_policy_platform_or_form_is_refused(copy):
    with pytest.raises(ValueError, match="expected abc: this is another policy"):
        artifact.load(copy, "abc")
    with pytest.raises(FileNotFoundError, match="jaxrl export RUN"):
        artifact.load(copy / "nothing")
    _rewritten(copy, platforms=["tpu"])
    with pytest.raises(ValueError, match="exported for tpu, but this machine computes on cpu"):
        artifact.load(copy)
    (copy / "act.stablehlo").write_bytes(b"of another age")
    files = json.loads((copy / "manifest.json").read_text())["files"] | {"act.stablehlo": artifact.digest(b"of another age")}
    _rewritten(copy, platforms=["cpu"], files=files)
    with pytest.raises(ValueError, match="does not read what jax"):
        artifact.load(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state/q": np.zeros(4, np.float32)}, "state/q: is float32"),
        ({"state/q": np.zeros(3)}, "state/q: is float64"),
        ({"state/other": np.zeros(3, np.float32)}, "state/other: the policy reads no such thing"),
    ],
)
def test_an_observation_that_is_none_is_refused(folder, change, message):
    made = artifact.load(folder)
    with pytest.raises(artifact.NotReadable, match=message):
        made.act(tiny.seen() | change, made.begin(), 0, 0)


def test_what_acts_otherwise_is_not_written(tmp_path):
    calls = []

    def fickle(params, observation, carry, key, context=None):
        calls.append(0)  # once for the exported form, once for the living one
        chunk, carry, extras = tiny.act(params, observation, carry, key)
        return chunk * (-1) ** len(calls), carry, extras

    with pytest.raises(ValueError, match="what was exported acts otherwise: cosine -1.0"):
        export(tmp_path / "out", tiny.POLICY._replace(act=fickle), tiny.PARAMS, tiny.MEANING)
    assert len(calls) == 2 and not list(tmp_path.iterdir())


def test_what_is_not_finite_is_not_written(tmp_path):
    params = tiny.PARAMS | {"kernel": np.full((3, 2), np.nan, np.float32)}
    with pytest.raises(ValueError, match="greatest error inf"):
        export(tmp_path / "out", tiny.POLICY, params, tiny.MEANING)


@pytest.mark.parametrize(
    ("policy", "meaning", "message"),
    [
        (tiny.POLICY._replace(remember=lambda seen, carry: {"asked": carry["asked"] + 1}), tiny.MEANING, "remembers what it sees"),
        (tiny.POLICY._replace(spec=tiny.SPEC._replace(rate=0.0)), tiny.MEANING, "name that of its steps in Hz"),
        (tiny.POLICY._replace(spec=tiny.SPEC._replace(action=ArraySpec((), "int32", low=0, high=3))), tiny.MEANING, "cannot be commanded"),
        (tiny.POLICY._replace(spec=tiny.SPEC._replace(observation={"state/q": ArraySpec(("time", 3))})), tiny.MEANING, "of fixed sizes"),
    ],
)
def test_what_cannot_be_asked_over_a_network_is_refused(tmp_path, policy, meaning, message):
    with pytest.raises(ValueError, match=message):
        export(tmp_path / "out", policy, tiny.PARAMS, meaning)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_stays(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(FileExistsError, match="choose another folder"):
        tiny.written(tmp_path)
    assert (tmp_path / "mine").read_text() == "mine"
