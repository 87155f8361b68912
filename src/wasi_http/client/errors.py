"""What can go wrong with a request, besides what the system says of sockets, names and TLS, which are OSErrors too."""

from __future__ import annotations

from wasi_http.http1.errors import ProtocolError

__all__ = [
    "ClientError",
    "ConfigurationError",
    "ConnectionClosed",
    "ConnectionDropped",
    "IncompleteResponse",
    "InvalidMethod",
    "InvalidName",
    "InvalidTarget",
    "LookupTimeout",
    "ProtocolFailure",
    "ProxyDenied",
    "ProxyFailed",
    "ReadTimeout",
    "ResponseTimeout",
    "TooManyConnections",
    "WriteTimeout",
]


class ClientError(OSError):
    """Base of the errors of this package."""


class InvalidMethod(ClientError):
    """The method of a request is not a token."""


class InvalidTarget(ClientError):
    """The authority or path of a request is malformed."""


class InvalidName(ClientError):
    """The host of a request is not a name that can be looked up."""


class TooManyConnections(ClientError):
    """The limits leave no connection to the request, or left none within its connect timeout."""


class LookupTimeout(ClientError):
    """Looking up the name took longer than the connect timeout."""


class ReadTimeout(ClientError):
    """The server sent nothing for longer than a timeout."""


class ResponseTimeout(ClientError):
    """The server began a head and did not end it within the timeout of the first byte."""


class WriteTimeout(ClientError):
    """The server took nothing of the request for longer than a timeout."""


class ConnectionClosed(ClientError, ConnectionError):
    """The connection ended before a response, or was closed on this side."""


class ConnectionDropped(ConnectionClosed):
    """The server had closed a connection before the request reached it: the request may be sent on another."""


class IncompleteResponse(ClientError):
    """A TLS connection was cut off within a response."""


class ProtocolFailure(ClientError):
    """A message broke the protocol or a limit of ours; ``cause`` says how."""

    def __init__(self, cause: ProtocolError, message: str = "") -> None:
        super().__init__(message or str(cause))
        self.cause = cause


class ProxyFailed(ClientError):
    """A proxy did not open a tunnel."""


class ProxyDenied(ProxyFailed):
    """A proxy refused to open a tunnel to this host, or to this client."""


class ConfigurationError(ClientError):
    """A file of `TlsConfig` cannot be used."""
