"""``wasi:http/types``: its value types, its resources as the host has them, and the interface itself, `Types`."""

from wasi_http.http.body import FutureTrailers, IncomingBody, OutgoingBody
from wasi_http.http.errors import DnsErrorPayload, ErrorCode, FieldSizePayload, TlsAlertReceivedPayload
from wasi_http.http.fields import Fields, HeaderError
from wasi_http.http.types import (
    FutureIncomingResponse,
    IncomingRequest,
    IncomingResponse,
    Method,
    OutgoingRequest,
    OutgoingResponse,
    RequestOptions,
    ResponseOutparam,
    Scheme,
    Types,
)

__all__ = [
    "DnsErrorPayload",
    "ErrorCode",
    "FieldSizePayload",
    "Fields",
    "FutureIncomingResponse",
    "FutureTrailers",
    "HeaderError",
    "IncomingBody",
    "IncomingRequest",
    "IncomingResponse",
    "Method",
    "OutgoingBody",
    "OutgoingRequest",
    "OutgoingResponse",
    "RequestOptions",
    "ResponseOutparam",
    "Scheme",
    "TlsAlertReceivedPayload",
    "Types",
]
