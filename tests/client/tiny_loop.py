"""Run by the Python of an environment that has jaxrl-client and no JAX: all modules, and a message over a socket."""

import importlib
import pkgutil
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np

import jaxrl_client
from jaxrl_client import codec
from jaxrl_client.protos import policy_pb2, policy_pb2_grpc

for module in pkgutil.walk_packages(jaxrl_client.__path__, "jaxrl_client."):
    importlib.import_module(module.name)


class Policy(policy_pb2_grpc.PolicyServiceServicer):
    def Infer(self, request, context):
        (seen,) = codec.decode_observation(request.observation).values()
        return policy_pb2.InferReply(actions=codec.encode("action", np.tile(seen, (4, 1))))


server = grpc.server(ThreadPoolExecutor(1))
policy_pb2_grpc.add_PolicyServiceServicer_to_server(Policy(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
    stub = policy_pb2_grpc.PolicyServiceStub(channel)
    observation = codec.encode_observation({"state/q": np.arange(3.0)})
    reply = stub.Infer(policy_pb2.InferRequest(observation=observation), timeout=10)
    assert codec.decode(reply.actions).tolist() == [[0, 1, 2]] * 4
server.stop(0).wait()
assert not {"jax", "jaxrl"} & set(sys.modules)
print("no jax")
