"""A policy behind PolicyService, for several robots at a time. Needs pip install "jaxrl[serve]".

One thread computes and nothing else does; the loop that answers health never waits for it. A request comes to a reply, or to a gRPC code
(protos/values.proto says which) whose text names the field. What went wrong in here is told by a number that stands in the log, too.
"""

import asyncio
import contextlib
import logging
import secrets
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from jaxrl.deploy.artifact import Artifact, Carry, NotReadable
from jaxrl.deploy.export import made_up
from jaxrl.deploy.health import SERVING, Health
from jaxrl_client import channels, codec
from jaxrl_client import spec as wire
from jaxrl_client.channels import Security
from jaxrl_client.codec import WireError
from jaxrl_client.protos import policy_pb2, values_pb2
from jaxrl_client.remote import stamp

SERVICE = "jaxrl.bridge.v1.PolicyService"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config:
    """`queue` requests may wait or be computed at a time, of at most `sessions` robots.

    A session that was not heard of for `idle` seconds gives way to a new one. What is being computed when the server is to end has `drain`
    seconds for that.
    """

    queue: int = 8
    sessions: int = 64
    idle: float = 60.0
    drain: float = 5.0

    def __post_init__(self) -> None:
        for name in ("queue", "sessions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        for name in ("idle", "drain"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)} s, but must be 0 or more")


class _Refused(Exception):
    """What a client is told."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


class _Expired(Exception):
    """A request whose sender does not wait for it any more."""


@dataclass
class _Episode:
    """What a session's episode keeps. `carry` and `count` are the computing thread's own."""

    epoch: int
    seed: int
    texts: dict[str, str]
    carry: Carry
    count: int = 0
    sequence: int = 0  # of the last request
    heard: float = field(default_factory=time.monotonic)


class Service:
    """PolicyService of one artifact."""

    def __init__(self, artifact: Artifact, config: Config = Config()) -> None:  # noqa: B008
        self._artifact, self._config = artifact, config
        self._episodes: dict[str, _Episode] = {}
        self._computing = ThreadPoolExecutor(1, "inference")
        self._name = secrets.token_hex(8)
        self._sequence, self._pending = 0, 0
        self._spec_hash = wire.spec_hash(artifact.spec)
        self._why_not = "it is compiling; ask again in some seconds"  # "": it answers
        self.health = Health(SERVICE)

    def handler(self) -> grpc.GenericRpcHandler:
        """To be added to the server. It gets bytes: `codec.parse` looks at them before protobuf does."""
        methods = {"GetSpec": self._get_spec, "Reset": self._reset, "Infer": self._infer}
        kinds = {"GetSpec": policy_pb2.PolicySpecRequest, "Reset": policy_pb2.ResetRequest, "Infer": policy_pb2.InferRequest}
        handlers = {name: grpc.unary_unary_rpc_method_handler(_guarded(name, kinds[name], method)) for name, method in methods.items()}
        handlers["Control"] = grpc.stream_stream_rpc_method_handler(self._control)
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    async def warm_up(self) -> None:
        """Compiles, by an observation that is made up; from then on requests are answered."""

        def compute() -> None:
            carry = self._artifact.begin()
            for count, seen in enumerate(made_up(self._artifact.spec, 2)):
                _, carry = self._artifact.act(seen, carry, 0, count)

        began = time.monotonic()
        await asyncio.wrap_future(self._computing.submit(compute))
        log.info("compiled in %.1f s", time.monotonic() - began)
        self._why_not = ""
        self.health.set(SERVING)

    def drain(self) -> None:
        """Takes no more requests; those that were taken are answered."""
        self._why_not = "it is ending"
        self.health.end()

    def close(self) -> None:
        """Ends the thread once it is idle."""
        self._computing.shutdown(wait=True, cancel_futures=True)

    def _header(self, header: values_pb2.Header) -> None:
        self._sequence += 1
        stamp(header.sent)
        header.revision, header.session, header.sequence = 1, self._name, self._sequence
        header.model_hash, header.spec_hash = self._artifact.hash, self._spec_hash

    async def _get_spec(self, request: Any, context: Any) -> Any:
        header = values_pb2.Header()
        self._header(header)
        return wire.to_message(self._artifact.spec, header)

    def _check(self, header: values_pb2.Header) -> None:
        """Raises _Refused: not ready, or the sender believes this to be another policy."""
        if self._why_not:
            raise _Refused(grpc.StatusCode.UNAVAILABLE, f"the policy does not answer: {self._why_not}")
        if header.spec_hash != self._spec_hash or header.model_hash not in (b"", self._artifact.hash):
            raise _Refused(grpc.StatusCode.FAILED_PRECONDITION, "header: its hashes are not those of this policy; ask for the spec again")

    async def _reset(self, request: Any, context: Any) -> Any:
        self._check(request.header)
        if not request.epoch:
            raise WireError("epoch: is 0, but counts from 1")
        session, texts = request.header.session, codec.decode_texts(request.texts)
        if odd := sorted(texts.keys() - set(self._artifact.spec.texts)):
            raise WireError(f"{odd[0]}: the policy reads no such text; it reads {', '.join(self._artifact.spec.texts) or 'none'}")
        before = self._episodes.get(session)
        if before is not None and request.epoch <= before.epoch:
            raise _Refused(grpc.StatusCode.FAILED_PRECONDITION, f"epoch: is {request.epoch}, but {before.epoch} has begun already")
        if before is None and len(self._episodes) >= self._config.sessions:
            self._make_room()
        self._episodes[session] = _Episode(request.epoch, request.seed, texts, self._artifact.begin())
        log.info("session %s begins epoch %d", session, request.epoch)
        reply = policy_pb2.ResetReply(epoch=request.epoch)
        self._header(reply.header)
        return reply

    def _make_room(self) -> None:
        """Forgets the session that is silent longest; raises _Refused where none is silent for long."""
        oldest = min(self._episodes, key=lambda session: self._episodes[session].heard)
        if time.monotonic() - self._episodes[oldest].heard < self._config.idle:
            raise _Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, f"there are {len(self._episodes)} sessions, the most there may be")
        del self._episodes[oldest]

    async def _infer(self, request: Any, context: Any) -> Any:
        self._check(request.header)
        if request.HasField("prefix"):
            raise WireError("prefix: this policy does not go on from a chunk in flight, as its spec says")
        episode = self._episodes.get(request.header.session)
        if episode is None or episode.epoch != request.epoch:
            known = "has not begun" if episode is None else f"is at {episode.epoch}"
            raise _Refused(grpc.StatusCode.FAILED_PRECONDITION, f"epoch: is {request.epoch}, but this session {known}; reset first")
        if request.header.sequence <= episode.sequence:
            raise _Refused(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"header.sequence: is {request.header.sequence}, but {episode.sequence} was asked already; a request is made once",
            )
        seen = episode.texts | codec.decode_observation(request.observation)
        wire.check_observation(seen, self._artifact.spec)
        if self._pending >= self._config.queue:
            raise _Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self._pending} requests wait already; ask again with a new observation")
        episode.sequence, episode.heard = request.header.sequence, time.monotonic()
        return await self._computed(request, context, episode, seen)

    async def _control(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """As `_infer`, of the newest request each time. What is refused ends the stream; what is too late is left out."""
        newest = _Newest(requests)
        try:
            while (data := await newest.next()) is not None:
                with contextlib.suppress(_Expired):
                    yield (await self._infer(_parsed(policy_pb2.InferRequest, data), context)).SerializeToString()
            return
        except Exception as error:
            code, text = _told("Control", error)
        finally:
            newest.close()
        await context.abort(code, text)

    async def _computed(self, request: Any, context: Any, episode: _Episode, seen: dict[str, Any]) -> Any:
        asked, left = time.monotonic(), context.time_remaining()
        limits = [one for one in (left, request.budget_ms / 1e3 or None) if one is not None]
        until = asked + min(limits) if limits else float("inf")

        def compute() -> tuple[np.ndarray, float, float]:
            began = time.monotonic()
            if began >= until:
                raise _Expired
            actions, episode.carry = self._artifact.act(seen, episode.carry, episode.seed, episode.count)
            episode.count += 1
            return actions, began - asked, time.monotonic() - began

        loop = asyncio.get_running_loop()
        future = self._computing.submit(compute)
        self._pending += 1
        future.add_done_callback(lambda _: self._tell(loop))  # whoever asked may be gone by then
        actions, waited, took = await asyncio.wrap_future(future)
        reply = policy_pb2.InferReply(request=request.header.sequence, epoch=request.epoch, step=request.step)
        self._header(reply.header)
        reply.captured.CopyFrom(request.captured)
        codec.encode("action", actions, reply.actions)
        reply.queue_us, reply.inference_us = round(1e6 * waited), round(1e6 * took)
        return reply

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(self._done)

    def _done(self) -> None:
        self._pending -= 1


def _parsed(kind: Any, data: bytes) -> Any:
    """A message with a header; raises WireError."""
    request = codec.parse(kind, data)
    codec.check_header(request.header)
    return request


def _told(name: str, error: Exception) -> tuple[grpc.StatusCode, str]:
    """What a client is told of a fault: a code and one line, never a traceback."""
    if isinstance(error, _Refused):
        code, text = error.code, error.text
    elif isinstance(error, (WireError, NotReadable)):
        code, text = grpc.StatusCode.INVALID_ARGUMENT, str(error)
    elif isinstance(error, _Expired):
        code, text = grpc.StatusCode.DEADLINE_EXCEEDED, "it waited for longer than its sender does, and was not computed"
    else:
        number = secrets.token_hex(4)
        log.error("fault %s in %s", number, name, exc_info=error)
        code, text = grpc.StatusCode.INTERNAL, f"fault {number} of the server, whose log tells more"
    log.debug("%s: %s: %s", name, code.name, text)
    return code, text[:1000]


def _guarded(name: str, kind: Any, method: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[bytes, Any], Awaitable[bytes]]:
    """Bytes to bytes; whatever goes wrong is a code and one line."""

    async def call(data: bytes, context: Any) -> bytes:
        try:
            reply: bytes = (await method(_parsed(kind, data), context)).SerializeToString()
            return reply
        except Exception as error:
            code, text = _told(name, error)
        await context.abort(code, text)
        raise AssertionError  # abort raises

    return call


class _Newest:
    """The newest request of a stream; those that it overtook are left out."""

    def __init__(self, requests: AsyncIterator[bytes]) -> None:
        self._data: bytes | None = None
        self._arrived, self._ended = asyncio.Event(), False
        self._reading = asyncio.ensure_future(self._read(requests))

    async def _read(self, requests: AsyncIterator[bytes]) -> None:
        try:
            async for data in requests:
                self._data = data
                self._arrived.set()
        finally:
            self._ended = True
            self._arrived.set()

    async def next(self) -> bytes | None:
        """None at the end of the stream."""
        while self._data is None:
            if self._ended:
                return None
            await self._arrived.wait()
            self._arrived.clear()
        data, self._data = self._data, None
        return data

    def close(self) -> None:
        self._reading.cancel()


class _TokenInterceptor(grpc.aio.ServerInterceptor):
    def __init__(self, token: str) -> None:
        self._token = token

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or channels.token_given(handler_call_details.invocation_metadata, self._token):
            return handler

        async def refuse(request: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the call bears no token, or another one")

        async def refuse_stream(request: Any, context: Any) -> AsyncIterator[bytes]:
            await refuse(request, context)
            yield b""

        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(refuse_stream)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(refuse_stream)
        return grpc.unary_unary_rpc_method_handler(refuse)


async def serve(
    artifact: Artifact,
    address: str,
    config: Config = Config(),  # noqa: B008
    security: Security | None = None,
    insecure: bool = False,
    opened: Callable[[int], None] = lambda _: None,
    ending: asyncio.Event | None = None,
) -> None:
    """Serves until `ending`, by default a SIGTERM or SIGINT; `opened` gets the port before anything is compiled.

    Raises:
        ValueError: the address is not on this machine and there is no security, or it cannot be opened.
    """
    interceptors = [_TokenInterceptor(security.token)] if security is not None and security.token else []
    server = grpc.aio.server(interceptors=interceptors, options=channels.options())
    service = Service(artifact, config)
    server.add_generic_rpc_handlers((service.handler(), service.health.handler()))
    port = channels.add_port(server, address, security, insecure)
    if ending is None:
        ending = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ending.set)
    await server.start()
    opened(port)
    ended, warming = asyncio.ensure_future(ending.wait()), asyncio.ensure_future(service.warm_up())
    try:
        await asyncio.wait((ended, warming), return_when=asyncio.FIRST_COMPLETED)
        if warming.done():
            warming.result()  # raises what is wrong
        await ended
    finally:
        ended.cancel()
        service.drain()
        await server.stop(config.drain)
        service.close()
