"""A policy as a folder that is read without any training code. Needs pip install "jaxrl[serve]".

manifest.json         what it reads and writes, what made it, the hash of each file and of the manifest itself
weights.safetensors   parameters, and the carry before an episode's first step
act.stablehlo         the compiled form of `act`, of `jax.export`

The hash tells that files are those that were exported, not by whom. A compiled form may do whatever XLA can: take it from whom you trust.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from jaxrl_client import codec
from jaxrl_client import spec as wire
from jaxrl_client.codec import Value, WireError

MANIFEST, WEIGHTS, ACT = "manifest.json", "weights.safetensors", "act.stablehlo"
FORMAT, REVISION = "jaxrl-policy", 1
PARAMS, CARRY = "params/", "carry/"
Carry = dict[str, Any]  # by flat name, [1, ...]


class NotReadable(ValueError):
    """An observation that the policy cannot act on."""


class Artifact(NamedTuple):
    """A policy, ready to act for one robot at a time. It keeps nothing: a carry belongs to whoever asks."""

    spec: wire.PolicySpec
    hash: bytes  # sha256 of the manifest, which has those of all files
    manifest: Mapping[str, Any]
    begin: Callable[[], Carry]  # -> the carry before an episode's first step
    act: Callable[[Mapping[str, Value | str], Carry, int, int], tuple[np.ndarray, Carry]]
    # (observation as `spec` has it, carry, the episode's seed, how often it was asked before) -> chunk [horizon, action_dim], carry


def digest(content: bytes) -> str:
    """The sha256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def own_hash(manifest: Mapping[str, Any]) -> str:
    """Of all that a manifest says but its own "hash"."""
    return digest(json.dumps({name: value for name, value in manifest.items() if name != "hash"}, sort_keys=True).encode())


def platform() -> str:
    """What this process computes on, by the names of `jax.export`."""
    return {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())


def spec_to_json(spec: wire.PolicySpec) -> dict[str, Any]:
    """A spec as plain JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(spec)))
    return plain


def _spec(fields: Mapping[str, Any]) -> wire.PolicySpec:
    def array(of: Mapping[str, Any]) -> wire.ArraySpec:
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in of.items()}
        return wire.ArraySpec(**values)

    arrays = {"observation": tuple(map(array, fields["observation"])), "action": array(fields["action"]), "texts": tuple(fields["texts"])}
    return wire.PolicySpec(**{**fields, **arrays})


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a folder says it is.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is of another format, or was changed.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise FileNotFoundError(f"{folder}: no exported policy, {MANIFEST} is missing; `jaxrl export RUN --out {folder}` makes one")
    try:
        manifest: dict[str, Any] = json.loads(file.read_text())
        known = (manifest["format"], manifest["revision"]) == (FORMAT, REVISION)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: is no manifest of an exported policy ({type(error).__name__}: {error})") from error
    if not known:
        raise ValueError(f"{file}: is {manifest['format']} {manifest['revision']}, expected {FORMAT} {REVISION}; export the run anew")
    if manifest.get("hash") != own_hash(manifest):
        raise ValueError(f"{file}: is not as it was exported, its hash is another; export the run anew")
    return manifest


def _checked(folder: Path, manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """The content of each file; raises ValueError that names the one that is not as it was exported."""
    contents = {}
    for name in (WEIGHTS, ACT):
        file = folder / name
        if not file.is_file():
            raise ValueError(f"{file}: is missing; copy the folder anew, or export the run anew")
        contents[name] = file.read_bytes()
        if (found := digest(contents[name])) != manifest["files"].get(name):
            raise ValueError(
                f"{file}: its sha256 is {found[:12]}, but the manifest has {str(manifest['files'].get(name))[:12]}: copy the folder anew"
            )
    return contents


def _exported(folder: Path, content: bytes, manifest: Mapping[str, Any]) -> jax.export.Exported:
    if platform() not in manifest["platforms"]:
        raise ValueError(
            f"{folder}: was exported for {', '.join(manifest['platforms'])}, but this machine computes on {platform()}; "
            f"export the run with --platforms {platform()}"
        )
    try:
        return jax.export.deserialize(bytearray(content))
    except Exception as error:  # of the reader of flat buffers, or of jax: whatever an old or new form makes of it
        made, here = manifest["made_by"], jax.__version__
        raise ValueError(
            f"{folder / ACT}: jax {here} does not read what jax {made['jax']} made at {made['date']} (it is readable for half a "
            f"year of newer versions, and three weeks of older ones); export the run anew: {str(error)[:200]}"
        ) from error


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    """What a file of safetensors holds, numbers of 16 bits as they are: safetensors' own reader for numpy knows no bfloat16."""
    from safetensors import deserialize

    def dtype(name: str) -> np.dtype:
        if name in ("BOOL", "BF16"):
            return np.dtype(bool if name == "BOOL" else jnp.bfloat16)
        return np.dtype(f"{dict(F='f', I='i', U='u')[name[0]]}{int(name[1:]) // 8}")

    return {name: np.frombuffer(of["data"], dtype(of["dtype"])).reshape(of["shape"]) for name, of in deserialize(content)}


def load(folder: Path, expected: str = "") -> Artifact:
    """The policy of a folder. `expected` is the hash that its manifest has to have, or how it begins.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a file is not as it was exported, or cannot be used here; names the file.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if expected and not manifest["hash"].startswith(expected):
        raise ValueError(f"{folder / MANIFEST}: its hash is {manifest['hash']}, expected {expected}: this is another policy")
    contents = _checked(folder, manifest)
    program = jax.jit(_exported(folder, contents[ACT], manifest).call)
    arrays = _arrays(contents[WEIGHTS])
    params = jax.device_put({name.removeprefix(PARAMS): x for name, x in arrays.items() if name.startswith(PARAMS)})
    start = {name.removeprefix(CARRY): x for name, x in arrays.items() if name.startswith(CARRY)}
    spec, served = _spec(manifest["spec"]), serving(manifest["data"])
    reads = manifest["reads"]

    def act(seen: Mapping[str, Value | str], carry: Carry, seed: int, count: int) -> tuple[np.ndarray, Carry]:
        try:
            wire.check_observation(dict(seen), spec)
            observation, reference = served.observe({name: plain(value) for name, value in seen.items()})
            read = {name: as_read(name, observation, *reads[name]) for name in reads}
        except (WireError, ValueError) as error:
            raise NotReadable(str(error)) from error
        chunk, carry = program(params, read, carry, key_data(seed), np.uint32(count))
        actions = np.asarray(served.act(np.asarray(chunk), reference)).astype(spec.action.dtype)
        wire.check_array(actions, spec.action, (spec.horizon,))
        return actions, carry

    return Artifact(spec, bytes.fromhex(manifest["hash"]), manifest, lambda: dict(start), act)


def key_data(seed: int) -> np.ndarray:
    """[2] uint32 of a seed of 64 bits, as a key has it."""
    return np.array([seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF], np.uint32)


def as_read(name: str, observation: Mapping[str, Any], shape: list[int], dtype: str) -> np.ndarray:
    """One array as the compiled form takes it; raises ValueError."""
    if name not in observation:
        raise ValueError(f"{name}: is missing in what the policy reads")
    if isinstance(observation[name], bytes):
        raise ValueError(f"{name}: is an encoded image, which this policy does not decode; send it as uint8")
    array = np.asarray(observation[name])
    if array.shape != tuple(shape):
        raise ValueError(f"{name}: has the shape {array.shape}, but the policy reads {tuple(shape)}")
    return array.astype(dtype, copy=False)


def plain(value: Value | str) -> Any:
    """An entry of an observation as the transforms of the data take it; an encoded image by its bytes."""
    return value.data if isinstance(value, codec.Jpeg) else value


class _AsItIs(NamedTuple):
    """Serves what learnt from no data: the policy reads what the robot sees."""

    observe: Callable[[Mapping[str, Any]], tuple[Mapping[str, Any], Any]] = lambda seen: (seen, {})
    act: Callable[[np.ndarray, Any], np.ndarray] = lambda chunk, _: chunk


def serving(kept: Mapping[str, Any] | None) -> Any:
    """`jaxrl_data.serving` of what a checkpoint keeps of its data, or of None, the same without transforms."""
    if kept is None:
        return _AsItIs()
    try:
        module = import_module("jaxrl_data.serving")
    except ImportError as error:
        raise ImportError(
            f'what a policy learnt from data reads goes through its transforms: pip install "jaxrl[data]" ({error})'
        ) from error
    return module.serving(kept)
