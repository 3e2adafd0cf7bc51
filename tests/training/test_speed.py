from jaxrl.training.callbacks import Callback, Report
from jaxrl.training.plan import Work
from jaxrl.training.speed import with_speed

WORK = Work(samples=8, tokens=80, flops=1000)


def told(*reports, **more):
    found: list[Report] = []
    callback = with_speed(Callback(found.append, lambda: found.clear()), WORK, **more)
    for update, seconds, kind in reports:
        callback.write(Report(update, 10, 0, 0, seconds, {"loss": 1.0}, kind))
    return callback, [one.metrics for one in found]


def test_speed_since_the_last_report():
    _, (first, aside, second) = told((2, 4.0, "training"), (2, 4.0, "evaluation"), (8, 5.0, "training"), peak=2e4)
    assert first["speed/samples_per_second"] == 4 and first["speed/tokens_per_second"] == 40 and first["speed/mfu"] == 500 / 2e4
    assert second["speed/samples_per_second"] == 48 and second["speed/mfu"] == 6000 / 2e4
    assert aside == {"loss": 1.0} and second["loss"] == 1.0
    assert first.get("memory/device_gib", first.get("memory/host_gib", 0)) > 0


def test_no_utilisation_where_nobody_knows_the_peak():
    _, (only,) = told((2, 4.0, "training"), peak=None)
    assert "speed/mfu" not in only and "speed/samples_per_second" in only


def test_a_resumed_run_begins_to_tell_with_its_second_report_and_a_rollback_is_no_speed():
    _, (first, second, third, fourth) = told(
        (6, 4.0, "training"), (8, 5.0, "training"), (2, 6.0, "training"), (4, 7.0, "training"), peak=None, resumed=True
    )
    assert "speed/samples_per_second" not in first and second["speed/samples_per_second"] == 16
    assert "speed/samples_per_second" not in third and fourth["speed/samples_per_second"] == 16


def test_closing_closes():
    callback, found = told((2, 4.0, "training"), peak=None)
    callback.close()
    assert callback.write is not None and found
