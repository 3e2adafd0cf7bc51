"""Run by the Python of an environment that has jaxrl-client and no JAX: all modules, a message over a socket, a robot that is driven."""

import importlib
import pkgutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np

import jaxrl_client
from jaxrl_client import codec, control, limits, loop, remote, spec
from jaxrl_client.chunks import Chunk
from jaxrl_client.protos import policy_pb2, policy_pb2_grpc, values_pb2

for module in pkgutil.walk_packages(jaxrl_client.__path__, "jaxrl_client."):
    importlib.import_module(module.name)


class Policy(policy_pb2_grpc.PolicyServiceServicer):
    def Infer(self, request, context):
        (seen,) = codec.decode_observation(request.observation).values()
        reply = policy_pb2.InferReply()
        codec.encode("action", np.tile(seen, (4, 1)), reply.actions)
        return reply


server = grpc.server(ThreadPoolExecutor(1))
policy_pb2_grpc.add_PolicyServiceServicer_to_server(Policy(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
    stub = policy_pb2_grpc.PolicyServiceStub(channel)
    request = policy_pb2.InferRequest()
    codec.encode_observation({"state/q": np.arange(3.0)}, request.observation)
    assert codec.decode(stub.Infer(request, timeout=10).actions).tolist() == [[0, 1, 2]] * 4
server.stop(0).wait()

joints = limits.so101()
action = spec.ArraySpec("action", (6,), names=joints.names, units=("rad",))
moved = [np.zeros(6)]
robot = remote.Robot(
    spec.RobotSpec("arm", (), action, 50.0, 500),
    lambda seconds: remote.Shown(control.Seen(time.monotonic(), moved[-1]), {}, True, False, "", values_pb2.Stamp()),
    lambda target, shown, seconds: moved.append(target),
    lambda reason, seconds: None,
)
policy = remote.Policy(
    spec.PolicySpec("reach", (), action, 20, 50.0),
    lambda epoch, texts, seconds: None,
    lambda asked, seen, seconds: Chunk(asked.number, asked.epoch, asked.step, asked.captured, np.full((20, 6), 0.3)),
)
summary = loop.run(policy, robot, control.control(control.Config(6, 20, 10), joints), {}, seconds=1.0)
assert summary.state.phase == control.Phase.RUNNING, summary.events
assert np.abs(moved[-1] - 0.3).max() < 1e-6, moved[-1]
assert not {"jax", "jaxrl"} & set(sys.modules)
print("no jax")
