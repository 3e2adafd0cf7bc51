"""The real Go2 config: a whole run is one program, compiled once."""

from pathlib import Path

import jax

from jaxrl import config as configs
from jaxrl.cli.assemble import Settings, assemble
from jaxrl.training import fit
from jaxrl.training.callbacks import Callback

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "ppo_go2_flat.py"


def test_a_whole_run_compiles_its_update_once():
    config = configs.load(EXPERIMENT, ["--config.training.total_updates=3", "--config.training.updates_per_call=1"])
    settings = configs.build(Settings, config, "config")
    parts = assemble(settings)
    compiled: list[str] = []
    after_first: list[int] = []

    def count(event: str, seconds: float, **more: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(str(more.get("fun_name", "")))

    jax.monitoring.register_event_duration_secs_listener(count)
    callback = Callback(lambda report: after_first.append(len(compiled)), lambda: None)
    result = fit.fit(settings.training, parts.algorithm, parts.source, fit.Extras(callback=callback))
    assert result.update == 3 and len(after_first) == 3
    assert after_first[0] == after_first[2] > 0, f"compiled during the run: {compiled[after_first[0] :]}"
    assert sum("updates" in name for name in compiled) <= 1, compiled
