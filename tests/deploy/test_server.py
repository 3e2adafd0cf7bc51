"""An exported policy behind real sockets: who asks gets an answer of its own, in time, or is told why not."""

import asyncio
import contextlib
import logging
import queue
import signal
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest

from jaxrl.deploy import artifact, server
from jaxrl_client import channels, codec, remote
from jaxrl_client.control import Request
from jaxrl_client.protos import policy_pb2
from tests.client.test_channels import TOKEN, files  # noqa: F401
from tests.deploy import tiny

INFER = "/jaxrl.bridge.v1.PolicyService/Infer"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "tiny"
    tiny.written(folder)
    return artifact.load(folder)


class Running:
    """A server in a thread of its own."""

    def __init__(self, made, security=None, **fields):
        self._loop, self._opened = asyncio.new_event_loop(), threading.Event()
        self._ending = asyncio.Event()
        config = server.Config(**fields)
        work = server.serve(made, "127.0.0.1:0", config, security, opened=self._tell, ending=self._ending)
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(work,))
        self._thread.start()
        assert self._opened.wait(20)
        self.channel = channels.channel(f"127.0.0.1:{self.port}")

    def _tell(self, port):
        self.port = port
        self._opened.set()

    def health(self):
        return self.channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=5.0)[1]

    def ready(self):
        for _ in range(2000):
            if self.health() == 1:
                return self
            time.sleep(0.01)
        raise AssertionError("never ready")

    def end(self):
        self._loop.call_soon_threadsafe(self._ending.set)

    def close(self):
        self.end()
        self._thread.join(20)
        self.channel.close()
        self._loop.close()
        assert not self._thread.is_alive()


@contextlib.contextmanager
def running(made, **fields):
    one = Running(made, **fields)
    try:
        yield one
    finally:
        one.close()


class Gate:
    """Holds what is computed until it is let go, and counts."""

    def __init__(self, made):
        self.free, self.begun, self.asked = threading.Event(), threading.Semaphore(0), []
        self.artifact = made._replace(act=self._act)
        self._inner = made.act

    def _act(self, seen, carry, seed, count):
        self.begun.release()
        assert self.free.wait(20)
        self.asked.append(seen["state/q"].tolist())
        return self._inner(seen, carry, seed, count)


def ask(policy, number, seconds=20.0, epoch=1):
    now = time.monotonic()
    return policy.infer(Request(number, epoch, number, now, now, now + seconds, None, 0, 0), tiny.seen(number), seconds).actions


def test_sessions_do_not_share_what_they_remember(made):
    with running(made) as one:
        one.ready()
        first, second = remote.remote_policy(one.channel), remote.remote_policy(one.channel)
        assert first.spec == made.spec
        first.reset(1, {}, 5.0)
        second.reset(1, {}, 5.0)
        for asked in range(3):
            np.testing.assert_allclose(ask(first, asked), tiny.expected(tiny.seen(asked), asked), rtol=1e-5)
        np.testing.assert_allclose(ask(second, 7), tiny.expected(tiny.seen(7), 0), rtol=1e-5)
        first.reset(2, {}, 5.0)
        np.testing.assert_allclose(ask(first, 8, epoch=2), tiny.expected(tiny.seen(8), 0), rtol=1e-5)
        np.testing.assert_allclose(ask(second, 9), tiny.expected(tiny.seen(9), 1), rtol=1e-5)
        with pytest.raises(remote.CallError, match=r"FAILED_PRECONDITION: epoch: is 1, but this session is at 2"):
            ask(first, 3)
        with pytest.raises(remote.CallError, match=r"FAILED_PRECONDITION: epoch: is 2, but 2 has begun already"):
            first.reset(2, {}, 5.0)
        with pytest.raises(remote.CallError, match=r"has not begun; reset first"):
            ask(remote.remote_policy(one.channel), 3)


def test_health_does_not_wait_for_what_compiles(made):
    gate = Gate(made)
    with running(gate.artifact) as one:
        assert gate.begun.acquire(timeout=20)  # compiling
        began = time.monotonic()
        assert one.health() == 2 and time.monotonic() - began < 1.0
        policy = remote.remote_policy(one.channel)
        with pytest.raises(remote.CallError, match="UNAVAILABLE: the policy does not answer: it is compiling"):
            policy.reset(1, {}, 5.0)
        gate.free.set()
        one.ready()
        policy.reset(1, {}, 5.0)
        assert ask(policy, 0).shape == (4, 2)
        with pytest.raises(grpc.RpcError, match="there is no such service"):
            one.channel.unary_unary("/grpc.health.v1.Health/Check")(b"\x0a\x01x", timeout=5.0)
        named = b"\x0a" + bytes([len(server.SERVICE)]) + server.SERVICE.encode()
        watched = one.channel.unary_stream("/grpc.health.v1.Health/Watch")(named, timeout=20.0)
        assert next(watched)[1] == 1
        one.end()
        assert next(watched)[1] == 2


def _held(gate, one, count):
    """Policies, one of which is being computed until the gate is opened."""
    gate.free.set()
    one.ready()
    policies = [remote.remote_policy(one.channel) for _ in range(count)]
    for policy in policies:
        policy.reset(1, {}, 5.0)
    while gate.begun.acquire(blocking=False):
        pass
    gate.free.clear()
    gate.asked.clear()
    answers = {}
    thread = threading.Thread(target=lambda: answers.update(first=ask(policies[0], 0)))
    thread.start()
    assert gate.begun.acquire(timeout=20)
    return policies, thread, answers


def test_who_comes_when_the_queue_is_full_is_told_so(made):
    gate = Gate(made)
    with running(gate.artifact, queue=1) as one:
        policies, thread, answers = _held(gate, one, 2)
        with pytest.raises(remote.CallError, match="RESOURCE_EXHAUSTED: 1 requests wait already"):
            ask(policies[1], 1)
        gate.free.set()
        thread.join(20)
        np.testing.assert_allclose(answers["first"], tiny.expected(tiny.seen(0), 0), rtol=1e-5)
        np.testing.assert_allclose(ask(policies[1], 1), tiny.expected(tiny.seen(1), 0), rtol=1e-5)


def test_what_nobody_waits_for_is_not_computed(made):
    gate = Gate(made)
    with running(gate.artifact) as one:
        policies, thread, _ = _held(gate, one, 2)
        with pytest.raises(remote.CallError, match="DEADLINE_EXCEEDED"):
            ask(policies[1], 1, seconds=0.2)
        time.sleep(0.3)  # a deadline travels as a duration: at the server it ends as much later as the request took
        gate.free.set()
        thread.join(20)
        np.testing.assert_allclose(ask(policies[1], 2), tiny.expected(tiny.seen(2), 0), rtol=1e-5)
        assert gate.asked == [tiny.seen(number)["state/q"].tolist() for number in (0, 2)]


def test_what_is_being_computed_is_answered_before_the_end(made):
    gate = Gate(made)
    with running(gate.artifact, drain=20.0) as one:
        policies, thread, answers = _held(gate, one, 2)
        one.end()
        with pytest.raises(remote.CallError, match="UNAVAILABLE"):
            for number in range(1, 2000):
                policies[1].reset(number + 1, {}, 5.0)  # until it has heard
        gate.free.set()
        thread.join(20)
        np.testing.assert_allclose(answers["first"], tiny.expected(tiny.seen(0), 0), rtol=1e-5)


def test_a_fault_is_a_number_and_its_traceback_in_the_log(made, caplog):
    broken = threading.Event()

    def act(*arguments):
        if broken.is_set():
            raise KeyError("a secret of the server")
        return made.act(*arguments)

    with running(made._replace(act=act)) as one, caplog.at_level(logging.INFO):
        one.ready()
        policy = remote.remote_policy(one.channel)
        policy.reset(1, {}, 5.0)
        broken.set()
        with pytest.raises(remote.CallError, match=r"INTERNAL: fault \w{8} of the server") as fault:
            ask(policy, 0)
        assert "secret" not in str(fault.value)
        broken.clear()
        assert ask(policy, 1).shape == (4, 2)
    number = str(fault.value).partition("fault ")[2][:8]
    assert number in caplog.text and "a secret of the server" in caplog.text


def _message(made, hashed=True, **fields):
    message = policy_pb2.InferRequest(epoch=1, **fields)
    message.header.revision, message.header.session, message.header.sequence = 1, "robot", 5
    message.header.spec_hash = server.wire.spec_hash(made.spec) if hashed else bytes(32)
    return message


def test_what_is_not_as_it_has_to_be_is_refused_by_name(made):
    with running(made, sessions=1) as one:
        one.ready()

        def refused(name, data):
            with pytest.raises(grpc.RpcError) as error:
                one.channel.unary_unary(f"/jaxrl.bridge.v1.PolicyService/{name}")(data, timeout=5.0)
            return f"{error.value.code().name}: {error.value.details()}"

        reset = policy_pb2.ResetRequest(epoch=1, header=_message(made).header)
        one.channel.unary_unary("/jaxrl.bridge.v1.PolicyService/Reset")(reset.SerializeToString(), timeout=5.0)
        assert refused("Infer", b"\xff\xff").startswith("INVALID_ARGUMENT: ")
        assert "hashes are not those of this policy" in refused("Infer", _message(made, hashed=False).SerializeToString())
        assert "state/q: is missing" in refused("Infer", _message(made).SerializeToString())
        message = _message(made)
        codec.encode_observation(tiny.seen(), message.observation)
        message.observation.tensors[0].data = np.full(3, np.nan, np.float32).tobytes()
        assert refused("Infer", message.SerializeToString()).startswith("INVALID_ARGUMENT: state/q: data: is not finite")
        message.observation.ClearField("tensors")
        codec.encode_observation(tiny.seen(), message.observation)
        one.channel.unary_unary(INFER)(message.SerializeToString(), timeout=5.0)
        assert "header.sequence: is 5, but 5 was asked already" in refused("Infer", message.SerializeToString())
        with pytest.raises(remote.CallError, match="RESOURCE_EXHAUSTED: there are 1 sessions"):
            remote.remote_policy(one.channel).reset(1, {}, 5.0)
        reset.texts.add(name="task/instruction", value="lift")
        assert "the policy reads no such text" in refused("Reset", reset.SerializeToString())


def _asked(made, number, sequence):
    message = _message(made, step=number)
    message.header.sequence = sequence
    codec.encode_observation(tiny.seen(number), message.observation)
    return message.SerializeToString()


def test_of_a_stream_the_newest_request_is_answered(made):
    gate = Gate(made)
    with running(gate.artifact) as one:
        gate.free.set()
        one.ready()
        reset = policy_pb2.ResetRequest(epoch=1, header=_message(made).header)
        one.channel.unary_unary("/jaxrl.bridge.v1.PolicyService/Reset")(reset.SerializeToString(), timeout=5.0)
        while gate.begun.acquire(blocking=False):
            pass
        gate.free.clear()
        waiting = queue.Queue()
        stream = one.channel.stream_stream("/jaxrl.bridge.v1.PolicyService/Control")(iter(waiting.get, None), timeout=20.0)
        waiting.put(_asked(made, 1, 11))
        assert gate.begun.acquire(timeout=20)
        for number in (2, 3, 4):
            waiting.put(_asked(made, number, 10 + number))
        time.sleep(0.3)  # until they have arrived
        gate.free.set()
        for asked, number in enumerate((1, 4)):
            reply = policy_pb2.InferReply.FromString(next(stream))
            assert (reply.request, reply.step) == (10 + number, number)
            np.testing.assert_allclose(codec.decode(reply.actions), tiny.expected(tiny.seen(number), asked), rtol=1e-5)
        waiting.put(_asked(made, 5, 14))
        with pytest.raises(grpc.RpcError) as error:
            next(stream)
        assert error.value.code() == grpc.StatusCode.FAILED_PRECONDITION and "14 was asked already" in error.value.details()
        waiting.put(None)


def test_off_this_machine_certificates_and_a_token(made, files):  # noqa: F811
    with running(made, security=files("server", token=TOKEN)) as one:

        def policy(security):
            with channels.channel(f"127.0.0.1:{one.port}", security) as channel:
                return remote.remote_policy(channel)

        assert policy(files("robot", token=TOKEN)).spec == made.spec
        with pytest.raises(remote.CallError, match="UNAUTHENTICATED: the call bears no token"):
            policy(files("robot", token="x" * 20))
        with pytest.raises(remote.CallError, match="UNAVAILABLE"):
            policy(files("stranger", token=TOKEN))
        with channels.channel(f"127.0.0.1:{one.port}", files("robot")) as channel:
            with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
                next(channel.stream_stream("/jaxrl.bridge.v1.PolicyService/Control")(iter(()), timeout=5.0))


def test_no_plain_text_to_another_machine(made):
    with pytest.raises(ValueError, match="is not on this machine"):
        asyncio.run(server.serve(made, "0.0.0.0:0"))


def test_a_signal_ends_the_command(tmp_path):
    tiny.written(tmp_path / "tiny")
    words = [sys.executable, "-m", "jaxrl.cli.main", "serve", str(tmp_path / "tiny"), "--address", "127.0.0.1:0"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        told = process.stdout.readline()
        assert told.startswith("tiny ") and "answers once it is compiled" in told
        channel = channels.channel(told.partition(" at ")[2].partition(";")[0])
        watched = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=30.0)
        assert next(reply for reply in watched if reply[1] == 1)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=20)[0] == "ended\n" and process.returncode == 0
        channel.close()
    finally:
        process.kill()
        process.wait()
