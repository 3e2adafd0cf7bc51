"""What learnt from data reads what the robot itself sees, and answers in the robot's own numbers."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.deploy import artifact
from jaxrl.deploy.export import Meaning, export
from jaxrl.policies.history import Config as History
from jaxrl.policies.history import history as remembering
from jaxrl.types import Policy
from jaxrl_data.dataset_source import Config, dataset_source
from jaxrl_data.mixture import Images
from jaxrl_data.serving import serving
from jaxrl_data.transforms.instruction import Tokenise
from tests.data.caches import made
from tests.data.episodes import episode
from tests.data.test_mixture import DELTA, mixture

PARAMS = {"gain": np.float32(0.1)}


def learnt(folder, history):
    """A policy of normalised numbers, and what its checkpoint keeps."""
    more = {"normalise": "quantile", "horizon": 3, "history": history, "tokens": Tokenise(length=8), "images": Images(16, pad=True)}
    chosen = mixture(made(folder / "cache"), of={"transforms": (DELTA,)}, **more)
    loaded = dataset_source(Config(**{name: getattr(chosen, name) for name in chosen.__dataclass_fields__}, batch_size=4))
    spec = loaded.spec._replace(executed_steps=1)

    def act(params, observation, carry, key, context=None):
        words = (observation["task/instruction"] >= 0).sum(-1).astype(jnp.float32)
        states = observation["state/pose"].reshape(len(words), -1).sum(-1)
        step = params["gain"] * (words + states + observation["image/front"].astype(jnp.float32).mean(range(1, 4 + (history > 1))) / 255)
        return jnp.broadcast_to(step[:, None, None], (len(words), 3, spec.action.shape[-1])), carry, {}

    return Policy(spec, lambda size: {}, act), loaded.kept()["made"]


@pytest.mark.parametrize("history", [1, 2])
def test_a_robot_is_served_in_its_own_numbers(tmp_path, history):
    policy, kept = learnt(tmp_path, history)
    own = policy if history == 1 else remembering(History(2), policy)
    one, meaning = episode(4, 6), Meaning("learnt", data=kept, rate=10.0)
    exported, parity = export(tmp_path / "out", own, PARAMS, meaning)
    assert parity.cosine > 0.9999 and exported.spec.texts == ("task/instruction",)
    shapes = {part.name: (part.shape, part.dtype) for part in exported.spec.observation}
    width = one.arrays["state"].shape[-1]
    assert shapes["state/pose"] == ((width,), "float32") and shapes["image/front"] == ((16, 16, 3), "uint8")
    loaded, carry, chunks = artifact.load(tmp_path / "out"), exported.begin(), []
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    for step in range(3):
        seen = {"state/pose": one.arrays["state"][step].astype(np.float32), "image/front": images[step], "task/instruction": "lift"}
        chunk, carry = loaded.act(seen | {name: np.zeros(*of) for name, of in shapes.items() if name not in seen}, carry, 0, step)
        chunks.append(chunk)
    at = slice(2, 3) if history == 1 else slice(1, 3)
    several = {"state/pose": one.arrays["state"][at], "image/front": images[at], "task/instruction": "lift"}
    several = {name: value if history > 1 or isinstance(value, str) else value[0] for name, value in several.items()}
    served = serving(kept)
    observation, reference = served.observe(several)
    words, pose = (observation["task/instruction"] >= 0).sum(), observation["state/pose"].sum()
    step = 0.1 * (words + pose + observation["image/front"].mean() / 255)
    expected = served.act(np.full((3, policy.spec.action.shape[-1]), step, np.float32), reference)
    np.testing.assert_allclose(chunks[2], expected, rtol=1e-4, atol=1e-4)
    assert not np.allclose(chunks[2], chunks[1])
