"""Backbones against torchvision, transformers and LeRobot: what they made is in tests/golden/vision.npz."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxrl.networks import _pretrained as pretrained
from jaxrl.networks.vision.resnet import BLOCKS, resnet
from jaxrl.networks.vision.resnet import Config as ResNet
from jaxrl.networks.vision.spatial_softmax import SpatialSoftmax
from jaxrl.networks.vision.vit import SIZES, vit
from jaxrl.networks.vision.vit import Config as ViT
from jaxrl.ops.paths import flatten_names
from tests.golden import named

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "vision.npz")
KEY = jax.random.key(0)
SMALL = {"image": 24, "patch": 8, "width": 16, "depth": 2, "heads": 2, "mlp": 32}


def state(case: str, prefix: str) -> dict[str, np.ndarray]:
    """Their weights by their names."""
    shapes = {line.split(" ")[0]: tuple(int(n) for n in line.split(" ")[1:] if n) for line in GOLDEN[f"{case}/state"]}
    return named.weights(shapes, prefix)


def filled(backbone, case: str, prefix: str):
    theirs = state(case, prefix)
    shapes = jax.eval_shape(backbone.network.init, KEY)
    return pretrained.placed(shapes, pretrained.NAMINGS[backbone.family], list(theirs), theirs.__getitem__, case)


def as_theirs(path: str, slope: np.ndarray) -> np.ndarray:
    """The layout of torch."""
    if path == "patches/kernel":
        slope = slope.reshape(8, 8, 3, -1)
    return (slope.transpose(3, 2, 0, 1) if slope.ndim == 4 else slope.T) if path.endswith("kernel") else slope


def slopes_by_their_names(gradient, family: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    naming, found = pretrained.NAMINGS[family], {}
    for path, slope in flatten_names(gradient).items():
        name, slope = naming.prefix + naming.theirs(path), np.asarray(slope)
        for i, one in enumerate(slope) if "*" in name else [(0, slope)]:
            own = name.replace("*", str(i))
            found[own] = as_theirs(path, one).reshape(shapes[own])
    return found


def picture(name: str, *size: int) -> jax.Array:
    return jnp.asarray(named.draws(name, (2, 3, *size)).transpose(0, 2, 3, 1))


@pytest.mark.parametrize(
    ("case", "backbone", "prefix", "x"),
    [
        ("resnet_batch", resnet(ResNet((1, 2, 1))), "resnet/", picture("pictures", 40, 33)),
        ("resnet_group", resnet(ResNet((1, 2), "group")), "resnet/", picture("pictures", 40, 33)),
        ("clip", vit(ViT("clip", **SMALL)), "clip/", picture("squares", 24, 24)),
        ("siglip", vit(ViT("siglip", **SMALL)), "siglip/", picture("squares", 24, 24)),
        ("dinov2_registers", vit(ViT("dinov2", registers=2, remat=True, **SMALL)), "dinov2/", picture("squares", 24, 24)),
        ("dinov2_larger", vit(ViT("dinov2", **SMALL | {"image": 40})), "dinov2/", picture("larger", 40, 40)),
    ],
)
def test_against_what_others_compute(case, backbone, prefix, x):
    params, statistics = filled(backbone, case, prefix)

    def output(params):
        found, _ = backbone.network.apply(params, statistics, x)
        assert found.map.shape == (2, *backbone.grid(*x.shape[1:3]), backbone.size)
        patches = found.map if case.startswith("resnet") else found.map.reshape(2, -1, backbone.size)
        return patches if patches.ndim == 4 else jnp.concatenate([found.tokens, patches], 1)

    @jax.jit
    def both(params):
        value, pull = jax.vjp(output, params)
        return value, pull(jnp.asarray(named.draws(f"{case} factors", value.shape)))[0]

    value, gradient = both(params)
    want = GOLDEN[f"{case}/output"]
    np.testing.assert_allclose(value, want, atol=1e-5 * np.abs(want).max(), rtol=1e-5)
    shapes = {name: array.shape for name, array in state(case, prefix).items()}
    if case == "dinov2_larger":
        shapes["embeddings.position_embeddings"] = gradient["positions"].shape
    found = slopes_by_their_names(gradient, backbone.family, shapes)
    names = list(GOLDEN[f"{case}/names"])
    assert sorted(found) == names
    told, want = named.told(found), GOLDEN[f"{case}/slopes"]
    same = [i for i, name in enumerate(names) if found[name].size == state(case, prefix)[name].size]  # resized positions are not
    allowed = 1e-4 * want[same, :1] + 1e-6 * want[:, 0].max()  # biases of keys have no slope but rounding
    assert (np.abs(told - want)[same] < allowed).all()


def test_spatial_softmax():
    theirs = state("pool", "pool/")
    params = {"keypoints": {"kernel": theirs["nets.weight"][:, :, 0, 0].T, "bias": theirs["nets.bias"]}}
    x = jnp.asarray(named.draws("map", (2, 6, 4, 5)).transpose(0, 2, 3, 1))
    value, pull = jax.vjp(lambda params: SpatialSoftmax(3).apply({"params": params}, x), params)
    np.testing.assert_allclose(value, GOLDEN["pool/output"], atol=1e-6)
    slope = pull(jnp.asarray(named.draws("pool factors", (2, 3, 2))))[0]["keypoints"]
    by_name = {"nets.weight": np.asarray(slope["kernel"]).T[..., None, None], "nets.bias": np.asarray(slope["bias"])}
    np.testing.assert_allclose(named.told(by_name), GOLDEN["pool/slopes"], atol=1e-5)


def test_a_file_of_weights_takes_the_place_of_random_ones(tmp_path):
    backbone, theirs = vit(SIZES["vit_debug"]), {}
    shapes = jax.eval_shape(backbone.network.init, KEY)
    naming = pretrained.NAMINGS["dinov2"]
    for path, leaf in flatten_names(shapes[0]).items():
        for i in range(leaf.shape[0] if "*" in naming.theirs(path) else 1):
            shape = leaf.shape[1:] if "*" in naming.theirs(path) else leaf.shape
            shape = (8, 8, 3, 16) if path == "patches/kernel" else shape
            name = naming.theirs(path).replace("*", str(i))
            theirs[f"model.{name}"] = as_theirs(path, named.draws(name, shape)).astype(np.float16)
    theirs |= {"model.embeddings.mask_token": np.zeros((1, 16), np.float32), "head.weight": np.zeros(3, np.float32)}
    path = str(tmp_path / "weights.safetensors")
    read = pretrained.from_file(backbone.network, naming, path, "model.")
    template = jax.eval_shape(read.init, KEY)  # which needs no file
    assert jax.tree.map(lambda x: x.shape, template) == jax.tree.map(lambda x: x.shape, shapes)
    save_file({name: np.ascontiguousarray(array) for name, array in theirs.items()}, path)
    params, _ = jax.jit(read.init)(KEY)
    np.testing.assert_array_equal(
        params["layers"]["hidden"]["kernel"][1], named.draws("encoder.layer.1.mlp.fc1.weight", (16, 32)).astype(np.float16)
    )
    assert params["class"].dtype == jnp.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv1.weight": None}, "weights, read with the prefix '', lacks conv1.weight; take the kind, norm and prefix"),
        ({"layer9.weight": np.zeros(3)}, "has what this network does not: layer9.weight"),
        ({"conv1.weight": np.zeros((64, 3, 3, 3))}, "conv1.weight has the shape .*, which does not become stem/kernel"),
        ({"fc.bias": np.zeros(1000), "bn1.num_batches_tracked": np.zeros(())}, None),
    ],
)
def test_every_leaf_is_accounted_for(change, message):
    backbone = resnet(ResNet((1, 2), "group"))
    theirs = {name: array for name, array in (state("resnet_group", "") | change).items() if array is not None}
    template = jax.eval_shape(backbone.network.init, KEY)

    def place(prefix=None):
        return pretrained.placed(template, pretrained.NAMINGS["resnet"], list(theirs), theirs.__getitem__, "weights", prefix)

    if message is None:
        place()
    else:
        with pytest.raises(ValueError, match=message):
            place()
    with pytest.raises(ValueError, match="lacks module.bn1.bias, .* and 12 more; its names begin with bn1, "):
        place("module.")


def test_a_file_that_is_not_there():
    backbone = vit(SIZES["vit_debug"])
    with pytest.raises(ValueError, match="nowhere: no such file of weights"):
        pretrained.load("nowhere", jax.eval_shape(backbone.network.init, KEY), pretrained.NAMINGS["dinov2"])


COUNTS = {  # of the models as published, less heads, mask tokens, and positions for larger pictures
    "clip_b32": 87_456_000,
    "clip_b16": 85_799_424,
    "clip_l14": 303_179_776,
    "siglip_debug": 7_824,
    "siglip_b16": 92_884_224 - 7_087_104,
    "siglip_l16": 315_956_224 - 12_595_200,
    "siglip_so400m14": 428_225_600 - 15_238_352 - (27**2 - 16**2) * 1152,
    "dinov2_s14": 22_056_576 - 384 - (37**2 - 16**2) * 384,
    "dinov2_b14": 86_580_480 - 768 - (37**2 - 16**2) * 768,
    "dinov2_l14": 304_368_640 - 1024 - (37**2 - 16**2) * 1024,
    "vit_debug": 7_936,
}


def test_sizes_are_those_published():
    def count(backbone):
        return [sum(leaf.size for leaf in jax.tree.leaves(part)) for part in jax.eval_shape(backbone.network.init, KEY)]

    assert {name: count(vit(config))[0] for name, config in SIZES.items()} == COUNTS
    assert sum(count(resnet(ResNet()))) == 11_176_512 + 9_600  # 11 689 512 with its 1000 classes, and 20 norms' statistics
    assert sum(count(resnet(ResNet(BLOCKS[34])))) == 21_797_672 - 513_000 + 17_024
    assert count(resnet(ResNet(norm="group"))) == [11_176_512, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ViT(image=30, patch=8), "image is 30, but must be a multiple of patch, 8"),
        (lambda: ViT(width=10, heads=4), "width is 10, but must be a multiple of heads, 4"),
        (lambda: ViT("clip", registers=4), "registers is 4, but only dinov2 has some"),
        (lambda: ViT(depth=0), "depth is 0"),
        (lambda: vit(ViT()).grid(200, 224), "takes 224 x 224, not 200 x 224"),
        (lambda: ResNet(()), "at least one stage"),
        (lambda: ResNet(width=24), "width is 24, but must be a multiple of 16"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
