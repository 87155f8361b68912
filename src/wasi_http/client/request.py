"""What a client is given and gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from wasi_http.flow.pipe import Pipe
from wasi_http.http1.fieldsection import Field

__all__ = ["DEFAULT_TIMEOUT", "LONGEST", "ClientRequest", "ClientResponse", "ConnectionQuota", "OutgoingRequestConfig"]

#: The longest time, in seconds, that timers are set for: a guest cannot tell it from for ever. Timers overflow on what
#: 64 bits of nanoseconds can say, and the loop's clock counts in a float, of which no sum may lose the seconds.
LONGEST: Final = 365 * 86400.0

#: Of connecting, of waiting for the first byte, and between bytes; in seconds.
DEFAULT_TIMEOUT: Final = 600.0


class ConnectionQuota:
    """How many connections one guest may use at once; ``used`` is how many it does."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
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


@dataclass(slots=True)
class ClientRequest:
    """To send: ``authority`` is ``host[:port]``, ``path`` has the query, ``body`` is None if there is none."""

    method: str
    scheme: str
    authority: str
    path: str
    headers: list[Field] = field(default_factory=list)
    body: Pipe | None = None


@dataclass(slots=True)
class ClientResponse:
    """The response to a `ClientRequest`, its body still arriving."""

    status: int
    headers: Sequence[Field] = ()
    body: Pipe = field(default_factory=Pipe.of)
