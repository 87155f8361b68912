"""Errors of requests. Those of sockets, name resolution and TLS are OSErrors, too."""

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
    """The host of a request is not a valid name."""


class TooManyConnections(ClientError):
    """The limits allow the request no connection, or allowed none within its connect timeout."""


class LookupTimeout(ClientError):
    """Looking up the name took longer than the connect timeout."""


class ReadTimeout(ClientError):
    """The server sent nothing for longer than a timeout."""


class ResponseTimeout(ClientError):
    """The server started a response head and did not complete it within the first-byte timeout."""


class WriteTimeout(ClientError):
    """The server received nothing of the request for longer than a timeout."""


class ConnectionClosed(ClientError, ConnectionError):
    """The connection ended before a response, or was closed by the client."""


class ConnectionDropped(ConnectionClosed):
    """The server closed a reused connection before it received the request, which may be retried on another."""


class IncompleteResponse(ClientError):
    """A TLS connection was truncated within a response."""


class ProtocolFailure(ClientError):
    """A message violated the protocol or a limit; ``cause`` says how."""

    def __init__(self, cause: ProtocolError, message: str = "") -> None:
        super().__init__(message or str(cause))
        self.cause = cause


class ProxyFailed(ClientError):
    """A proxy did not open a tunnel."""


class ProxyDenied(ProxyFailed):
    """A proxy refused to open a tunnel to this host, or to this client."""


class ConfigurationError(ClientError):
    """A file of `TlsConfig` cannot be used."""
