"""What a client is given."""

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
    """The body of a request, which comes through ``pipe``."""

    @property
    def pipe(self) -> Pipe: ...

    def demand(self) -> None:
        """The bytes are wanted: called before any is taken, perhaps more than once."""

    def cancel(self, error: OSError | None = None) -> None:
        """The rest is not wanted; ``error`` is why, if the exchange failed."""


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
    """How many connections one guest may use at once; ``used`` is how many it does."""

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
        For a connection, if none can be reused: waiting for a place within the limits, looking up the name, connecting,
        and agreeing on the encryption, all together.
    ``first_byte_timeout``
        From the last byte of the request that was sent to the head of the response.
    ``between_bytes_timeout``
        How long the server may send nothing within the body, or take nothing of the request.
    ``quota``
        The account on which the connection is charged while it is used, if any. It stands for the guest: connections
        and look-ups of names are shared out among quotas. Requests without one have no share of connections to keep,
        and one of the look-ups together.
    """

    use_tls: bool = False
    connect_timeout: float = DEFAULT_TIMEOUT
    first_byte_timeout: float = DEFAULT_TIMEOUT
    between_bytes_timeout: float = DEFAULT_TIMEOUT
    quota: ConnectionQuota | None = None

    def __post_init__(self) -> None:
        # Each request of a guest has one, most of them with these times.
        if not self.connect_timeout is self.first_byte_timeout is self.between_bytes_timeout is DEFAULT_TIMEOUT:
            check(self, longest=math.inf)
