"""What a service allows its guests: every number has a name and a default here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wasi_http.client import ClientConfig
from wasi_http.engine import StoreLimits
from wasi_http.http.egress import Egress
from wasi_http.settings import check

__all__ = ["ServiceConfig"]


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """Times are in seconds, sizes in bytes.

    ``env``
        The guests' environment; nothing of the host's own is passed on.
    ``timeout``
        How long one request's guest may run, from its start to its end; None for no limit.
    ``max_concurrent_requests``
        How many requests are handled at once; those beyond wait for their turn.
    ``queue_timeout``
        How long a request may wait for its turn, when there are as many as may run at once; then the answer is 503.
    ``client_gone_grace``
        How long a guest whose client has gone may go on to clean up. Its streams fail at once. It has less time when it
        does nothing but compute, and when other requests wait for their turn.
    ``max_resources``
        How many handles the guest of one instance may hold.
    ``value_limit``
        What the values that a guest sends in one call may cost on the host (see `ResourceTable`): they are lifted in
        one go, while everything else waits.
    ``max_informational``
        How many informational responses a guest may send before its response.
    ``max_instance_reuse_count``
        How many requests one instance serves, one after another. One that failed serves no other.
    ``idle_instance_timeout``
        How long an instance waits for another request before it is dropped.
    ``egress``
        Where guests may send requests; nowhere by default.
    ``max_egress_connections``
        How many connections the guest of one instance may use at once.
    ``client``
        How requests of guests are sent.
    ``store_limits``
        What one instance may take of the engine: memory, tables, instances.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    max_concurrent_requests: int = 1000
    queue_timeout: float = 30.0
    client_gone_grace: float = 5.0
    max_resources: int = 20_000
    value_limit: int = 4 * 1024 * 1024
    max_informational: int = 32
    max_instance_reuse_count: int = 1
    idle_instance_timeout: float = 1.0
    egress: Egress = field(default_factory=Egress)
    max_egress_connections: int = 100
    client: ClientConfig = field(default_factory=ClientConfig)
    store_limits: StoreLimits = field(default_factory=StoreLimits)

    def __post_init__(self) -> None:
        check(self, ("max_concurrent_requests", "max_instance_reuse_count"))
