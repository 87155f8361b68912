"""What a server does and allows: every number has a name and a default here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wasi_http.client import ClientConfig
from wasi_http.engine import StoreLimits
from wasi_http.http.egress import Egress
from wasi_http.http1.limits import Limits
from wasi_http.settings import check

__all__ = ["ServerConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Times are in seconds, sizes in bytes.

    ``env``
        The guests' environment; nothing of the server's own is passed on.
    ``timeout``
        How long one request's guest may run, from its start to its end; None for no limit.
    ``max_concurrent_requests``, ``max_concurrent_connections``
        Of one worker. Requests beyond wait in their connections, connections beyond wait in the system's queue.
    ``queue_timeout``
        How long a request may wait for its turn, when there are as many as may run at once; then the answer is 503.
    ``client_gone_grace``
        How long a guest whose client has gone may go on to clean up. Its streams fail at once. It has less time when it
        does nothing but compute, and when other requests wait for their turn.
    ``header_timeout``
        How long a client may take for the head of a request.
    ``idle_timeout``
        How long a connection without a request is kept, and how long a client may keep a response from being sent or
        a request body from arriving. Longer than a load balancer keeps its connections, 60 s with most of them: it must
        be the first to close one.
    ``min_body_rate``
        How many bytes of a body a client has to send or take per second, on average over ``idle_timeout``; with 0 any
        byte within that time is enough. Time in which the guest makes the client wait does not count.
    ``linger_timeout``
        How long a connection that has to be closed although its client is still sending stays open, so that the client
        can read its answer.
    ``shutdown_timeout``
        How long a graceful shutdown waits for requests before it cancels them.
    ``max_unread_body``
        How much of a request body that the guest did not read is read past to keep the connection.
    ``max_resources``
        How many handles the guest of one instance may hold.
    ``value_limit``
        What the values that a guest sends in one call may cost on the host (see `ResourceTable`): they are lifted in
        one go, while everything else waits.
    ``max_instance_reuse_count``
        How many requests one instance serves, one after another. One that failed serves no other.
    ``idle_instance_timeout``
        How long an instance waits for another request before it is dropped.
    ``request_headers``
        Fields that guests see in the place of those of the same name that clients send; see `RequestHeaders`.
    ``egress``
        Where guests may send requests; nowhere by default.
    ``max_egress_connections``
        How many connections the guest of one instance may use at once.
    ``client``
        How requests of guests are sent.
    ``logging_prefix``
        Whether lines that guests print tell their stream and request.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    max_concurrent_requests: int = 1000
    max_concurrent_connections: int = 1000
    queue_timeout: float = 30.0
    client_gone_grace: float = 5.0
    header_timeout: float = 30.0
    idle_timeout: float = 75.0
    min_body_rate: int = 500
    linger_timeout: float = 2.0
    shutdown_timeout: float = 30.0
    max_unread_body: int = 1024 * 1024
    max_resources: int = 20_000
    value_limit: int = 4 * 1024 * 1024
    max_instance_reuse_count: int = 1
    idle_instance_timeout: float = 1.0
    request_headers: tuple[tuple[bytes, bytes], ...] = ()
    egress: Egress = field(default_factory=Egress)
    max_egress_connections: int = 100
    client: ClientConfig = field(default_factory=ClientConfig)
    logging_prefix: bool = True
    store_limits: StoreLimits = field(default_factory=StoreLimits)
    wire_limits: Limits = field(default_factory=Limits)
    backlog: int = 1024

    def __post_init__(self) -> None:
        check(self, ("max_concurrent_requests", "max_concurrent_connections", "max_instance_reuse_count", "backlog"))
