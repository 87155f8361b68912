"""The client behind ``wasi:http/outgoing-handler``: HTTP/1.1 over connections that are kept."""

from wasi_http.client.client import Client, default_send_request
from wasi_http.client.config import ClientConfig, TlsConfig
from wasi_http.client.message import DEFAULT_TIMEOUT, ClientRequest, ClientResponse, OutgoingRequestConfig

__all__ = [
    "DEFAULT_TIMEOUT",
    "Client",
    "ClientConfig",
    "ClientRequest",
    "ClientResponse",
    "OutgoingRequestConfig",
    "TlsConfig",
    "default_send_request",
]
