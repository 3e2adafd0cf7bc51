"""The standard health service (grpc.health.v1), whose two messages have one field each. Needs pip install "jaxrl[serve]"."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

SERVICE = "grpc.health.v1.Health"
SERVING, NOT_SERVING = 1, 2
_UNKNOWN = 3  # of Watch alone


class Health:
    """Of one server: what it says of itself as a whole, "", and of each of its services. Lives in the server's loop."""

    def __init__(self, *services: str) -> None:
        self._services = ("", *services)
        self._status, self._ended = NOT_SERVING, False
        self._changed = asyncio.Event()

    def set(self, status: int) -> None:
        """Says so to whoever watches."""
        self._status = status
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def end(self) -> None:
        """Says NOT_SERVING for the last time, so that nobody who watches keeps the server from ending."""
        self._ended = True
        self.set(NOT_SERVING)

    def handler(self) -> grpc.GenericRpcHandler:
        """To be added to the server."""
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(self._check),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def _check(self, request: bytes, context: Any) -> bytes:
        if _name(request) not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no such service; there are {', '.join(self._services[1:])}")
        return _reply(self._status)

    async def _watch(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        known = _name(request) in self._services
        while True:
            changed = self._changed
            yield _reply(self._status if known else _UNKNOWN)
            if self._ended:
                return
            await changed.wait()


def _name(request: bytes) -> str:
    """The field `service` of a request, a string of number 1; None of another form is asked for by clients."""
    if not request:
        return ""
    if request[0] != 0x0A or len(request) < 2 or request[1] > 127 or len(request) < 2 + request[1]:
        return "?"
    return request[2 : 2 + request[1]].decode(errors="replace")


def _reply(status: int) -> bytes:
    return bytes((0x08, status))
