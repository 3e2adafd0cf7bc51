"""The loop over real sockets: a policy, a robot, and what is done when either goes."""

import queue
import time
from dataclasses import replace

import grpc
import numpy as np
import pytest

from jaxrl_client import channels, chunks, codec, control, loop, pacing, remote
from jaxrl_client.loop import Order
from jaxrl_client.protos import policy_pb2, policy_pb2_grpc
from jaxrl_client.remote import CallError
from jaxrl_client.safety import Fault, Mode
from tests.client import services
from tests.client.virtual import LIMITS, path

TEXTS = {"task/instruction": "swing"}
CONFIG = control.Config(2, 50, 20, deadline=0.4)


class _World:
    """Both servers, and the client's ends of their channels."""

    def __init__(self, answer=lambda reply: reply):
        self.policy, self.robot = services.Policy(path, answer), services.Robot()
        self.policy_server, self.policy_at = services.serve(self.policy)
        self.robot_server, self.robot_at = services.serve(self.robot)
        self.channels = channels.channel(self.policy_at), channels.channel(self.robot_at)
        self.ends = remote.remote_policy(self.channels[0]), remote.remote_robot(self.channels[1])

    def run(self, seconds, **more):
        return loop.run(*self.ends, control.control(CONFIG, LIMITS), TEXTS, seconds, **more)


@pytest.fixture
def world():
    made = []

    def make(**more):
        made.append(_World(**more))
        return made[-1]

    yield make
    for one in made:
        for channel in one.channels:
            channel.close()
        one.policy_server.stop(0).wait()
        one.robot_server.stop(0).wait()


def _lines(summary):
    return [line for _, line in summary.events]


def test_a_policy_drives_a_robot_and_the_end_is_a_stop(world):
    one, moments = world(), []
    summary = one.run(1.5, on_tick=moments.append)
    assert summary.state.phase == control.Phase.RUNNING, _lines(summary)
    commands = np.array([position for _, position in one.robot.commands])
    assert len(commands) > 40 and len(moments) == summary.timing.ticks
    np.testing.assert_allclose(commands, path(np.arange(len(commands))), atol=1e-6)
    assert one.policy.resets == [(1, "swing")]
    assert set(one.policy.seen[0]) == {"state/q", "task/instruction"}  # and not the image that it does not read
    assert one.robot.reason == "the client ends" and one.robot.mode != services.robot_pb2.READY


def test_what_does_not_go_together_is_not_begun(world):
    one = world()
    slow = control.control(CONFIG, replace(LIMITS, period=0.04, max_age=2.0))
    with pytest.raises(ValueError, match="do not go together:\nperiod: the limits are of 25 Hz"):
        loop.run(*one.ends, slow, TEXTS, 1.0)
    real_time = control.control(replace(CONFIG, merging=chunks.Config(chunks.Merge.REAL_TIME)), LIMITS)
    with pytest.raises(ValueError, match="cannot be told of the chunk in flight"):
        loop.run(*one.ends, real_time, TEXTS, 1.0)
    with pytest.raises(ValueError, match="horizon: the policy's is 50, but the client expects 40"):
        loop.run(*one.ends, control.control(replace(CONFIG, horizon=40), LIMITS), TEXTS, 1.0)
    assert not one.robot.commands


def test_a_policy_server_that_is_killed_stops_the_robot(world):
    one = world()

    def kill(moment):
        if len(one.robot.commands) == 15:
            one.policy_server.stop(0)

    summary = one.run(4.0, on_tick=kill)
    assert summary.state.phase == control.Phase.STOPPED and summary.state.filter.mode == Mode.LATCHED
    assert any("UNAVAILABLE" in line for line in _lines(summary)) and any(line.startswith("stopped: ") for line in _lines(summary))
    assert one.robot.reason in (Fault.STARVED.value, Fault.STALE.value)
    np.testing.assert_array_equal(one.robot.commands[-1][1], summary.state.filter.motion.position.astype(np.float32))


def test_a_policy_server_that_comes_back_moves_nothing_until_an_operator_resets(world):
    one, orders, stood = world(), queue.SimpleQueue(), []

    def act(moment):
        if len(one.robot.commands) == 15:
            one.policy_server.stop(0).wait()
        if moment.state.phase == control.Phase.STOPPED and moment.state.filter.mode == Mode.LATCHED:
            stood.append(len(one.robot.commands))
            if len(stood) == 1:
                one.policy_server, _ = services.serve(one.policy, address=one.policy_at)
            elif len(stood) == 40:
                one.robot.ResetLatch(None, None)
                orders.put(Order.RESET)
        if stood and len(one.robot.commands) > stood[0] + 30:
            orders.put(Order.END)

    summary = one.run(12.0, on_tick=act, orders=orders)
    assert "operator: end" in _lines(summary) and summary.state.epoch == 2, _lines(summary)
    assert set(stood[:40]) == {stood[0]}  # forty ticks with a server that is there, and not one command
    jump = np.abs(one.robot.commands[stood[0]][1] - one.robot.commands[stood[0] - 1][1])
    assert jump.max() <= 2.0 * LIMITS.period


def test_a_robot_that_stops_by_itself_is_not_driven_on(world):
    one = world()

    def stop(moment):
        if len(one.robot.commands) == 15:
            one.robot.Stop(services.robot_pb2.StopRequest(reason="the red button"), None)

    summary = one.run(1.0, on_tick=stop)
    assert summary.state.filter.fault == Fault.ROBOT and "the red button" in _lines(summary)
    assert len(one.robot.commands) <= 16


def test_a_robot_that_is_gone_stops_the_client(world):
    one = world()

    def kill(moment):
        if len(one.robot.commands) == 15:
            one.robot_server.stop(0)

    summary = one.run(2.5, on_tick=kill)
    assert summary.state.filter.fault in (Fault.ROBOT, Fault.STALLED)
    assert any("Observe: UNAVAILABLE" in line or "Observe: DEADLINE" in line for line in _lines(summary))


def test_an_operator_stops_resets_takes_over_and_gives_back(world):
    one, orders = world(), queue.SimpleQueue()
    phases = []

    def act(moment):
        phases.append(moment.state.phase)
        step = len(phases)
        if step == 40:
            orders.put(Order.STOP)
        elif step == 80:
            one.robot.ResetLatch(None, None)
            orders.put(Order.RESET)
        elif step == 120:
            one.robot.TakeOver(services.robot_pb2.OperatorRequest(operator="Ada"), None)
        elif step == 140:
            one.robot.GiveBack(None, None)
        elif step == 170:
            orders.put(Order.RESET)
            orders.put(Order.END)

    summary = one.run(8.0, on_tick=act, orders=orders)
    assert [phases[step].value for step in (38, 60, 118, 130, 168)] == ["running", "stopped", "running", "operator", "running"]
    assert "operator: reset is refused: the client is running; only what has stopped is reset" in _lines(summary)
    assert summary.timing.ticks < 300 and one.policy.resets == [(1, "swing"), (2, "swing"), (4, "swing")]


def test_a_second_client_is_refused_while_the_first_drives(world):
    one, refused = world(), []

    def second(moment):
        if len(one.robot.commands) == 15:
            with channels.channel(one.robot_at) as channel:
                other = remote.remote_robot(channel)
                with pytest.raises(CallError, match="Command: BUSY: another session commands it") as raised:
                    other.command(np.zeros(2), other.observe(1.0), 1.0)
            refused.append(raised)

    assert one.run(0.8, on_tick=second).state.phase == control.Phase.RUNNING and len(refused) == 1


BAD = {
    "another request": (dict(request=999), "the answer is to request 999"),
    "another shape": (dict(actions=codec.encode("action", np.zeros((50, 3), np.float32))), r"float32 (50, 3), expected float32 (50, 2)"),
    "another dtype": (dict(actions=codec.encode("action", np.zeros((50, 2)))), "float64"),
    "ten gigabytes": (dict(actions=services.values_pb2.Tensor(name="a", dtype=7, shape=(50000, 50000))), "10000000000 bytes"),
    "another policy": (dict(header=services.values_pb2.Header(session="s", sequence=1, spec_hash=bytes(32))), "another spec"),
    "no header": (dict(header=services.values_pb2.Header()), "header.session"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_answers_are_told_and_moved_by_not_at_all(name, world):
    changed, said = BAD[name]

    def answer(reply):
        for field, value in changed.items():
            setattr(reply, field, value) if isinstance(value, int) else getattr(reply, field).CopyFrom(value)
        return reply

    one = world(answer=answer)
    summary = one.run(0.4)
    assert any(said in line for line in _lines(summary)), _lines(summary)
    assert summary.state.phase == control.Phase.WAITING and not one.robot.commands


def test_answers_that_are_too_long_are_refused_by_the_channel():
    service = services.Policy(path)
    service.GetSpec = lambda request, context: policy_pb2.PolicySpec(name="a" * (17 * 2**20))
    server = grpc.server(services.ThreadPoolExecutor(1), options=[("grpc.max_send_message_length", -1)])
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with channels.channel(f"127.0.0.1:{port}") as channel, pytest.raises(CallError, match="GetSpec: RESOURCE_EXHAUSTED"):
        remote.remote_policy(channel)
    server.stop(0).wait()


def test_a_server_that_never_answers_does_not_hold_up_anybody():
    service = services.Policy(path)
    service.GetSpec = lambda request, context: time.sleep(2)
    server, address = services.serve(service)
    before = time.monotonic()
    with channels.channel(address) as channel, pytest.raises(CallError, match="DEADLINE_EXCEEDED"):
        remote.remote_policy(channel, seconds=0.2)
    assert time.monotonic() - before < 1.5
    server.stop(0)


def test_pace_does_not_drift_and_leaves_missed_ticks_out():
    pace = pacing.paced(10.0, 0.1)
    dues = []
    for now in (10.0, 10.13, 10.19, 10.71, 10.75):
        dues.append(pacing.due(pace))
        pace = pacing.ticked(pace, now)
    np.testing.assert_allclose(dues, [10.0, 10.1, 10.2, 10.3, 10.8])
    assert pace.missed == 4
    with pytest.raises(ValueError, match="period is 0"):
        pacing.paced(0.0, 0.0)


def test_waits_end_when_they_are_due():
    clock = iter([0.0, 0.6, 0.9999, 1.0002])
    slept = []
    assert pacing.wait(1.0, lambda: next(clock), slept.append) == pytest.approx(2e-4)
    assert slept == [pytest.approx(0.9998)]
    assert pacing.wait(0.5, lambda: 0.75, slept.append) == 0.25 and len(slept) == 1
    timing = pacing.timing([0.001] * 99 + [0.1], 3)
    assert (timing.p50, timing.worst, timing.ticks, timing.missed) == (0.001, 0.1, 100, 3)
