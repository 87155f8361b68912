"""Settings of clients: every limit has a name and a default here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from wasi_http.client.proxies import Proxies
from wasi_http.client.tls import TlsConfig
from wasi_http.http1.limits import Limits
from wasi_http.settings import check

__all__ = ["ClientConfig", "Resolver"]

#: Returns the addresses of a host name; raises OSError, preferably `socket.gaierror`.
Resolver = Callable[[str], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Times are in seconds. The limits hold for one event loop, unless they say otherwise.

    ``tls``, ``proxies``
        See there. Without ``proxies`` none is used, whatever the environment says.
    ``max_connections``, ``max_connections_per_host``
        The most open connections, idle ones included. Further requests wait for up to their connect timeout, and so do
        those of a guest (see `OutgoingRequestConfig.quota`) that has as many as are left to the others.
    ``max_idle_connections``
        The most connections kept alive for further requests.
    ``idle_timeout``
        How long they are kept.
    ``wire_limits``
        Sizes of heads and trailers, and how many informational responses are skipped.
    ``attempt_delay``
        How long to wait for one address of a host before trying the next one concurrently.
    ``resolver``
        Looks up host names in place of the system's resolver.
    ``max_lookups``, ``max_lookups_per_guest``
        The most concurrent look-ups by the system's resolver, each in a thread, for all event loops together, and for
        one guest (see `OutgoingRequestConfig.quota`). Further requests wait for up to their connect timeout.
    """

    tls: TlsConfig = field(default_factory=TlsConfig)
    proxies: Proxies | None = None
    max_connections: int = 1000
    max_connections_per_host: int = 256
    max_idle_connections: int = 256
    idle_timeout: float = 30.0
    attempt_delay: float = 0.25
    wire_limits: Limits = field(default_factory=Limits)
    resolver: Resolver | None = None
    max_lookups: int = 64
    max_lookups_per_guest: int = 8

    def __post_init__(self) -> None:
        check(self, ("max_connections", "max_connections_per_host", "max_lookups", "max_lookups_per_guest"))
