"""The real Go2 config: a whole run is one program, compiled once."""

from pathlib import Path

from jaxrl import config as configs
from jaxrl.cli.assemble import assemble
from jaxrl.cli.settings import Settings
from jaxrl.training import fit
from jaxrl.training.callbacks import Callback
from tests.training.compilations import compilations

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "ppo_go2_flat.py"


def test_a_whole_run_compiles_its_update_once():
    config = configs.load(EXPERIMENT, ["--config.training.total_updates=3", "--config.training.updates_per_call=1"])
    settings = configs.build(Settings, config, "config")
    parts = assemble(settings)
    at_report: list[int] = []
    with compilations() as compiled:
        callback = Callback(lambda report: at_report.append(len(compiled)), lambda: None)
        result = fit.fit(settings.training, parts.algorithm, parts.source, fit.Extras(callback=callback))
    assert result.update == 3 and len(at_report) == 3
    assert compiled.count("jit(init)") == compiled.count("jit(updates)") == 1, compiled
    assert at_report[0] == len(compiled), f"compiled during the run: {compiled[at_report[0] :]}"
