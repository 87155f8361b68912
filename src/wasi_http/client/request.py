"""Requests as a client takes them, and their settings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

from wasi_http.flow.pipe import Pipe
from wasi_http.http1.fieldsection import Field
from wasi_http.settings import check

__all__ = ["DEFAULT_TIMEOUT", "ConnectionQuota", "Outgoing", "OutgoingRequestConfig", "Source"]

#: Of connecting, of waiting for the first byte, and between bytes; in seconds.
DEFAULT_TIMEOUT: Final = 600.0


class Source(Protocol):
    """The body of a request; its bytes come through ``pipe``."""

    @property
    def pipe(self) -> Pipe: ...

    def demand(self) -> None:
        """Requests the bytes: called before any is taken, perhaps more than once."""

    def cancel(self, error: OSError | None = None) -> None:
        """Cancels the rest; ``error`` is the reason, if the exchange failed."""


class Outgoing(Protocol):
    """A request: ``authority`` is ``host[:port]``, ``path`` has the query, ``body`` is None if there is none."""

    @property
    def method(self) -> str: ...

    @property
    def authority(self) -> str | None: ...

    @property
    def path(self) -> str: ...

    @property
    def headers(self) -> list[Field]: ...

    @property
    def body(self) -> Source | None: ...


class ConnectionQuota:
    """The most connections that one guest may use at once; ``used`` is the current number."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        if not isinstance(limit, int) or limit < 1:
            raise ValueError(f"ConnectionQuota.limit must be an int from 1 on, not {limit!r:.100}")
        self.limit = limit
        self.used = 0


@dataclass(slots=True)
class OutgoingRequestConfig:
    """Timeouts in seconds, and whether the connection is encrypted.

    ``connect_timeout``
        For a new connection, if none can be reused: waiting for a slot, resolving the name, connecting and the TLS
        handshake, all together.
    ``first_byte_timeout``
        From the last byte sent of the request to the head of the response.
    ``between_bytes_timeout``
        How long the server may send nothing within the body, or receive nothing of the request.
    ``quota``
        The account that the connection is charged to while it is in use, if any. It identifies the guest: connections
        and look-ups are shared fairly among quotas. Requests without one have no share of connections to keep, and one
        share of the look-ups together.
    """

    use_tls: bool = False
    connect_timeout: float = DEFAULT_TIMEOUT
    first_byte_timeout: float = DEFAULT_TIMEOUT
    between_bytes_timeout: float = DEFAULT_TIMEOUT
    quota: ConnectionQuota | None = None

    def __post_init__(self) -> None:
        # Fast path: each request of a guest makes one, most with the default timeouts.
        if not self.connect_timeout is self.first_byte_timeout is self.between_bytes_timeout is DEFAULT_TIMEOUT:
            check(self, longest=math.inf)
