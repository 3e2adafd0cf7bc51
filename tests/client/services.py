"""A policy and a robot behind real sockets, as small as can be."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np

from jaxrl_client import channels, codec, spec
from jaxrl_client.protos import policy_pb2, policy_pb2_grpc, robot_pb2, robot_pb2_grpc, values_pb2
from jaxrl_client.remote import stamp

ACTION = spec.ArraySpec("action", (2,), names=("a", "b"), units=("rad", "rad"))
Q = spec.ArraySpec("state/q", (2,))
POLICY = spec.PolicySpec("path", (Q,), ACTION, horizon=50, rate=50.0, texts=("task/instruction",), executed_steps=20)
ROBOT = spec.RobotSpec("arm", (Q,), ACTION, rate=50.0, watchdog_ms=300, simulated=True)
MODEL = bytes(range(32))


def headed(message, hashed, model=b""):
    stamp(message.header.sent)
    message.header.session, message.header.sequence = "server", 1
    message.header.spec_hash, message.header.model_hash = spec.spec_hash(hashed), model
    return message


class Policy(policy_pb2_grpc.PolicyServiceServicer):
    """Answers with the motion that `path` is; `answer` changes what is sent back."""

    def __init__(self, path, answer=lambda reply: reply):
        self.path, self.answer, self.resets, self.seen = path, answer, [], []

    def GetSpec(self, request, context):
        return spec.to_message(POLICY, headed(policy_pb2.ResetReply(), POLICY, MODEL).header)

    def Reset(self, request, context):
        self.resets.append((request.epoch, request.texts[0].value))
        return headed(policy_pb2.ResetReply(epoch=request.epoch), POLICY, MODEL)

    def Infer(self, request, context):
        self.seen.append(codec.decode_observation(request.observation))
        reply = policy_pb2.InferReply(request=request.header.sequence, epoch=request.epoch, step=request.step)
        codec.encode("action", self.path(request.step + np.arange(50)).astype(np.float32), reply.actions)
        return self.answer(headed(reply, POLICY, MODEL))


class Robot(robot_pb2_grpc.RobotServiceServicer):
    """Is at once where it is commanded to be. Its watchdog latches it, as a driver's has to."""

    def __init__(self):
        self.lock, self.mode, self.reason = threading.Lock(), robot_pb2.READY, ""
        self.position, self.accepted, self.last, self.commands = np.zeros(2, np.float32), 0, None, []
        self.session = ""

    def GetSpec(self, request, context):
        return spec.to_message(ROBOT, headed(robot_pb2.ModeReply(), ROBOT).header)

    def Observe(self, request, context):
        with self.lock:
            if self.mode == robot_pb2.READY and self.last is not None and time.monotonic() - self.last > ROBOT.watchdog_ms / 1e3:
                self.mode, self.reason = robot_pb2.LATCHED, "no command in time"
            state = robot_pb2.RobotState(mode=self.mode, reason=self.reason, accepted=self.accepted)
            codec.encode("position", self.position, state.position)
            codec.encode_observation({"state/q": self.position, "image/unread": np.zeros((4, 4, 3), np.uint8)}, state.observation)
        stamp(state.captured)
        return headed(state, ROBOT)

    def Command(self, request, context):
        with self.lock:
            reply = robot_pb2.CommandReply(mode=self.mode)
            if self.mode != (robot_pb2.OPERATOR if request.operator else robot_pb2.READY):
                reply.refusal, reply.text = robot_pb2.NOT_READY, self.reason
            elif request.header.session != self.session and self.last is not None:
                reply.refusal, reply.text = robot_pb2.BUSY, "another session commands it"
            elif request.header.session == self.session and request.header.sequence <= self.accepted:
                reply.refusal = robot_pb2.OLD
            else:
                self.session, self.accepted, self.last = request.header.session, request.header.sequence, time.monotonic()
                self.position = np.array(codec.decode(request.target))
                self.commands.append((self.last, self.position))
        return headed(reply, ROBOT)

    def _to(self, mode, reason):
        with self.lock:
            self.mode, self.reason, self.last = mode, reason, None
        return headed(robot_pb2.ModeReply(mode=mode, reason=reason), ROBOT)

    def Stop(self, request, context):
        return self._to(robot_pb2.LATCHED, request.reason)

    def TakeOver(self, request, context):
        return self._to(robot_pb2.OPERATOR, request.operator)

    def GiveBack(self, request, context):
        return self._to(robot_pb2.READY, "")

    def ResetLatch(self, request, context):
        return self._to(robot_pb2.READY, "")


def serve(service, security=None, address="127.0.0.1:0", interceptors=()):
    """A server of a policy or robot, and its address."""
    server = grpc.server(ThreadPoolExecutor(4), interceptors=interceptors, options=channels.options())
    add = (
        policy_pb2_grpc.add_PolicyServiceServicer_to_server
        if isinstance(service, Policy)
        else robot_pb2_grpc.add_RobotServiceServicer_to_server
    )
    add(service, server)
    port = channels.add_port(server, address, security)
    server.start()
    return server, f"127.0.0.1:{port}"


def header():
    """Of a message that a test sends by itself."""
    return values_pb2.Header(revision=1, session="test", sequence=1)
