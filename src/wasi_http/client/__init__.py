"""The client behind outgoing requests: HTTP/1.1 over TCP and TLS, with a pool of connections, limits and proxies."""

from wasi_http.client.client import Client, default_send_request
from wasi_http.client.config import ClientConfig
from wasi_http.client.origin import Admit
from wasi_http.client.proxy import Proxies
from wasi_http.client.request import (
    DEFAULT_TIMEOUT,
    LONGEST,
    ClientRequest,
    ClientResponse,
    ConnectionQuota,
    OutgoingRequestConfig,
)
from wasi_http.client.tls import TlsConfig

__all__ = [
    "DEFAULT_TIMEOUT",
    "LONGEST",
    "Admit",
    "Client",
    "ClientConfig",
    "ClientRequest",
    "ClientResponse",
    "ConnectionQuota",
    "OutgoingRequestConfig",
    "Proxies",
    "TlsConfig",
    "default_send_request",
]
