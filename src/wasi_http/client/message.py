"""What a client sends and receives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from wasi_http.fields import Field
from wasi_http.pipe import Pipe

__all__ = ["DEFAULT_TIMEOUT", "ClientRequest", "ClientResponse", "OutgoingRequestConfig"]

#: Of connecting, of waiting for the first byte, and between bytes; in seconds.
DEFAULT_TIMEOUT: Final = 600.0


@dataclass(slots=True)
class OutgoingRequestConfig:
    """Timeouts in seconds, and whether the connection is encrypted.

    ``connect_timeout`` covers all that it takes to have a connection: waiting for one of a limited number, resolving,
    connecting, TLS. ``first_byte_timeout`` begins when the request is being sent, ``between_bytes_timeout`` with each
    byte that arrives; it is also how long the server may refuse to take what is sent.
    """

    use_tls: bool = False
    connect_timeout: float = DEFAULT_TIMEOUT
    first_byte_timeout: float = DEFAULT_TIMEOUT
    between_bytes_timeout: float = DEFAULT_TIMEOUT


@dataclass(slots=True)
class ClientRequest:
    """To send: ``authority`` is ``host[:port]``, ``path`` has the query, ``body`` is None if there is none.

    A ``host`` among the ``headers`` is what the server is told, else the authority; the connection goes to the latter.
    """

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
