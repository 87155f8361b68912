"""The client for outgoing requests: HTTP/1.1 over TCP and TLS, with connection pools, limits and proxies."""

from wasi_http.client.client import Client
from wasi_http.client.config import ClientConfig
from wasi_http.client.errors import ClientError
from wasi_http.client.proxies import Proxies
from wasi_http.client.request import DEFAULT_TIMEOUT, ConnectionQuota, Outgoing, OutgoingRequestConfig, Source
from wasi_http.client.tls import TlsConfig

__all__ = [
    "DEFAULT_TIMEOUT",
    "Client",
    "ClientConfig",
    "ClientError",
    "ConnectionQuota",
    "Outgoing",
    "OutgoingRequestConfig",
    "Proxies",
    "Source",
    "TlsConfig",
]
