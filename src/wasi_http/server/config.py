"""What a server allows its clients: every number has a name and a default here."""

from __future__ import annotations

from dataclasses import dataclass, field

from wasi_http.http1.limits import Limits
from wasi_http.service.config import ServiceConfig
from wasi_http.settings import check

__all__ = ["ConnectionConfig", "ServerConfig"]


@dataclass(frozen=True, kw_only=True)
class ConnectionConfig:
    """Times are in seconds, sizes in bytes.

    ``header_timeout``
        How long a client may take for the head of a request.
    ``idle_timeout``
        How long a connection without a request is kept, and how long a client may keep a response from being sent or
        a request body from arriving. Longer than a load balancer keeps its connections, 60 s with most of them: it must
        be the first to close one.
    ``min_body_rate``
        How many bytes of a body a client has to send or take per second, on average over ``idle_timeout``; with 0 any
        byte within that time is enough. Time in which the client waits for its response does not count.
    ``linger_timeout``
        How long a connection that has to be closed although its client is still sending stays open, so that the client
        can read its answer.
    ``max_unread_body``
        How much of a request body that was not read is discarded to keep the connection.
    ``wire_limits``
        What a client may send in one message.
    """

    header_timeout: float = 30.0
    idle_timeout: float = 75.0
    min_body_rate: int = 500
    linger_timeout: float = 2.0
    max_unread_body: int = 1024 * 1024
    wire_limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, kw_only=True)
class ServerConfig(ServiceConfig, ConnectionConfig):
    """What `ServiceConfig` and `ConnectionConfig` have, and:

    ``max_concurrent_connections``
        Of one worker. Connections beyond wait in the listen backlog.
    ``shutdown_timeout``
        How long a graceful shutdown waits for requests before it cancels them.
    ``request_headers``
        Fields that guests see in the place of those of the same name that clients send; see `RequestHeaders`.
    ``logging_prefix``
        Whether each line of guest output is prefixed with its stream and request number.
    ``backlog``
        How many connections may wait to be accepted.
    """

    max_concurrent_connections: int = 1000
    shutdown_timeout: float = 30.0
    request_headers: tuple[tuple[bytes, bytes], ...] = ()
    logging_prefix: bool = True
    backlog: int = 1024

    def __post_init__(self) -> None:
        check(self, ("max_concurrent_requests", "max_concurrent_connections", "max_instance_reuse_count", "backlog"))
