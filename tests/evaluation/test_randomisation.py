"""Reports of success against physics."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.evaluation.randomisation import _rate, draw_curriculum, draw_report, randomisation_report
from jaxrl.policies.constant import constant
from jaxrl.types import ArraySpec, Env, EnvSpec, PolicySpec, TimeStep
from tests.probes import lines

PNG = b"\x89PNG"


def env() -> Env:
    """Two steps; succeeds at the last one where the delay is below 0.3 of its range."""
    space = lines()
    spec = EnvSpec("delayed", {"state/x": ArraySpec((1,))}, ArraySpec((1,)), 2, 0.1, ("success",))

    def step(count, action, physics, key):
        good = jnp.where(count == 0, 1.0, physics[-1] < 0.3).astype(jnp.float32)
        return count + 1, TimeStep({"state/x": jnp.zeros(1)}, good, jnp.ones(()), jnp.zeros(()), {"success": good})

    start = (jnp.zeros(()), {"state/x": jnp.zeros(1)})
    return Env(spec, lambda key, p: start, step, lambda s, p, key: start, jnp.zeros(4), lambda key: space.at(space.draw(key)), space=space)


@pytest.fixture(scope="module")
def results():
    return randomisation_report(env(), constant(PolicySpec({}, ArraySpec((1,)))), (), num_episodes=400, seed=0)


def test_report_finds_where_it_fails(results):
    assert json.loads(json.dumps(results)) == results
    assert results["units"] == {"mass": "kg", "delay": "s"} and set(results["by_parameter"]) == {"delay"}
    rates = [_rate(row)[0] for row in results["by_parameter"]["delay"]]
    assert rates[0] == 1.0 and 0.3 < rates[1] < 0.7 and rates[2:] == [0.0, 0.0, 0.0]
    assert abs(_rate(results["randomised"])[0] - 0.3) < 0.07


def test_without_a_measure_of_success_it_is_not_falling():
    row = {"fall_rate": {"value": 0.25, "low": 0.2, "high": 0.4, "n": 4}}
    assert _rate(row) == (0.75, 0.6, 0.8)


def test_pictures_are_drawn(results, tmp_path):
    draw_report(results, tmp_path / "report.png", "delayed")
    assert (tmp_path / "report.png").read_bytes()[:4] == PNG
    ends = {"curriculum/mass/low": 1.5, "curriculum/mass/high": 2.5, "curriculum/width": 0.5}
    records = [{"kind": "training", "env_steps": 1000 * k, "update": k, "seconds": k} | ends for k in range(3)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(json.dumps(record) for record in records))
    draw_curriculum(tmp_path / "metrics.jsonl", tmp_path / "curriculum.png")
    assert (tmp_path / "curriculum.png").read_bytes()[:4] == PNG


def test_what_cannot_be_drawn_says_why(results, tmp_path):
    with pytest.raises(ValueError, match="delayed varies nothing here; give its config ranges"):
        randomisation_report(env()._replace(space=None), constant(PolicySpec({}, ArraySpec((1,)))), (), 2, 0)
    with pytest.raises(ValueError, match="no physics parameter varied"):
        draw_report(results | {"by_parameter": {}}, tmp_path / "x.png")
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"kind": "training", "env_steps": 1, "loss": 0.0}))
    with pytest.raises(ValueError, match="holds no ranges"):
        draw_curriculum(tmp_path / "metrics.jsonl", tmp_path / "x.png")


def test_success_is_that_of_the_last_step(results):
    """At the first step every episode has succeeded so far."""
    assert results["randomised"]["success"]["value"] < 0.5
    assert np.isfinite(results["randomised"]["return"]["value"])
