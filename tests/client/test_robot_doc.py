"""The document's own lines, against real sockets."""

import re
from dataclasses import replace
from pathlib import Path

import jaxrl
from jaxrl_client import control, limits
from tests.client import services
from tests.client.virtual import LIMITS, path


def test_driving(capsys):
    text = (Path(jaxrl.__file__).parents[1] / "docs" / "robot.md").read_text()
    (lines,) = re.findall(r"```python drive\n(.*?)```", text, re.DOTALL)
    servers = [services.serve(services.Policy(path)), services.serve(services.Robot())]
    names = dict(POLICY=servers[0][1], ROBOT=servers[1][1], security=None, joints=replace(LIMITS, max_age=1.0))
    exec(lines.replace("seconds=30", "seconds=0.7"), names)
    assert names["summary"].state.phase == control.Phase.RUNNING and "Timing(p50=" in capsys.readouterr().out
    assert names["machine"] and limits.slower(LIMITS, 0.5).velocity == (1.0,)
    for server, _ in servers:
        server.stop(0).wait()
