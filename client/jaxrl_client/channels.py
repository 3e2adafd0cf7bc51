"""Channels and ports: certificates on both sides and a token, unless both ends are on this machine.

Off loopback nothing is sent in plain text unless that is asked for by name: whoever can reach the port could drive the robot.
"""

import hmac
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from jaxrl_client.codec import CAPS, Caps

TOKEN = "authorization"  # the key of the metadata, whose value is "Bearer " and the token
_SHORTEST = 16  # characters of a token


@dataclass(frozen=True)
class Security:
    """Whom to trust and who to be: PEM files. A certificate of one's own and its key are needed on both sides."""

    root: Path  # of the authority that signed the other side's certificate
    certificate: Path
    key: Path
    token: str = ""  # that a client sends and a server asks for, beside the certificate; "": none
    name: str = ""  # that the server's certificate is made out to, where it is not the host's

    def __post_init__(self) -> None:
        for field in ("root", "certificate", "key"):
            if not Path(getattr(self, field)).is_file():
                raise ValueError(f"{field}: there is no file {getattr(self, field)}")
        if self.token and len(self.token) < _SHORTEST:
            raise ValueError(f"the token has {len(self.token)} characters, expected {_SHORTEST} or more")


def loopback(address: str) -> bool:
    """Whether an address, host:port or unix:path, is on this machine and nowhere else. A name that has to be looked up is not."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.removeprefix("ipv4:").removeprefix("ipv6:").removeprefix("dns:///").rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def options(caps: Caps = CAPS) -> list[tuple[str, int]]:
    """Of channels and servers: how long a message may be, which gRPC looks at before it allocates anything, and signs of life."""
    return [
        ("grpc.max_receive_message_length", caps.message_bytes),
        ("grpc.max_send_message_length", caps.message_bytes),
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),  # a server's own, or it hangs up on who pings as often as that
        ("grpc.enable_retries", 0),  # no call is made twice
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]


def channel(address: str, security: Security | None = None, insecure: bool = False, caps: Caps = CAPS) -> grpc.Channel:
    """A channel to `address`.

    Raises:
        ValueError: the address is of another machine, there is no security, and `insecure` was not asked for.
    """
    if security is None:
        _refuse_plain(address, insecure)
        return grpc.insecure_channel(address, options(caps))
    credentials = grpc.ssl_channel_credentials(*(Path(file).read_bytes() for file in (security.root, security.key, security.certificate)))
    if security.token:
        credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(security.token))
    named = [("grpc.ssl_target_name_override", security.name)] if security.name else []
    return grpc.secure_channel(address, credentials, [*options(caps), *named])


def add_port(server: Any, address: str, security: Security | None = None, insecure: bool = False) -> int:
    """Opens a port of a server, plain or asyncio, and returns its number; raises ValueError as `channel`, or where it cannot be opened.

    Clients without a certificate of the authority `root` are turned away. A token is checked by `token_interceptor`.
    """
    if security is None:
        _refuse_plain(address, insecure)
        port = server.add_insecure_port(address)
    else:
        pair = (Path(security.key).read_bytes(), Path(security.certificate).read_bytes())
        credentials = grpc.ssl_server_credentials([pair], Path(security.root).read_bytes(), require_client_auth=True)
        port = server.add_secure_port(address, credentials)
    if not port:
        raise ValueError(f"{address}: the port cannot be opened")
    return int(port)


def _refuse_plain(address: str, insecure: bool) -> None:
    if not insecure and not loopback(address):
        raise ValueError(
            f"{address} is not on this machine: give certificates (Security), or, in a network that nobody else can reach, insecure=True"
        )


def token_given(metadata: Sequence[tuple[str, Any]] | None, token: str) -> bool:
    """Whether a call's metadata bear the token; takes as long whatever they bear."""
    given = next((str(value) for key, value in metadata or () if key == TOKEN), "")
    return hmac.compare_digest(given.encode(), f"Bearer {token}".encode())


class _TokenInterceptor(grpc.ServerInterceptor):
    def __init__(self, token: str) -> None:
        self._token = token

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        if token_given(handler_call_details.invocation_metadata, self._token):
            return continuation(handler_call_details)
        return _turned_away(continuation(handler_call_details))


def token_interceptor(security: Security) -> grpc.ServerInterceptor:
    """Of a plain server: calls without the token are UNAUTHENTICATED; raises ValueError where there is no token."""
    if not security.token:
        raise ValueError("there is no token to check")
    return _TokenInterceptor(security.token)


def _turned_away(handler: Any) -> Any:
    """A handler of the same kind, whose every call is UNAUTHENTICATED."""

    def refuse(request: Any, context: Any) -> None:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "the call bears no token, or another one")

    if handler is None:
        return None
    made = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    return made(refuse)
