"""The experiment files of families of methods: the numbers of each variant fit together."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxrl import config as configs
from jaxrl.cli import imitation
from jaxrl.cli.assemble import assemble
from jaxrl.cli.settings import Settings
from jaxrl.ops import running_statistics
from jaxrl.ops.specs import with_axes
from jaxrl.replay.recording import Recording, save
from jaxrl.training import fit
from jaxrl.types import INSTRUCTION, ArraySpec, PolicySpec

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
WORDS = {
    "sac_variants.py": ("redq", "droq", "rlpd", "simba_v2", "crossq", "xqc", "fast_sac", "flash_sac"),
    "td3_variants.py": ("td3", "ddpg", "fast_td3"),
    "pixel_variants.py": ("drqv2", "drm", "drq"),
}


def import_file(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TASK = ConfigDict({"name": "jaxrl_envs.tasks.cartpole", "backend": "native"})  # in place of the variants' own, which take longer to trace
VARIANTS = [(file, word) for file, words in WORDS.items() for word in words]


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    """A recording of somebody who moves the cart at random."""
    config = configs.load(EXPERIMENTS / "sac_control_suite.py")
    config.env = TASK
    spec = assemble(configs.build(Settings, config)).algorithm.policy.spec
    drawn = np.random.default_rng(0)
    seen = {name: drawn.normal(size=(9, *part.shape)).astype(np.float32) for name, part in spec.observation.items()}
    last = {name: array[:2] for name, array in seen.items()}
    action = drawn.uniform(-1, 1, (9, *spec.action.shape)).astype(np.float32)
    path = tmp_path_factory.mktemp("shown") / "episodes.npz"
    save(path, Recording(seen, action, np.ones(9, np.float32), np.array([4, 9]), spec, last, np.zeros(2, bool)))
    return path


@pytest.mark.parametrize(("file", "word"), VARIANTS)
def test_the_numbers_of_each_variant_fit(file, word, episodes):
    overrides = [f"--config.data.path={episodes}"] if word == "rlpd" else []
    config = configs.load(f"{EXPERIMENTS / file}:{word}", overrides)
    config.env, config.mirror = TASK, False  # a pole has no mirror image
    if "wrapper" in config:
        config.wrapper.cameras = ("close",)
    settings = configs.build(Settings, config)
    parts = assemble(settings)
    fit.check(settings.training, parts.algorithm, parts.source)


def test_each_variant_is_told_of():
    for file, words in WORDS.items():
        with pytest.raises(ValueError, match=f"no variant 'nothing'; there are {', '.join(words)}"):
            configs.load(f"{EXPERIMENTS / file}:nothing")


PICTURE, TOLD = ArraySpec((224, 224, 3), "uint8"), {INSTRUCTION: ArraySpec((48,), "int32")}
SEEN = {  # observation and size of an action of each task of imitation
    "imitation_two_ways.py": ({"state/agent": ArraySpec((2,))}, 2),
    "imitation_pusht.py": ({"state/agent": ArraySpec((2,)), "state/keypoints": ArraySpec((18,))}, 2),
    "imitation_robot.py": ({"state/joints": ArraySpec((26,)), "image/high": ArraySpec((256, 256, 3), "uint8")}, 26),
    "pi0_two_goals.py": ({"image/top": ArraySpec((64, 64, 3), "uint8"), INSTRUCTION: ArraySpec((24,), "int32")}, 2),
    "pi0_small_mixture.py": ({"image/primary": PICTURE, "image/secondary": PICTURE, **TOLD, "state/all": ArraySpec((33,))}, 33),
    "pi0_finetune.py": ({"image/base": PICTURE, **TOLD, "state/joints": ArraySpec((26,))}, 26),
    "pi0_oxe.py": ({**{f"image/{name}": PICTURE for name in ("primary", "secondary", "wrist")}, **TOLD}, 40),
}


def words(file: str) -> list[str]:
    """That may stand behind the file's colon."""
    told = vars(import_file(EXPERIMENTS / file))
    return [f":{word}" for word in told.get("HEADS", told.get("WAYS", ()))] or [""]


HEADS = [(file, head) for file in SEEN for head in words(file)]


@pytest.mark.parametrize(("file", "head"), HEADS)
def test_the_numbers_of_each_head_fit(file, head):
    settings = configs.build(Settings, configs.load(f"{EXPERIMENTS / file}{head}"))
    observation, size = SEEN[file]
    if (steps := settings.source.get("history", 1)) > 1:
        observation = with_axes(observation, (steps,))
    spec = PolicySpec(observation, ArraySpec((size,)), settings.source["horizon"])
    numbers = {name: part for name, part in observation.items() if part.dtype == "float32"}
    normaliser = running_statistics.init(numbers | {"action": spec.action})
    learner = imitation.with_policies(settings, imitation.supervised(settings, spec, normaliser))
    jax.eval_shape(learner.init, jax.random.key(0))
    assert learner.policy.spec.horizon <= spec.horizon
