"""Writes a policy as the folder that `artifact` reads, if what comes back acts as the policy does. Needs pip install "jaxrl[serve]"."""

import datetime
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from jaxrl.deploy import artifact
from jaxrl.deploy.artifact import ACT, CARRY, MANIFEST, PARAMS, WEIGHTS, Artifact
from jaxrl.ops.paths import flatten_names, map_with_path
from jaxrl.types import INSTRUCTION, Array, ArraySpec, Params, Policy
from jaxrl_client import spec as wire

Seen = Mapping[str, Any]  # an observation as it travels


class Parity(NamedTuple):
    """How near the exported policy is to the living one, over all chunks."""

    cosine: float  # the least of any chunk
    max_error: float  # the greatest of any number
    scale: float  # the greatest number, in absolute value


class Gate(NamedTuple):
    """What parity has to reach: a cosine, and an error relative to the greatest number or to 1, whichever is more."""

    cosine: float = 0.999
    relative_error: float = 1e-3


class Meaning(NamedTuple):
    """What a policy's spec does not say."""

    name: str
    profile: str = ""  # what its numbers mean, as the robot's driver calls it
    rate: float = 0.0  # [Hz], where the spec has none
    data: Mapping[str, Any] | None = None  # what a checkpoint keeps of the data set of this robot


def export(
    folder: Path,
    policy: Policy,
    params: Params,
    meaning: Meaning,
    platforms: Sequence[str] = (),
    told: Mapping[str, Any] | None = None,
    seen: Sequence[Seen] = (),
    gate: Gate = Gate(),  # noqa: B008
) -> tuple[Artifact, Parity]:
    """Writes `folder`, whole or not at all, and reads it back. `told` is what else the manifest is to say, such as versions and config.

    `seen` are observations to compare on, in the form of the spec; by default made up.

    Raises:
        ValueError: the policy cannot be asked over a network, or be compiled for such platforms, or what was exported acts otherwise.
        FileExistsError: there is something in `folder`.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder}: is there already; choose another folder, or remove it")
    platforms = tuple(platforms) or (artifact.platform(),)
    if artifact.platform() not in platforms:
        raise ValueError(f"platforms {', '.join(platforms)}: what is exported is tried out here, so add {artifact.platform()}")
    _check_forgets(policy)
    meaning = _with_own_history(policy, meaning)
    spec = wire_spec(policy, meaning)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        _write(part, policy, params, spec, meaning, platforms, told or {})
        made = artifact.load(part)
        parity = compared(policy, params, made, seen or made_up(spec, 8))
        if not parity.cosine >= gate.cosine or not parity.max_error <= gate.relative_error * max(parity.scale, 1.0):
            raise ValueError(
                f"what was exported acts otherwise: cosine {parity.cosine:.6f} (at least {gate.cosine}), greatest error "
                f"{parity.max_error:.3g} of numbers up to {parity.scale:.3g} (at most {gate.relative_error:g} of it); nothing is written"
            )
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return made, parity


def _check_forgets(policy: Policy) -> None:
    """Raises ValueError where a policy looks at more than a server is shown: one observation for each chunk."""
    if policy.spec.executed_steps == 1:
        return
    shapes = {name: jax.ShapeDtypeStruct((1, *x.shape), x.dtype) for name, x in _fixed(policy).items()}
    traced = jax.make_jaxpr(policy.remember)(shapes, jax.eval_shape(lambda: policy.init(1))).jaxpr
    carried = traced.invars[len(shapes) :]
    if list(traced.outvars) != carried:
        raise ValueError(
            f"this policy remembers what it sees while its {policy.spec.executed_steps} steps are executed, but a server sees one "
            "observation for each chunk; set executed_steps to 1 (config.policies, receding_horizon)"
        )


def _fixed(policy: Policy) -> dict[str, jax.ShapeDtypeStruct]:
    """What it reads, without a batch; raises ValueError where an axis has no length."""
    shapes = {}
    for name, part in policy.spec.observation.items():
        if any(isinstance(size, str) for size in part.shape):
            raise ValueError(f"{name}: has the shape {part.shape}; a policy that is exported reads arrays of fixed sizes")
        shapes[name] = jax.ShapeDtypeStruct(part.shape, part.dtype)
    return shapes


def wire_spec(policy: Policy, meaning: Meaning) -> wire.PolicySpec:
    """What travels: what the robot itself sees and takes, where the data tell how that becomes what the policy reads.

    Raises:
        ValueError: that cannot be commanded, or its rate is not known.
    """
    spec = policy.spec
    rate = meaning.rate or spec.rate
    if not rate:
        raise ValueError(f"{meaning.name}: the policy tells no rate; name that of its steps in Hz with --rate")
    reads = dict(spec.observation)
    texts: tuple[str, ...] = ()
    if meaning.data is not None:
        texts = tuple(name for name in reads if name == INSTRUCTION)
        goals = {
            name: ArraySpec(part.shape[-3:], "uint8") for name, part in reads.items() if name.startswith("task/") and name not in texts
        }
        history = int(meaning.data["history"])
        reads = {name: _as_seen(name, width, reads.get(name), history) for name, width in meaning.data["observation"].items()} | goals
    arrays = tuple(_array(name, part) for name, part in reads.items())
    shared: dict[str, Any] = dict(horizon=spec.horizon, rate=rate, texts=texts, profile=meaning.profile, executed_steps=spec.executed_steps)
    action = _array("action", spec.action)
    made = wire.PolicySpec(meaning.name, arrays, action, **shared)
    if meaning.data is None:
        return made
    served = artifact.serving(meaning.data)
    _, reference = served.observe({name: artifact.plain(value) for name, value in made_up(made, 1)[0].items()})
    width = served.act(np.zeros((spec.horizon, *action.shape), np.float32), reference).shape[-1]
    if action.shape != (width,):  # padded for other robots: which names are this one's is not known
        action = wire.ArraySpec("action", (width,))
    return wire.PolicySpec(meaning.name, arrays, action, **shared)


def _as_seen(name: str, width: int | None, read: ArraySpec | None, history: int) -> ArraySpec:
    """A state or image before the transforms of the data: of the width that is kept, images of the size that is read."""
    if width is not None:
        return read if read and read.shape[-1] == width else ArraySpec((*([history] if history > 1 else []), width))
    if read is None:
        raise ValueError(f"{name}: the policy reads no image of this name, so its size is not known")
    return ArraySpec(read.shape, "uint8")


def _with_own_history(policy: Policy, meaning: Meaning) -> Meaning:
    """What was learnt from steps before, too, is told without them where the policy itself keeps them (`jaxrl.policies.history`)."""
    if meaning.data is None or meaning.data["history"] == 1:
        return meaning
    rank = {name: 1 if width is not None else 3 for name, width in meaning.data["observation"].items()}
    one_step = any(len(part.shape) == rank[name] for name, part in policy.spec.observation.items() if name in rank)
    return meaning._replace(data={**meaning.data, "history": 1}) if one_step else meaning


def _array(name: str, part: ArraySpec) -> wire.ArraySpec:
    units = tuple(unit.strip() for unit in part.unit.split(",")) if part.unit else ()
    low, high = ((float(x),) if isinstance(x, (int, float)) else tuple(x or ()) for x in (part.low, part.high))
    none = all(map(math.isinf, (*low, *high)))
    shape = tuple(int(size) for size in part.shape)
    return wire.ArraySpec(name, shape, part.dtype, part.names, units, () if none else low, () if none else high)


def made_up(spec: wire.PolicySpec, number: int) -> list[dict[str, Any]]:
    """Observations of the right shapes: states near 0, noise for images, token 0 and empty texts."""
    draws = np.random.default_rng(0)

    def array(part: wire.ArraySpec) -> np.ndarray:
        if part.dtype == "uint8":
            return draws.integers(0, 256, part.shape, np.uint8)
        return (draws.standard_normal(part.shape) if part.dtype.startswith("float") else np.zeros(part.shape)).astype(part.dtype)

    return [{part.name: array(part) for part in spec.observation} | dict.fromkeys(spec.texts, "") for _ in range(number)]


def _write(
    folder: Path,
    policy: Policy,
    params: Params,
    spec: wire.PolicySpec,
    meaning: Meaning,
    platforms: Sequence[str],
    told: Mapping[str, Any],
) -> None:
    from safetensors.numpy import save_file

    carry = policy.init(1)
    arrays = {PARAMS: flatten_names(params), CARRY: flatten_names(carry)}
    keys = [name for part in arrays.values() for name, x in part.items() if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)]
    if keys:
        raise ValueError(f"{keys[0]}: is a key; a policy that is exported keeps numbers only, and is given a key each time")
    flat = {kind: {name: np.asarray(x) for name, x in part.items()} for kind, part in arrays.items()}
    save_file({kind + name: x for kind, part in flat.items() for name, x in part.items()}, folder / WEIGHTS, {"format": artifact.FORMAT})
    reads = _fixed(policy)

    def program(
        params_: dict[str, Array], observation: dict[str, Array], carry_: dict[str, Array], seed: Array, count: Array
    ) -> tuple[Array, dict[str, Array]]:
        key = jax.random.fold_in(jax.random.wrap_key_data(seed, impl="threefry2x32"), count)[None]
        of = map_with_path(lambda path, _: params_[path], params)
        held = map_with_path(lambda path, _: carry_[path], carry)
        chunk, held, _ = policy.act(of, {name: x[None] for name, x in observation.items()}, held, key)
        return chunk[0], flatten_names(held)

    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (flat[PARAMS], reads, flat[CARRY]))
    drawn = (jax.ShapeDtypeStruct((2,), "uint32"), jax.ShapeDtypeStruct((), "uint32"))
    try:
        content = jax.export.export(jax.jit(program), platforms=platforms)(*shapes, *drawn).serialize()
    except ValueError as error:
        raise ValueError(f"the policy cannot be exported for {', '.join(platforms)}: {error}") from error
    (folder / ACT).write_bytes(content)
    manifest = {
        "format": artifact.FORMAT,
        "revision": artifact.REVISION,
        "spec": artifact.spec_to_json(spec),
        "reads": {name: [list(x.shape), x.dtype.name] for name, x in reads.items()},
        "data": meaning.data,
        "platforms": list(platforms),
        "made_by": {"jax": jax.__version__, "date": datetime.datetime.now(datetime.UTC).date().isoformat()},
        "run": told,
        "files": {name: artifact.digest((folder / name).read_bytes()) for name in (WEIGHTS, ACT)},
    }
    manifest = json.loads(json.dumps(manifest))
    (folder / MANIFEST).write_text(json.dumps(manifest | {"hash": artifact.own_hash(manifest)}, indent=1) + "\n")
    for name in (MANIFEST, WEIGHTS, ACT):
        (folder / name).chmod(0o644)


def compared(policy: Policy, params: Params, made: Artifact, seen: Sequence[Seen]) -> Parity:
    """An episode of these observations, by both."""
    served = artifact.serving(made.manifest["data"])
    act = jax.jit(policy.act)
    carry, ours = policy.init(1), made.begin()
    cosine, error, scale = 1.0, 0.0, 0.0
    for count, one in enumerate(seen):
        observation, reference = served.observe({name: artifact.plain(value) for name, value in one.items()})
        read = {name: artifact.as_read(name, observation, *of)[None] for name, of in made.manifest["reads"].items()}
        key = jax.random.fold_in(jax.random.wrap_key_data(jnp.asarray(artifact.key_data(0)), impl="threefry2x32"), count)[None]
        chunk, carry, _ = act(params, read, carry, key)
        live = np.asarray(served.act(np.asarray(chunk[0]), reference), np.float64)
        exported, ours = made.act(one, ours, 0, count)
        norms = float(np.linalg.norm(live) * np.linalg.norm(exported))
        cosine = min(cosine, float(np.vdot(live, exported)) / norms if norms else float(np.allclose(live, exported)))
        finite = np.isfinite(live).all() and np.isfinite(exported).all()
        error = max(error, float(np.abs(live - exported).max()) if finite else math.inf)
        scale = max(scale, float(np.abs(live).max()))
    return Parity(cosine, error, scale)
